"""3×3 convolutions of maps of 2×2 pixels on a CPU as one matrix product.

Each pixel of the output sees all four of the input, so that 16 multiplications a pair of channels do it; a convolution takes 36,
of which 20 are with the padding's zeros.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bantamnet.kernels.library import computed_in, padded_3x3, pair

SIDE = 2


def takes(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, *args: Any, **kwargs: Any) -> bool:
    """Whether this convolution, with the arguments of `torch.conv2d`, is a "same" 3×3 one of maps of 2×2 pixels on a CPU."""
    return pair(stride) == (1, 1) and padded_3x3(input, weight, *args, **kwargs) and input.shape[2:] == (SIDE, SIDE)


def convolution(input: Tensor, weight: Tensor, bias: Tensor | None = None, *_: Any, **__: Any) -> Tensor:
    """(N, in, 2, 2), (out, in, 3, 3) float → (N, out, 2, 2), channels last; padding 1, stride 1. In autocast's type."""
    num, num_out = len(input), len(weight)
    dtype = computed_in(input)
    pixels = input.to(dtype).permute(0, 2, 3, 1).reshape(num, -1)
    places = [(row, col) for row in range(SIDE) for col in range(SIDE)]
    seen = [weight[:, :, 1 - row : 3 - row, 1 - col : 3 - col].permute(0, 2, 3, 1).flatten(1) for row, col in places]
    out = F.linear(pixels, torch.cat(seen).to(dtype), None if bias is None else bias.to(dtype).repeat(len(places)))
    return out.view(num, SIDE, SIDE, num_out).permute(0, 3, 1, 2)
