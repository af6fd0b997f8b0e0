"""Schedules, groups and moving averages against PyTorch's and against loops."""

import copy
import math
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch import nn

from bantamnet.config import AnyGroup
from bantamnet.errors import UserError
from bantamnet.optim.ema import Ema
from bantamnet.optim.groups import Optimizers
from bantamnet.optim.schedules import LearningRate
from bantamnet.optim.swa import Swa

GROUP: TypeAdapter[Any] = TypeAdapter(AnyGroup)


def group(schedule: Any = "constant", **keys: Any) -> Any:
    return GROUP.validate_python({"name": "sgd", "lr": 0.1, "schedule": schedule, **keys})


def torch_rates(make: Any, epochs: int) -> list[float]:
    """The rate of each epoch by one of PyTorch's schedulers, stepped after each."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    scheduler = make(optimizer)
    rates = []
    for _ in range(epochs):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


SCHEDULERS = torch.optim.lr_scheduler


@pytest.mark.parametrize(
    ("schedule", "make", "epochs"),
    [
        ({"name": "cosine", "every": "epoch"}, lambda o: SCHEDULERS.CosineAnnealingLR(o, 30), 30),
        ({"name": "cosine", "epochs": 20, "every": "epoch"}, lambda o: SCHEDULERS.CosineAnnealingLR(o, 20), 30),
        (
            {"name": "cosine", "epochs": 20, "min_lr": 0.01, "every": "epoch"},
            lambda o: SCHEDULERS.CosineAnnealingLR(o, 20, 0.01),
            30,
        ),
        ({"name": "multistep", "at": [5, 7.0], "every": "epoch"}, lambda o: SCHEDULERS.MultiStepLR(o, [5, 7]), 12),
        (
            {"name": "linear", "epochs": 8, "start": 0.9, "end": 0.1, "every": "epoch"},
            lambda o: SCHEDULERS.LinearLR(o, 0.9, 0.1, 8),
            12,
        ),
        (
            [{"name": "constant", "epochs": 4, "factor": 0.5}, {"name": "linear", "epochs": 4, "end": 0.25, "every": "epoch"}],
            lambda o: SCHEDULERS.SequentialLR(o, [SCHEDULERS.ConstantLR(o, 0.5, 99), SCHEDULERS.LinearLR(o, 1, 0.25, 4)], [4]),
            10,
        ),
        (
            {"name": "one-cycle", "every": "epoch"},
            lambda o: SCHEDULERS.OneCycleLR(o, 0.1, 30, cycle_momentum=False),
            30,
        ),
        (
            [{"name": "warmup", "epochs": 5, "start": 0.2, "every": "epoch"}, {"name": "cosine", "epochs": 10, "every": "epoch"}],
            lambda o: SCHEDULERS.SequentialLR(
                o, [SCHEDULERS.LinearLR(o, 0.2, 1.0, 5), SCHEDULERS.CosineAnnealingLR(o, 10)], [5]
            ),
            12,
        ),
    ],
)  # fmt: skip
def test_rates_by_epoch_are_pytorchs(schedule: Any, make: Any, epochs: int) -> None:
    steps = 7
    rate = LearningRate(group(schedule), steps, epochs)
    expected = torch_rates(make, epochs)
    for epoch in range(epochs):
        for step in (0, 3, 6):
            assert rate.at(epoch * steps + step) == pytest.approx(expected[epoch], abs=1e-9)


def test_a_cosine_of_its_own_length_climbs_again() -> None:
    rate = LearningRate(group({"name": "cosine", "epochs": 200, "every": "epoch"}), 10, 300)
    assert rate.at(2000) == pytest.approx(0, abs=1e-12) and rate.at(2999) == pytest.approx(0.05, abs=1e-3)
    ends = LearningRate(group("cosine"), 10, 300)
    assert ends.at(2999) < 1e-6 and all(ends.at(s) >= ends.at(s + 1) for s in range(2999))


def test_rates_by_step_and_lengths_in_steps() -> None:
    pieces = [{"name": "warmup", "steps": 10, "start": 0.0}, {"name": "constant", "steps": 5}, {"name": "cosine"}]
    rate = LearningRate(group(pieces), 10, 4)
    expected = [0.01 * s for s in range(10)] + [0.1] * 5
    expected += [0.05 * (1 + math.cos(math.pi * s / 25)) for s in range(25)]
    assert [rate.at(step) for step in range(40)] == pytest.approx(expected)


@pytest.mark.parametrize("three_phase", [True, False])
@pytest.mark.parametrize("anneal", ["cos", "linear"])
@pytest.mark.parametrize(("total", "pct"), [(70, 0.3), (35, 0.45), (7, 0.1), (3, 0.5), (1, 0.3)])
def test_one_cycle_by_step_is_pytorchs(three_phase: bool, anneal: Any, total: int, pct: float) -> None:
    keys: dict[str, Any] = {"pct_start": pct, "three_phase": three_phase, "div_factor": 10.0, "final_div_factor": 100.0}

    def make(optimizer: torch.optim.Optimizer) -> Any:
        return SCHEDULERS.OneCycleLR(optimizer, 0.1, total, anneal_strategy=anneal, cycle_momentum=False, **keys)

    if total == 1:  # PyTorch divides by zero; a run of one step is made at the lowest rate
        assert LearningRate(group({"name": "one-cycle", "anneal": anneal, **keys}), 7, 1 / 7).at(0) == pytest.approx(1e-4)
        return
    rate = LearningRate(group({"name": "one-cycle", "anneal": anneal, **keys}), 7, total / 7)
    expected = torch_rates(make, total - 1)
    assert [rate.at(step) for step in range(total - 1)] == pytest.approx(expected, rel=1e-9)
    assert rate.at(total - 1) == rate.at(total + 5) == pytest.approx(1e-4)


@pytest.mark.parametrize("every", ["step", "epoch"])
@pytest.mark.parametrize(("warmup", "cooldown"), [(0.1, 0.2), (0.23, 0.77), (0.0, 1.0), (0.5, 0.0), (0.0, 0.0)])
def test_trapezoid_is_the_loop(every: str, warmup: float, cooldown: float) -> None:
    steps, epochs = 7, 20
    keys = {"warmup": warmup, "cooldown": cooldown, "start": 0.2, "end": 0.07, "every": every}
    rate = LearningRate(group({"name": "trapezoid", **keys}), steps, epochs)
    for step in range(steps * epochs + 3):
        at = step if every == "step" else step // steps * steps
        total = steps * epochs
        if at < warmup * total:
            factor = 0.2 + 0.8 * at / (warmup * total)
        elif cooldown and at > total - cooldown * total:
            factor = 1 - 0.93 * min(1, (at - (total - cooldown * total)) / (cooldown * total))
        else:
            factor = 1.0
        assert rate.at(step) == pytest.approx(0.1 * factor, rel=1e-9)


def test_schedules_follow_a_fractional_number_of_epochs() -> None:
    for name in ("linear", "trapezoid", "one-cycle", "cosine"):
        ends = LearningRate(group(name), 8, 2.5)
        assert ends.at(8) > 0.02 and ends.at(20 if name != "one-cycle" else 19) < 1e-5


def test_plateau_is_pytorchs() -> None:
    generator = torch.Generator().manual_seed(0)
    losses = (torch.rand(200, generator=generator) + torch.linspace(1, 0.5, 200)).tolist()
    for patience, factor in ((5, 0.1), (0, 0.5), (2, 0.3)):
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
        scheduler = SCHEDULERS.ReduceLROnPlateau(optimizer, factor=factor, patience=patience, eps=0)
        rate = LearningRate(group({"name": "plateau", "patience": patience, "factor": factor}), 3, 200)
        for epoch, loss in enumerate(losses):
            assert rate.at(3 * epoch + 1) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)
            scheduler.step(loss)
            rate.observe(3 * (epoch + 1), loss)


def net() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))


REST = [group(lr=0.01)]
KINDS = {
    "sgd": (lambda p: torch.optim.SGD(p, 0.001, 0.9, nesterov=True), {"lr": 0.001, "momentum": 0.9, "nesterov": True}),
    "adam": (lambda p: torch.optim.Adam(p, 0.1, (0.8, 0.9), 1e-6), {"betas": [0.8, 0.9], "eps": 1e-6}),
    "adamw": (lambda p: torch.optim.AdamW(p, 0.1, (0.8, 0.9), 1e-6), {"betas": [0.8, 0.9], "eps": 1e-6}),
}


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("everywhere", [True, False])
def test_groups_step_as_pytorch_does(name: str, everywhere: bool) -> None:
    ours, twin = net(), net()
    make, keys = KINDS[name]
    one = group(name=name, weight_decay=0.1, decay_norm_bias=everywhere, **keys)
    optimizers = Optimizers([one], ours, 5, 1)
    matrices = [p for p in twin.parameters() if everywhere or p.ndim > 1]
    others = [p for p in twin.parameters() if not (everywhere or p.ndim > 1)]
    optimizer = make([{"params": p, "weight_decay": d} for p, d in ((matrices, 0.1), (others, 0.0)) if p])
    images = torch.randn(8, 3, 4, 4)
    for step in range(5):
        for module in (ours, twin):
            module(images).square().sum().backward()
        optimizers.step(step)
        optimizer.step()
        optimizer.zero_grad()
    for a, b in zip(ours.parameters(), twin.parameters(), strict=True):
        assert torch.equal(a, b)
    assert all(p.grad is None for p in ours.parameters())


def test_the_first_group_that_matches_takes_a_parameter() -> None:
    module = net()
    groups = [group(match="4.*", lr=1.0), group(match="@norm-bias", lr=2.0), group(match="@weights", lr=3.0, name="adam")]
    taken = Optimizers(groups, module, 5, 1).parameters
    assert [sorted(part) for part in taken] == [["4.bias", "4.weight"], ["0.bias", "1.bias", "1.weight"], ["0.weight"]]
    with pytest.raises(UserError, match=r"no group matches 1\.weight"):
        Optimizers([group(match="0.*"), group(match="4.*")], module, 5, 1)
    with pytest.raises(UserError, match=r"optim\.1\.match: 'x\*' leaves it no parameter; names look like 0\.weight"):
        Optimizers([group(), group(match="x*")], module, 5, 1)


def test_moving_average_is_the_loop() -> None:
    module = net()
    ema = Ema(module, 0.9)
    twin = [p.detach().clone() for p in module.parameters()]
    for step in range(200):
        with torch.no_grad():
            for p in module.parameters():
                p.add_(torch.randn_like(p))
            module[1].running_mean.add_(1)
        ema.update(module, step)
        decay = min(0.9, (1 + step) / (10 + step))
        twin = [decay * t + (1 - decay) * p.detach() for t, p in zip(twin, module.parameters(), strict=True)]
    for a, b in zip(ema.net.parameters(), twin, strict=True):
        torch.testing.assert_close(a.detach(), b)
    assert torch.equal(ema.net[1].running_mean, module[1].running_mean)


def test_an_average_of_buffers_is_the_loop() -> None:
    module = net()
    ema = Ema(module, 0.9, average_buffers=True, warmup=False)
    mean, var, weight = (t.detach().clone() for t in (module[1].running_mean, module[1].running_var, module[4].weight))
    for step in range(20):
        with torch.no_grad():
            module[1].running_mean.add_(torch.randn(4))
            module[1].running_var.mul_(1.1)
            module[1].num_batches_tracked.add_(1)
            module[4].weight.add_(torch.randn(2, 16))
        ema.update(module, step)
        mean = 0.9 * mean + 0.1 * module[1].running_mean
        var = 0.9 * var + 0.1 * module[1].running_var
        weight = 0.9 * weight + 0.1 * module[4].weight.detach()
    torch.testing.assert_close(ema.net[1].running_mean, mean)
    torch.testing.assert_close(ema.net[1].running_var, var)
    torch.testing.assert_close(ema.net[4].weight, weight)
    assert ema.net[1].num_batches_tracked == 20


def test_equal_average_is_pytorchs() -> None:
    module = net()
    ours, twin = Swa(module), torch.optim.swa_utils.AveragedModel(net())
    for _ in range(7):
        with torch.no_grad():
            for p in module.parameters():
                p.add_(torch.randn_like(p))
        ours.update(module)
        twin.update_parameters(module)
    for a, b in zip(ours.net.parameters(), twin.module.parameters(), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_lookahead_is_the_loop(name: str) -> None:
    """Algorithm 1 of the paper around PyTorch's own optimiser, here around one of two groups."""
    ours, twin = net(), net()
    make, keys = KINDS[name]
    groups = [group(name=name, match="@weights", lookahead={"k": 3, "alpha": 0.4}, weight_decay=0.1, **keys)]
    optimizers = Optimizers([*groups, group(lr=0.01)], ours, 5, 1)
    weights = [p for p in twin.parameters() if p.ndim > 1]
    fast, rest = make([{"params": weights, "weight_decay": 0.1}]), [p for p in twin.parameters() if p.ndim <= 1]
    slow = [p.detach().clone() for p in weights]
    images = torch.randn(8, 3, 4, 4)
    for step in range(8):
        for module in (ours, twin):
            module.zero_grad()
            module(images).square().mean().backward()
        optimizers.step(step)
        fast.step()
        with torch.no_grad():
            for p in rest:
                p -= 0.01 * p.grad
            if step in (2, 5):
                for phi, theta in zip(slow, weights, strict=True):
                    phi += 0.4 * (theta - phi)
                    theta.copy_(phi)
    for a, b in zip(ours.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)
    scored = dict(optimizers.slow_net(ours).named_parameters())
    torch.testing.assert_close(scored["0.weight"].detach(), slow[0], atol=1e-6, rtol=1e-5)
    assert torch.equal(scored["4.bias"], ours[4].bias) and not torch.equal(scored["4.weight"], ours[4].weight)
    assert {path for path in optimizers.tensors() if path.endswith("slow")} == {"0/0.weight/slow", "0/4.weight/slow"}


