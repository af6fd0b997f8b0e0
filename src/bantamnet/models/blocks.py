"""What a residual network is made of: convolutions, shortcuts, squeeze-and-excitation, stochastic depth, the block."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bantamnet.config import Model
from bantamnet.errors import UserError
from bantamnet.kernels import add_act, chain

ACTIVATIONS: dict[str, Callable[[float], nn.Module]] = {
    "relu": lambda slope: nn.ReLU(inplace=True),
    "leaky_relu": lambda slope: nn.LeakyReLU(slope, inplace=True),
    "silu": lambda slope: nn.SiLU(),
    "gelu": lambda slope: nn.GELU(),
}


class Chain(nn.Sequential):
    """`nn.Sequential`, but that some layers may be computed in one (`kernels.chain`)."""

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) → what the layers make of it."""
        return chain([*self], images)


def activation(name: str, slope: float = 0.0) -> nn.Module:
    """An activation by its name; `slope` is the negative one of `leaky_relu`."""
    return ACTIVATIONS[name](slope)


class ThinStrided(nn.Conv2d):
    """A 1×1 strided convolution of fewer than 16 channels, taken as a 1×1 convolution of every stride-th pixel: the same sums.

    oneDNN's own path for it writes past its workspace in the backward pass when channels come last (uxlfoundation/oneDNN
    issue 6035), which ends in wrong gradients or a crash.
    """

    def forward(self, images: Tensor) -> Tensor:
        """(N, in, H, W) → (N, out, H/stride, W/stride)."""
        step_y, step_x = self.stride
        return F.conv2d(images[:, :, ::step_y, ::step_x], self.weight, self.bias)


