"""Muon against PyTorch's, against the singular value decomposition and against plain loops."""

import copy
import math
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from bantamnet.config import AnyGroup
from bantamnet.errors import UserError
from bantamnet.optim.groups import Optimizers
from bantamnet.optim.muon import Muon, orthogonalize

GROUP: TypeAdapter[Any] = TypeAdapter(AnyGroup)


def group(**keys: Any) -> Any:
    return GROUP.validate_python({"name": "muon", "lr": 0.1, **keys})


def plain_newton_schulz(matrix: Tensor, steps: int) -> Tensor:
    """By the singular values alone: the iteration is a polynomial of each of them."""
    u, s, v = torch.linalg.svd(matrix.double(), full_matrices=False)
    s = s / s.square().sum().sqrt()
    for _ in range(steps):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    return (u * s) @ v


@pytest.mark.parametrize("shape", [(5, 16, 16), (3, 12, 40), (2, 40, 12), (1, 1, 9), (2, 7, 1)])
@pytest.mark.parametrize("steps", [1, 3, 5])
def test_orthogonalisation_is_a_polynomial_of_the_singular_values(shape: tuple[int, ...], steps: int) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 100
    for ours, matrix in zip(orthogonalize(matrices, steps), matrices, strict=True):
        torch.testing.assert_close(ours.double(), plain_newton_schulz(matrix, steps), atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_singular_values_end_in_the_known_band(dtype: torch.dtype) -> None:
    """What five steps make of every singular value from 0.01 to 1 of the norm; in exact numbers it is 0.68 to 1.14."""
    s = torch.logspace(-2, 0, 64)
    s = s * (s > 0.01)
    generator = torch.Generator().manual_seed(1)
    left, right = (torch.linalg.qr(torch.randn(64, 64, generator=generator))[0] for _ in range(2))
    values = torch.linalg.svdvals(orthogonalize((left * s @ right)[None], 5, dtype).float()[0])
    slack = 0.03 if dtype == torch.bfloat16 else 0.0
    share = s / s.norm()
    assert (share > 0.003).sum() > 40
    large = values[: int((share > 0.01).sum())]
    assert large.min() > 0.65 - slack and large.max() < 1.25 + slack
    assert values.max() < 1.25 + slack
    exact = orthogonalize((left * s @ right)[None], 5)[0]
    assert torch.linalg.matrix_norm(exact - orthogonalize((left * s @ right)[None], 5, dtype)[0].float(), 2) < 0.2


def trajectory(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], steps: int = 6) -> list[Tensor]:
    generator = torch.Generator().manual_seed(2)
    for _ in range(steps):
        for parameter in parameters:
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()
    return [parameter.detach() for parameter in parameters]


def some(*shapes: tuple[int, ...]) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(3)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]


MATRICES = ((8, 20), (20, 8), (8, 20), (6, 6))


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize(("scale", "theirs"), [("original", "original"), ("match-rms-adamw", "match_rms_adamw")])
def test_matrices_move_as_pytorchs_muon_moves_them(nesterov: bool, scale: str, theirs: str) -> None:
    keys: dict[str, Any] = {"lr": 0.1, "momentum": 0.9, "nesterov": nesterov, "weight_decay": 0.2}
    parameters, twins = some(*MATRICES), some(*MATRICES)
    ours = trajectory(Muon(parameters, scale=scale, dtype=torch.bfloat16, **keys), parameters)
    twin = trajectory(torch.optim.Muon(twins, adjust_lr_fn=theirs, **keys), twins)
    for a, b in zip(ours, twin, strict=True):
        torch.testing.assert_close(a, b, atol=0.02, rtol=0)  # bf16 keeps three digits, and sums in another order
        assert (a - b).abs().mean() < 2e-3


