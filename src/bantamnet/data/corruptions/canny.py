"""Canny's edges (Canny 1986, "A Computational Approach to Edge Detection"), in the whole numbers that OpenCV finds them by."""

import torch
import torch.nn.functional as F
from torch import Tensor

from bantamnet.data.corruptions.neighbourhood import weighted_sum

ACROSS = ((-1, 0, 1), (-2, 0, 2), (-1, 0, 1))
DOWN = ((-1, -2, -1), (0, 0, 0), (1, 2, 1))
"""Sobel's slopes."""
TAN = round((2**0.5 - 1) * 2**15)
"""The tangent of 22.5° in units of 2⁻¹⁵; that of 67.5° is greater by 2."""


def canny(images: Tensor, low: int, high: int) -> Tensor:
    """Bytes (N, H, W) → bool (N, H, W): where an edge runs.

    Edges run where |slope across| + |slope down| is a ridge and above `low`, and in touch with a place where it is above `high`.
    The same pixels as of `cv2.Canny(image, low, high)`.
    """
    across, down = (weighted_sum(images, slopes, "replicate") for slopes in (ACROSS, DOWN))
    steepness = across.abs() + down.abs()
    ridge = _ridge(steepness, across, down) & (steepness > low)
    edges = ridge & (steepness > high)
    while True:
        grown = ridge & (F.max_pool2d(edges.float(), 3, stride=1, padding=1) > 0)
        if torch.equal(grown, edges):
            return edges
        edges = grown


def _ridge(steepness: Tensor, across: Tensor, down: Tensor) -> Tensor:
    """Whether a pixel is steeper than both its neighbours uphill and downhill, in the nearest of four directions.

    Of two as steep along a row or column the first counts, along a diagonal neither. Nothing is steep beyond the border.
    """
    height, width = steepness.shape[1:]
    padded = F.pad(steepness, (1, 1, 1, 1))

    def at(right: int, below: int) -> Tensor:
        return padded[:, 1 + below : 1 + below + height, 1 + right : 1 + right + width]

    level, rise = across.abs() * TAN, down.abs() * 2**15
    sideways = (steepness > at(-1, 0)) & (steepness >= at(1, 0))
    upright = (steepness > at(0, -1)) & (steepness >= at(0, 1))
    falling = (steepness > at(-1, -1)) & (steepness > at(1, 1))
    rising = (steepness > at(1, -1)) & (steepness > at(-1, 1))
    slanted = torch.where((across < 0) == (down < 0), falling, rising)
    return torch.where(rise < level, sideways, torch.where(rise > level + across.abs() * 2**16, upright, slanted))
