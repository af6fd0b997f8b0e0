"""Shared fixtures."""

import os
from pathlib import Path

import pytest

from bantamnet.config import RunConfig
from bantamnet.runs.lookup import resolve


def tiny(*sets: str) -> RunConfig:
    """The smallest run that has everything: digits, augmentation, momentum, dropout, a moving average, two epochs."""
    small = [
        "model={name: custom, stem_width: 8, widths: [8, 16], blocks: [1, 1], dropout: [0.1, 0.0]}",
        "data.augment=crop(4)|rotate(10)|jitter(0.2,0.2,0.2,0.1)|erase(0.3)",
        "epochs=2",
        "batch_size=200",
    ]
    return resolve("quickstart", [*small, *sets])


@pytest.fixture(scope="session")
def cifar_dir() -> Path:
    """The folder that holds CIFAR-10; the test is skipped where BANTAMNET_DATA does not name one."""
    folder = os.environ.get("BANTAMNET_DATA")
    if not folder or not (Path(folder) / "cifar-10-batches-bin").is_dir():
        pytest.skip("needs CIFAR-10: set BANTAMNET_DATA to the folder that holds cifar-10-batches-bin")
    return Path(folder)
