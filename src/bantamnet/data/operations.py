"""Augmentation operations: `draw` says what happens to each sample, `apply` does it to a uint8 batch.

Images are uint8 (N, 3, H, W) before and after; each operation equals its Pillow twin (named in its docstring) within ±1 of
255. `draw` returns tensors whose first dimension is the sample, so rows can be picked for any batch.
"""

import math
from abc import ABC, abstractmethod
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from torch import Generator, Tensor

Parameters = dict[str, Tensor]
Byte = Annotated[int, Field(ge=0, le=255)]
Probability = Annotated[float, Field(ge=0, le=1)]
Strength = Annotated[float, Field(ge=0)]

arguments = dataclass(frozen=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))


class Operation(ABC):
    """One step of an augmentation line."""

    @abstractmethod
    def draw(self, num: int, generator: Generator) -> Parameters:
        """Random parameters of `num` samples, on the CPU."""

    @abstractmethod
    def apply(self, images: Tensor, parameters: Parameters) -> Tensor:
        """New images; `parameters` hold a row for each image, on the images' device."""


@arguments
class Crop(Operation):
    """Pad all sides by `pad` pixels of `fill` and cut the old size out at a random place (`Image.crop` on a larger canvas)."""

    pad: Annotated[int, Field(gt=0, le=1024)]
    fill: Byte = 0

    def draw(self, num: int, generator: Generator) -> Parameters:
        """Corner (top, left), each uniform on 0 … 2·pad."""
        return {"corner": torch.randint(0, 2 * self.pad + 1, (num, 2), generator=generator)}

    def apply(self, images: Tensor, parameters: Parameters) -> Tensor:
        """Cut out of the padded images."""
        return _windows(images, self.pad, self.fill, parameters["corner"])


def _windows(images: Tensor, pad: int, fill: int, corner: Tensor) -> Tensor:
    """Pad all sides by `pad` pixels of `fill`, then cut the old size out of each image at its `corner` (N, 2) top, left."""
    num, _, height, width = images.shape
    windows = F.pad(images, (pad,) * 4, value=fill).unfold(2, height, 1).unfold(3, width, 1)
    return windows[torch.arange(num, device=images.device), :, corner[:, 0], corner[:, 1]]


@arguments
class Translate(Operation):
    """Shift by up to ±`share` of height and of width, whole pixels, `fill` behind (`Image.transform(AFFINE)`)."""

    share: Annotated[float, Field(ge=0, lt=1)]
    fill: Byte = 0

    def draw(self, num: int, generator: Generator) -> Parameters:
        """Shift down and right as shares of the size, each uniform; rounded to pixels when applied."""
        return {"shift": (torch.rand(num, 2, generator=generator) * 2 - 1) * self.share}

    def apply(self, images: Tensor, parameters: Parameters) -> Tensor:
        """Cut out of the padded images."""
        size = torch.tensor(images.shape[2:], device=images.device)
        pad = math.ceil(self.share * max(images.shape[2:]))
        return _windows(images, pad, self.fill, pad - (parameters["shift"] * size).round().long())


@arguments
class HFlip(Operation):
    """Mirror left to right with probability `p` (`ImageOps.mirror`)."""

    p: Probability = 0.5

    def draw(self, num: int, generator: Generator) -> Parameters:
        """Whether to flip."""
        return {"flip": torch.rand(num, generator=generator) < self.p}

    def apply(self, images: Tensor, parameters: Parameters) -> Tensor:
        """Flip those."""
        return torch.where(parameters["flip"][:, None, None, None], images.flip(3), images)


@arguments
class Rotate(Operation):
    """Rotate about the centre by up to ±`degrees`, nearest pixel, `fill` outside (`Image.rotate(resample=NEAREST)`)."""

    degrees: Annotated[float, Field(ge=0, le=180)]
    fill: Byte = 0

    def draw(self, num: int, generator: Generator) -> Parameters:
        """Angle in degrees, counter-clockwise, uniform."""
        return {"angle": (torch.rand(num, generator=generator, dtype=torch.float64) * 2 - 1) * self.degrees}

    def apply(self, images: Tensor, parameters: Parameters) -> Tensor:
        """Look each pixel up where it came from, in Pillow's 16.16 fixed point so that the same pixel is found."""
        num, channels, height, width = images.shape
        angle = torch.deg2rad(-parameters["angle"])
        cos, sin = angle.cos(), angle.sin()
        shift_x = width / 2 - cos * (width / 2) - sin * (height / 2)
        shift_y = height / 2 + sin * (width / 2) - cos * (height / 2)
        columns = torch.arange(width, device=images.device)
        rows = torch.arange(height, device=images.device)[:, None]
        source_x = _fixed(shift_x + (cos + sin) / 2) + columns * _fixed(cos) + rows * _fixed(sin) >> 16
        source_y = _fixed(shift_y + (cos - sin) / 2) + columns * _fixed(-sin) + rows * _fixed(cos) >> 16
        inside = (source_x >= 0) & (source_x < width) & (source_y >= 0) & (source_y < height)
        index = torch.where(inside, source_y * width + source_x, 0).reshape(num, 1, -1).expand(-1, channels, -1)
        found = images.reshape(num, channels, -1).gather(2, index).view_as(images)
        return torch.where(inside[:, None], found, self.fill)