@pytest.mark.parametrize("name", ["sgd", "muon"])
def test_weight_decay_leaves_norms_and_biases_alone_in_every_group(name: str) -> None:
    module = net()
    keys = {"weight_decay": 0.5, "lookahead": {"k": 2}}
    optimizers = Optimizers([group(name=name, match="@weights", **keys), group(**keys)], module, 5, 1)
    before = copy.deepcopy(module.state_dict())
    for step in range(2):
        for p in module.parameters():
            p.grad = torch.zeros_like(p)
        optimizers.step(step)
    for key, value in module.named_parameters():
        left = (1 + 0.95**2) / 2 if value.ndim > 1 else 1.0
        torch.testing.assert_close(value.detach(), left * before[key])


def test_optimizer_state_survives_its_tensors() -> None:
    muon = {"muon": (None, {"match": "@weights"})}
    for name, (_, keys) in (KINDS | muon | {"sgd ": KINDS["sgd"]}).items():
        module = net()
        groups = [group(name=name.strip(), lookahead={"k": 3} if name == "sgd " else None, **keys), *REST[name != "muon" :]]
        first = Optimizers(groups, module, 5, 1)
        images = torch.randn(8, 3, 4, 4)
        for step in range(2):
            module(images).square().sum().backward()
            first.step(step)
        clone = copy.deepcopy(module)
        second = Optimizers(groups, clone, 5, 1)
        second.load(first.tensors(), first.plateaus())
        for optimizers, part in ((first, module), (second, clone)):
            part(images).square().sum().backward()
            optimizers.step(2)
        for a, b in zip(module.parameters(), clone.parameters(), strict=True):
            assert torch.equal(a, b)
