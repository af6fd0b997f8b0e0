"""2×2 max-pooling on a CPU; PyTorch's writes 8 bytes of index for each output, which takes longer."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from bantamnet.kernels.library import LEAST_CHANNELS, NUMBERS, pair, run


def halves(
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> bool:
    """Whether these further arguments of `torch.nn.functional.max_pool2d` mean the largest of each 2×2 pixels."""
    sizes = [pair(size) for size in (kernel_size, stride or kernel_size, padding, dilation)]
    return sizes == [(2, 2), (2, 2), (0, 0), (1, 1)] and not (ceil_mode or return_indices)


def takes(input: Tensor, *args: Any, **kwargs: Any) -> bool:
    """Whether this pooling, called as `torch.nn.functional.max_pool2d`, is of 2×2 pixels of 16 channels at least, on a CPU."""
    return (
        input.device.type == "cpu"
        and input.dtype in NUMBERS
        and input.dim() == 4
        and len(input) > 0
        and input.shape[1] >= LEAST_CHANNELS
        and min(input.shape[2:]) >= 2
        and halves(*args, **kwargs)
    )


def max_pool(input: Tensor, *_: Any, **__: Any) -> Tensor:
    """(N, C, H, W) → (N, C, H // 2, W // 2), channels last: the largest of each 2×2 pixels."""
    out: Tensor = _MaxPool.apply(input)  # type: ignore[no-untyped-call]
    return out


class _MaxPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor) -> Tensor:
        images = images.contiguous(memory_format=torch.channels_last)
        num, channels, height, width = images.shape
        out = torch.empty(num, channels, height // 2, width // 2, dtype=images.dtype, memory_format=torch.channels_last)
        run("pool", (images, out), (num, height, width, channels))
        ctx.save_for_backward(images)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (images,) = ctx.saved_tensors
        num, channels, height, width = images.shape
        images_grad = torch.empty_like(images)
        grad = grad.contiguous(memory_format=torch.channels_last)
        run("pool_grad", (images, grad, images_grad), (num, height, width, channels))
        return images_grad
