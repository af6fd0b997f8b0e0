"""What metrics.jsonl gets, written for TensorBoard too."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from bantamnet.errors import UserError
from bantamnet.runs.directory import RunDirectory

Track = Callable[[dict[str, Any]], None]
"""Takes a line of metrics.jsonl."""
FIX = "pip install 'bantamnet[tensorboard]'"
TAGS = {
    "train_loss": "loss/train",
    "val_loss": "loss/val",
    "train_accuracy": "accuracy/train",
    "val_accuracy": "accuracy/val",
    "images_per_second": "speed/images per second",
}


def summary_writer() -> Any:
    """TensorBoard's writer; raises `UserError`, with the command that installs it, where there is none."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UserError(f"track: tensorboard needs the package tensorboard; {FIX}, or set track: none") from None
    return SummaryWriter


def check_tracker(kind: str) -> None:
    """Raise `UserError` for a tracker that is not installed."""
    if kind == "tensorboard":
        summary_writer()


@contextlib.contextmanager
def tracking(kind: str, run: RunDirectory) -> Iterator[Track]:
    """Event files in the run's `tensorboard` folder, over optimiser steps; nothing for `none`.

    What an earlier process wrote of epochs that metrics.jsonl no longer holds, because no checkpoint stands behind them, is
    declared void, so that every step is there once. A line is on disk when it has been taken.
    """
    if kind == "none":
        yield lambda line: None
        return
    lines = run.epochs()
    writer = summary_writer()(str(run.path / "tensorboard"), purge_step=lines[-1]["step"] + 1 if lines else 0)

    def track(line: dict[str, Any]) -> None:
        rates = {f"lr/group {index}": rate for index, rate in enumerate(line["lr"])}
        for tag, value in {**{tag: line[name] for name, tag in TAGS.items() if name in line}, **rates}.items():
            writer.add_scalar(tag, value, line["step"])
        writer.flush()

    try:
        yield track
    finally:
        writer.close()
