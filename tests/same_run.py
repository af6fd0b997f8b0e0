"""Runs that are stopped, killed and compared, for the tests."""

import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from bantamnet.runs.directory import RunDirectory
from bantamnet.runs.tensorfile import read_tensors
from bantamnet.runtime import Ranks
from bantamnet.training import train
from bantamnet.training.checkpoints import list_checkpoints
from bantamnet.training.signals import Stop
from conftest import tiny

TIMES = {"seconds", "train_seconds", "images_per_second"}
SETS = ("epochs=3", "device=cpu")


def assert_same_run(one: Path, other: Path) -> None:
    """Every tensor of the last checkpoint, every metric and every prediction, with tolerance 0."""
    first, second = RunDirectory(one), RunDirectory(other)
    lines = [[{k: v for k, v in line.items() if k not in TIMES} for line in run.epochs()] for run in (first, second)]
    assert lines[0] == lines[1] and len(lines[0]) == 3
    states = [read_tensors(list_checkpoints(run.checkpoints)[-1]) for run in (first, second)]
    assert states[0][0].keys() == states[1][0].keys()
    for name, tensor in states[0][0].items():
        assert torch.equal(tensor, states[1][0][name]), name
    headers = [{k: v for k, v in header.items() if k != "seconds"} for _, header in states]
    assert headers[0] == headers[1]
    for split in ("val", "test"):
        for name, tensor in first.predictions(split).items():
            assert torch.equal(tensor, second.predictions(split)[name])
    summaries = [run.summary() or {} for run in (first, second)]
    assert summaries[0]["weights_digest"] == summaries[1]["weights_digest"]
    assert summaries[0]["figures"] == summaries[1]["figures"]


class StopAfter(Stop):
    """A signal that comes after so many steps."""

    def __init__(self, run: Path, steps: int) -> None:
        super().__init__(run)
        self.steps = steps

    def requested(self, ranks: Ranks) -> bool:
        self.steps -= 1
        self.signum = signal.SIGTERM if self.steps == 0 else self.signum
        return super().requested(ranks)


@contextlib.contextmanager
def stopping_after(monkeypatch: pytest.MonkeyPatch, steps: int) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setattr(train, "listen", lambda run: contextlib.nullcontext(StopAfter(run, steps)))
        yield


def command(*arguments: str) -> subprocess.Popen[str]:
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen([sys.executable, "-m", "bantamnet", *arguments], **pipes)


def write_recipe(folder: Path, *sets: str) -> Path:
    path = folder / "tiny.yaml"
    path.write_text(json.dumps(tiny(*SETS, *sets).dump()))
    return path


def newest_step(path: Path) -> int:
    """Of the run's checkpoints, 0 before the first."""
    saved = list_checkpoints(path / "checkpoints")
    return int(saved[-1].stem[5:]) if saved else 0
