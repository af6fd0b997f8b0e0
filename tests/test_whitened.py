"""The net and method of cifar10-airbench against the slow, obvious way to do each."""

import copy
import dataclasses
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bantamnet.config import Whitened
from bantamnet.data.augment import parse
from bantamnet.errors import UserError
from bantamnet.models.build import build, build_to_count
from bantamnet.models.resnet import count_parameters
from bantamnet.models.whitened import WhitenedNet, whitening_filters
from bantamnet.runs.lookup import resolve, resolve_model
from bantamnet.runs.modelfile import load_model
from bantamnet.runtime import Ranks
from bantamnet.training.setup import Setup, prepare
from bantamnet.training.train import train
from test_loop import CPU, train_recording

SMALL = ("data.name=digits", "model={name: custom, groups: [8, 16, 16]}", "batch_size=200", "precision=fp32", "device=cpu")


def test_the_named_net_has_the_published_count_and_frozen_weights() -> None:
    net = build_to_count(resolve_model("airbench94"), 10)
    assert count_parameters(net) == 1_972_792
    frozen = [name for name, parameter in net.named_parameters() if not parameter.requires_grad]
    assert frozen[0] == "stem.0.weight" and len(frozen) == 7 and all(name.endswith("weight") for name in frozen)
    with pytest.raises(AssertionError, match="airbench94"):
        from bantamnet.models.members import check_recorded

        check_recorded("airbench94", 10, 1_972_793)


def test_convolutions_begin_as_identities() -> None:
    torch.manual_seed(0)
    net = build(Whitened(name="custom", groups=[32, 48]), 10)
    assert isinstance(net, WhitenedNet)
    images = torch.randn(2, 24, 9, 9)
    first = net.groups[0][0](images)
    assert torch.equal(first[:, :24], images) and not torch.allclose(first[:, 24:], torch.zeros(()))
    middle = torch.randn(2, 32, 9, 9)
    assert torch.equal(net.groups[0][4](middle), middle)
    assert net.head.weight.detach().std().item() == pytest.approx(1)


def test_stem_padding_mirrors_a_row_and_column_behind_the_last() -> None:
    torch.manual_seed(0)
    nets = [build(Whitened(name="custom", groups=[32, 48, 64], stem_padding=padding), 10) for padding in (False, True)]
    plain, padded = nets
    assert isinstance(plain, WhitenedNet) and isinstance(padded, WhitenedNet)
    assert count_parameters(plain) == count_parameters(padded)
    images = torch.randn(2, 3, 32, 32)
    for net in (plain, padded):
        net.whiten(images)
    padded.stem[1].load_state_dict(plain.stem[0].state_dict() | {"weight": padded.stem[1].weight})
    maps = padded.stem(images)
    assert torch.equal(plain.stem[0].weight, padded.stem[1].weight) and torch.equal(maps[:, :, :31, :31], plain.stem(images))
    mirrored = torch.cat([images, images[:, :, 30:31]], 2)
    mirrored = torch.cat([mirrored, mirrored[:, :, :, 30:31]], 3)
    assert torch.equal(maps, plain.stem(mirrored))
    sizes = [maps.shape[-1]]
    for group in padded.groups:
        maps = group(maps)
        sizes.append(maps.shape[-1])
    assert sizes == [32, 16, 8, 4]


def test_whitening_filters_equal_a_loop_over_patches_and_whiten() -> None:
    torch.manual_seed(0)
    images = F.avg_pool2d(torch.randn(30, 3, 16, 16), 3, 1, 1) + torch.tensor([0.5, 0.0, -0.2]).view(1, 3, 1, 1)
    moments, num = torch.zeros(12, 12, dtype=torch.float64), 0
    for image in images.double():
        for top in range(15):
            for left in range(15):
                patch = image[:, top : top + 2, left : left + 2].flatten()
                moments += torch.outer(patch, patch)
                num += 1
    values, vectors = torch.linalg.eigh(moments / num)
    filters = whitening_filters(images, 5e-4)
    for row, value, vector in zip(filters.flip(0), values, vectors.T, strict=True):
        wanted = (vector / math.sqrt(value + 5e-4)).view(3, 2, 2)
        assert torch.allclose(row, wanted) or torch.allclose(row, -wanted)
    responses = F.conv2d(images.double(), whitening_filters(images, 1e-12)).transpose(0, 1).flatten(1)
    assert torch.allclose(responses @ responses.T / num, torch.eye(12, dtype=torch.float64), atol=1e-6)


