"""Learning-rate schedule keys."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from bantamnet.config.section import Section


class Segment(Section):
    """A piece of a learning-rate schedule; its factor multiplies the group's rate. The last piece goes on past its length."""

    epochs: Annotated[float, Field(gt=0)] | None = None
    """Length in epochs; null (with `steps` null) follows the run's epochs."""
    steps: Annotated[int, Field(gt=0)] | None = None
    """Length in steps instead."""
    every: Literal["step", "epoch"] = "step"
    """Move each step, or only when an epoch begins."""

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if self.epochs is not None and self.steps is not None:
            raise ValueError("give the length in epochs or in steps, not both")
        return self


class Constant(Segment):
    """The group's own rate, or a part of it."""

    name: Literal["constant"] = "constant"
    factor: Annotated[float, Field(ge=0)] = 1.0
    """Factor."""


class Warmup(Segment):
    """Linear from `start` times the rate to the rate itself."""

    name: Literal["warmup"]
    start: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Factor at its beginning."""


class Linear(Segment):
    """A straight line from `start` times the rate to `end` times the rate over its length, and level from there on."""

    name: Literal["linear"]
    start: Annotated[float, Field(ge=0)] = 1.0
    """Factor at its beginning."""
    end: Annotated[float, Field(ge=0)] = 0.0
    """Factor at its end."""


class Trapezoid(Segment):
    """Up in a straight line, along at the rate, down in a straight line (Hägele et al. 2024, arXiv 2405.18392).

    A triangle where the shares add up to 1.
    """

    name: Literal["trapezoid"]
    warmup: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Share of its length spent on the way up."""
    cooldown: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Share of its length spent on the way down."""
    start: Annotated[float, Field(ge=0)] = 0.0
    """Factor at its beginning."""
    end: Annotated[float, Field(ge=0)] = 0.0
    """Factor at its end."""

    @model_validator(mode="after")
    def _shares_fit(self) -> Self:
        if self.warmup + self.cooldown > 1 + 1e-9:
            raise ValueError(f"warmup {self.warmup:g} and cooldown {self.cooldown:g} are shares of one length; lower one of them")
        return self


class OneCycle(Segment):
    """Up to the rate and down far below where it began (Smith & Topin 2017, arXiv 1708.07120).

    The rate is that of `torch.optim.lr_scheduler.OneCycleLR`; momentum stays as it is.
    """

    name: Literal["one-cycle"]
    pct_start: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """Share of its length spent on the way up."""
    anneal: Literal["cos", "linear"] = "cos"
    """Way from one rate to the next."""
    div_factor: Annotated[float, Field(gt=0)] = 25.0
    """It begins at the rate divided by this."""
    final_div_factor: Annotated[float, Field(gt=0)] = 1e4
    """It ends at its beginning divided by this."""
    three_phase: bool = False
    """Go down to the beginning as fast as up, and only then to the end."""

    @model_validator(mode="after")
    def _phases_fit(self) -> Self:
        if self.three_phase and self.pct_start > 0.5:
            raise ValueError(f"pct_start {self.pct_start:g} is spent twice with three_phase; lower it to 0.5 or less")
        return self


class Cosine(Segment):
    """Half a cosine from the rate down to `min_lr` over its length (Loshchilov & Hutter 2016, arXiv 1608.03983).

    As in PyTorch, the cosine climbs again when a run goes on past that length.
    """

    name: Literal["cosine"]
    min_lr: Annotated[float, Field(ge=0)] = 0.0
    """Rate at its lowest point."""


class Multistep(Segment):
    """Multiply the rate at given epochs."""

    name: Literal["multistep"]
    at: list[Annotated[float, Field(gt=0)]]
    """Epochs (since the segment began) at which to multiply."""
    factor: Annotated[float, Field(gt=0)] = 0.1
    """What to multiply by."""


class Plateau(Segment):
    """Multiply the rate when validation loss stops falling, as `torch.optim.lr_scheduler.ReduceLROnPlateau` does.

    It is the last segment, and has no `eps`: the rate is multiplied however small it is.
    """

    name: Literal["plateau"]
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """What to multiply by."""
    patience: Annotated[int, Field(ge=0)] = 10
    """Epochs without improvement that are let pass."""
    threshold: Annotated[float, Field(ge=0)] = 1e-4
    """Relative fall that counts as improvement."""


AnySegment = Annotated[
    Constant | Warmup | Linear | Trapezoid | OneCycle | Cosine | Multistep | Plateau, Field(discriminator="name")
]
