"""Shared fixtures."""

import os
import sys
from pathlib import Path

import pytest
import torch

from bantamnet.cli import main
from bantamnet.config import RunConfig
from bantamnet.runs.lookup import resolve

os.environ["BANTAMNET_MIRRORS"] = "none"  # no test reaches for the network; a test of downloads names its own server

# Tests run side by side, one to a core.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"


def tiny(*sets: str) -> RunConfig:
    """The smallest run that has everything: digits, augmentation, momentum, dropout, a moving average, two epochs."""
    small = [
        "model={name: custom, stem_width: 8, widths: [8, 16], blocks: [1, 1], dropout: [0.1, 0.0]}",
        "data.augment=crop(4)|rotate(10)|jitter(0.2,0.2,0.2,0.1)|erase(0.3)",
        "epochs=2",
        "select=best-val",
        "batch_size=200",
    ]
    return resolve("quickstart", [*small, *sets])


@pytest.fixture(scope="session")
def cifar_dir() -> Path:
    """The folder that holds CIFAR-10: skipped where BANTAMNET_DATA is not set, failed where it names a folder without it."""
    folder = os.environ.get("BANTAMNET_DATA")
    if not folder:
        pytest.skip("needs CIFAR-10: set BANTAMNET_DATA to the folder that holds cifar-10-batches-bin")
    assert (Path(folder) / "cifar-10-batches-bin").is_dir(), f"BANTAMNET_DATA={folder} holds no cifar-10-batches-bin"
    return Path(folder)


def invoke(arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of the command in this process."""
    monkeypatch.setattr(sys, "argv", ["bantamnet", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    captured = capsys.readouterr()
    return int(ended.value.code or 0), captured.out, captured.err
