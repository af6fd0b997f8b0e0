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
    """The group's own rate."""

    name: Literal["constant"] = "constant"


class Warmup(Segment):
    """Linear from `start` times the rate to the rate itself."""

    name: Literal["warmup"]
    start: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Factor at its beginning."""


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


AnySegment = Annotated[Constant | Warmup | Cosine | Multistep | Plateau, Field(discriminator="name")]
