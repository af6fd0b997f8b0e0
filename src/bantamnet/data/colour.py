"""Operations that change colours where they stand. Each equals its Pillow twin (named in its docstring) within ±1 of 255."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Generator, Tensor

from bantamnet.data.operation import Byte, Operation, Parameters, Probability, Sometimes, Strength, arguments


@arguments
class Jitter(Operation):
    """Change brightness, contrast, saturation and hue in a random order.

    The first three are factors uniform on [max(0, 1 − s), 1 + s] (`ImageEnhance.Brightness`, `Contrast`, `Color`), hue a shift
    uniform on ±s turns (of the H channel of `Image.convert("HSV")`). A strength of 0 leaves that one out.
    """

    brightness: Strength = 0.0
    contrast: Strength = 0.0
    saturation: Strength = 0.0
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0

    def draw(self, num: int, generator: Generator) -> Parameters:
        """Four factors, and the order in which they act (a uniform permutation)."""
        strengths = torch.tensor([self.brightness, self.contrast, self.saturation, self.hue])
        low = torch.cat([(1 - strengths[:3]).clamp(min=0), -strengths[3:]])
        high = torch.cat([1 + strengths[:3], strengths[3:]])
        factors = low + (high - low) * torch.rand(num, 4, generator=generator)
        return {"factors": factors, "order": torch.rand(num, 4, generator=generator).argsort(1)}

    def apply(self, images: Tensor, parameters: Parameters) -> Tensor:
        """Position by position, each adjustment to the samples whose turn it is."""
        images = images.clone()
        strengths = (self.brightness, self.contrast, self.saturation, self.hue)
        for position in range(4):
            for which, (strength, adjust) in enumerate(zip(strengths, ADJUSTMENTS, strict=True)):
                if strength:
                    rows = (parameters["order"][:, position] == which).nonzero()[:, 0]
                    factor = parameters["factors"][rows, which][:, None, None, None]
                    images[rows] = adjust(images[rows], factor)
        return images


def grey(images: Tensor) -> Tensor:
    """(N, 3, H, W) uint8 → (N, 1, H, W) int32 luma, rounded as `Image.convert("L")` does (ITU-R 601)."""
    red, green, blue = images.to(torch.int32).unbind(1)
    return (red * 19595 + green * 38470 + blue * 7471 + 0x8000 >> 16)[:, None]


def mean_grey(images: Tensor) -> Tensor:
    """(N, 1, 1, 1) float32: mean luma of each image, rounded."""
    return (grey(images).double().mean((1, 2, 3), keepdim=True) + 0.5).floor().float()


def blend(base: Tensor, images: Tensor, factor: Tensor) -> Tensor:
    """base + factor · (images − base), cut to a byte, in the float32 steps of `Image.blend` and so equal to it.

    `base` is float32 and broadcasts, `factor` float32 (N, 1, 1, 1).
    """
    return (images - base).mul_(factor).add_(base).clamp_(0, 255).to(torch.uint8)


def _lerp(base: Tensor, images: Tensor, factor: Tensor) -> Tensor:
    """`blend` in one pass, which may come out one lower or higher."""
    return torch.lerp(base.expand(images.shape), images.float(), factor).clamp_(0, 255).to(torch.uint8)


def _adjust_brightness(images: Tensor, factor: Tensor) -> Tensor:
    return (images * factor).clamp_(0, 255).to(torch.uint8)


def _adjust_contrast(images: Tensor, factor: Tensor) -> Tensor:
    return _lerp(mean_grey(images), images, factor)


def _adjust_saturation(images: Tensor, factor: Tensor) -> Tensor:
    return _lerp(grey(images).float(), images, factor)


def _adjust_hue(images: Tensor, turns: Tensor) -> Tensor:
    """Through Pillow's 8-bit HSV, whose H runs over 0 … 255 and wraps."""
    red, green, blue = images.float().unbind(1)
    value = images.amax(1).float()
    spread = value - images.amin(1)
    safe = spread.clamp(min=1)
    # Float and double where Pillow has them: hues on the border of two bytes fall to the same side.
    below_red, below_green, below_blue = (((value - c) / safe).double() for c in (red, green, blue))
    sector = torch.where(
        red == value,
        below_blue - below_green,
        torch.where(green == value, 2 + below_red - below_blue, 4 + below_green - below_red),
    )
    hue = ((sector.float().double() / 6 + 1) % 1).float().double().mul_(255).floor_().float()
    saturation = (spread / value.clamp(min=1)).double().mul_(255).floor_().float() / 255
    shifted = (hue + (turns[:, 0].double() * 255).trunc().float()) % 256 * (6 / 255)
    shifted = torch.where(spread > 0, shifted, 0)
    channels = []
    for offset in (5, 3, 1):  # red, green, blue: v − v·s·max(0, min(k, 4 − k, 1)) with k = (offset + h) mod 6
        k = (offset + shifted) % 6
        channels.append(value - value * saturation * torch.minimum(k, 4 - k).clamp_(0, 1))
    return torch.stack(channels, 1).round_().clamp_(0, 255).to(torch.uint8)


