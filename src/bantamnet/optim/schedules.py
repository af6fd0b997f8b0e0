"""Learning rates: segments one after another, as functions of the step; only the plateau remembers anything."""

import math
from typing import Any

from bantamnet.config import AnySegment, Constant, Cosine, Group, Linear, Multistep, OneCycle, Plateau, Trapezoid, Warmup


class LearningRate:
    """The rate of one group at any step of a run of `epochs` × `steps_per_epoch` steps."""

    def __init__(self, group: Group, steps_per_epoch: int, epochs: float) -> None:
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

    def over(self, step: float) -> bool:
        """Whether the rate is zero from this step on, whatever comes."""
        start, length, piece = self.segments[-1]
        ended = step / self.steps_per_epoch >= start + length - 1e-9
        falls = isinstance(piece, Linear | Trapezoid) and piece.end == 0
        return ended and falls and abs(self.at(step)) <= 1e-9 * self.base

    def _rate(self, piece: AnySegment, elapsed: float, length: float) -> float:
        """`elapsed` and `length` are in epochs since the segment began."""
        match piece:
            case Constant(factor=factor):
                return self.base * factor
            case Warmup(start=start):
                return self.base * (start + (1 - start) * min(elapsed / length, 1.0))
            case Linear(start=start, end=end):
                return self.base * lerp(start, end, elapsed / length)
            case Trapezoid():
                return self.base * trapezoid(piece, elapsed / length)
            case OneCycle():
                unit = 1 if piece.every == "epoch" else self.steps_per_epoch
                return self.base * one_cycle(piece, elapsed * unit, length * unit)
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


def lerp(start: float, end: float, share: float) -> float:
    """From `start` at 0 to `end` at 1 and after."""
    return start + (end - start) * min(share, 1.0)


def trapezoid(piece: Trapezoid, share: float) -> float:
    """Factor after a share of the segment."""
    if share < piece.warmup:
        return lerp(piece.start, 1.0, share / piece.warmup)
    before = 1 - piece.cooldown
    return lerp(1.0, piece.end, (share - before) / piece.cooldown) if piece.cooldown and share > before else 1.0


def one_cycle(piece: OneCycle, moves: float, num_moves: float) -> float:
    """Factor after some of the segment's moves; as in PyTorch its last move, number `num_moves` − 1, has the lowest."""
    low = 1 / piece.div_factor
    lowest = low / piece.final_div_factor
    top, last = piece.pct_start * num_moves - 1, num_moves - 1
    phases = [(0.0, top, low, 1.0), (top, last, 1.0, lowest)]
    if piece.three_phase:
        phases[1:] = [(top, 2 * top, 1.0, low), (2 * top, last, low, lowest)]
    begin, end, first, second = next((phase for phase in phases if moves <= phase[1]), phases[-1])
    share = min(max((moves - begin) / (end - begin), 0.0), 1.0) if end > begin else 1.0
    if piece.anneal == "cos":
        share = (1 - math.cos(math.pi * share)) / 2
    return lerp(first, second, share)