def convolution(in_channels: int, out_channels: int, kernel: int, stride: int, bias: bool) -> nn.Conv2d:
    """A "same" convolution."""
    kind = ThinStrided if kernel == 1 and stride > 1 and in_channels < 16 else nn.Conv2d
    return kind(in_channels, out_channels, kernel, stride, padding=kernel // 2, bias=bias)


def conv_bn(in_channels: int, out_channels: int, kernel: int, stride: int, bias: bool) -> list[nn.Module]:
    """A "same" convolution and its BatchNorm."""
    return [convolution(in_channels, out_channels, kernel, stride, bias), nn.BatchNorm2d(out_channels)]


def bn_act(model: Model, channels: int) -> list[nn.Module]:
    """BatchNorm and the net's activation."""
    return [nn.BatchNorm2d(channels), activation(model.activation, model.slope)]


class PadShortcut(nn.Module):
    """Identity by striding over pixels and padding channels with zeros, half on either side (option A of the ResNet paper)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        _refuse_narrowing("pad", in_channels, out_channels)
        self.stride = stride
        before = (out_channels - in_channels) // 2
        self.padding = (0, 0, 0, 0, before, out_channels - in_channels - before)

    def forward(self, images: Tensor) -> Tensor:
        """(N, in, H, W) → (N, out, H/stride, W/stride)."""
        return F.pad(images[:, :, :: self.stride, :: self.stride], self.padding)


class PoolPadShortcut(nn.Module):
    """Identity by averaging over stride × stride pixels and adding channels of zeros behind, as in the authors' PyramidNet.

    A pixel at an odd edge is averaged over what there is, so that the size is that of a "same" strided convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        _refuse_narrowing("pool-pad", in_channels, out_channels)
        self.stride = stride
        self.padding = (0, 0, 0, 0, 0, out_channels - in_channels)

    def forward(self, images: Tensor) -> Tensor:
        """(N, in, H, W) → (N, out, H/stride, W/stride)."""
        if self.stride > 1:
            images = F.avg_pool2d(images, self.stride, ceil_mode=True)
        return F.pad(images, self.padding)


def _refuse_narrowing(name: str, in_channels: int, out_channels: int) -> None:
    if out_channels < in_channels:
        raise UserError(f"shortcut: {name} cannot go from {in_channels} to {out_channels} channels; use shortcut: conv-bn")


def shortcut(model: Model, in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """The identity where the shape stays, else what `model.shortcut` says."""
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    if model.shortcut == "pad":
        return PadShortcut(in_channels, out_channels, stride)
    if model.shortcut == "pool-pad":
        return PoolPadShortcut(in_channels, out_channels, stride)
    conv, norm = conv_bn(in_channels, out_channels, 1, stride, model.conv_bias)
    return conv if model.shortcut == "conv" else nn.Sequential(conv, norm)


class SqueezeExcite(nn.Module):
    """Each channel times a gate that all channels' means decide together (Hu et al. 2017, arXiv 1709.01507)."""

    def __init__(self, model: Model, channels: int) -> None:
        super().__init__()
        assert model.se_reduction is not None
        squeezed = channels // model.se_reduction
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.reduce = nn.Linear(channels, squeezed)
        self.act = activation(model.activation, model.slope)
        self.expand = nn.Linear(squeezed, channels)
        self.gate = nn.Sigmoid()

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) → the same."""
        gates: Tensor = self.gate(self.expand(self.act(self.reduce(self.flatten(self.pool(images))))))
        return images * gates[:, :, None, None]


class StochasticDepth(nn.Module):
    """In training, a residual branch left out of each sample with probability `rate` (Huang et al. 2016, arXiv 1603.09382).

    What stays is divided by 1 − rate, so that evaluation is the plain net. One draw a sample from the global generator.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) → the same."""
        if not self.training:
            return images
        kept = torch.rand(len(images), 1, 1, 1, device=images.device) >= self.rate
        return images * kept / (1 - self.rate)

    def extra_repr(self) -> str:
        """The rate."""
        return f"rate={self.rate:g}"


class Block(nn.Module):
    """A residual block in one of three orders; `inner` holds the output widths of all its convolutions but the last.

    - post (He et al. 2015, arXiv 1512.03385): conv–BN–act–conv–BN, add the shortcut, act.
    - pre (He et al. 2016, arXiv 1603.05027): BN–act–conv–BN–act–conv, add the shortcut. A shortcut that is a convolution sees
      what the first convolution sees, any other the block's input.
    - pyramid (Han et al. 2016, arXiv 1610.02915): BN–conv–BN–act–conv–BN, add the shortcut of the block's input.

    `before` is what stands before the first convolution; `residual` begins with that convolution in every order, so that
    inner widths are found in the same places.
    """

    def __init__(
        self, model: Model, in_channels: int, out_channels: int, inner: list[int], stride: int, drop_path: float = 0.0
    ) -> None:
        super().__init__()
        kernels = [3, 3] if model.block == "basic" else [1, 3, 1]
        strides = [stride, 1] if model.block == "basic" else [1, stride, 1]
        channels = [in_channels, *inner, out_channels]
        # BatchNorm for pyramid, an activation after it for pre, nothing for post.
        before = bn_act(model, in_channels)[: ("post", "pyramid", "pre").index(model.order)]
        self.before = Chain(*before) if before else None
        layers: list[nn.Module] = []
        for index, (kernel, step) in enumerate(zip(kernels, strides, strict=True)):
            if index:
                between = bn_act(model, channels[index])
                if index == len(kernels) - 1 and model.block_dropout:  # in the activation's place: names stay as they are
                    between[1] = nn.Sequential(between[1], nn.Dropout(model.block_dropout))
                layers += between
            layers.append(convolution(channels[index], channels[index + 1], kernel, step, model.conv_bias))
        if model.order != "pre":
            norm = nn.BatchNorm2d(out_channels)
            if model.zero_init:
                nn.init.zeros_(norm.weight)
            layers.append(norm)
        if model.se_reduction:
            layers.append(SqueezeExcite(model, out_channels))
        if drop_path:
            layers.append(StochasticDepth(drop_path))
        self.residual = Chain(*layers)
        self.shortcut = shortcut(model, in_channels, out_channels, stride)
        self.shares_before = model.order == "pre" and any(True for _ in self.shortcut.parameters())
        self.act = activation(model.activation, model.slope) if model.order == "post" else None

    def forward(self, images: Tensor) -> Tensor:
        """(N, in, H, W) → (N, out, H/stride, W/stride)."""
        begun: Tensor = images if self.before is None else self.before(images)
        added: Tensor = self.shortcut(begun if self.shares_before else images)
        return self.residual(begun) + added if self.act is None else add_act(self.residual, begun, added, self.act)
