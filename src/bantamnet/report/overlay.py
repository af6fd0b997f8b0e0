"""Heat laid over an image."""

import matplotlib
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

COLOURS = "inferno"
"""Each colour brighter than the one of less heat, so that a grey print can be read too."""
STRENGTH = 0.6
"""Share of the colours in the mixture with the image's grey."""


def overlay(image: Tensor, heat: Tensor, scale: int = 1) -> Tensor:
    """uint8 (3, H, W) and heat (H, W) in [0, 1] → uint8 (3, scale·H, scale·W): the image in grey beneath the heat's colours.

    Pixels become squares of `scale` by `scale`; the heat, which is coarser than the pixels, is drawn bilinear.
    """
    size = (scale * image.shape[1], scale * image.shape[2])
    grey = enlarge(image, scale).double().mean(0).numpy(force=True)
    fine = F.interpolate(heat[None, None].double(), size, mode="bilinear", align_corners=False)[0, 0].numpy(force=True)
    colours = 255 * matplotlib.colormaps[COLOURS](fine.clip(0, 1))[:, :, :3]
    mixed = STRENGTH * colours + (1 - STRENGTH) * grey[:, :, None]
    return torch.from_numpy(np.ascontiguousarray(mixed.round().astype(np.uint8).transpose(2, 0, 1)))


def enlarge(image: Tensor, scale: int) -> Tensor:
    """uint8 (3, H, W) → (3, scale·H, scale·W), each pixel a square."""
    return image.repeat_interleave(scale, 1).repeat_interleave(scale, 2)
