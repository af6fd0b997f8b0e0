"""Operations that move pixels. Each equals its Pillow twin (named in its docstring) exactly."""

import math
from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Generator, Tensor

from bantamnet.data.operation import Border, Fill, Fixed, Operation, Parameters, Probability, arguments, colour
from bantamnet.runtime import generator as generator_for

Pixels = Annotated[int, Field(ge=-1024, le=1024)]


@arguments
class Crop(Operation):
    """Pad all sides by `pad` pixels and cut the old size out at a random place (`Image.crop` on a larger canvas).

    The border is `fill`, or with `border="reflect"` the picture mirrored at its outermost pixels (`numpy.pad`).
    """

    pad: Annotated[int, Field(gt=0, le=1024)]
    fill: Fill = 0
    border: Border = "fill"

    def draw(self, num: int, generator: Generator) -> Parameters:
        """Corner (top, left), each uniform on 0 … 2·pad."""
        return {"corner": torch.randint(0, 2 * self.pad + 1, (num, 2), generator=generator)}

    def apply(self, images: Tensor, parameters: Parameters) -> Tensor:
        """Cut out of the padded images."""
        return _windows(images, self.pad, self.fill, parameters["corner"], self.border)


@arguments
class Translate(Operation):
    """Shift by up to ±`share` of height and of width, whole pixels, `fill` behind (`Image.transform(AFFINE)`)."""

    share: Annotated[float, Field(ge=0, lt=1)]
    fill: Fill = 0

    def draw(self, num: int, generator: Generator) -> Parameters:
        """Shift down and right as shares of the size, each uniform; rounded to pixels when applied."""
        return {"shift": (torch.rand(num, 2, generator=generator) * 2 - 1) * self.share}

    def apply(self, images: Tensor, parameters: Parameters) -> Tensor:
        """Cut out of the padded images."""
        size = torch.tensor(images.shape[2:], device=images.device)
        pad = math.ceil(self.share * max(images.shape[2:]))
        return _windows(images, pad, self.fill, pad - (parameters["shift"] * size).round().long())


def _windows(images: Tensor, pad: int, fill: Fill, corner: Tensor, border: Border = "fill") -> Tensor:
    """Pad all sides by `pad` pixels, then cut the old size out of each image at its `corner` (N, 2) top, left."""
    num, _, height, width = images.shape
    windows = _padded(images, pad, fill, border).unfold(2, height, 1).unfold(3, width, 1)
    return windows[torch.arange(num, device=images.device), :, corner[:, 0], corner[:, 1]]


def _padded(images: Tensor, pad: int, fill: Fill, border: Border) -> Tensor:
    num, channels, height, width = images.shape
    if border == "reflect":
        rows, columns = (_mirrored(torch.arange(-pad, size + pad, device=images.device), size) for size in (height, width))
        return images[:, :, rows][:, :, :, columns]
    paint = colour(fill, images)
    if isinstance(paint, int):
        return F.pad(images, (pad,) * 4, value=paint)
    canvas = paint.expand(num, channels, height + 2 * pad, width + 2 * pad).clone()
    canvas[:, :, pad : pad + height, pad : pad + width] = images
    return canvas


def _mirrored(index: Tensor, size: int) -> Tensor:
    """Indices beyond 0 … size − 1 sent back at the ends, which are not repeated."""
    period = max(1, 2 * (size - 1))
    index = index % period
    return torch.minimum(index, period - index)


@arguments
class Shift(Fixed):
    """Shift every image by `right` and `down` pixels (negative: left, up), with `fill` or the mirrored picture behind.

    Nothing is drawn: it serves as a view at test time (`Image.transform(AFFINE)`, `numpy.pad`).
    """

    right: Pixels = 0
    down: Pixels = 0
    fill: Fill = 0
    border: Border = "fill"

    def apply(self, images: Tensor, parameters: Parameters) -> Tensor:
        """Look rows and columns up where they came from."""
        height, width = images.shape[2:]
        rows = torch.arange(height, device=images.device) - self.down
        columns = torch.arange(width, device=images.device) - self.right
        found = images[:, :, _mirrored(rows, height)][:, :, :, _mirrored(columns, width)]
        if self.border == "reflect":
            return found
        inside = ((rows >= 0) & (rows < height))[:, None] & (columns >= 0) & (columns < width)
        return torch.where(inside, found, colour(self.fill, images))


