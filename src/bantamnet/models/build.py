"""A net from its description, whichever kind it is."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from bantamnet.config import AnyModel, Model, OwnModel, Whitened
from bantamnet.errors import UserError
from bantamnet.models import resnet, whitened
from bantamnet.models.own import build_own
from bantamnet.models.resnet import ResNet
from bantamnet.models.whitened import WhitenedNet


def build(model: AnyModel, num_classes: int) -> nn.Module:
    """The net, its weights drawn from PyTorch's global generator."""
    match model:
        case OwnModel():
            return build_own(model, num_classes)
        case Whitened():
            return whitened.build(model, num_classes)
        case _:
            return resnet.build(model, num_classes)


def build_to_count(model: AnyModel, num_classes: int) -> nn.Module:
    """The net for counting: without memory behind it, or a user's as it is; nothing is drawn from the generators."""
    if isinstance(model, OwnModel):
        with torch.random.fork_rng(devices=[]):
            return build_own(model, num_classes)
    with torch.device("meta"):
        return build(model, num_classes)


def architecture(net: nn.Module, model: AnyModel) -> AnyModel:
    """What rebuilds the net: a residual one's own complete description, else the one that it was built from."""
    return net.arch if isinstance(net, ResNet) else model


KINDS: dict[str, type[Model | Whitened | OwnModel]] = {"resnet": Model, "whitened": Whitened, "own": OwnModel}
"""Kinds of net as model files name them."""


def kind_name(model: AnyModel) -> str:
    """The name of a net's kind in a model file."""
    return next(name for name, kind in KINDS.items() if isinstance(model, kind))


def adapt(net: nn.Module, first_images: Callable[[int], Tensor]) -> None:
    """Set what a fresh net takes from normalised training images (N, 3, H, W), the first N; most nets take nothing."""
    if isinstance(net, WhitenedNet):
        net.whiten(first_images(net.arch.whiten_images))


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
    elif kind == "whitened":
        net = WhitenedNet(Whitened(**keys), num_classes)
    else:
        net = build_to_count(OwnModel(**keys), num_classes)
        if others := differing(net, weights):
            raise UserError(
                f"the registered net {keys['name']!r} is another than the one in the file: {', '.join(others[:5])} differ; "
                "--use the Python file that it was trained with"
            )
    net.load_state_dict(weights)
    return net