ADJUSTMENTS = (_adjust_brightness, _adjust_contrast, _adjust_saturation, _adjust_hue)


@arguments
class Grey(Sometimes):
    """Take the colours out with probability `p`; three equal channels stay (`ImageOps.grayscale`)."""

    p: Probability = 0.1

    def change(self, images: Tensor) -> Tensor:
        """Luma in every channel."""
        return grey(images).to(torch.uint8).expand(images.shape)


@arguments
class Invert(Sometimes):
    """The negative, with probability `p` (`ImageOps.invert`)."""

    p: Probability = 0.1

    def change(self, images: Tensor) -> Tensor:
        """255 − value."""
        return ~images


@arguments
class Solarize(Sometimes):
    """Invert the values from `threshold` up, with probability `p` (`ImageOps.solarize`)."""

    threshold: Byte = 128
    p: Probability = 0.2

    def change(self, images: Tensor) -> Tensor:
        """Value by value."""
        return torch.where(images < self.threshold, images, ~images)


@arguments
class Posterize(Sometimes):
    """Keep the `bits` highest bits of each value, with probability `p` (`ImageOps.posterize`)."""

    bits: Annotated[int, Field(ge=1, le=8)] = 4
    p: Probability = 0.2

    def change(self, images: Tensor) -> Tensor:
        """Value by value."""
        return images & (256 - (1 << 8 - self.bits))


@arguments
class AutoContrast(Sometimes):
    """Stretch each channel of each image over 0 … 255, with probability `p` (`ImageOps.autocontrast`)."""

    p: Probability = 0.2

    def change(self, images: Tensor) -> Tensor:
        """By a look-up table for each channel."""
        return autocontrast(images)


@arguments
class Equalize(Sometimes):
    """Even out the histogram of each channel of each image, with probability `p` (`ImageOps.equalize`)."""

    p: Probability = 0.2

    def change(self, images: Tensor) -> Tensor:
        """By a look-up table for each channel."""
        return equalize(images)


def autocontrast(images: Tensor) -> Tensor:
    """Each channel of each image stretched over 0 … 255; a flat one stays."""
    low, high = (edge.double() for edge in images.flatten(2).aminmax(dim=2, keepdim=True))
    values = torch.arange(256, dtype=torch.float64, device=images.device)
    scale = torch.full_like(low, 255) / (high - low).clamp(min=1)  # 255 / … would be rounded twice, by way of 1 / …
    stretched = (values * scale - low * scale).clamp_(0, 255)
    return _look_up(images, torch.where(high > low, stretched, values).to(torch.uint8))


def equalize(images: Tensor) -> Tensor:
    """The histogram of each channel of each image evened out; one with too few pixels above its darkest stays."""
    values = images.flatten(2).long()
    counts = torch.zeros(*values.shape[:2], 256, dtype=torch.int32, device=images.device)
    counts.scatter_add_(2, values, torch.ones_like(values, dtype=torch.int32))
    above_none = counts.gather(2, values.amax(2, keepdim=True))
    step = (values.shape[2] - above_none) // 255
    below = counts.cumsum(2) - counts
    table = ((below + step // 2) // step.clamp(min=1)).clamp_(max=255)
    same = torch.arange(256, device=images.device)
    return _look_up(images, torch.where(step > 0, table, same).to(torch.uint8))


def _look_up(images: Tensor, tables: Tensor) -> Tensor:
    """Values of images (N, 3, H, W) replaced by those of `tables` uint8 (N, 3, 256)."""
    return tables.gather(2, images.flatten(2).long()).view_as(images)