def test_a_fresh_net_whitens_its_training_images_and_one_from_a_file_is_left_alone(tmp_path: Path) -> None:
    setup, state = prepare(resolve("airbench94", [*SMALL, "model.whiten_images=500"]), None, CPU, Ranks())
    images = setup.preprocessing.normalize(setup.splits["train"].images[:500])
    filters = whitening_filters(images, 5e-4).float()
    assert torch.equal(state.net.stem[0].weight, torch.cat([filters, -filters]))  # type: ignore[index, union-attr]
    run = train(resolve("airbench94", [*SMALL, "epochs=1"]), tmp_path / "run").path
    net, info, _ = load_model(run / "best.safetensors")
    assert isinstance(net, WhitenedNet) and info.label == "final"
    again, _ = prepare(resolve("airbench94", [*SMALL, f"init={run}/best.safetensors", "data.augment=''"]), None, CPU, Ranks())[
        ::-1
    ]
    for name, weight in again.net.state_dict().items():
        assert torch.equal(weight, net.state_dict()[name]), name


def plain_net(groups: list[int]) -> nn.Sequential:
    """The net as anybody would write it from its description."""
    layers: list[nn.Module] = [nn.Conv2d(3, 24, 2), nn.GELU()]
    channels = 24
    for width in groups:
        layers += [nn.Conv2d(channels, width, 3, padding="same", bias=False), nn.MaxPool2d(2)]
        layers += [nn.BatchNorm2d(width, eps=1e-12, momentum=0.4), nn.GELU()]
        layers += [nn.Conv2d(width, width, 3, padding="same", bias=False)]
        layers += [nn.BatchNorm2d(width, eps=1e-12, momentum=0.4), nn.GELU()]
        channels = width
    return nn.Sequential(*layers, nn.MaxPool2d(3), nn.Flatten(), nn.Linear(channels, 10, bias=False))


