"""Who hears what reading or scoring a data set has to say: nobody, or a person at a console."""

import atexit
import time
from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

QUIET_SECONDS = 15.0
"""Where there is no terminal, progress is told at most this often."""


class Listener:
    """Hears everything and says nothing."""

    def tell(self, line: str) -> None:
        """A line about the data."""

    def progress(self, done: int, total: int, what: str = "decoding pictures") -> None:
        """`done` of `total` pictures are through; the first call has `done` 0, the last one `total`."""


class ConsoleListener(Listener):
    """Prints lines, and a bar on a terminal; `stopped` may ask to leave off (raises `KeyboardInterrupt`)."""

    def __init__(self, console: Console, stopped: Callable[[], bool] = lambda: False) -> None:
        self.console, self.stopped = console, stopped
        self.bar: Progress | None = None
        self.last_word = 0.0

    def tell(self, line: str) -> None:
        """Print it."""
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def progress(self, done: int, total: int, what: str = "decoding pictures") -> None:
        """Move the bar, or print a line now and then."""
        if done == 0:
            self.last_word = time.monotonic()
            if self.console.is_terminal and not self.console.quiet:
                columns = (
                    TextColumn("{task.description}"),
                    BarColumn(),
                    TextColumn("{task.percentage:>3.0f}%"),
                    TimeRemainingColumn(),
                )
                self.bar = Progress(*columns, console=self.console, transient=True)
                self.task = self.bar.add_task(what, total=total)
                self.bar.start()
                atexit.register(self.bar.stop)  # whatever ends the process, the terminal gets its cursor back
        if self.bar:
            self.bar.update(self.task, completed=done)
        elif time.monotonic() - self.last_word > QUIET_SECONDS:
            self.last_word = time.monotonic()
            self.tell(f"{what}: {done:,} of {total:,}")
        if self.bar and (done == total or self.stopped()):
            self.bar.stop()
            self.bar = None
        if self.stopped():
            raise KeyboardInterrupt
