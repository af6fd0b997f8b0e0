"""Operations of PyTorch that this package computes itself on a CPU in bf16, where it is faster: `FasterKernels`."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, _get_current_function_mode

from bantamnet.kernels import activation, pooling, winograd
from bantamnet.kernels.library import missing

__all__ = ["FasterKernels", "conv_max_pool", "missing"]


INSTEAD: dict[Any, tuple[Callable[..., bool], Callable[..., Any]]] = {
    torch.conv2d: (winograd.takes, winograd.convolution),
    torch.max_pool2d: (pooling.takes, pooling.max_pool),
    F.max_pool2d: (pooling.takes, pooling.max_pool),
    F.silu: (activation.takes_silu, activation.silu),
    F.gelu: (activation.takes_gelu, activation.gelu),
}
"""Function of PyTorch → (whether its arguments suit, what then takes its place)."""


class FasterKernels(TorchFunctionMode):
    """Within it, the functions of `INSTEAD` are computed by this package, whichever module calls them."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Every function of PyTorch, as it is called."""
        kwargs = kwargs or {}
        suits, ours = INSTEAD.get(func, (None, func))
        return ours(*args, **kwargs) if suits is None or suits(*args, **kwargs) else func(*args, **kwargs)


def conv_max_pool(images: Tensor, conv: nn.Conv2d, pool: nn.MaxPool2d) -> Tensor:
    """pool(conv(images)); within `FasterKernels` in one where that can be, and where no hook waits for either of them."""
    hooks = conv._forward_hooks or conv._forward_pre_hooks or pool._forward_hooks or pool._forward_pre_hooks
    if (
        isinstance(_get_current_function_mode(), FasterKernels)
        and not hooks
        and conv.bias is None
        and conv.padding_mode == "zeros"
        and winograd.takes(images, conv.weight, None, conv.stride, conv.padding, conv.dilation, conv.groups)
        and min(images.shape[2:]) >= 2
        and pooling.halves(pool.kernel_size, pool.stride, pool.padding, pool.dilation, pool.ceil_mode, pool.return_indices)
    ):
        return winograd.pooled_convolution(images, conv.weight)
    out: Tensor = pool(conv(images))
    return out
