"""Drops on the lens: water, or mud.

What the published code takes from OpenCV is computed here as OpenCV does: with the same draws and OpenCV 4.14, water is the same
in every byte on 600 images, mud differs by one in at most two bytes of a hundred thousand (double precision here, single there).
"""

from collections.abc import Callable
from typing import Annotated

import torch
from pydantic import Field
from torch import Generator, Tensor

from bantamnet.data.corruptions.canny import canny
from bantamnet.data.corruptions.chamfer import ONE, distance
from bantamnet.data.corruptions.equalise import equalise
from bantamnet.data.corruptions.linear import gaussian, separable
from bantamnet.data.corruptions.neighbourhood import BOX, weighted_sum
from bantamnet.data.corruptions.pixels import SIDE, to_bytes, to_unit
from bantamnet.data.operation import Operation, Parameters, Probability, Strength, arguments

TURQUOISE = (175, 238, 238)
BROWN = (63, 42, 20)
EDGE_LOW, EDGE_HIGH = 50, 150
REACH = 20
"""Pixels from an edge beyond which water is all the same."""
LIGHT = ((-2, -1, 0), (-1, 1, 1), (0, 1, 2))
"""An emboss: light falls in from the bottom right."""
OPAQUE = 0.8


def spatter(mean: float, spread: float, size: float, threshold: float, last: float, mud: int) -> Operation:
    """The operation that the six published constants of a severity stand for."""
    make: Callable[..., Operation] = Mud if mud else Water
    return make(mean, spread, size, threshold, last)


@arguments
class Drops(Operation):
    """Normal noise (`mean`, `spread`), smoothed by a Gaussian of `size` pixels; drops lie where it reaches `threshold`."""

    mean: float
    spread: Strength
    size: Annotated[float, Field(gt=0)]
    threshold: Probability

    def draw(self, num: int, generator: Generator) -> Parameters:
        """Standard normal numbers."""
        return {"noise": torch.randn(num, SIDE, SIDE, dtype=torch.float64, generator=generator)}

    def liquid(self, parameters: Parameters) -> Tensor:
        """float64 (N, 32, 32): the smoothed noise, and 0 where no drop is."""
        noise = self.mean + self.spread * parameters["noise"]
        smooth = separable(noise, gaussian(self.size, 4.0, "nearest", noise.device))
        return torch.where(smooth < self.threshold, 0, smooth)


@arguments
class Water(Drops):
    """Turquoise is added where water lies, `amount` of it where it shines most.

    What reaches above 1 in the liquid starts from 0 again: the published code stores it as a byte that overflows.
    """

    amount: Probability

    def apply(self, images: Tensor, parameters: Parameters) -> Tensor:
        """Image and gloss; one without any (none in tens of thousands) stays as it is."""
        liquid = (self.liquid(parameters) * 255).floor() % 256
        shine = liquid * gloss(liquid)
        share = self.amount * shine / shine.amax((1, 2), keepdim=True).clamp(min=1)
        pixels = to_unit(images)
        return to_bytes(pixels + share[:, None] * pixels.new_tensor(TURQUOISE).view(3, 1, 1) / 255)


def gloss(liquid: Tensor) -> Tensor:
    """float64 (N, 32, 32), whole numbers in 0 … 255: how water of this height, in bytes, shines.

    The distance from the edges of its drops, blurred, spread over all levels, lit from a side, and blurred.
    """
    near = distance(canny(liquid, EDGE_LOW, EDGE_HIGH), REACH)
    levels = equalise((weighted_sum(near, BOX) / (9 * ONE)).floor())
    lit = weighted_sum(levels, LIGHT).clamp_(0, 255)
    return (weighted_sum(lit, BOX) / 9).round_()


@arguments
class Mud(Drops):
    """Brown covers the image where drops lie, their outline smoothed by a Gaussian of `softness` pixels.

    Where less than 0.8 of it is left nothing is covered.
    """

    softness: Annotated[float, Field(gt=0)]

    def apply(self, images: Tensor, parameters: Parameters) -> Tensor:
        """Brown over the image."""
        drops = (self.liquid(parameters) > self.threshold).double()
        smooth = separable(drops, gaussian(self.softness, 4.0, "nearest", images.device))
        cover = torch.where(smooth < OPAQUE, 0, smooth)[:, None]
        pixels = to_unit(images)
        return to_bytes(pixels * (1 - cover) + cover * pixels.new_tensor(BROWN).view(3, 1, 1) / 255)
