"""BatchNorm and the activation after it on a CPU: fewer passes over memory than one after the other."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from bantamnet.kernels.library import LEAST_CHANNELS, run, whole

ACTIVATIONS: dict[type[nn.Module], str] = {nn.ReLU: "relu", nn.SiLU: "silu", nn.GELU: "gelu"}
PART = 32768
"""Values that are summed in float; their sums are added in double precision."""


def takes(images: Tensor, norm: nn.Module, act: nn.Module, added: Tensor | None = None) -> bool:
    """Whether act(norm(images) + added) can be had by `norm_act`: in training, or where no gradients are asked for."""
    return (
        type(norm) is nn.BatchNorm2d
        and norm.affine
        and norm.track_running_stats
        and type(act) in ACTIVATIONS
        and getattr(act, "approximate", "none") == "none"
        and (
            added is None
            or (type(act) is nn.ReLU and added.dtype == images.dtype and added.shape == images.shape and whole(added))
        )
        and whole(images)
        and images.numel() > images.shape[1] >= LEAST_CHANNELS
        and (norm.training or not torch.is_grad_enabled())
    )


def norm_act(images: Tensor, norm: nn.BatchNorm2d, act: nn.Module, added: Tensor | None = None) -> Tensor:
    """act(norm(images) + added), (N, C, H, W), channels last; running statistics move on as they do in PyTorch."""
    name = ACTIVATIONS[type(act)]
    if norm.training:
        mean, variance = _moments(images)
        num = _pixels(images)
        track(norm, mean, variance * (num / (num - 1)))
    else:
        assert norm.running_mean is not None and norm.running_var is not None
        mean, variance = norm.running_mean.double(), norm.running_var.double()
    inverse = (variance + norm.eps).rsqrt()
    out: Tensor = _NormAct.apply(images, norm.weight, norm.bias, added, mean, inverse, name)  # type: ignore[no-untyped-call]
    return out


def track(norm: nn.BatchNorm2d, mean: Tensor, unbiased: Tensor) -> None:
    """Move the running statistics on by a batch's mean and unbiased variance (C,), as PyTorch does."""
    assert norm.running_mean is not None and norm.running_var is not None and norm.num_batches_tracked is not None
    norm.num_batches_tracked += 1
    momentum = norm.momentum if norm.momentum is not None else 1 / float(norm.num_batches_tracked)
    norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), momentum)
    norm.running_var.lerp_(unbiased.to(norm.running_var.dtype), momentum)


def _pixels(images: Tensor) -> int:
    return images.numel() // images.shape[1]


def _moments(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance (C,) of each channel, double."""
    first, second = _sums("norm_sums", images) / _pixels(images)
    return images.detach()[0, :, 0, 0].double() + first, (second - first.square()).clamp(min=0)


def _sums(name: str, images: Tensor, *others: Tensor) -> Tensor:
    """(2, C) double: what a kernel sums over pixels of `images` (N, C, H, W)."""
    pixels, channels = _pixels(images), images.shape[1]
    rows = max(1, PART // channels)
    parts = torch.empty(-(-pixels // rows), 2, channels)
    run(name, (images, *others, parts), (pixels, channels, rows))
    return parts.sum(0, dtype=torch.double)


class _NormAct(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, images: Tensor, weight: Tensor, bias: Tensor, added: Tensor | None, mean: Tensor, inverse: Tensor, name: str
    ) -> Tensor:
        scale = weight * inverse
        lines = torch.stack([scale, bias - mean * scale, mean]).float()
        out = torch.empty_like(images)
        sizes = _pixels(images), images.shape[1]
        if added is None:
            run(f"norm_{name}", (images, lines, out), sizes)
        else:
            run(f"norm_add_{name}", (images, added, lines, out), sizes)
        ctx.save_for_backward(images, lines, inverse, None if added is None else out)
        ctx.name = name
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        images, lines, inverse, out = ctx.saved_tensors
        grad = grad.to(images.dtype).contiguous(memory_format=torch.channels_last)
        if out is None:
            name, inner = f"norm_{ctx.name}", grad
            sums = _sums(f"{name}_sums", images, grad, lines)
        else:
            name, inner = f"norm_add_{ctx.name}", torch.empty_like(grad)
            sums = _sums(f"{name}_sums", images, out, grad, lines, inner)
        num, scale = _pixels(images), lines[0]
        of_bias, with_images = sums
        of_images = torch.stack([-scale * inverse.square() * with_images / num, -scale * of_bias / num]).float()
        images_grad = torch.empty_like(images)
        run(f"{name}_grad", (images, inner, torch.cat([lines, of_images]), images_grad), (num, images.shape[1]))
        return images_grad, (with_images * inverse).float(), of_bias.float(), None if out is None else inner, None, None, None
