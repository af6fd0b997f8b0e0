"""A net from its description, whichever kind it is."""

import torch
from torch import nn

from bantamnet.config import AnyModel, Model, OwnModel
from bantamnet.errors import UserError
from bantamnet.models import resnet
from bantamnet.models.own import build_own
from bantamnet.models.resnet import ResNet


def build(model: AnyModel, num_classes: int) -> nn.Module:
    """The net, its weights drawn from PyTorch's global generator."""
    return build_own(model, num_classes) if isinstance(model, OwnModel) else resnet.build(model, num_classes)


def build_to_count(model: AnyModel, num_classes: int) -> nn.Module:
    """The net for counting: a residual one without memory behind it, a user's as it is; nothing is drawn from the generators."""
    if isinstance(model, Model):
        return resnet.build_on_meta(model, num_classes)
    with torch.random.fork_rng(devices=[]):
        return build_own(model, num_classes)


def architecture(net: nn.Module, model: AnyModel) -> AnyModel:
    """What rebuilds the net: a residual one's own complete description, else the one that it was built from."""
    return net.arch if isinstance(net, ResNet) else model


def differing(net: nn.Module, weights: dict[str, torch.Tensor]) -> list[str]:
    """Names that only one of the two has, or whose shapes differ."""
    shapes = {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}
    return [name for name in {**shapes, **weights} if name not in weights or shapes.get(name) != weights[name].shape]


def rebuild(architecture: dict[str, object], weights: dict[str, torch.Tensor], num_classes: int) -> nn.Module:
    """The net that a model file holds; raises `UserError` where a user's own is not registered, or is another than it was."""
    kind, keys = architecture["name"], architecture["model"]
    assert isinstance(keys, dict)
    if kind == "resnet":
        net: nn.Module = ResNet(Model(**keys), num_classes)
    else:
        net = build_to_count(OwnModel(**keys), num_classes)
        if others := differing(net, weights):
            raise UserError(
                f"the registered net {keys['name']!r} is another than the one in the file: {', '.join(others[:5])} differ; "
                "--use the Python file that it was trained with"
            )
    net.load_state_dict(weights)
    return net