def test_groups_of_several_depths_with_residuals_equal_the_net_written_out() -> None:
    torch.manual_seed(0)
    net = build(Whitened(name="custom", groups=[32, 48], convs=[3, 2], residual=True, activation="silu"), 10).eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            module.bias.data.normal_()
    convolutions = [module for module in net.modules() if isinstance(module, nn.Conv2d)]
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    images = torch.randn(4, 3, 13, 13)
    x = F.silu(convolutions[0](images))
    for first, others in ((1, [2, 3]), (4, [5])):
        x = F.silu(norms[first - 1](F.max_pool2d(convolutions[first](x), 2)))
        y = x
        for index in others:
            y = norms[index - 1](convolutions[index](y))
            y = F.silu(y + x) if index == others[-1] else F.silu(y)
        x = y
    wanted = x.amax((2, 3)) @ net.get_parameter("head.weight").T / 256
    assert len(convolutions) == 6 and torch.allclose(net(images), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"convs": [2, 3]}, "convs: 2 numbers for 3 groups; give one for each"),
        ({"convs": [2, 1, 2], "residual": True}, "residual: a group of one convolution has nothing to add to"),
        ({"convs": 0}, "greater than 0"),
        ({"convs": True}, "valid integer"),
    ],
)
def test_groups_that_do_not_fit_together_are_refused(keys: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Whitened(name="custom", groups=[8, 16, 16], **keys)  # type: ignore[arg-type]


def colourful(setup: Setup) -> None:
    """Give the training images colours: grey ones leave whitened channels empty, and BatchNorm blows up their rounding."""
    split, noise = setup.splits["train"], torch.Generator().manual_seed(1)
    tint = torch.randint(0, 200, (len(split), 3, 8, 8), generator=noise)
    images = tint.repeat_interleave(4, 2).repeat_interleave(4, 3) + torch.randint(0, 56, (len(split), 3, 32, 32), generator=noise)
    setup.splits["train"] = dataclasses.replace(split, images=images.to(torch.uint8))


def plain_muon(weight: Tensor, buffer: Tensor, lr: float) -> None:
    """One step of the published optimiser on one filter tensor."""
    assert weight.grad is not None
    buffer.mul_(0.6).add_(weight.grad)
    direction = (weight.grad + 0.6 * buffer).reshape(len(weight), -1)
    x = direction / (direction.norm() + 1e-7)
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    for _ in range(3):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    x = x.T if tall else x
    with torch.no_grad():
        weight.mul_(len(weight) ** 0.5 / weight.norm()).add_(x.reshape(weight.shape), alpha=-lr)


def test_the_recipe_takes_the_published_steps(tmp_path: Path) -> None:
    """Rates and decays of the recipe are for a mean loss; here stand the published ones, for a loss summed over the batch."""
    setup, state = prepare(
        resolve(
            "airbench94",
            [*SMALL, "epochs=1", "batch_size=400", "optim.0.schedule={name: linear, epochs: 0.5}"],
        ),
        None,
        CPU,
        Ranks(),
    )
    colourful(setup)
    state.net.whiten(setup.preprocessing.normalize(setup.splits["train"].images))  # type: ignore[operator]
    twin = plain_net([8, 16, 16])
    twin.load_state_dict(dict(zip(twin.state_dict(), copy.deepcopy(state.net.state_dict()).values(), strict=True)))
    seen = train_recording(setup, state, tmp_path / "run")
    total = len(seen)  # few: a rounding grows about threefold with each step
    assert total == 3 and all(len(targets) == 400 for _, targets in seen)

    stem_bias, head = twin[0].bias, twin[-1].weight
    filters = [layer.weight for layer in twin[1:] if isinstance(layer, nn.Conv2d)]
    biases = [layer.bias for layer in twin if isinstance(layer, nn.BatchNorm2d)]
    momenta = [torch.zeros_like(weight) for weight in filters]
    scale, decay = 2000 / 400, 2e-6 * 2000  # the recipe's rates hold for any batch; the published ones are for 2,000
    groups = [
        {"params": [stem_bias], "lr": 0.053, "weight_decay": decay / 0.053},
        {"params": biases, "lr": 0.053, "weight_decay": decay / 0.053},
        {"params": [head], "lr": 0.67, "weight_decay": decay / 0.67},
    ]
    sgd = torch.optim.SGD(groups, lr=0.0, momentum=0.85, nesterov=True, foreach=False)
    rates = [group["lr"] for group in sgd.param_groups]
    twin.train()
    for step, (images, targets) in enumerate(seen):
        twin.zero_grad()
        (scale * F.cross_entropy(twin(images) / 256, targets, label_smoothing=0.2, reduction="sum")).backward()
        for group, rate, length in zip(sgd.param_groups, rates, (1.5, total, total), strict=True):
            group["lr"] = rate * max(0.0, 1 - step / length)
        sgd.step()
        for weight, buffer in zip(filters, momenta, strict=True):
            plain_muon(weight, buffer, 0.24 * (1 - step / total))
    for (name, ours), theirs in zip(state.net.state_dict().items(), twin.state_dict().values(), strict=True):
        assert torch.allclose(ours, theirs, rtol=2e-3, atol=5e-4), f"{name}: {(ours - theirs).abs().max()}"


def test_alternating_flip_shows_every_sample_both_ways_in_two_epochs() -> None:
    augmentation = parse("alternating_flip")
    first, second, third = (augmentation.draw(1000, 7, epoch)[0]["flip"] for epoch in range(3))
    assert torch.equal(first, ~second) and torch.equal(first, third) and 400 < int(first.sum()) < 600
    assert not torch.equal(first, augmentation.draw(1000, 8, 0)[0]["flip"])
    two = parse("crop(2)|alternating_flip")
    assert not torch.equal(first, two.draw(1000, 7, 0)[1]["flip"])
    images = torch.randint(0, 256, (1000, 3, 4, 4), dtype=torch.uint8)
    for flip, image, done in zip(first, images, augmentation.apply(images, [{"flip": first}]), strict=True):
        assert torch.equal(done, image.flip(2) if flip else image)


def test_alternating_flip_is_no_view() -> None:
    with pytest.raises(UserError, match=r"alternating_flip is for training; write hflip\(1\)"):
        resolve("quickstart", ["tta=none + alternating_flip"])
