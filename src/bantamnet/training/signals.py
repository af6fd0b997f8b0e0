"""Ctrl-C and a scheduler's SIGTERM: finish the step, save, leave with 128 + signal."""

import contextlib
import shlex
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import torch

from bantamnet.runtime import Ranks


class Stopped(Exception):  # noqa: N818  (no error: the run was asked to stop, and has saved)
    """Training was stopped by a signal and has saved its state."""

    def __init__(self, signum: int, run: Path, again: str = "") -> None:
        again = again or f"go on with: bantamnet train --resume {shlex.quote(str(run))}"
        super().__init__(f"stopped by {signal.Signals(signum).name}, state saved; {again}")
        self.signum = signum


class Stop:
    """Whether a signal has come, agreed on by all ranks."""

    def __init__(self, run: Path) -> None:
        self.run, self.signum, self.agreed = run, 0, 0

    def requested(self, ranks: Ranks) -> bool:
        """True on every rank from the first step that any rank has seen a signal."""
        self.agreed = self.signum
        if ranks.size > 1 and ranks.sum(torch.tensor([float(self.signum)])).item():
            self.agreed = self.signum or signal.SIGTERM
        return bool(self.agreed)

    def leave(self) -> None:
        """Raise `Stopped` if the last `requested` was true."""
        if self.agreed:
            raise Stopped(self.agreed, self.run)


@contextlib.contextmanager
def listen(run: Path) -> Iterator[Stop]:
    """A `Stop` that hears SIGINT and SIGTERM; a second signal acts at once, as without us."""
    stop = Stop(run)
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    old = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def hear(number: int, _: FrameType | None) -> None:
        stop.signum = number
        signal.signal(number, old[signal.Signals(number)])

    for number in old:
        signal.signal(number, hear)
    try:
        yield stop
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
