"""The gradient of a step: plain, with SAM and clipped, against plain loops, in bf16 and over ranks."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from bantamnet.models.resnet import ResNet
from bantamnet.runtime import Ranks
from bantamnet.training.loop import batches
from bantamnet.training.setup import Setup, prepare
from bantamnet.training.step import average_over_ranks, gradients
from conftest import tiny

CPU = torch.device("cpu")


def begin(*sets: str, ranks: Ranks | None = None) -> tuple[Setup, ResNet, tuple[Tensor, Tensor, float]]:
    setup, state = prepare(tiny("label_smoothing=0", *sets), None, CPU, ranks or Ranks())
    return setup, state.net.train(), next(batches(setup, 0))[:3]


def gradient(net: nn.Module) -> Tensor:
    return torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None])


def plain_sam(net: nn.Module, images: Tensor, targets: Tensor, rho: float, adaptive: bool) -> Tensor:
    """The gradient by copies: one net for each pass, the same dropout for both; the loss of the first."""
    near = copy.deepcopy(net)
    torch.manual_seed(5)
    loss = F.cross_entropy(net(images), targets)
    loss.backward()
    squares = [((p.detach().abs() if adaptive else 1) * p.grad).square().sum() for p in net.parameters()]
    length = torch.stack(squares).sum().sqrt()
    with torch.no_grad():
        for p, q in zip(net.parameters(), near.parameters(), strict=True):
            q += rho * (p.square() if adaptive else 1) * p.grad / length
    torch.manual_seed(5)
    F.cross_entropy(near(images), targets).backward()
    for p, q in zip(net.parameters(), near.parameters(), strict=True):
        p.grad = q.grad
    return loss


@pytest.mark.parametrize(("rho", "adaptive"), [(0.1, False), (2.0, True)])
def test_sam_is_the_plain_loop(rho: float, adaptive: bool) -> None:
    setup, net, (images, targets, share) = begin(f"sam={{rho: {rho}, adaptive: {adaptive}}}", "precision=fp32")
    assert share == 1 and any(isinstance(module, nn.Dropout) for module in net.modules())
    twin, before = copy.deepcopy(net), copy.deepcopy(net.state_dict())
    torch.manual_seed(5)
    loss, logits = gradients(setup, net, images, targets, share)
    random_state = torch.get_rng_state()
    theirs = plain_sam(twin, images, targets, rho, adaptive)
    assert torch.equal(random_state, torch.get_rng_state())
    torch.testing.assert_close(gradient(net), gradient(twin), atol=1e-5, rtol=1e-4)
    assert torch.equal(loss, theirs) and torch.equal(F.cross_entropy(logits, targets), loss)
    for name, value in net.state_dict().items():
        if name in dict(net.named_parameters()):
            assert torch.equal(value, before[name])
        else:  # BatchNorm's buffers are those of one pass
            assert torch.equal(value, twin.state_dict()[name]) and not torch.equal(value, before[name])
    net.zero_grad()
    torch.manual_seed(5)
    setup.task(net, images, targets)[0].backward()
    assert F.cosine_similarity(gradient(net), gradient(twin), dim=0) < 0.999


def test_without_keys_it_is_the_plain_gradient_bit_for_bit() -> None:
    setup, net, (images, targets, _) = begin("precision=fp32")
    twin = copy.deepcopy(net)
    torch.manual_seed(5)
    gradients(setup, net, images, targets, 0.5)
    torch.manual_seed(5)
    (F.cross_entropy(twin(images), targets) * 0.5).backward()
    assert torch.equal(gradient(net), gradient(twin))


def test_the_gradient_is_clipped_to_a_norm_over_all_parameters() -> None:
    for limit in (0.01, 1e3):
        (free, net, batch), (clipped, twin, _) = begin("precision=fp32"), begin("precision=fp32", f"clip_norm={limit}")
        for setup, module in ((free, net), (clipped, twin)):
            torch.manual_seed(5)
            gradients(setup, module, *batch)
        scale = min(1.0, limit / float(gradient(net).norm()))
        assert (scale < 0.1) == (limit == 0.01)
        torch.testing.assert_close(gradient(twin), gradient(net) * scale, rtol=1e-4, atol=1e-9)


def test_under_autocast_the_second_pass_sees_the_moved_weights() -> None:
    found = {}
    for name, sets in {
        "fp32": ("precision=fp32", "sam={rho: 0.5}"),
        "bf16": ("precision=bf16", "sam={rho: 0.5}"),
        "plain": ("precision=fp32",),
    }.items():
        setup, net, batch = begin(*sets, "model.dropout=null")
        gradients(setup, net, *batch)
        found[name] = gradient(net)
    assert F.cosine_similarity(found["fp32"], found["bf16"], dim=0) > 0.97
    assert F.cosine_similarity(found["fp32"], found["plain"], dim=0) < 0.9


RANKS = ("batch_size=101", "precision=fp32", "sam={rho: 0.3}", "clip_norm=0.05", "data.augment=''")


def plain_net() -> nn.Module:
    """Without BatchNorm, whose statistics are those of a rank's own images."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.SiLU(), nn.Flatten(), nn.LazyLinear(10))


def two_ranks(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    setup, _, (images, targets, share) = begin(*RANKS, ranks=Ranks(rank, 2))
    net = plain_net()
    net(images[:1])
    loss, _ = gradients(setup, net, images, targets, share)
    norm = nn.Sequential(nn.BatchNorm2d(3), nn.Linear(2, 2))  # the second takes no part
    norm[0](images).sum().backward()
    average_over_ranks(setup.ranks, norm)
    found = (gradient(net), loss.detach() * share, images, norm[0].running_mean, norm[1].weight.grad)
    torch.save(found, f"{folder}/rank-{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_ranks_take_the_step_of_one(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(two_ranks, (str(tmp_path),), nprocs=2)
    setup, _, (images, targets, share) = begin(*RANKS)
    net: Any = plain_net()
    net(images[:1])
    loss, _ = gradients(setup, net, images, targets, share)
    ranks = [torch.load(tmp_path / f"rank-{rank}.pt") for rank in range(2)]
    mean = sum(0.1 * part[2].mean((0, 2, 3)) for part in ranks) / 2
    for found, _, _, running_mean, unused in ranks:
        torch.testing.assert_close(found, gradient(net), atol=1e-6, rtol=1e-4)
        torch.testing.assert_close(running_mean, mean)
        assert torch.equal(unused, torch.zeros(2, 2))
    torch.testing.assert_close((ranks[0][1] + ranks[1][1]) / 2, loss.detach())
