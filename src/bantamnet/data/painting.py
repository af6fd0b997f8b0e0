"""Operations that paint over a part of the picture. Each equals its Pillow twin (named in its docstring) exactly."""

import math
from typing import Annotated

import torch
from pydantic import BeforeValidator, Field
from torch import Generator, Tensor

from bantamnet.data.operation import Fill, FillOrNoise, Operation, Parameters, Probability, arguments, colour

Positive = Annotated[float, Field(gt=0)]
_AS_TUPLE = BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value)


@arguments
class Erase(Operation):
    """Paint one random rectangle with `fill`, with probability `p` (Zhong et al. 2017, arXiv 1708.04896; `Image.paste`).

    Of ten tries (area uniform on `scale` of the image, aspect ratio log-uniform on `ratio`) the first that fits inside counts;
    when none does the image stays. `fill="mean"` looks like erasing with 0 after normalisation, to half a byte; `"noise"`
    gives each pixel a colour of its own.
    """

    p: Probability = 0.5
    scale: Annotated[tuple[Probability, Probability], _AS_TUPLE] = (0.02, 0.33)
    ratio: Annotated[tuple[Positive, Positive], _AS_TUPLE] = (0.3, 3.3)
    fill: FillOrNoise = 0

    def __post_init__(self) -> None:
        if self.scale[0] > self.scale[1] or self.ratio[0] > self.ratio[1]:
            raise ValueError("erase: scale and ratio are (low, high)")

    def draw(self, num: int, generator: Generator) -> Parameters:
        """Whether, ten (area share, aspect ratio), where in the room left (top, left; both on [0, 1)), and a seed of noise."""
        low, high = self.scale
        area = low + (high - low) * torch.rand(num, 10, generator=generator)
        log_low, log_high = math.log(self.ratio[0]), math.log(self.ratio[1])
        ratio = (log_low + (log_high - log_low) * torch.rand(num, 10, generator=generator)).exp()
        drawn = {
            "erase": torch.rand(num, generator=generator) < self.p,
            "area": area,
            "ratio": ratio,
            "place": torch.rand(num, 2, generator=generator),
        }
        if self.fill == "noise":
            drawn["seed"] = torch.randint(0, 1 << 32, (num,), generator=generator)
        return drawn

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
        boxes = self.boxes(parameters, (height, width))
        return _paint(
            images, boxes, noise(parameters["seed"], height, width) if self.fill == "noise" else colour(self.fill, images)
        )


@arguments
class Cutout(Operation):
    """Paint a square of `size` pixels whose centre lies anywhere, so that it may stick out, with probability `p`.

    DeVries & Taylor 2017 (arXiv 1708.04552); `Image.paste`.
    """

    size: Annotated[int, Field(gt=0, le=1024)]
    p: Probability = 1.0
    fill: Fill = 0

    def draw(self, num: int, generator: Generator) -> Parameters:
        """Whether, and the centre (down, right) as shares of the image, both on [0, 1)."""
        return {"cut": torch.rand(num, generator=generator) < self.p, "centre": torch.rand(num, 2, generator=generator)}

    def boxes(self, parameters: Parameters, size: tuple[int, int]) -> Tensor:
        """(N, 4) int64 top, left, height, width; they may reach beyond the image, and height is 0 where nothing is cut."""
        corner = (parameters["centre"] * torch.tensor(size, device=parameters["centre"].device)).long() - self.size // 2
        side = self.size * parameters["cut"][:, None].long()
        return torch.cat([corner, side, side], 1)

    def apply(self, images: Tensor, parameters: Parameters) -> Tensor:
        """Paint the squares."""
        height, width = images.shape[2:]
        return _paint(images, self.boxes(parameters, (height, width)), colour(self.fill, images))


def _paint(images: Tensor, boxes: Tensor, paint: int | Tensor) -> Tensor:
    """Images with `paint` (broadcast over them) inside their `boxes` (N, 4): top, left, height, width."""
    top, left, box_height, box_width = boxes[:, :, None].unbind(1)
    rows = torch.arange(images.shape[2], device=images.device)
    columns = torch.arange(images.shape[3], device=images.device)
    in_rows = (rows >= top) & (rows < top + box_height)
    in_columns = (columns >= left) & (columns < left + box_width)
    return torch.where((in_rows[:, :, None] & in_columns[:, None, :])[:, None], paint, images)


def noise(seeds: Tensor, height: int, width: int) -> Tensor:
    """uint8 (N, 3, height, width), uniform and independent: a hash of each sample's seed (N,) and the pixel's place.

    So a sample keeps its noise in whatever batch, and an epoch's parameters hold one number for it.
    """
    mask = (1 << 32) - 1
    mixed = seeds[:, None, None] + torch.arange(height * width, device=seeds.device).view(height, width) * 0x9E3779B1 & mask
    for _ in range(3):  # a 32-bit mixer: shift-xor and an odd factor of 27 bits, so that 64 bits hold the product
        mixed = ((mixed >> 16) ^ mixed) * 0x45D9F3B & mask
    mixed ^= mixed >> 16
    return torch.stack([mixed >> shift for shift in (0, 8, 16)], 1).to(torch.uint8)
