"""Optimiser keys."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from bantamnet.config.schedule import AnySegment, Constant
from bantamnet.config.section import Section


class Lookahead(Section):
    """Slow weights that follow the optimiser's fast ones (Zhang et al. 2019, arXiv 1907.08610).

    The slow ones are what is scored and kept, and what `swa` averages; `ema` averages the fast ones.
    """

    k: Annotated[int, Field(gt=0)] = 5
    """Steps of the fast weights between two of the slow ones."""
    alpha: Annotated[float, Field(gt=0, le=1)] = 0.5
    """How far the slow weights go towards the fast ones, which then go on from there with their momentum."""


class Group(Section):
    """Parameters that share an optimiser and a schedule; a parameter belongs to the first group that matches it."""

    match: str = "*"
    """Glob on parameter names (`stem.*`), or `@weights` (two or more dimensions), `@convs` (of convolutions alone), or
    `@norm-bias` (BatchNorm and biases)."""
    lr: Annotated[float, Field(ge=0)]
    """Learning rate before the schedule."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Weight decay."""
    decay_norm_bias: bool = False
    """Let weight decay act on BatchNorm scales and biases too, as PyTorch does when nobody says otherwise."""
    schedule: list[AnySegment] = [Constant()]
    """Segments one after another; a single name or a single segment is a short form."""
    lookahead: Lookahead | None = None
    """Lookahead around this group's optimiser; null for none."""

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


class Muon(Group):
    """Momentum whose every step is orthogonalised as a matrix (Jordan et al. 2024, kellerjordan.github.io/posts/muon).

    It moves weights of two or more dimensions; a convolution's is the matrix (out, in · height · width). Another group moves the
    rest. Weight decay is decoupled, as in AdamW.
    """

    name: Literal["muon"]
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.95
    """Momentum."""
    nesterov: bool = True
    """Nesterov's form of it."""
    ns_steps: Annotated[int, Field(gt=0, lt=100)] = 5
    """Newton–Schulz iterations that orthogonalise a step."""
    scale: Literal["original", "match-rms-adamw", "none"] = "original"
    """What a step of a rows × columns matrix is multiplied by beside the rate: `original` √max(1, rows / columns),
    `match-rms-adamw` 0.2 √max(rows, columns) (Liu et al. 2025, arXiv 2502.16982), `none` 1."""
    normalize_weights: bool = False
    """Before each step scale every weight to the norm √rows, as cifar10-airbench does (with `scale: none`); it takes the place of
    weight decay."""

    @model_validator(mode="after")
    def _one_bound_on_weights(self) -> Self:
        if self.normalize_weights and self.weight_decay:
            raise ValueError(
                "normalize_weights undoes weight_decay at the next step; set weight_decay=0, or normalize_weights=false"
            )
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs a momentum above 0")
        return self


AnyGroup = Annotated[Sgd | Adam | AdamW | Muon, Field(discriminator="name")]
