"""One residual network for every published system: He et al. 2015 (arXiv 1512.03385) and the variations in `config.Model`."""

from itertools import count

import torch
from torch import Tensor, nn

from bantamnet.config import Model
from bantamnet.models.blocks import Block, Chain, activation, bn_act, convolution
from bantamnet.models.members import check_recorded, find_member


class ResNet(nn.Module):
    """Stem, stages, global average pooling, one linear layer with bias; PyTorch's default initialisation.

    A net of order pre or pyramid has a BatchNorm and an activation (`final`) before the pooling. `arch` is the description it
    was built from, complete (strides, dropout, output and inner widths filled in), so that it rebuilds the net; `num_classes`
    the length of its logits.
    """

    def __init__(self, model: Model, num_classes: int, in_channels: int = 3) -> None:
        super().__init__()
        self.arch = arch = complete(model)
        self.num_classes = num_classes
        self.stem = make_stem(model, in_channels)
        assert arch.inner is not None and arch.out_widths is not None and arch.strides is not None and arch.dropout is not None
        stages, channels = [], model.stem_width
        num_blocks, place = sum(model.blocks), count(1)
        for outs, inners, stride, rate in zip(arch.out_widths, arch.inner, arch.strides, arch.dropout, strict=True):
            layers: list[nn.Module] = []
            for index, (out_channels, inner) in enumerate(zip(outs, inners, strict=True)):
                step = stride if index == 0 else 1
                layers.append(Block(model, channels, out_channels, inner, step, model.drop_path * (next(place) / num_blocks)))
                channels = out_channels
            if layers and rate:
                layers.append(nn.Dropout(rate))
            stages.append(nn.Sequential(*layers))
        self.stages = nn.Sequential(*stages)
        self.final = Chain(*bn_act(model, channels)) if model.order != "post" and model.final_norm else None
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.head = nn.Linear(channels, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (N, 3, H, W) float → logits (N, classes)."""
        maps: Tensor = self.stages(self.stem(images))
        if self.final is not None:
            maps = self.final(maps)
        logits: Tensor = self.head(self.flatten(self.pool(maps)))
        return logits


def make_stem(model: Model, in_channels: int) -> Chain:
    """All before the first block.

    The small stem leaves to a block of order pre or pyramid what that begins with itself: activation, and BatchNorm for pre.
    """
    conv = convolution(in_channels, model.stem_width, 3, 1, model.conv_bias)
    if model.stem == "imagenet":  # the small convolution is drawn all the same, or the weights of a seed would change
        conv = convolution(in_channels, model.stem_width, 7, 2, model.conv_bias)
        return Chain(conv, *bn_act(model, model.stem_width), nn.MaxPool2d(3, 2, padding=1))
    layers: list[nn.Module] = [conv]
    if model.order != "pre":
        layers.append(nn.BatchNorm2d(model.stem_width))
    if model.order == "post":
        layers.append(activation(model.activation, model.slope))
    return Chain(*layers)


def complete(model: Model) -> Model:
    """`model` with strides, dropout, output and inner widths written out."""
    num_stages = len(model.widths)
    inner = [[[out // model.expansion] * model.inner_per_block for out in outs] for outs in model.block_outputs]
    return model.model_copy(
        update={
            "strides": model.strides or [1] + [2] * (num_stages - 1),
            "dropout": model.dropout or [0.0] * num_stages,
            "out_widths": model.block_outputs,
            "inner": model.inner or inner,
        }
    )


def count_parameters(net: nn.Module) -> int:
    """Every weight, frozen or not; running statistics aside."""
    return sum(parameter.numel() for parameter in net.parameters())


def build(model: Model, num_classes: int) -> ResNet:
    """The net; a named one built as named must have its recorded parameter count."""
    net = ResNet(model, num_classes)
    member = find_member(model.name)
    if member and net.arch == complete(Model(name=model.name, **member.keys)):
        check_recorded(model.name, num_classes, count_parameters(net))
    return net


def build_on_meta(model: Model, num_classes: int) -> ResNet:
    """The net without memory behind it, for counting."""
    with torch.device("meta"):
        return build(model, num_classes)
