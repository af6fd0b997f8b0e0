"""Early stopping: a run ends when validation accuracy has stopped rising."""

import math
from typing import Any

from bantamnet.config import EarlyStop


class EarlyStopping:
    """Counts epochs since the validation accuracy last rose; without a config it never ends a run."""

    def __init__(self, config: EarlyStop | None) -> None:
        self.config = config
        self.best, self.bad_epochs = -math.inf, 0

    def observe(self, accuracy: float) -> None:
        """Tell it an epoch's validation accuracy, in [0, 1]."""
        if self.config is None:
            return
        if accuracy > self.best + self.config.min_delta:
            self.best, self.bad_epochs = accuracy, 0
        else:
            self.bad_epochs += 1

    @property
    def over(self) -> bool:
        """Whether the run ends here."""
        return self.config is not None and self.bad_epochs >= self.config.patience

    def memory(self) -> dict[str, Any]:
        """What a checkpoint keeps of it."""
        return {"best": self.best, "bad_epochs": self.bad_epochs}

    def load(self, memory: dict[str, Any]) -> None:
        """Undo for `memory`."""
        self.best, self.bad_epochs = memory["best"], memory["bad_epochs"]

    def report(self, epochs_done: int, epochs: int, schedule_done: float) -> dict[str, Any] | None:
        """What summary.json says of an early end, or None where the run went through all its epochs.

        `schedule_done` is the share of the learning rate's schedule that lies behind it.
        """
        if not self.over or epochs_done == epochs:
            return None
        assert self.config is not None
        return {
            "epoch": epochs_done,
            "of": epochs,
            **self.config.model_dump(),
            "best_val_accuracy": self.best,
            "schedule_done": schedule_done,
            "note": f"stopped early after epoch {epochs_done} of {epochs}: validation accuracy had not risen for "
            f"{self.bad_epochs} epochs; the learning rate had gone {100 * schedule_done:.0f}% of its schedule",
        }
