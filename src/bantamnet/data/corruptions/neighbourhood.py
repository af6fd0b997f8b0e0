"""Sums over the 3×3 neighbourhood of every pixel, in whole numbers held as float64: exact, on any device."""

from collections.abc import Sequence
from itertools import product
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Weights = Sequence[Sequence[int]]

BOX: Weights = ((1, 1, 1), (1, 1, 1), (1, 1, 1))


def weighted_sum(pixels: Tensor, weights: Weights, beyond: Literal["reflect", "replicate"] = "reflect") -> Tensor:
    """float64 (N, H, W): at each pixel the sum of its neighbours, each times the weight that stands where the neighbour does.

    Beyond the border lies the image mirrored at its outermost pixels (c b|a b c), which is OpenCV's default, or the outermost
    pixel goes on.
    """
    height, width = pixels.shape[1:]
    padded = F.pad(pixels.double()[:, None], (1, 1, 1, 1), mode=beyond)[:, 0]
    total = torch.zeros(pixels.shape, dtype=torch.float64, device=pixels.device)
    for row, column in product(range(3), repeat=2):
        if weights[row][column]:
            total.add_(padded[:, row : row + height, column : column + width], alpha=weights[row][column])
    return total
