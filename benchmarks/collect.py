"""Gather finished runs of one recipe into a file under results/: every figure with its command, seed, hardware and versions.

python benchmarks/collect.py "what was measured" results/NAME.json RUN…
"""

import argparse
import json
from pathlib import Path

from bantamnet.runs.directory import RunDirectory


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what")
    parser.add_argument("to", type=Path)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--note", default="", help="what a reader of the figures must know")
    given = parser.parse_args()
    gathered = []
    for path in given.runs:
        run = RunDirectory.open(path)
        summary = run.summary()
        if summary is None:
            parser.error(f"{path} is unfinished")
        gathered.append({**summary, "curve": run.epochs()})
    given.to.write_text(
        json.dumps({"what": given.what, "note": given.note, "runs": gathered}, indent=1, ensure_ascii=False) + "\n"
    )


if __name__ == "__main__":
    main()
