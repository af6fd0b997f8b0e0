"""A user's own nets: classes registered by name, called with (num_classes, **args)."""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from bantamnet.config import OwnModel
from bantamnet.config.own import check_new_name
from bantamnet.errors import UserError, told, unknown
from bantamnet.models.blocks import ThinStrided
from bantamnet.models.members import MEMBERS, find_member

OWN_MODELS: dict[str, type[nn.Module]] = {}


def register_model(name: str, net: Any) -> type[nn.Module]:
    """Make `net`, an `nn.Module` class taking (num_classes, **args), known as `name`; raises `UserError` for anything else."""
    check_new_name("a net", name, {*MEMBERS, *OWN_MODELS})
    if name.startswith("custom") or _is_spelling(name):
        raise UserError(f"{name!r}: names of this spelling are residual networks given by their keys; choose another")
    if not (isinstance(net, type) and issubclass(net, nn.Module)):
        raise UserError(f"model {name!r}: register a class that is a torch.nn.Module, got {net!r}")
    parameters = list(inspect.signature(net).parameters.values())
    if not parameters or parameters[0].kind not in (parameters[0].POSITIONAL_ONLY, parameters[0].POSITIONAL_OR_KEYWORD):
        raise UserError(f"model {name!r}: its first argument must be the number of classes: def __init__(self, num_classes, …)")
    OWN_MODELS[name] = net
    return net


def _is_spelling(name: str) -> bool:
    try:
        return find_member(name) is not None
    except UserError:
        return True


def find_own_model(name: str) -> type[nn.Module]:
    """The registered class; raises `UserError` naming the nearest for an unknown one."""
    if name not in OWN_MODELS:
        known = [*OWN_MODELS, *MEMBERS]
        raise UserError(f"{unknown('net', name, known)}; name the Python file that registers it: --use FILE.py")
    return OWN_MODELS[name]


def build_own(model: OwnModel, num_classes: int) -> nn.Module:
    """The net that a registered class makes; raises `UserError` for arguments it does not take and for what cannot be trained."""
    kind = find_own_model(model.name)
    check_arguments(f"model.args: {model.name}", kind, model.args, skip=1)
    try:
        net = kind(num_classes, **model.args)
    except Exception as error:
        raise UserError(f"model: {model.name} cannot be built: {told(error, source_file(kind))}") from error
    _check_weights(model.name, net)
    for module in net.modules():
        if type(module) is nn.Conv2d and _is_thin_strided(module):
            module.__class__ = ThinStrided  # the same sums by another way; see there
    return net


def _check_weights(name: str, net: nn.Module) -> None:
    parameters = list(net.parameters())
    if not parameters:
        raise UserError(f"model: {name} has no parameters; there is nothing to train")
    if any(
        isinstance(parameter, nn.parameter.UninitializedParameter | nn.parameter.UninitializedBuffer)
        for parameter in [*parameters, *net.buffers()]
    ):
        raise UserError(f"model: {name} has lazy layers, whose parameters cannot be counted; give their sizes")
    if not all(parameter.is_floating_point() for parameter in parameters):
        raise UserError(f"model: {name} has parameters that are no floating-point numbers; keep those as buffers")
    strange = [key for key, value in net.state_dict().items() if not isinstance(value, Tensor)]
    if strange:
        raise UserError(f"model: {name} keeps {strange[0]} beside its tensors; a model file holds tensors only, use a buffer")


def _is_thin_strided(conv: nn.Conv2d) -> bool:
    plain = conv.padding in ((0, 0), "valid") and conv.groups == 1 and conv.padding_mode == "zeros"
    return plain and conv.kernel_size == (1, 1) and conv.stride != (1, 1) and conv.in_channels < 16


def check_forward(name: str, net: nn.Module, size: tuple[int, int], num_classes: int) -> None:
    """Raise `UserError` unless two images of `size` become logits (2, num_classes), and one (1, num_classes).

    The generators are left as they are.
    """
    device = next(net.parameters()).device
    was_training = net.training
    for num, images in ((2, "2 images"), (1, "1 image")):
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            try:
                logits = net.eval()(torch.zeros(num, 3, *size, device=device))
            except Exception as error:
                height, width = size
                reason = told(error, source_file(type(net)))
                raise UserError(f"model: {name} fails on images ({num}, 3, {height}, {width}): {reason}") from error
            finally:
                net.train(was_training)
        if not isinstance(logits, Tensor) or not logits.is_floating_point() or tuple(logits.shape) != (num, num_classes):
            found = f"{logits.dtype} {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
            raise UserError(f"model: {name} must turn {images} into floating-point logits ({num}, {num_classes}), got {found}")


def check_arguments(where: str, function: Callable[..., Any], args: dict[str, Any], skip: int) -> None:
    """Raise `UserError` for arguments that `function` does not take or misses; its first `skip` are given by bantamnet."""
    signature = inspect.signature(function)
    parameters = list(signature.parameters.values())
    named = [p.name for p in parameters[skip:] if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        for name in args:
            if name not in named:
                raise UserError(f"{where}: {unknown('argument', name, named)}")
    try:
        signature.bind(*[None] * skip, **args)
    except TypeError as error:
        raise UserError(f"{where}: {error}") from None


def source_file(kind: type) -> str | None:
    """The file that a class is written in, as tracebacks name it; None for one typed at a prompt."""
    try:
        return inspect.getsourcefile(kind)
    except TypeError:
        return None
