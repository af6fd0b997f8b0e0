"""Motion blur along a line, as ImageMagick's `MotionBlurImage` defines it; snow falls by it too."""

import torch
from torch import Tensor

from bantamnet.data.corruptions.pixels import SIDE

NEGLIGIBLE = 1e-9
"""A weight too small to move a byte."""


def motion(images: Tensor, angle: Tensor, radius: int, sigma: float) -> Tensor:
    """uint8 (N, channels, 32, 32), each blurred at its own `angle` float64 (N,), in degrees, clockwise from the right.

    A pixel is the mean of those 0, 1, …, 2 · radius steps ahead of it, rounded to whole places, with the weights of one half of
    a Gaussian; the outermost pixels go on beyond the border. The mean is rounded.
    """
    steps = torch.arange(2 * radius + 1, dtype=torch.float64, device=images.device)
    weights = (-(steps**2) / (2 * sigma**2)).exp()
    weights = weights / weights.sum()
    turn = angle.deg2rad()[:, None]
    right, down = ((steps * way - 0.5).ceil().long() for way in (turn.cos(), turn.sin()))
    own = torch.arange(SIDE, device=images.device)
    pixels = images.flatten(2)
    total = torch.zeros(pixels.shape, dtype=torch.float64, device=images.device)
    for step, weight in enumerate(weights.tolist()):
        if weight > NEGLIGIBLE:
            rows = (own + down[:, step, None]).clamp_(0, SIDE - 1)
            columns = (own + right[:, step, None]).clamp_(0, SIDE - 1)
            place = (rows[:, :, None] * SIDE + columns[:, None]).flatten(1)
            total.add_(pixels.gather(2, place[:, None].expand(pixels.shape)), alpha=weight)
    return total.add_(0.5).to(torch.uint8).view(images.shape)