@pytest.mark.parametrize("nesterov", [True, False])
def test_convolutions_move_as_in_a_plain_loop(nesterov: bool) -> None:
    shapes = ((8, 3, 3, 3), (8, 8, 3, 3), (4, 18, 2, 2), (10, 6))
    parameters = some(*shapes)
    parameters[1].data = parameters[1].data.to(memory_format=torch.channels_last)
    twins = [p.detach().clone().double() for p in some(*shapes)]
    ours = trajectory(Muon(parameters, 0.1, 0.8, nesterov=nesterov, weight_decay=0.3), parameters)
    generator = torch.Generator().manual_seed(2)
    sums = [torch.zeros_like(twin) for twin in twins]
    for _ in range(6):
        for twin, total in zip(twins, sums, strict=True):
            gradient = torch.randn(twin.shape, generator=generator).double()
            total.mul_(0.8).add_(gradient)
            step = plain_newton_schulz((gradient + 0.8 * total if nesterov else total).flatten(1), 5)
            rows, columns = step.shape
            twin -= 0.1 * 0.3 * twin + 0.1 * math.sqrt(max(1, rows / columns)) * step.reshape(twin.shape)
    for a, b in zip(ours, twins, strict=True):
        torch.testing.assert_close(a.double(), b, atol=1e-4, rtol=1e-4)


def test_the_airbench_form_is_the_plain_loop() -> None:
    """Weights are scaled to the norm √rows, and the orthogonal step is taken as it is."""
    shapes = ((8, 3, 3, 3), (30, 2, 3, 1), (8, 3, 3, 3))
    parameters, twins = some(*shapes), [p.detach().clone().double() for p in some(*shapes)]
    keys: dict[str, Any] = {"ns_steps": 3, "scale": "none", "normalize_weights": True}
    ours = trajectory(Muon(parameters, 0.24, 0.6, **keys), parameters)
    generator = torch.Generator().manual_seed(2)
    sums = [torch.zeros_like(twin) for twin in twins]
    for _ in range(6):
        for twin, total in zip(twins, sums, strict=True):
            gradient = torch.randn(twin.shape, generator=generator).double()
            total.mul_(0.6).add_(gradient)
            twin *= len(twin) ** 0.5 / twin.norm()
            twin -= 0.24 * plain_newton_schulz((gradient + 0.6 * total).flatten(1), 3).reshape(twin.shape)
    for a, b in zip(ours, twins, strict=True):
        torch.testing.assert_close(a.double(), b, atol=1e-4, rtol=1e-4)


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))


REST: Any = GROUP.validate_python({"name": "sgd", "lr": 0.0})


def test_a_group_of_its_own_beside_another_optimiser() -> None:
    module = net()
    optimizers = Optimizers([group(match="@convs"), REST], module, 5, 1)
    assert [sorted(part) for part in optimizers.parameters] == [
        ["0.weight"],
        ["0.bias", "1.bias", "1.weight", "4.bias", "4.weight"],
    ]
    before = copy.deepcopy(module.state_dict())
    module(torch.randn(8, 3, 4, 4)).square().sum().backward()
    optimizers.step(0)
    changed = [name for name, value in module.state_dict().items() if not torch.equal(value, before[name])]
    assert "0.weight" in changed and not {"0.bias", "1.weight", "4.weight"} & set(changed)
    assert list(optimizers.tensors()) == ["0/0.weight/momentum_buffer"]


@pytest.mark.parametrize(("match", "name"), [("*", "0.bias"), ("1.*", "1.weight"), ("@norm-bias", "0.bias")])
def test_a_vector_in_a_muon_group_is_told_with_the_fix(match: str, name: str) -> None:
    with pytest.raises(UserError, match=rf"optim\.0\.match: .* gives muon {name}, .* set match: '@weights'"):
        Optimizers([group(match=match), REST], net(), 5, 1)


def test_the_run_computes_the_products_in_its_own_precision() -> None:
    moved = []
    for precision in ("fp32", "bf16", "bf16"):
        module = net()
        optimizers = Optimizers([group(match="@weights"), REST], module, 5, 1, precision)
        module(torch.ones(8, 3, 4, 4).cumsum(3)).square().sum().backward()
        optimizers.step(0)
        assert all(value.dtype == torch.float32 for value in optimizers.tensors().values())
        moved.append(module[0].weight.detach())
    assert torch.equal(moved[1], moved[2]) and not torch.equal(moved[0], moved[1])
    torch.testing.assert_close(moved[0], moved[1], atol=0.02, rtol=0)
