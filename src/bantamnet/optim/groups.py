"""Which parameter is moved by which optimiser: ordered groups, the first that matches takes it."""

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from bantamnet.config import Adam, AdamW, AnyOptimizer, Group, OwnGroup, Sgd
from bantamnet.errors import UserError
from bantamnet.optim.own import load_state, make_own, save_state
from bantamnet.optim.schedules import LearningRate


def matches(group: Group, name: str, parameter: Tensor) -> bool:
    """Whether a group's `match` means this parameter."""
    if group.match == "@weights":
        return parameter.ndim > 1
    if group.match == "@norm-bias":
        return parameter.ndim <= 1
    return fnmatchcase(name, group.match)


def make_optimizer(group: AnyOptimizer, parameters: Sequence[Tensor]) -> torch.optim.Optimizer:
    """PyTorch's optimiser for one group; BatchNorm and biases are free of weight decay unless the group says otherwise."""
    decayed = [p for p in parameters if group.decay_norm_bias or p.ndim > 1]
    free = [p for p in parameters if not (group.decay_norm_bias or p.ndim > 1)]
    parts = [{"params": part, "weight_decay": decay} for part, decay in ((decayed, group.weight_decay), (free, 0.0)) if part]
    # Fused kernels round differently, and Adam turns a rounding of a near-zero gradient into a whole step: on the CPU, where
    # they save little, the plain form keeps runs equal to plain PyTorch's.
    fused = parameters[0].is_cuda
    match group:
        case Sgd():
            return torch.optim.SGD(parts, group.lr, group.momentum, nesterov=group.nesterov, fused=fused)
        case AdamW():
            return torch.optim.AdamW(parts, group.lr, group.betas, group.eps, fused=fused)
        case Adam():
            return torch.optim.Adam(parts, group.lr, group.betas, group.eps, fused=fused)
        case OwnGroup():
            return make_own(group, parts)


class Optimizers:
    """The optimisers of all groups and their learning rates, moved together."""

    def __init__(self, groups: Sequence[AnyOptimizer], net: nn.Module, steps_per_epoch: int, epochs: int) -> None:
        taken: list[dict[str, Tensor]] = [{} for _ in groups]
        for name, parameter in net.named_parameters():
            index = next((i for i, group in enumerate(groups) if matches(group, name, parameter)), None)
            if index is None:
                raise UserError(f"optim: no group matches {name}; add a last group with match: '*'")
            taken[index][name] = parameter
        for index, (group, parameters) in enumerate(zip(groups, taken, strict=True)):
            if not parameters:
                names = ", ".join(name for name, _ in list(net.named_parameters())[:3])
                raise UserError(f"optim.{index}.match: {group.match!r} leaves it no parameter; names look like {names}")
        self.parameters = taken
        self.own = {index: group.name for index, group in enumerate(groups) if isinstance(group, OwnGroup)}
        self.optimizers = [make_optimizer(g, list(p.values())) for g, p in zip(groups, taken, strict=True)]
        self.rates = [LearningRate(group, steps_per_epoch, epochs) for group in groups]
        self.position: Callable[[int], float] | None = None
        """Where in the schedules a step is taken, in steps of `epochs` × `steps_per_epoch`; None is the step itself."""

    def step(self, step: int) -> None:
        """Move every group at its rate of this step (from 0), then drop the gradients."""
        for optimizer, lr in zip(self.optimizers, self.learning_rates(step), strict=True):
            for part in optimizer.param_groups:
                part["lr"] = lr
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def learning_rates(self, step: int) -> list[float]:
        """Rate of each group at this step."""
        position = self.position(step) if self.position else step
        return [rate.at(position) for rate in self.rates]

    def observe(self, step: int, val_loss: float) -> None:
        """Tell the plateau schedules the validation loss after `step` steps."""
        for rate in self.rates:
            rate.observe(step, val_loss)

    def tensors(self) -> dict[str, Tensor]:
        """All state of shipped optimisers by `group/parameter/key`."""
        return {
            f"{index}/{name}/{key}": value
            for index, (optimizer, parameters) in enumerate(zip(self.optimizers, self.parameters, strict=True))
            if index not in self.own
            for name, parameter in parameters.items()
            for key, value in optimizer.state.get(parameter, {}).items()
            if isinstance(value, Tensor)
        }

    def own_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """All state of the user's own optimisers: tensors by `group/number`, and by group what else they remember."""
        saved = {str(index): save_state(name, self.optimizers[index]) for index, name in self.own.items()}
        tensors = {f"{index}/{key}": tensor for index, (named, _) in saved.items() for key, tensor in named.items()}
        return tensors, {index: rest for index, (_, rest) in saved.items()}

    def load_own(self, tensors: dict[str, Tensor], rests: dict[str, Any]) -> None:
        """Undo for `own_state`."""
        for index, rest in rests.items():
            named = {path.split("/")[1]: tensor for path, tensor in tensors.items() if path.split("/")[0] == index}
            load_state(self.optimizers[int(index)], named, rest)

    def plateaus(self) -> list[dict[str, Any]]:
        """What the plateau schedules remember."""
        return [dict(rate.plateau) for rate in self.rates]

    def load(self, tensors: dict[str, Tensor], plateaus: list[dict[str, Any]]) -> None:
        """Undo for `tensors` and `plateaus`."""
        for path, value in tensors.items():
            index, name, key = path.split("/")
            parameter = self.parameters[int(index)][name]
            layout = parameter if value.shape == parameter.shape else value
            self.optimizers[int(index)].state[parameter][key] = torch.empty_like(
                layout, dtype=value.dtype, device=parameter.device
            ).copy_(value)
        for rate, state in zip(self.rates, plateaus, strict=True):
            rate.plateau = dict(state)
