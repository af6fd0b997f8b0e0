"""The distance to the nearest marked pixel by the 5×5 chamfer (Borgefors 1986, "Distance Transformations in Digital Images")."""

from itertools import product

import torch.nn.functional as F
from torch import Tensor

ONE = 1 << 16
"""A pixel; distances are whole numbers of 1/65536 of it, as in OpenCV's own code."""
LENGTHS = {1: ONE, 2: round(1.4 * ONE), 5: round(2.1969 * ONE)}
"""Of a step to the next pixel, across a corner, and of a knight's move, by its squared length."""
STEPS = [
    (right, below, LENGTHS[right**2 + below**2])
    for right, below in product(range(-2, 3), repeat=2)
    if right**2 + below**2 in LENGTHS
]


def distance(marked: Tensor, limit: int) -> Tensor:
    """bool (N, H, W) → float64 (N, H, W), whole numbers: the way in steps to the nearest marked pixel, at most `limit` pixels.

    As `cv2.distanceTransform(image, cv2.DIST_L2, 5)`, marked pixels being those that are 0 there, and cut off at `limit`.
    """
    height, width = marked.shape[1:]
    far = limit * ONE
    found = (~marked).double() * far
    for _ in range(limit):  # no step is shorter than a pixel
        padded = F.pad(found, (2, 2, 2, 2), value=far)
        found = found.clone()
        for right, below, length in STEPS:
            there = padded[:, 2 + below : 2 + below + height, 2 + right : 2 + right + width]
            found = found.minimum(there + length)
    return found
