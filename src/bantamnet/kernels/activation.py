"""SiLU and GELU on a CPU, at the speed of its memory."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from bantamnet.kernels.library import LEAST_CHANNELS, NUMBERS, run


def takes_silu(input: Tensor, inplace: bool = False) -> bool:
    """Whether these are at least 16 numbers that lie together on a CPU, and may stay as they are."""
    whole = input.is_contiguous() or (input.dim() == 4 and input.is_contiguous(memory_format=torch.channels_last))
    return input.device.type == "cpu" and input.dtype in NUMBERS and input.numel() >= LEAST_CHANNELS and whole and not inplace


def takes_gelu(input: Tensor, approximate: str = "none") -> bool:
    """As `takes_silu`, for the exact GELU."""
    return takes_silu(input) and approximate == "none"


def silu(input: Tensor, *_: Any, **__: Any) -> Tensor:
    """x σ(x)."""
    out: Tensor = _Activation.apply(input, "silu")  # type: ignore[no-untyped-call]
    return out


def gelu(input: Tensor, *_: Any, **__: Any) -> Tensor:
    """x Φ(x)."""
    out: Tensor = _Activation.apply(input, "gelu")  # type: ignore[no-untyped-call]
    return out


class _Activation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, name: str) -> Tensor:
        out = torch.empty_like(values)
        run(name, (values, out), [values.numel()])
        ctx.save_for_backward(values)
        ctx.name = name
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (values,) = ctx.saved_tensors
        out = torch.empty_like(values)
        same = grad if grad.stride() == values.stride() else torch.empty_like(values).copy_(grad)
        run(f"{ctx.name}_grad", (values, same, out), [values.numel()])
        return out, None