def _fixed(numbers: Tensor) -> Tensor:
    """(N,) float64 → (N, 1, 1) integers in 16.16 fixed point."""
    return (numbers * 65536 + 0.5).floor().long()[:, None, None]


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


def _blend(base: Tensor, images: Tensor, factor: Tensor) -> Tensor:
    """base + factor · (images − base), cut to a byte as `Image.blend` does; `factor` (N, 1, 1, 1)."""
    return torch.lerp(base.expand(images.shape), images.float(), factor).clamp_(0, 255).to(torch.uint8)


def _adjust_brightness(images: Tensor, factor: Tensor) -> Tensor:
    return (images * factor).clamp_(0, 255).to(torch.uint8)


def _adjust_contrast(images: Tensor, factor: Tensor) -> Tensor:
    mean = (grey(images).double().mean((1, 2, 3), keepdim=True) + 0.5).floor()
    return _blend(mean.float(), images, factor)


def _adjust_saturation(images: Tensor, factor: Tensor) -> Tensor:
    return _blend(grey(images).float(), images, factor)


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
class Erase(Operation):
    """Paint one random rectangle with `fill`, with probability `p` (Zhong et al. 2017, arXiv 1708.04896; `Image.paste`).

    Of ten tries (area uniform on `scale` of the image, aspect ratio log-uniform on `ratio`) the first that fits inside counts;
    when none does the image stays.
    """

    p: Probability = 0.5
    scale: tuple[Probability, Probability] = (0.02, 0.33)
    ratio: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = (0.3, 3.3)
    fill: Byte = 0

    def __post_init__(self) -> None:
        if self.scale[0] > self.scale[1] or self.ratio[0] > self.ratio[1]:
            raise ValueError("erase: scale and ratio are (low, high)")

    def draw(self, num: int, generator: Generator) -> Parameters:
        """Whether, ten (area share, aspect ratio) and where in the room left (top, left), both on [0, 1)."""
        low, high = self.scale
        area = low + (high - low) * torch.rand(num, 10, generator=generator)
        log_low, log_high = math.log(self.ratio[0]), math.log(self.ratio[1])
        ratio = (log_low + (log_high - log_low) * torch.rand(num, 10, generator=generator)).exp()
        return {
            "erase": torch.rand(num, generator=generator) < self.p,
            "area": area,
            "ratio": ratio,
            "place": torch.rand(num, 2, generator=generator),
        }

    def boxes(self, parameters: Parameters, size: tuple[int, int]) -> Tensor:
        """(N, 4) int64 top, left, height, width; height 0 where nothing is erased."""
        height, width = size
        area = parameters["area"] * (height * width)
        heights = (area * parameters["ratio"]).sqrt().round()
        widths = (area / parameters["ratio"]).sqrt().round()
        fits = (heights < height) & (widths < width) & (heights > 0) & (widths > 0)
        first = fits.int().argmax(1, keepdim=True)
        used = parameters["erase"] & fits.any(1)
        box_height = heights.gather(1, first)[:, 0].long() * used
        box_width = widths.gather(1, first)[:, 0].long() * used
        top = (parameters["place"][:, 0] * (height - box_height + 1)).long()
        left = (parameters["place"][:, 1] * (width - box_width + 1)).long()
        return torch.stack([top, left, box_height, box_width], 1)

    def apply(self, images: Tensor, parameters: Parameters) -> Tensor:
        """Paint the boxes."""
        height, width = images.shape[2:]
        top, left, box_height, box_width = self.boxes(parameters, (height, width))[:, :, None].unbind(1)
        rows = torch.arange(height, device=images.device)
        columns = torch.arange(width, device=images.device)
        in_rows = (rows >= top) & (rows < top + box_height)
        in_columns = (columns >= left) & (columns < left + box_width)
        return torch.where((in_rows[:, :, None] & in_columns[:, None, :])[:, None], self.fill, images)


OPERATIONS: dict[str, type[Operation]] = {
    "crop": Crop,
    "hflip": HFlip,
    "rotate": Rotate,
    "translate": Translate,
    "jitter": Jitter,
    "erase": Erase,
}
