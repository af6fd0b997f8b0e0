"""Operations that mix a pixel with its neighbours, channel by channel."""

from typing import Annotated, Any

import torch
from pydantic import AfterValidator, BeforeValidator, Field
from torch import Generator, Tensor

from bantamnet.data.colour import blend
from bantamnet.data.operation import Operation, Parameters, Probability, Strength, arguments

PASSES = 3
"""Box filters, one after another, that stand for a Gaussian."""


def _pair(value: Any) -> Any:
    """A single number stands for both ends; YAML and JSON have lists where Python has tuples."""
    if isinstance(value, list):
        return tuple(value)
    return (value, value) if isinstance(value, int | float) else value


def _ordered(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] > value[1]:
        raise ValueError(f"takes (low, high), got {value}")
    return value


_Sigma = Annotated[float, Field(ge=0, le=100)]
Radius = Annotated[tuple[_Sigma, _Sigma], BeforeValidator(_pair), AfterValidator(_ordered)]
"""(low, high) in pixels; a single number is both."""


@arguments
class Blur(Operation):
    """Gaussian blur with probability `p`, its standard deviation uniform on `radius` in pixels (`ImageFilter.GaussianBlur`).

    As there, three extended box filters a direction stand for the Gaussian (Gwosdek et al. 2011, "Theoretical foundations of
    Gaussian convolution by extended box filtering"), the outermost pixels go on beyond the edge, and each pass is rounded.
    """

    p: Probability = 0.5
    radius: Radius = (0.1, 2.0)

    def draw(self, num: int, generator: Generator) -> Parameters:
        """Whether, and the standard deviation."""
        low, high = self.radius
        return {
            "blur": torch.rand(num, generator=generator) < self.p,
            "radius": (low + (high - low) * torch.rand(num, generator=generator)).clamp_(max=high),
        }

    def apply(self, images: Tensor, parameters: Parameters) -> Tensor:
        """Blur those alone."""
        rows = parameters["blur"].nonzero()[:, 0]
        return images.index_copy(0, rows, gaussian_blur(images[rows], parameters["radius"][rows], self.radius[1]))


def gaussian_blur(images: Tensor, radius: Tensor, largest: float) -> Tensor:
    """uint8 (N, 3, H, W) blurred by a standard deviation `radius` (N,) of its own, none above `largest`.

    In Pillow's 8.24 fixed point and so equal to it: sums fill 32 bits, and an int32 that wraps keeps the byte on top.
    """
    box = _box_radius(radius.float())[:, None]
    reach = int(_box_radius(torch.tensor(largest))) + 1
    whole = box.floor()
    inner = (torch.full_like(box, 1 << 24) / (box * 2 + 1)).int()
    outer = ((1 << 24) - (whole.int() * 2 + 1) * inner) // 2
    tap = torch.arange(reach + 1, device=images.device)
    weights = (torch.where(tap <= whole, inner, 0) + torch.where(tap == whole + 1, outer, 0))[:, :, None, None, None]
    blurred = images.int()
    for dimension in (3, 2):
        size = images.shape[dimension]
        for _ in range(PASSES):
            total = blurred * weights[:, 0]
            first, last = blurred.narrow(dimension, 0, 1), blurred.narrow(dimension, size - 1, 1)
            beyond = [*first.shape[:dimension], reach, *first.shape[dimension + 1 :]]
            padded = torch.cat([first.expand(beyond), blurred, last.expand(beyond)], dimension)
            for distance in range(1, reach + 1):
                left, right = (padded.narrow(dimension, reach + way * distance, size) for way in (-1, 1))
                total += (left + right).mul_(weights[:, distance])
            blurred = total.add_(1 << 23).bitwise_right_shift_(24).bitwise_and_(255)
    return blurred.to(torch.uint8)


def _box_radius(sigma: Tensor) -> Tensor:
    """Radius, with its fraction, of the extended box whose repetition has standard deviation `sigma` (Gwosdek et al. 2011).

    float32 → float32, the root in double, as Pillow computes it.
    """
    variance = sigma * sigma / PASSES
    length = (12 * variance.double() + 1).sqrt().float()
    whole = ((length - 1) / 2).floor()
    fraction = (2 * whole + 1) * (whole * (whole + 1) - 3 * variance) / (6 * (variance - (whole + 1) * (whole + 1)))
    return whole + fraction


@arguments
class Sharpness(Operation):
    """Sharpen or soften by a factor uniform on [max(0, 1 − s), 1 + s] (`ImageEnhance.Sharpness`)."""

    strength: Strength

    def draw(self, num: int, generator: Generator) -> Parameters:
        """The factor: 0 is soft, 1 as it was."""
        low = max(0.0, 1 - self.strength)
        return {"factor": low + (1 + self.strength - low) * torch.rand(num, generator=generator)}

    def apply(self, images: Tensor, parameters: Parameters) -> Tensor:
        """Away from or towards the smoothed image."""
        return blend(smooth(images), images, parameters["factor"][:, None, None, None])


def smooth(images: Tensor) -> Tensor:
    """uint8 (N, 3, H, W) → float32: 3×3 mean with five times the weight at its centre, border kept (`ImageFilter.SMOOTH`)."""
    values = images.to(torch.int16)
    across = values[..., :-2] + values[..., 1:-1] + values[..., 2:]
    total = across[..., :-2, :] + across[..., 1:-1, :] + across[..., 2:, :] + 4 * values[..., 1:-1, 1:-1]
    smoothed = images.float()
    smoothed[..., 1:-1, 1:-1] = (total.float() / 13 + 0.5).floor_()
    return smoothed