@arguments
class CentreCrop(Fixed):
    """Pad all sides by `pad` pixels of `fill` and cut the old size out of the middle: the image itself, whatever it is called.

    Nothing is drawn: it stands for a view that a report counts as one of its own.
    """

    pad: Annotated[int, Field(ge=0, le=1024)]
    fill: Fill = 0

    def apply(self, images: Tensor, parameters: Parameters) -> Tensor:
        """Cut out of the padded images."""
        height, width = images.shape[2:]
        padded = _padded(images, self.pad, self.fill, "fill")
        return padded[:, :, self.pad : self.pad + height, self.pad : self.pad + width]


@arguments
class HFlip(Operation):
    """Mirror left to right with probability `p` (`ImageOps.mirror`)."""

    p: Probability = 0.5
    dimension: ClassVar[int] = 3

    def draw(self, num: int, generator: Generator) -> Parameters:
        """Whether to flip."""
        return {"flip": torch.rand(num, generator=generator) < self.p}

    def apply(self, images: Tensor, parameters: Parameters) -> Tensor:
        """Flip those."""
        return torch.where(parameters["flip"][:, None, None, None], images.flip(self.dimension), images)


@arguments
class VFlip(HFlip):
    """Turn upside down, as in a mirror below, with probability `p` (`ImageOps.flip`)."""

    dimension: ClassVar[int] = 2


@arguments
class AlternatingFlip(HFlip):
    """Mirror a random share `p` of the samples in one epoch, the others in the next, and so on (Jordan 2024, arXiv 2404.00498).

    Two epochs show each sample both ways, which independent draws do for half of the samples. In epochs that take some samples
    several times (`balance: sampler`, `hard_examples`) places in the epoch alternate instead, so samples do by chance.
    """

    def draw_for(self, num: int, *words: object) -> Parameters:
        """Whether to flip, in the epoch that the third word says (`augment`, seed, epoch, …)."""
        kind, seed, epoch, *rest = words
        assert isinstance(epoch, int)
        first = self.draw(num, generator_for(kind, seed, "every epoch", *rest))
        return {"flip": first["flip"] ^ (epoch % 2 == 1)}


@arguments
class Rotate(Operation):
    """Rotate about the centre by up to ±`degrees`, nearest pixel, `fill` outside (`Image.rotate(resample=NEAREST)`)."""

    degrees: Annotated[float, Field(ge=0, le=180)]
    fill: Fill = 0

    def draw(self, num: int, generator: Generator) -> Parameters:
        """Angle in degrees, counter-clockwise, uniform."""
        return {"angle": (torch.rand(num, generator=generator, dtype=torch.float64) * 2 - 1) * self.degrees}

    def apply(self, images: Tensor, parameters: Parameters) -> Tensor:
        """Turn each by its angle."""
        return rotate(images, parameters["angle"], self.fill)


def rotate(images: Tensor, angle: Tensor, fill: Fill) -> Tensor:
    """Images (N, 3, H, W) turned counter-clockwise by `angle` (N,) float64 degrees about their centres."""
    height, width = images.shape[2:]
    angle = torch.deg2rad(-angle)
    cos, sin = angle.cos(), angle.sin()
    shift_x = width / 2 - cos * (width / 2) - sin * (height / 2)
    shift_y = height / 2 + sin * (width / 2) - cos * (height / 2)
    return affine(images, (cos, sin, shift_x), (-sin, cos, shift_y), fill)


def affine(images: Tensor, to_x: tuple[Tensor, ...], to_y: tuple[Tensor, ...], fill: Fill) -> Tensor:
    """The pixel at (x, y) comes from (a·x + b·y + c, d·x + e·y + f), nearest (`Image.transform(AFFINE, NEAREST)`).

    `to_x` is (a, b, c) and `to_y` (d, e, f), each (N,) float64. Pixels are looked up in Pillow's 16.16 fixed point, so that
    the same one is found.
    """
    num, channels, height, width = images.shape
    columns = torch.arange(width, device=images.device)
    rows = torch.arange(height, device=images.device)[:, None]
    source_x, source_y = (_fixed(c + (a + b) / 2) + columns * _fixed(a) + rows * _fixed(b) >> 16 for a, b, c in (to_x, to_y))
    inside = (source_x >= 0) & (source_x < width) & (source_y >= 0) & (source_y < height)
    index = torch.where(inside, source_y * width + source_x, 0).reshape(num, 1, -1).expand(-1, channels, -1)
    found = images.reshape(num, channels, -1).gather(2, index).view_as(images)
    return torch.where(inside[:, None], found, colour(fill, images))


def _fixed(numbers: Tensor) -> Tensor:
    """(N,) float64 → (N, 1, 1) integers in 16.16 fixed point."""
    return (numbers * 65536 + 0.5).floor().long()[:, None, None]
