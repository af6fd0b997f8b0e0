"""Fog, snow, and too much light."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Generator, Tensor

from bantamnet.data.corruptions.linear import separable, zoom
from bantamnet.data.corruptions.motion import motion
from bantamnet.data.corruptions.pixels import SIDE, to_bytes, to_unit
from bantamnet.data.operation import Fixed, Operation, Parameters, Probability, Strength, arguments

GREY = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in the luma (ITU-R 601)."""


@arguments
class Fog(Operation):
    """A plasma fractal is added, `strength` where it is thickest, and the image scaled back to the brightness it had.

    The smaller `decay`, the finer the fog.
    """

    strength: Strength
    decay: Annotated[float, Field(gt=1)]

    def draw(self, num: int, generator: Generator) -> Parameters:
        """Numbers uniform on [−1, 1) for the fractal, coarse ones first."""
        return {"wobble": 2 * torch.rand(num, SIDE * SIDE - 1, dtype=torch.float64, generator=generator) - 1}

    def apply(self, images: Tensor, parameters: Parameters) -> Tensor:
        """(x + strength · fog) · brightest / (brightest + strength)."""
        pixels = to_unit(images)
        brightest = pixels.amax((1, 2, 3), keepdim=True)
        foggy = pixels + self.strength * plasma(parameters["wobble"], self.decay)[:, None]
        return to_bytes(foggy * (brightest / (brightest + self.strength)))


def plasma(wobble: Tensor, decay: float) -> Tensor:
    """float64 (N, 32, 32) in [0, 1]: a fractal landscape by the diamond-square algorithm, on a torus.

    At each step, from 32 pixels down to 2, the middle of each square becomes the mean of its corners, then the middle of each
    side the mean of its four neighbours, each with a number of `wobble` (N, 1023) on top, scaled by the square of an amplitude
    that begins at 100 and shrinks by `decay`. A step takes the numbers of its squares, then of its horizontal, then of its
    vertical sides.
    """
    num = len(wobble)
    heights = wobble.new_zeros(num, SIDE, SIDE)
    step, amplitude, taken = SIDE, 100.0, 0
    while step >= 2:
        half, count = step // 2, SIDE // step
        squares, across, down = (
            wobble[:, taken + part * count**2 :][:, : count**2].view(num, count, count) * amplitude**2 for part in range(3)
        )
        corners = heights[:, ::step, ::step]
        pairs = corners + corners.roll(-1, 1)
        middles = (pairs + pairs.roll(-1, 2)) / 4 + squares
        heights[:, half::step, half::step] = middles
        heights[:, ::step, half::step] = (middles + middles.roll(1, 1) + corners + corners.roll(-1, 2)) / 4 + across
        heights[:, half::step, ::step] = (middles + middles.roll(1, 2) + corners + corners.roll(-1, 1)) / 4 + down
        step, amplitude, taken = half, amplitude / decay, taken + 3 * count**2
    heights = heights - heights.amin((1, 2), keepdim=True)
    return heights / heights.amax((1, 2), keepdim=True)


@arguments
class Snow(Operation):
    """Flakes that fall, and a whiter image behind them.

    Normal noise (`mean`, `spread`), magnified by `size`, keeps what reaches `threshold`, and falls at an angle uniform on
    [−135°, −45°) with a motion blur of `radius` and `sigma`; it is added as it is and turned by half a turn. `kept` of the image
    stays, the rest is whitened.
    """

    mean: float
    spread: Strength
    size: Annotated[float, Field(ge=1)]
    threshold: Probability
    radius: Annotated[int, Field(ge=1)]
    sigma: Annotated[float, Field(gt=0)]
    kept: Probability

    def draw(self, num: int, generator: Generator) -> Parameters:
        """Standard normal numbers for the flakes, and the angle in degrees."""
        return {
            "flakes": torch.randn(num, SIDE, SIDE, dtype=torch.float64, generator=generator),
            "angle": -45 - 90 * torch.rand(num, dtype=torch.float64, generator=generator),
        }

    def apply(self, images: Tensor, parameters: Parameters) -> Tensor:
        """Image, flakes, flakes turned."""
        flakes = separable(self.mean + self.spread * parameters["flakes"], zoom(self.size, images.device))
        flakes = torch.where(flakes < self.threshold, 0, flakes)
        fallen = to_unit(motion(to_bytes(flakes)[:, None], parameters["angle"], self.radius, self.sigma))
        pixels = to_unit(images)
        grey = (pixels * pixels.new_tensor(GREY).view(3, 1, 1)).sum(1, keepdim=True)
        whitened = self.kept * pixels + (1 - self.kept) * torch.maximum(pixels, 1.5 * grey + 0.5)
        return to_bytes(whitened + fallen + fallen.rot90(2, (2, 3)))


@arguments
class Brightness(Fixed):
    """`amount` is added to the value of HSV, hue and saturation stay: daylight that is too strong."""

    amount: Strength

    def apply(self, images: Tensor, parameters: Parameters) -> Tensor:
        """At a fixed hue and saturation the channels are in proportion to the value; black, which has none, becomes grey."""
        pixels = to_unit(images)
        value = pixels.amax(1, keepdim=True)
        brighter = (value + self.amount).clamp_(max=1)
        return to_bytes(torch.where(value > 0, pixels * (brighter / value.clamp(min=1 / 255)), brighter))
