"""Several ranks beside one process, and more data beside less: what `torchrun` brings on this machine.

Each measurement is a program of its own, `python -m bantamnet.bench.scale`, alone or under torchrun; ranks share the cores.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from bantamnet.bench.quiet import refuse_busy
from bantamnet.bench.steps import Steps, images_per_second
from bantamnet.bench.train import device_memory
from bantamnet.config import RunConfig
from bantamnet.configfile import validate
from bantamnet.data.split import Split
from bantamnet.errors import UserError
from bantamnet.machine import usable_cores
from bantamnet.runs.own import with_files
from bantamnet.runtime import environment, join_ranks, pick_device, pick_precision
from bantamnet.training.setup import prepare


def bench_scale(
    config: RunConfig,
    data_dir: Path | None,
    most_ranks: int | None = None,
    copies: tuple[int, ...] = (1, 2, 4),
    rounds: int = 3,
    seconds: float = 5.0,
    even_if_busy: bool = False,
) -> dict[str, Any]:
    """Images/s of the whole recipe for 1, 2, 4, … ranks at the same global batch, and for so many copies of the training images.

    Rounds go through all of them in turn. On a CPU the ranks share its cores evenly; on GPUs each has one.
    """
    load = refuse_busy(even_if_busy)
    device = pick_device(config.device)
    units = torch.cuda.device_count() if device.type == "cuda" else int(usable_cores())
    most = most_ranks or units
    if most > units:
        raise UserError(
            f"--ranks: {most} ranks on {units} {'GPUs' if device.type == 'cuda' else 'cores'} only wait for one another"
        )
    ranks = sorted({*(2**power for power in range(most.bit_length()) if 2**power <= most), most})
    cells = [(number, 1) for number in ranks] + [(1, factor) for factor in copies if factor != 1]
    found: dict[tuple[int, int], list[dict[str, float]]] = {cell: [] for cell in cells}
    for _ in range(rounds):
        for number, factor in cells:
            threads = max(1, int(usable_cores()) // number)
            found[number, factor].append(_measure(config, data_dir, number, factor, threads, seconds))
    alone = statistics.median(entry["images_per_second"] for entry in found[1, 1])
    rows = [
        {
            "ranks": number,
            "data": factor,
            "images_per_second": (rate := statistics.median(entry["images_per_second"] for entry in entries)),
            "images_per_second_rounds": [entry["images_per_second"] for entry in entries],
            "ratio": rate / alone,
            "peak_memory_bytes": max(entry["peak_memory_bytes"] for entry in entries),
        }
        for (number, factor), entries in found.items()
    ]
    return {
        "recipe": config.name,
        "batch_size": config.batch_size,
        "rows": rows,
        "load_of_others": load,
        "environment": environment(device, pick_precision(config.precision, device)),
    }


def _measure(
    config: RunConfig, data_dir: Path | None, num_ranks: int, copies: int, threads: int, seconds: float
) -> dict[str, float]:
    asked = {"config": config.dump(), "data_dir": data_dir and str(data_dir), "copies": copies, "seconds": seconds}
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(num_ranks)] if num_ranks > 1 else []
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    with tempfile.TemporaryDirectory(prefix="bantamnet-scale-") as folder:
        question, answer = Path(folder) / "question.json", Path(folder) / "answer.json"
        question.write_text(json.dumps(asked), encoding="utf-8")
        command = [sys.executable, *launcher, "-m", "bantamnet.bench.scale", str(question), str(answer)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode or not answer.is_file():
            raise UserError(f"bench scale: {num_ranks} ranks failed:\n{done.stderr[-2000:]}")
        measured: dict[str, float] = json.loads(answer.read_text(encoding="utf-8"))
        return measured


def repeated(split: Split, copies: int) -> Split:
    """`copies` times the split's samples, the pixels themselves copied."""
    if copies == 1:
        return split
    again = torch.arange(len(split)).repeat(copies)
    return replace(split, images=split.gather(again), labels=split.labels[again], ids=torch.arange(len(again)))


def rank(question: Path, answer: Path) -> None:
    """What one rank does: some steps to warm up, then steps that are timed; rank 0 writes."""
    asked = json.loads(question.read_text(encoding="utf-8"))
    config = with_files(validate(asked["config"], "bench scale"))
    device = pick_device(config.device)
    with join_ranks(device) as ranks:
        setup, state = prepare(config, Path(asked["data_dir"]) if asked["data_dir"] else None, device, ranks)
        setup.splits["train"] = repeated(setup.splits["train"], asked["copies"])
        steps = Steps(setup, state)
        for _ in range(2):
            steps()
        # Ranks must take the same number of steps: as many as one of them says fit into the time.
        rate = images_per_second(steps, device, 0.0, at_least=setup.steps_per_chunk)
        wanted = torch.tensor(max(3.0, asked["seconds"] * rate / config.batch_size), dtype=torch.float64, device=device)
        num_steps = int(ranks.sum(wanted).item() / ranks.size)
        rate = images_per_second(steps, device, 0.0, at_least=num_steps)
        if ranks.main:
            facts = {"images_per_second": rate, "peak_memory_bytes": device_memory(device)}
            answer.write_text(json.dumps(facts), encoding="utf-8")


if __name__ == "__main__":
    rank(Path(sys.argv[1]), Path(sys.argv[2]))
