"""Blurs and resizing as matrices: what is linear along an axis of 32 pixels is a 32×32 matrix, border and all."""

import math
from functools import cache
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from bantamnet.data.corruptions.pixels import SIDE

Beyond = Literal["nearest", "reflect"]
"""What lies beyond the border: the outermost pixel (a a|a b c), or the image mirrored at its edge (b a|a b c)."""


def separable(pixels: Tensor, matrix: Tensor) -> Tensor:
    """float64 (…, H, W) with the matrix applied to every row and every column."""
    across = pixels @ matrix.T
    return (across.transpose(-1, -2) @ matrix.T).transpose(-1, -2)


@cache
def gaussian(sigma: float, truncate: float, beyond: Beyond, device: torch.device) -> Tensor:
    """float64 (32, 32): a Gaussian cut off at int(truncate · sigma + ½) pixels, as `scipy.ndimage.gaussian_filter1d` has it."""
    reach = int(truncate * sigma + 0.5)
    distance = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * (distance / sigma) ** 2) if sigma else np.ones(1)
    matrix: np.ndarray = np.zeros((SIDE, SIDE))
    for step, weight in zip(distance.tolist(), weights / weights.sum(), strict=True):
        for row in range(SIDE):
            matrix[row, _inside(row + step, beyond)] += weight
    return torch.from_numpy(matrix).to(device)


def _inside(place: int, beyond: Beyond) -> int:
    if beyond == "nearest":
        return min(max(place, 0), SIDE - 1)
    place %= 2 * SIDE
    return place if place < SIDE else 2 * SIDE - 1 - place


@cache
def zoom(factor: float, device: torch.device) -> Tensor:
    """float64 (32, 32): the middle ⌈32 / factor⌉ pixels stretched to round(⌈32 / factor⌉ · factor), the middle 32 of them kept.

    Linear interpolation between pixel centres, the first and the last staying the first and the last, as in
    `scipy.ndimage.zoom(order=1)`.
    """
    inner = math.ceil(SIDE / factor)
    first = (SIDE - inner) // 2
    outer = round(inner * factor)
    cut = (outer - SIDE) // 2
    matrix = np.zeros((SIDE, SIDE))
    for row in range(SIDE):
        place = (row + cut) * (inner - 1) / (outer - 1)
        below = min(int(place), inner - 2)
        matrix[row, first + below] = 1 - (place - below)
        matrix[row, first + below + 1] = place - below
    return torch.from_numpy(matrix).to(device)


@cache
def box(source: int, target: int, device: torch.device) -> Tensor:
    """float64 (target, source): Pillow's box filter, each weight a whole number of 2⁻²² as in its fixed point.

    A target pixel is the mean of the source pixels whose centres it covers; a larger target repeats pixels.
    """
    scale = source / target
    support = max(scale, 1.0) / 2
    matrix = np.zeros((target, source))
    for row in range(target):
        centre = (row + 0.5) * scale
        covered = range(max(0, int(centre - support + 0.5)), min(source, int(centre + support + 0.5)))
        inside = [place for place in covered if -0.5 < (place - centre + 0.5) / max(scale, 1.0) <= 0.5]
        for place in inside:
            matrix[row, place] = int(0.5 + (1 << 22) / len(inside))
    return torch.from_numpy(matrix).to(device)


def resize(images: Tensor, matrix: Tensor) -> Tensor:
    """uint8 (N, 3, H, W) through a matrix of `box` along each axis, rounded after each as Pillow does."""
    across = _shifted(images.double() @ matrix.T)
    return _shifted(across.transpose(-1, -2) @ matrix.T).transpose(-1, -2).to(torch.uint8)


def _shifted(sums: Tensor) -> Tensor:
    return ((sums + (1 << 21)) / (1 << 22)).floor_().clamp_(0, 255)
