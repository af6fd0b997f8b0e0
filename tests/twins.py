"""Pictures between our tensors and Pillow, and images to try operations on."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from bantamnet.data.sources import load_digits


def to_pil(image: Tensor) -> Image.Image:
    return Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())


def from_pil(picture: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


def assert_within_one(ours: Tensor, twins: list[Image.Image], exact: bool = False) -> None:
    difference = (ours.int() - torch.stack([from_pil(twin) for twin in twins]).int()).abs()
    assert difference.max() <= (0 if exact else 1), f"{(difference > 1).sum()} of {difference.numel()} differ by more"


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def mixed_images(num: int, seed: int = 0) -> Tensor:
    """uint8 (num, 3, 32, 32): noise, blocks of colour, soft photographs of nothing, digits, flat and nearly flat ones."""
    rng = np.random.default_rng(seed)
    quarter = num // 4
    noise = rng.integers(0, 256, (quarter, 3, 32, 32))
    blocks = rng.uniform(0, 256, (quarter, 3, 4, 4)).repeat(8, 2).repeat(8, 3)
    waves = np.cumsum(np.cumsum(rng.normal(0, 6, (quarter, 3, 32, 32)), 2), 3)
    soft = (
        waves * rng.uniform(0.2, 1, (quarter, 1, 1, 1)) + rng.uniform(60, 200, (quarter, 3, 1, 1)) + rng.normal(0, 3, waves.shape)
    )
    digits = load_digits()[0].images[: num - 3 * quarter].numpy()
    everything = torch.from_numpy(np.concatenate([noise, blocks, soft, digits]).clip(0, 255).astype(np.uint8))
    everything[0] = 0
    everything[1] = 255
    everything[2, 1:] = 0
    everything[3] = everything[3, :1]
    everything[4] = 7
    everything[4, :, 5, 5] = 9
    return everything
