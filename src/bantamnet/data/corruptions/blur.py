"""Blurs of the lens, of frosted glass, of movement."""

from functools import cache
from itertools import product
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Generator, Tensor

from bantamnet.data.corruptions.linear import gaussian, separable, zoom
from bantamnet.data.corruptions.motion import motion
from bantamnet.data.corruptions.pixels import SIDE, to_bytes, to_unit
from bantamnet.data.operation import Fixed, Operation, Parameters, Strength, arguments


@arguments
class GaussianBlur(Fixed):
    """A Gaussian of `sigma` pixels, cut off at four of them, the outermost pixels going on beyond the border."""

    sigma: Strength

    def apply(self, images: Tensor, parameters: Parameters) -> Tensor:
        """Along both axes."""
        return to_bytes(separable(to_unit(images), gaussian(self.sigma, 4.0, "nearest", images.device)))


@arguments
class DefocusBlur(Fixed):
    """The mean over a disk of `radius` pixels, its edge softened by a 3×3 Gaussian of `softness` pixels.

    Beyond the border lies the image mirrored at its outermost pixels.
    """

    radius: Strength
    softness: Annotated[float, Field(gt=0)]

    def apply(self, images: Tensor, parameters: Parameters) -> Tensor:
        """Tap by tap."""
        kernel = disk(self.radius, self.softness)
        reach = len(kernel) // 2
        padded = F.pad(to_unit(images), (reach,) * 4, mode="reflect")
        total = torch.zeros(images.shape, dtype=torch.float64, device=images.device)
        for row, column in product(range(len(kernel)), repeat=2):
            if kernel[row, column]:
                total.add_(padded[..., row : row + SIDE, column : column + SIDE], alpha=float(kernel[row, column]))
        return to_bytes(total)


def disk(radius: float, softness: float) -> np.ndarray:
    """float64 (side, side), sum 1: pixels within `radius` of the middle, blurred."""
    reach = int(radius) + 1
    squares = np.arange(-reach, reach + 1) ** 2
    flat = ((squares[:, None] + squares) <= radius**2).astype(np.float64)
    edge = np.exp(-1 / (2 * softness**2))
    soft = np.array([edge, 1, edge]) / (1 + 2 * edge)
    blurred: np.ndarray = sum(
        soft[i] * soft[j] * np.roll(flat / flat.sum(), (i - 1, j - 1), (0, 1)) for i, j in product(range(3), repeat=2)
    )
    return blurred


@arguments
class GlassBlur(Operation):
    """Pixels move by up to one place between two Gaussian blurs of `sigma` pixels, in `rounds` rounds: frosted glass.

    The published code means to swap a pixel with its neighbour above, to the left, above left, or itself; as it swaps views of
    one array, the pixel takes the neighbour's colour and the neighbour keeps it. The official files were made so, and so is
    this. The first two rows and columns stay. Pixels are taken from the bottom right on, so none is read after it was changed.
    """

    sigma: Strength
    rounds: Annotated[int, Field(ge=1)]

    def draw(self, num: int, generator: Generator) -> Parameters:
        """(columns, rows) that each pixel looks to the right and down, −1 or 0, in each round."""
        shape = (num, self.rounds, SIDE - 2, SIDE - 2, 2)
        return {"steps": torch.randint(-1, 1, shape, generator=generator, dtype=torch.int8)}

    def apply(self, images: Tensor, parameters: Parameters) -> Tensor:
        """Blur, move, blur."""
        matrix = gaussian(self.sigma, 4.0, "nearest", images.device)
        blurred = to_bytes(separable(to_unit(images), matrix)).flatten(2)
        steps = parameters["steps"].long()
        own = torch.arange(SIDE * SIDE, device=images.device).view(SIDE, SIDE)
        for number in range(self.rounds):
            place = own.repeat(len(images), 1, 1)
            place[:, 2:, 2:] += steps[:, number, ..., 0] + SIDE * steps[:, number, ..., 1]
            blurred = blurred.gather(2, place.flatten(1)[:, None].expand(blurred.shape))
        return to_bytes(separable(to_unit(blurred.view(images.shape)), matrix))


@arguments
class MotionBlur(Operation):
    """The camera moves along a line, at an angle uniform on ±45° (ImageMagick's motion blur)."""

    radius: Annotated[int, Field(ge=1)]
    sigma: Annotated[float, Field(gt=0)]

    def draw(self, num: int, generator: Generator) -> Parameters:
        """The angle in degrees."""
        return {"angle": 90 * torch.rand(num, dtype=torch.float64, generator=generator) - 45}

    def apply(self, images: Tensor, parameters: Parameters) -> Tensor:
        """Each image along its own line."""
        return motion(images, parameters["angle"], self.radius, self.sigma)


@arguments
class ZoomBlur(Fixed):
    """The mean of the image and of its magnifications by 1, 1.01, … up to `end`: moving fast towards it.

    In double precision, where the published code has single.
    """

    end: Annotated[float, Field(gt=1)]

    def apply(self, images: Tensor, parameters: Parameters) -> Tensor:
        """All magnifications at once: their mean is one linear map of the image."""
        return to_bytes((to_unit(images).flatten(2) @ _mean_zoom(self.end, images.device).T).view(images.shape))


@cache
def _mean_zoom(end: float, device: torch.device) -> Tensor:
    """float64 (1024, 1024): from the pixels of an image to those of the mean."""
    factors = np.arange(1, end, 0.01)  # rounding decides whether it has its end; it is the published expression
    total = torch.eye(SIDE * SIDE, dtype=torch.float64, device=device)
    for factor in factors:
        matrix = zoom(float(factor), device)
        total += torch.kron(matrix, matrix)
    return total / (len(factors) + 1)
