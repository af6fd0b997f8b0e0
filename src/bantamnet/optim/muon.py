"""Muon: momentum whose every step is orthogonalised as a matrix (Jordan et al. 2024, kellerjordan.github.io/posts/muon)."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

A, B, C = 3.4445, -4.7750, 2.0315
"""A step takes a singular value s to A s + B s³ + C s⁵: steep at 0, and never settling at 1 but between about 0.7 and 1.2."""


def orthogonalize(matrices: Tensor, steps: int = 5, dtype: torch.dtype = torch.float32) -> Tensor:
    """(N, rows, columns) → the same, singular vectors kept and singular values near 1, by `steps` of Newton and Schulz.

    Computed in `dtype`, which is also that of the result. Singular values that are a small share of a matrix's norm stay below 1.
    """
    tall = matrices.shape[-2] > matrices.shape[-1]  # the iteration's square matrices are those of the shorter side
    x = (matrices.mT if tall else matrices).to(dtype)
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=B, alpha=C), x, beta=A)
    return x.mT if tall else x


def step_scale(kind: str, rows: int, columns: int) -> float:
    """Factor of a step of a rows × columns matrix; see the key `scale`."""
    return {
        "original": math.sqrt(max(1.0, rows / columns)),
        "match-rms-adamw": 0.2 * math.sqrt(max(rows, columns)),
        "none": 1.0,
    }[kind]


class Muon(torch.optim.Optimizer):
    """Muon for parameters of two or more dimensions, seen as (first dimension, product of the others).

    With weights of two dimensions it takes the steps of `torch.optim.Muon`. `dtype` is what orthogonalisation computes in;
    everything else is in the parameters' own type. Matrices of one shape are orthogonalised together.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float,
        momentum: float = 0.95,
        *,
        nesterov: bool = True,
        weight_decay: float = 0.0,
        ns_steps: int = 5,
        scale: str = "original",
        normalize_weights: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "nesterov": nesterov, "weight_decay": weight_decay, "ns_steps": ns_steps}
        super().__init__(params, {**defaults, "scale": scale, "normalize_weights": normalize_weights, "dtype": dtype})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move every parameter that has a gradient."""
        assert closure is None
        for group in self.param_groups:
            for parameters in by_shape(p for p in group["params"] if p.grad is not None).values():
                self._step_alike(parameters, group)

    def _step_alike(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        """Move parameters of one matrix shape."""
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        buffers = []
        for parameter in parameters:
            state = self.state[parameter]
            if "momentum_buffer" not in state:
                state["momentum_buffer"] = torch.zeros_like(parameter)
            buffers.append(state["momentum_buffer"])
        torch._foreach_lerp_(buffers, gradients, 1 - group["momentum"])
        ahead = torch._foreach_lerp(gradients, buffers, group["momentum"]) if group["nesterov"] else buffers
        matrices = torch.stack([update.reshape(len(update), -1) for update in ahead])
        steps = orthogonalize(matrices, group["ns_steps"], group["dtype"]).to(matrices.dtype)
        factor = step_scale(group["scale"], *matrices.shape[-2:])
        if group["normalize_weights"]:
            norms = torch._foreach_norm(parameters)
            torch._foreach_clamp_min_(norms, 1e-7)
            torch._foreach_div_(parameters, norms)
            torch._foreach_mul_(parameters, math.sqrt(len(parameters[0])))
        elif group["weight_decay"]:
            torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        moves = [step.view(parameter.shape) for step, parameter in zip(steps, parameters, strict=True)]
        torch._foreach_add_(parameters, moves, alpha=-group["lr"] * factor)


def by_shape(parameters: Iterable[Tensor]) -> dict[tuple[int, int], list[Tensor]]:
    """Parameters by the (rows, columns) of their matrices, in their order."""
    alike: dict[tuple[int, int], list[Tensor]] = {}
    for parameter in parameters:
        alike.setdefault((len(parameter), parameter[0].numel()), []).append(parameter)
    return alike
