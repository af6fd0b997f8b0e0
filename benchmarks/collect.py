"""Gather runs of one recipe into a file under results/: every figure with its command, seed, hardware and versions.

A run that was stopped is marked `unfinished` and gives its curve so far; run this on the machine that trained it.

python benchmarks/collect.py "what was measured" results/NAME.json RUN…
"""

import argparse
import json
from pathlib import Path
from typing import Any

from bantamnet.runs.directory import RunDirectory
from bantamnet.runtime import environment, pick_device, pick_precision


def unfinished(run: RunDirectory) -> dict[str, Any]:
    """What can be said of a run that was stopped."""
    config = run.config()
    device = pick_device(config.device)
    return {
        "name": config.name,
        "unfinished": True,
        "label": config.label,
        "seed": config.seed,
        "epochs": config.epochs,
        "command": run.command(),
        "environment": environment(device, pick_precision(config.precision, device)),
    }


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what")
    parser.add_argument("to", type=Path)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--note", default="", help="what a reader of the figures must know")
    parser.add_argument("--add", action="store_true", help="keep the runs that the file holds already")
    given = parser.parse_args()
    gathered = json.loads(given.to.read_text())["runs"] if given.add else []
    for path in given.runs:
        run = RunDirectory.open(path)
        gathered.append({**(run.summary() or unfinished(run)), "curve": run.epochs()})
    found = {"what": given.what, "note": given.note, "runs": gathered}
    given.to.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
