"""Which parameter is moved by which optimiser: ordered groups, the first that matches takes it."""

import copy
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from bantamnet.config import Adam, AdamW, AnyOptimizer, Group, Muon, OwnGroup, Sgd
from bantamnet.errors import UserError
from bantamnet.optim import muon
from bantamnet.optim.lookahead import Lookahead
from bantamnet.optim.own import load_state, make_own, save_state
from bantamnet.optim.schedules import LearningRate
from bantamnet.runtime import number_type


def matches(group: Group, name: str, parameter: Tensor) -> bool:
    """Whether a group's `match` means this parameter."""
    if group.match == "@weights":
        return parameter.ndim > 1
    if group.match == "@convs":
        return parameter.ndim > 2
    if group.match == "@norm-bias":
        return parameter.ndim <= 1
    return fnmatchcase(name, group.match)


def make_optimizer(group: AnyOptimizer, parameters: Sequence[Tensor], precision: str = "fp32") -> torch.optim.Optimizer:
    """The optimiser of one group; BatchNorm and biases are free of weight decay unless the group says otherwise.

    `precision` is what matrix products inside an optimiser compute in; its state is always of the parameters' type.
    """
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
        case Muon():
            return muon.Muon(
                parts,
                group.lr,
                group.momentum,
                nesterov=group.nesterov,
                ns_steps=group.ns_steps,
                scale=group.scale,
                normalize_weights=group.normalize_weights,
                dtype=number_type(precision),
            )
        case OwnGroup():
            return make_own(group, parts)


def refuse_vectors(index: int, group: AnyOptimizer, parameters: Mapping[str, Tensor]) -> None:
    """Raise `UserError` where Muon would get a parameter that is no matrix."""
    vector = next((name for name, parameter in parameters.items() if parameter.ndim < 2), None)
    if group.name == "muon" and vector:
        raise UserError(
            f"optim.{index}.match: {group.match!r} gives muon {vector}, which has one dimension and is no matrix; "
            "set match: '@weights' here and add a last group for the rest, e.g. {name: sgd, lr: 0.1, momentum: 0.9}"
        )


class Optimizers:
    """The optimisers of all groups and their learning rates, moved together."""

    def __init__(
        self, groups: Sequence[AnyOptimizer], net: nn.Module, steps_per_epoch: int, epochs: float, precision: str = "fp32"
    ) -> None:
        taken: list[dict[str, Tensor]] = [{} for _ in groups]
        for name, parameter in net.named_parameters():
            if not parameter.requires_grad:
                continue
            index = next((i for i, group in enumerate(groups) if matches(group, name, parameter)), None)
            if index is None:
                raise UserError(f"optim: no group matches {name}; add a last group with match: '*'")
            taken[index][name] = parameter
        for index, (group, parameters) in enumerate(zip(groups, taken, strict=True)):
            if not parameters:
                names = ", ".join(name for name, _ in list(net.named_parameters())[:3])
                raise UserError(f"optim.{index}.match: {group.match!r} leaves it no parameter; names look like {names}")
            refuse_vectors(index, group, parameters)
        self.parameters = taken
        self.own = {index: group.name for index, group in enumerate(groups) if isinstance(group, OwnGroup)}
        self.optimizers = [make_optimizer(g, list(p.values()), precision) for g, p in zip(groups, taken, strict=True)]
        self.lookaheads = [
            Lookahead(p, g.lookahead.k, g.lookahead.alpha) if g.lookahead else None for g, p in zip(groups, taken, strict=True)
        ]
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
        for lookahead in self.lookaheads:
            if lookahead:
                lookahead.after(step)

    def freeze_over(self, step: int) -> None:
        """Let parameters whose rate is zero from this step on have no gradients any more: their backward pass is saved.

        Nothing else changes by it, so it is for runs where no norm is taken over all gradients.
        """
        over, was_over = ([rate.over(self._position(at)) for rate in self.rates] for at in (step, max(step - 1, 0)))
        if all(over):
            return
        for index, optimizer in enumerate(self.optimizers):
            # Muon may once more scale the weights that it does not move; a user's optimiser may do anything.
            ended = was_over if isinstance(optimizer, muon.Muon) else over
            if ended[index] and index not in self.own:
                for parameter in self.parameters[index].values():
                    parameter.requires_grad_(False)

    def _position(self, step: int) -> float:
        return self.position(step) if self.position else step

    def slow_net(self, net: nn.Module) -> nn.Module:
        """`net`, or where there is a Lookahead a copy of it with the slow weights, as the paper ends with."""
        if not any(self.lookaheads):
            return net
        slow = copy.deepcopy(net).requires_grad_(False)
        for lookahead in self.lookaheads:
            slow.load_state_dict(lookahead.slow if lookahead else {}, strict=False)
        return slow

    def learning_rates(self, step: int) -> list[float]:
        """Rate of each group at this step."""
        return [rate.at(self._position(step)) for rate in self.rates]

    def observe(self, step: int, val_loss: float) -> None:
        """Tell the plateau schedules the validation loss after `step` steps."""
        for rate in self.rates:
            rate.observe(step, val_loss)

    def tensors(self) -> dict[str, Tensor]:
        """State of shipped optimisers by `group/parameter/key`; the key of Lookahead's weights is `slow`."""
        slow = {
            f"{index}/{name}/slow": value
            for index, lookahead in enumerate(self.lookaheads)
            for name, value in (lookahead.slow if lookahead else {}).items()
        }
        return slow | {
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
            lookahead, parameter = self.lookaheads[int(index)], self.parameters[int(index)][name]
            if lookahead and key == "slow":
                lookahead.slow[name].copy_(value)
                continue
            layout = parameter if value.shape == parameter.shape else value
            self.optimizers[int(index)].state[parameter][key] = torch.empty_like(
                layout, dtype=value.dtype, device=parameter.device
            ).copy_(value)
        for rate, state in zip(self.rates, plateaus, strict=True):
            rate.plateau = dict(state)
