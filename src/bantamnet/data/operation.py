"""What every augmentation operation is, and the kinds of arguments it takes.

Images are uint8 (N, 3, H, W) before and after. `draw` returns tensors whose first dimension is the sample, so rows can be
picked for any batch.
"""

from abc import ABC, abstractmethod
from typing import Annotated, Any, Literal

import torch
from pydantic import ConfigDict, Field, PlainValidator
from pydantic.dataclasses import dataclass
from torch import Generator, Tensor

from bantamnet.runtime import generator

Parameters = dict[str, Tensor]
Byte = Annotated[int, Field(ge=0, le=255)]
Probability = Annotated[float, Field(ge=0, le=1)]
Strength = Annotated[float, Field(ge=0)]
Border = Literal["fill", "reflect"]

arguments = dataclass(frozen=True, config=ConfigDict(extra="forbid", allow_inf_nan=False, strict=True))
"""Decorator of an operation: its fields are the arguments of the line, in this order; numbers in quotes are refused."""


def _is_byte(value: Any) -> bool:
    return type(value) is int and 0 <= value <= 255


def _fill(value: Any, *words: str) -> Any:
    if _is_byte(value) or (isinstance(value, str) and value in words):
        return value
    if isinstance(value, tuple | list) and len(value) == 3 and all(map(_is_byte, value)):
        return tuple(value)
    raise ValueError(f"takes a byte (0 to 255), three of them (red, green, blue), or {' or '.join(words)}; got {value!r}")


Fill = Annotated[int | tuple[int, int, int] | Literal["mean"], PlainValidator(lambda value: _fill(value, "mean"))]
"""A byte, a colour, or `mean`: the colour that normalisation turns into zero."""

FillOrNoise = Annotated[
    int | tuple[int, int, int] | Literal["mean", "noise"], PlainValidator(lambda value: _fill(value, "mean", "noise"))
]
"""As `Fill`, or `noise`: a colour of its own for every pixel."""


class Operation(ABC):
    """One step of an augmentation line."""

    @abstractmethod
    def draw(self, num: int, generator: Generator) -> Parameters:
        """Random parameters of `num` samples, on the CPU."""

    def draw_for(self, num: int, *words: object) -> Parameters:
        """Parameters that are a function of the words (the seed, the epoch, …) alone."""
        return self.draw(num, generator(*words))

    @abstractmethod
    def apply(self, images: Tensor, parameters: Parameters) -> Tensor:
        """New images; `parameters` hold a row for each image, on the images' device."""


class Fixed(Operation):
    """An operation without chance."""

    def draw(self, num: int, generator: Generator) -> Parameters:
        """Nothing."""
        return {}


class Sometimes(Operation):
    """An operation that happens to an image with probability `p`, always in the same way."""

    p: float

    def draw(self, num: int, generator: Generator) -> Parameters:
        """Whether it happens."""
        return {"chosen": torch.rand(num, generator=generator) < self.p}

    def apply(self, images: Tensor, parameters: Parameters) -> Tensor:
        """Change those alone."""
        rows = parameters["chosen"].nonzero()[:, 0]
        return images.index_copy(0, rows, self.change(images[rows]))

    @abstractmethod
    def change(self, images: Tensor) -> Tensor:
        """New images of the same shape, every one changed."""


def colour(fill: int | tuple[int, int, int] | str, images: Tensor) -> int | Tensor:
    """A fill as a number, or as uint8 (1, 3, 1, 1) beside the images."""
    assert not isinstance(fill, str), f"{fill!r} has no colour before parse(line, mean) has given it one"
    return fill if isinstance(fill, int) else images.new_tensor(fill).view(1, 3, 1, 1)
