"""One residual network for every published system: He et al. 2015 (arXiv 1512.03385) and the variations in `config.Model`."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bantamnet.config import Model
from bantamnet.errors import UserError
from bantamnet.models.members import MEMBERS

ACTIVATIONS: dict[str, Callable[[Model], nn.Module]] = {
    "relu": lambda model: nn.ReLU(inplace=True),
    "leaky_relu": lambda model: nn.LeakyReLU(model.slope, inplace=True),
    "silu": lambda model: nn.SiLU(inplace=True),
    "gelu": lambda model: nn.GELU(),
}
EXPANSION = {"basic": 1, "bottleneck": 4}


class PadShortcut(nn.Module):
    """Identity by striding over pixels and padding channels with zeros, half on either side (option A of the paper)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        if out_channels < in_channels:
            raise UserError(f"shortcut: pad cannot go from {in_channels} to {out_channels} channels; use shortcut: conv-bn")
        self.stride = stride
        before = (out_channels - in_channels) // 2
        self.padding = (0, 0, 0, 0, before, out_channels - in_channels - before)

    def forward(self, images: Tensor) -> Tensor:
        """(N, in, H, W) → (N, out, H/stride, W/stride)."""
        return F.pad(images[:, :, :: self.stride, :: self.stride], self.padding)


class ThinStrided(nn.Conv2d):
    """A 1×1 strided convolution of fewer than 16 channels, taken as a 1×1 convolution of every stride-th pixel: the same sums.

    oneDNN's own path for it writes past its workspace in the backward pass when channels come last (uxlfoundation/oneDNN
    issue 6035), which ends in wrong gradients or a crash.
    """

    def forward(self, images: Tensor) -> Tensor:
        """(N, in, H, W) → (N, out, H/stride, W/stride)."""
        step_y, step_x = self.stride
        return F.conv2d(images[:, :, ::step_y, ::step_x], self.weight, self.bias)


class Block(nn.Module):
    """A residual block: convolutions with BatchNorm and activations between them, plus the shortcut, then an activation."""

    def __init__(self, model: Model, in_channels: int, out_channels: int, inner: list[int], stride: int) -> None:
        super().__init__()
        kernels = [3, 3] if model.block == "basic" else [1, 3, 1]
        strides = [stride, 1] if model.block == "basic" else [1, stride, 1]
        channels = [in_channels, *inner, out_channels]
        layers: list[nn.Module] = []
        for index, (kernel, step) in enumerate(zip(kernels, strides, strict=True)):
            if index:
                layers.append(ACTIVATIONS[model.activation](model))
            layers += conv_bn(channels[index], channels[index + 1], kernel, step, model.conv_bias)
        self.residual = nn.Sequential(*layers)
        self.shortcut = shortcut(model, in_channels, out_channels, stride)
        self.act = ACTIVATIONS[model.activation](model)

    def forward(self, images: Tensor) -> Tensor:
        """(N, in, H, W) → (N, out, H/stride, W/stride)."""
        out: Tensor = self.act(self.residual(images) + self.shortcut(images))
        return out


def conv_bn(in_channels: int, out_channels: int, kernel: int, stride: int, bias: bool) -> list[nn.Module]:
    """A "same" convolution and its BatchNorm."""
    kind = ThinStrided if kernel == 1 and stride > 1 and in_channels < 16 else nn.Conv2d
    conv = kind(in_channels, out_channels, kernel, stride, padding=kernel // 2, bias=bias)
    return [conv, nn.BatchNorm2d(out_channels)]


def shortcut(model: Model, in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """The identity where the shape stays, else what `model.shortcut` says."""
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    if model.shortcut == "pad":
        return PadShortcut(in_channels, out_channels, stride)
    conv, norm = conv_bn(in_channels, out_channels, 1, stride, model.conv_bias)
    return conv if model.shortcut == "conv" else nn.Sequential(conv, norm)


class ResNet(nn.Module):
    """Stem, stages, global average pooling, one linear layer with bias; PyTorch's default initialisation.

    `arch` is the description it was built from, complete (strides, dropout and inner widths filled in), so that it rebuilds
    the net; `num_classes` the length of its logits.
    """

    def __init__(self, model: Model, num_classes: int, in_channels: int = 3) -> None:
        super().__init__()
        self.arch = complete(model)
        self.num_classes = num_classes
        stem = conv_bn(in_channels, model.stem_width, 3, 1, model.conv_bias)
        if model.stem == "imagenet":
            stem = conv_bn(in_channels, model.stem_width, 7, 2, model.conv_bias)
        stem.append(ACTIVATIONS[model.activation](model))
        if model.stem == "imagenet":
            stem.append(nn.MaxPool2d(3, 2, padding=1))
        self.stem = nn.Sequential(*stem)
        assert self.arch.inner is not None and self.arch.strides is not None and self.arch.dropout is not None
        stages, channels = [], model.stem_width
        for width, inners, stride, rate in zip(model.widths, self.arch.inner, self.arch.strides, self.arch.dropout, strict=True):
            layers: list[nn.Module] = []
            for index, inner in enumerate(inners):
                out_channels = width * EXPANSION[model.block]
                layers.append(Block(model, channels, out_channels, inner, stride if index == 0 else 1))
                channels = out_channels
            if layers and rate:
                layers.append(nn.Dropout(rate))
            stages.append(nn.Sequential(*layers))
        self.stages = nn.Sequential(*stages)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.head = nn.Linear(channels, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (N, 3, H, W) float → logits (N, classes)."""
        logits: Tensor = self.head(self.flatten(self.pool(self.stages(self.stem(images)))))
        return logits


def complete(model: Model) -> Model:
    """`model` with strides, dropout and inner widths written out."""
    num_stages, per_block = len(model.widths), 1 if model.block == "basic" else 2
    inner = [[[width] * per_block for _ in range(blocks)] for width, blocks in zip(model.widths, model.blocks, strict=True)]
    return model.model_copy(
        update={
            "strides": model.strides or [1] + [2] * (num_stages - 1),
            "dropout": model.dropout or [0.0] * num_stages,
            "inner": model.inner or inner,
        }
    )


def count_parameters(net: nn.Module) -> int:
    """Every weight, frozen or not; running statistics aside."""
    return sum(parameter.numel() for parameter in net.parameters())


def build(model: Model, num_classes: int) -> ResNet:
    """The net; a named one built as named must have its recorded parameter count."""
    net = ResNet(model, num_classes)
    member = MEMBERS.get(model.name)
    if member and num_classes == member.num_classes and net.arch == complete(Model(name=model.name, **member.keys)):
        assert count_parameters(net) == member.params, f"{model.name}: {count_parameters(net)} parameters"
    return net


def build_on_meta(model: Model, num_classes: int) -> ResNet:
    """The net without memory behind it, for counting."""
    with torch.device("meta"):
        return build(model, num_classes)
