"""Operations of PyTorch that this package computes itself on a CPU, where it is faster: `FasterKernels`."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, _get_current_function_mode

from bantamnet.kernels import activation, dense, norm, pooling, winograd
from bantamnet.kernels.library import missing

__all__ = ["FasterKernels", "add_act", "chain", "missing"]

INSTEAD: dict[Any, list[tuple[Callable[..., bool], Callable[..., Any]]]] = {
    torch.conv2d: [(winograd.takes, winograd.convolution), (dense.takes, dense.convolution)],
    torch.max_pool2d: [(pooling.takes, pooling.max_pool)],
    F.max_pool2d: [(pooling.takes, pooling.max_pool)],
    F.silu: [(activation.takes_silu, activation.silu)],
    F.gelu: [(activation.takes_gelu, activation.gelu)],
}
"""Function of PyTorch → (whether its arguments suit, what then takes its place), the first that suits."""


class FasterKernels(TorchFunctionMode):
    """Within it, the functions of `INSTEAD` are computed by this package, whichever module calls them."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Every function of PyTorch, as it is called."""
        kwargs = kwargs or {}
        for suits, ours in INSTEAD.get(func, ()):
            if suits(*args, **kwargs):
                return ours(*args, **kwargs)
        return func(*args, **kwargs)


def chain(layers: Sequence[nn.Module], images: Tensor) -> Tensor:
    """The layers one after another; within `FasterKernels` some of them in one, where no hook waits for them.

    These are a convolution with the max-pooling after it, and BatchNorm with its activation.
    """
    together = isinstance(_get_current_function_mode(), FasterKernels)
    index = 0
    while index < len(layers):
        two = layers[index : index + 2]
        ours = _in_one(two, images) if together and len(two) == 2 else None
        images = layers[index](images) if ours is None else ours
        index += 1 if ours is None else 2
    return images


def _in_one(layers: Sequence[nn.Module], images: Tensor) -> Tensor | None:
    """What two layers make of the images, computed in one; None where that cannot be."""
    first, second = layers
    if _hooked(*layers):
        return None
    if type(first) is nn.Conv2d and type(second) is nn.MaxPool2d and winograd.takes_pooled(images, first, second):
        return winograd.pooled_convolution(images, first.weight)
    if isinstance(first, nn.BatchNorm2d) and norm.takes(images, first, second):
        return norm.norm_act(images, first, second)
    return None


def add_act(layers: nn.Sequential, images: Tensor, added: Tensor, act: nn.Module) -> Tensor:
    """act(layers(images) + added); within `FasterKernels` sum, activation and a BatchNorm that comes last in one."""
    *most, last = layers
    if not isinstance(_get_current_function_mode(), FasterKernels) or _hooked(layers, last, act):
        images = layers(images)
    else:
        images = chain(most, images)
        if isinstance(last, nn.BatchNorm2d) and norm.takes(images, last, act, added):
            return norm.norm_act(images, last, act, added)
        images = last(images)
    out: Tensor = act(images + added)
    return out


def _hooked(*modules: nn.Module) -> bool:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return any(getattr(module, kind) for module in modules for kind in kinds)
