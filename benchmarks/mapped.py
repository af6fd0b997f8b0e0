"""Training on a memory-mapped set of several GB: anonymous memory in each epoch, and images/s beside the same set in memory.

Pictures are generated as JPEG files, decoded into the cache, and trained on for three epochs while RssAnon is watched; then
mapped and in-memory steps alternate in one process, so that whatever else the machine does falls on both.

    python benchmarks/mapped.py --gigabytes 4 --folder FOLDER > results/mapped.json
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console

from bantamnet.bench.steps import Steps, images_per_second
from bantamnet.config import RunConfig
from bantamnet.data.listener import ConsoleListener
from bantamnet.data.split import Mapped
from bantamnet.runs.directory import RunDirectory
from bantamnet.runs.lookup import resolve
from bantamnet.runtime import Ranks, environment, pick_device, pick_precision
from bantamnet.training.loop import fit
from bantamnet.training.progress import Progress
from bantamnet.training.setup import Setup, State, prepare
from bantamnet.training.signals import Stop

CLASSES = 10
STATUS = Path("/proc/self/status")


def generate(folder: Path, num: int, size: int) -> None:
    """`num` JPEG files of smooth coloured noise, ten classes of a base colour each, in train and test."""
    for part, count in (("train", num), ("test", 10 * CLASSES)):
        random = np.random.default_rng(count)
        base = np.random.default_rng(0).integers(0, 256, (CLASSES, 3))
        for number in range(count):
            label = number % CLASSES
            path = folder / part / f"class {label}" / f"{number}.jpg"
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                coarse = np.clip(base[label] + random.normal(0, 60, (7, 7, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC).save(path, quality=85)


def config_for(folder: Path, size: int, keep: str, batch: int, epochs: int) -> RunConfig:
    """A small net with the `imagenet` stem on the generated pictures."""
    net = "model={name: custom, stem: imagenet, stem_width: 8, widths: [8, 16, 32, 64], blocks: [1, 1, 1, 1]}"
    sets = [f"data.name={json.dumps(str(folder))}", f"data.size={size}", f"data.keep={keep}", net, f"epochs={epochs}"]
    return resolve("resnet8-tiny", [*sets, f"batch_size={batch}", "data.val.count=100", "ema=null", "budget=null"])


def ready(config: RunConfig) -> tuple[Setup, State]:
    """Data, net and optimiser, as a run has them."""
    listener = ConsoleListener(Console(stderr=True))
    return prepare(config, None, pick_device(config.device), Ranks(), listener=listener)


def anonymous_mb() -> float:
    """RssAnon of this process: memory that no file stands behind."""
    line = next(line for line in STATUS.read_text(encoding="utf-8").splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) / 1024


class Watch(Progress):
    """Notes the peak of anonymous memory in each epoch."""

    def __init__(self) -> None:
        super().__init__(Console(quiet=True))
        self.peak, self.peaks = 0.0, list[float]()

    def epoch(self, line: dict[str, Any]) -> None:
        """An epoch has ended."""
        self.peaks.append(self.peak)
        self.peak = 0.0

    @contextlib.contextmanager
    def watching(self, seconds: float = 0.05) -> Iterator[None]:
        """Look so often, in a thread."""
        over = threading.Event()

        def look() -> None:
            while not over.wait(seconds):
                self.peak = max(self.peak, anonymous_mb())

        thread = threading.Thread(target=look)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def memory(config: RunConfig, out: Path) -> dict[str, Any]:
    """Peak anonymous memory of each epoch, and before the first."""
    setup, state = ready(config)
    images = setup.splits["train"].images
    assert isinstance(images, Mapped)
    before, watch = anonymous_mb(), Watch()
    watch.begin(0, 1, config.epochs)
    with watch.watching():
        fit(setup, state, state.net.train(), RunDirectory.create(out, setup.config), watch, Stop(out), lambda line: None)
    return {"set_mb": images.file.nbytes / 2**20, "before_mb": before, "epoch_peaks_mb": watch.peaks}


def throughput(mapped: RunConfig, in_memory: RunConfig, pairs: int, num_steps: int) -> dict[str, Any]:
    """Images/s of mapped and of in-memory training steps, in alternation, and the ratio of each pair."""
    steps = [Steps(*ready(config)) for config in (mapped, in_memory)]

    def both() -> list[float]:
        return [images_per_second(step, step.setup.device, seconds=0, at_least=num_steps) for step in steps]

    both()
    measured = [both() for _ in range(pairs)]
    ratios = [ours / other for ours, other in measured]
    return {"images_per_second": measured, "ratios": ratios, "median_ratio": statistics.median(ratios)}


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where pictures, cache and run go; kept for the next time")
    parser.add_argument("--gigabytes", type=float, default=4.0, help="decoded, in 2^30 bytes")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--only", choices=["memory", "throughput"], help=argparse.SUPPRESS)
    given = parser.parse_args()
    os.environ["BANTAMNET_CACHE"] = str(given.folder / "cache")
    pictures = given.folder / "pictures"
    if given.only:
        mapped, in_memory = (config_for(pictures, given.size, keep, given.batch, given.epochs) for keep in ("map", "memory"))
        out = given.folder / f"run-{os.getpid()}"
        print(
            json.dumps(memory(mapped, out) if given.only == "memory" else throughput(mapped, in_memory, given.pairs, given.steps))
        )
    else:
        generate(pictures, int(given.gigabytes * 2**30 / (3 * given.size**2)), given.size)
        # Each in a process of its own: the memory of one must not show in the other.
        parts = {only: json.loads(_again(only)) for only in ("memory", "throughput")}
        device = pick_device("auto")
        about = environment(device, pick_precision("auto", device))
        size = f"a memory-mapped set of {given.gigabytes:g} GB"
        what = f"{size}: memory over {given.epochs} epochs, and images/s beside the same in memory"
        command = f"python benchmarks/mapped.py --gigabytes {given.gigabytes:g} --folder FOLDER"
        print(json.dumps({"what": what, "command": command, "size": given.size, **parts, "environment": about}, indent=2))


def _again(only: str) -> str:
    done = subprocess.run([sys.executable, *sys.argv, "--only", only], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.splitlines()[-1]


if __name__ == "__main__":
    main()
