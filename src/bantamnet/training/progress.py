"""What a person sees while training: a bar with the whole run's time left on a terminal, plain lines elsewhere."""

import time
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.table import Table
from rich.text import Text

SCORING_COST = 1 / 3
"""Work of scoring an image, in units of training on one: a forward pass without its backward."""
QUIET_SECONDS = 60.0
"""Plain output says something at least this often."""


class Progress(AbstractContextManager["Progress"]):
    """Counts work, in training images; ETA is work left over work a second so far."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.bar: Bar | None = None
        self.done = self.total = self.at_start = 0.0
        self.epochs = 0
        self.began = self.last_word = time.monotonic()

    def begin(self, done: float, total: float, epochs: int) -> None:
        """`done` of `total` work lies behind a run of `epochs`."""
        self.done, self.total, self.at_start, self.epochs = done, total, done, epochs
        self.began = self.last_word = time.monotonic()
        if self.console.is_terminal and not self.console.quiet:
            columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"))
            columns += (TimeElapsedColumn(), TextColumn("{task.fields[left]} left"))  # type: ignore[assignment]
            self.bar = Bar(*columns, console=self.console, transient=True)
            self.task = self.bar.add_task("training", total=total, completed=round(done), left="?")
            self.bar.start()

    def change(self, total: float, epochs: int) -> None:
        """There is another amount of work, or number of epochs, than was planned."""
        self.total, self.epochs = total, epochs
        if self.bar:
            self.bar.update(self.task, total=total)

    def advance(self, num_images: float) -> None:
        """Trained on so many images."""
        self.done += num_images
        if self.bar:
            self.bar.update(self.task, completed=self.done, left=self.time_left())
        elif time.monotonic() - self.last_word > QUIET_SECONDS:
            self.last_word = time.monotonic()
            self.console.print(f"  {100 * self.done / self.total:.0f}% done, {self.time_left()} left", highlight=False)

    def advance_scoring(self, num_images: int) -> None:
        """Scored so many images."""
        self.advance(num_images * SCORING_COST)

    def time_left(self) -> str:
        """ETA of the whole run."""
        worked = self.done - self.at_start
        if worked <= 0:
            return "?"
        return duration(max(0.0, self.total - self.done) * (time.monotonic() - self.began) / worked)

    def epoch(self, line: dict[str, Any]) -> None:
        """One line for an epoch that ended."""
        parts = [f"epoch {line['epoch']:>{len(str(self.epochs))}}/{self.epochs}"]
        parts.append(f"lr {'/'.join(f'{lr:.2g}' for lr in line['lr'])}")
        parts.append(f"train loss {line['train_loss']:.4f} acc {100 * line['train_accuracy']:.2f}%")
        if "val_accuracy" in line:
            parts.append(f"val loss {line['val_loss']:.4f} acc {100 * line['val_accuracy']:.2f}%")
        parts.append(f"{line['images_per_second']:,.0f} images/s")
        self.last_word = time.monotonic()
        if self.epochs <= 30 or self.bar or line["epoch"] % (self.epochs // 20) == 0 or line["train_seconds"] > 10:
            self.console.print("  ".join(parts), highlight=False, soft_wrap=True)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if self.bar:
            self.bar.stop()

    def __enter__(self) -> Self:
        return self


def duration(seconds: float) -> str:
    """1:02:03, or 2:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def facts_table(facts: dict[str, str]) -> Table:
    """Two columns: what, and which."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="dim")
    table.add_column()
    for name, value in facts.items():
        table.add_row(name, Text(value))
    return table
