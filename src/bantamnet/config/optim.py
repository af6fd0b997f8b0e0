"""Optimiser keys."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from bantamnet.config.schedule import AnySegment, Constant
from bantamnet.config.section import Section


class Group(Section):
    """Parameters that share an optimiser and a schedule; a parameter belongs to the first group that matches it."""

    match: str = "*"
    """Glob on parameter names (`stem.*`), or `@weights` (two or more dimensions), or `@norm-bias` (the rest)."""
    lr: Annotated[float, Field(ge=0)]
    """Learning rate before the schedule."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Weight decay."""
    decay_norm_bias: bool = False
    """Let weight decay act on BatchNorm scales and biases too, as PyTorch does when nobody says otherwise."""
    schedule: list[AnySegment] = [Constant()]
    """Segments one after another; a single name or a single segment is a short form."""

    @field_validator("schedule", mode="before")
    @classmethod
    def _short_schedule(cls, value: Any) -> Any:
        pieces = value if isinstance(value, list) else [value]
        return [{"name": piece} if isinstance(piece, str) else piece for piece in pieces]

    @field_validator("schedule")
    @classmethod
    def _lengths_known(cls, value: list[AnySegment]) -> list[AnySegment]:
        if not value:
            raise ValueError("a schedule needs at least one segment, e.g. cosine")
        if any(piece.epochs is None and piece.steps is None for piece in value[:-1]):
            raise ValueError("only the last segment may follow the run's epochs; give the others `epochs` or `steps`")
        if any(piece.name == "plateau" for piece in value[:-1]):
            raise ValueError("plateau can only be the last segment")
        return value


class Sgd(Group):
    """Stochastic gradient descent."""

    name: Literal["sgd"]
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Momentum."""
    nesterov: bool = False
    """Nesterov's form of it."""

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Self:
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs a momentum above 0")
        return self


class Adam(Group):
    """Adam with coupled weight decay (Kingma & Ba 2014, arXiv 1412.6980)."""

    name: Literal["adam"]
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    """Decay of the first and the second moment."""
    eps: Annotated[float, Field(gt=0)] = 1e-8
    """Added to the denominator."""


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2017, arXiv 1711.05101)."""

    name: Literal["adamw"]  # type: ignore[assignment]


AnyGroup = Annotated[Sgd | Adam | AdamW, Field(discriminator="name")]
