"""Operations of PyTorch that this package computes itself on a CPU in bf16, where it is faster: `FasterKernels`."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

from bantamnet.kernels import activation, pooling, winograd
from bantamnet.kernels.library import missing

__all__ = ["FasterKernels", "missing"]

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
