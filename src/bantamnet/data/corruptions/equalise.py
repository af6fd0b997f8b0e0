"""Histogram equalisation by OpenCV's definition; Pillow's, which the augmentation `equalize` follows, differs."""

import torch
from torch import Tensor


def equalise(levels: Tensor) -> Tensor:
    """Bytes (N, H, W) in any type → float32 (N, H, W) in 0 … 255, whole numbers, as of `cv2.equalizeHist`.

    The darkest level of an image becomes 0, another the share of the remaining pixels that are no brighter, times 255, rounded;
    an image of one level stays.
    """
    flat = levels.flatten(1).contiguous()
    no_brighter = torch.searchsorted(flat.sort(1).values, flat, right=True)  # counts them
    darkest = no_brighter.amin(1, keepdim=True)
    rest = flat.shape[1] - darkest
    # One division in single precision, as in OpenCV, decides levels that fall on a half; `255 / rest` is two operations.
    scale = torch.full_like(rest, 255, dtype=torch.float32) / rest.clamp(min=1)
    spread = ((no_brighter - darkest).float() * scale).round()
    return torch.where(rest > 0, spread, flat.float()).view(levels.shape)
