"""Between bytes and the unit interval, where the corruptions are defined."""

import torch
from torch import Tensor

SIDE = 32
"""Height and width that the published constants are for."""
ALMOST = 1e-6
"""Of a byte: a value this near below a byte counts as it, so that no rounding error of 1e-13 takes a whole step off."""


def to_unit(images: Tensor) -> Tensor:
    """uint8 0 … 255 → float64 in [0, 1]."""
    return images.double().div_(255)


def to_bytes(pixels: Tensor) -> Tensor:
    """float64, meant to lie in [0, 1] → uint8; cut off, not rounded, as the published files were stored."""
    return (pixels * 255).add_(ALMOST).clamp_(0, 255).to(torch.uint8)
