"""Learning rates: segments one after another, as functions of the step; only the plateau remembers anything."""

import math
from typing import Any

from bantamnet.config import AnySegment, Constant, Cosine, Group, Multistep, Plateau, Warmup


class LearningRate:
    """The rate of one group at any step of a run of `epochs` × `steps_per_epoch` steps."""

    def __init__(self, group: Group, steps_per_epoch: int, epochs: int) -> None:
        self.base = group.lr
        self.steps_per_epoch = steps_per_epoch
        self.segments: list[tuple[float, float, AnySegment]] = []
        """(start, length, segment) in epochs."""
        start = 0.0
        for piece in group.schedule:
            length = piece.epochs if piece.steps is None else piece.steps / steps_per_epoch
            if length is None:
                length = max(epochs - start, 1 / steps_per_epoch)
            self.segments.append((start, length, piece))
            start += length
        self.plateau: dict[str, Any] = {"best": math.inf, "bad_epochs": 0, "scale": 1.0}

    def at(self, step: float) -> float:
        """The rate that step number `step`, from 0, is taken with; a schedule that is stretched or shrunk falls between."""
        epoch = step / self.steps_per_epoch
        start, length, piece = next(
            (entry for entry in self.segments[:-1] if epoch < entry[0] + entry[1] - 1e-9), self.segments[-1]
        )
        elapsed = (math.floor(epoch + 1e-9) if piece.every == "epoch" else epoch) - start
        return self._rate(piece, max(elapsed, 0.0), length)

    def _rate(self, piece: AnySegment, elapsed: float, length: float) -> float:
        """`elapsed` and `length` are in epochs since the segment began."""
        match piece:
            case Constant():
                return self.base
            case Warmup(start=start):
                return self.base * (start + (1 - start) * min(elapsed / length, 1.0))
            case Cosine(min_lr=low):
                return low + (self.base - low) * (1 + math.cos(math.pi * elapsed / length)) / 2
            case Multistep(at=epochs, factor=factor):
                passed = sum(epoch <= elapsed + 1e-9 for epoch in epochs)
                return float(self.base * factor**passed)
            case Plateau():
                return float(self.base * self.plateau["scale"])

    def observe(self, step: int, val_loss: float) -> None:
        """Tell a plateau segment the validation loss of the epoch that ended after `step` steps."""
        start, _, piece = self.segments[-1]
        if not isinstance(piece, Plateau) or step / self.steps_per_epoch <= start:
            return
        state = self.plateau
        if val_loss < state["best"] * (1 - piece.threshold):
            state["best"], state["bad_epochs"] = val_loss, 0
        else:
            state["bad_epochs"] += 1
        if state["bad_epochs"] > piece.patience:
            state["scale"], state["bad_epochs"] = state["scale"] * piece.factor, 0
