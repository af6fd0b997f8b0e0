"""A user's own optimisers: `torch.optim.Optimizer` classes registered by name, and all that they remember between steps."""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bantamnet.config import AnyGroup, OwnGroup
from bantamnet.config.own import check_new_name
from bantamnet.configfile import kinds
from bantamnet.errors import UserError, told, unknown

OWN_OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {}
SHIPPED = tuple(kinds(AnyGroup))


def register_optimizer(name: str, kind: Any) -> type[torch.optim.Optimizer]:
    """Make `kind`, a class taking (params, lr, …), known as `name`; raises `UserError` for anything else."""
    check_new_name("an optimiser", name, {*SHIPPED, *OWN_OPTIMIZERS})
    if not (isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer)):
        raise UserError(f"optimizer {name!r}: register a class that is a torch.optim.Optimizer, got {kind!r}")
    if "lr" not in _keywords(kind):
        raise UserError(
            f"optimizer {name!r}: it must take lr, the rate that the schedule moves: def __init__(self, params, lr, …)"
        )
    closure = inspect.signature(kind.step).parameters.get("closure")
    if closure is not None and closure.default is closure.empty:
        raise UserError(f"optimizer {name!r}: its step needs a closure, and training calls step() without one")
    OWN_OPTIMIZERS[name] = kind
    return kind


def find_own_optimizer(name: str) -> type[torch.optim.Optimizer]:
    """The registered class; raises `UserError` naming the nearest for an unknown one."""
    if name not in OWN_OPTIMIZERS:
        known = [*OWN_OPTIMIZERS, *SHIPPED]
        raise UserError(f"{unknown('optimiser', name, known)}; name the Python file that registers it: --use FILE.py")
    return OWN_OPTIMIZERS[name]


def _keywords(kind: type) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(kind).parameters)


def make_own(group: OwnGroup, parts: Sequence[dict[str, Any]]) -> torch.optim.Optimizer:
    """The optimiser of one group; `parts` are PyTorch parameter groups with their weight decay.

    Raises `UserError` for arguments that the class does not take, weight decay among them.
    """
    kind = find_own_optimizer(group.name)
    keywords = _keywords(kind)
    takes_all = any(keyword.kind is keyword.VAR_KEYWORD for keyword in keywords.values())
    given = {"params", "lr", "weight_decay"}
    names = [name for name, k in list(keywords.items())[1:] if name not in given and k.kind is not k.VAR_KEYWORD]
    for name in group.args:
        if name in given:
            raise UserError(f"optim.args: {name} is a key of its own: optim.{name}")
        if name not in names and not takes_all:
            raise UserError(f"optim.args: {group.name}: {unknown('argument', name, names)}")
    decays = "weight_decay" in keywords or takes_all
    if group.weight_decay and not decays:
        raise UserError(f"optim.weight_decay: {group.name} takes no weight_decay; leave it 0")
    shares = [part if decays else {"params": part["params"]} for part in parts]
    make: Any = kind  # its arguments are its own
    try:
        return make(shares, lr=group.lr, **group.args)  # type: ignore[no-any-return]
    except Exception as error:
        file = inspect.getsourcefile(kind)
        raise UserError(f"optim: {group.name} cannot be made: {told(error, file)}") from error


def check_own(group: OwnGroup) -> None:
    """Raise `UserError` unless the optimiser can be made and takes a step; on parameters of its own."""
    weights = [torch.zeros(2, 2, requires_grad=True), torch.zeros(2, requires_grad=True)]
    decayed, free = ({"params": [w], "weight_decay": d} for w, d in zip(weights, (group.weight_decay, 0.0), strict=True))
    optimizer = make_own(group, [decayed, free])
    for weight in weights:
        weight.grad = torch.ones_like(weight)
    try:
        with torch.random.fork_rng(devices=[]):
            optimizer.step()
    except Exception as error:
        raise UserError(f"optim: {group.name} cannot step: {told(error, inspect.getsourcefile(type(optimizer)))}") from error
    save_state(group.name, optimizer)


def save_state(name: str, optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], Any]:
    """(tensors, the rest as plain JSON) of all that the optimiser remembers: its `state_dict` and plain attributes of its own."""
    inner = [key for key, value in vars(optimizer).items() if isinstance(value, torch.optim.Optimizer)]
    if inner and type(optimizer).state_dict is torch.optim.Optimizer.state_dict:
        raise UserError(f"optim: {name} keeps another optimiser ({inner[0]}); give it a state_dict and load_state_dict with both")
    tensors: dict[str, Tensor] = {}
    shared = vars(torch.optim.SGD([torch.zeros(1)], 0.0)).keys()
    attributes = {key: value for key, value in vars(optimizer).items() if key not in shared and _is_kept(value)}
    rest = _pack({"state_dict": optimizer.state_dict(), "attributes": attributes}, tensors, f"optim: {name}")
    return tensors, rest


def load_state(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor], rest: Any) -> None:
    """Undo for `save_state`, bit for bit."""
    parameters = [p for part in optimizer.param_groups for p in part["params"]]
    device = parameters[0].device
    saved = _unpack(rest, tensors, device)
    optimizer.load_state_dict(saved["state_dict"])
    if type(optimizer).load_state_dict is torch.optim.Optimizer.load_state_dict:
        for index, values in saved["state_dict"]["state"].items():  # PyTorch gives them the type of the parameter
            optimizer.state[parameters[index]] = {key: _laid_out(v, parameters[index]) for key, v in values.items()}
    vars(optimizer).update(saved["attributes"])


def _laid_out(value: Any, parameter: Tensor) -> Any:
    """A tensor of the parameter's shape in the parameter's memory layout."""
    if not isinstance(value, Tensor) or value.shape != parameter.shape:
        return value
    return torch.empty_like(parameter, dtype=value.dtype, device=value.device).copy_(value)


def _is_kept(value: Any) -> bool:
    try:
        _pack(value, {}, "")
    except UserError:
        return False  # a function, a handle: nothing that a step changes
    return True


def _pack(value: Any, tensors: dict[str, Tensor], where: str) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Tensor) and not value.requires_grad:
        key = str(len(tensors))
        tensors[key] = value.clone()
        return {"tensor": key}
    for kind in (list, tuple):
        if type(value) is kind:
            return {kind.__name__: [_pack(item, tensors, where) for item in value]}
    if isinstance(value, dict):
        return {"dict": [[_pack(k, tensors, where), _pack(v, tensors, where)] for k, v in value.items()]}
    raise UserError(
        f"{where} keeps a {type(value).__name__} in its state; checkpoints hold tensors, numbers, text, lists and dicts"
    )


def _unpack(value: Any, tensors: dict[str, Tensor], device: torch.device) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        return tensors[content].to(device)
    if kind == "dict":
        return {_unpack(k, tensors, device): _unpack(v, tensors, device) for k, v in content}
    items = [_unpack(item, tensors, device) for item in content]
    return tuple(items) if kind == "tuple" else items
