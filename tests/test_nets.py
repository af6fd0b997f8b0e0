"""Squeeze-and-excitation, pre-activation, PyramidNet, stochastic depth and the rest, against slow twins and published counts."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bantamnet
from bantamnet.config import Model
from bantamnet.data.preprocess import Preprocessing
from bantamnet.errors import UserError
from bantamnet.models.blocks import PoolPadShortcut, SqueezeExcite, StochasticDepth, ThinStrided
from bantamnet.models.build import build_to_count
from bantamnet.models.members import MEMBERS, find_member
from bantamnet.models.resnet import ResNet, build, build_on_meta, complete, count_parameters
from bantamnet.models.summary import summarize
from bantamnet.runs.lookup import resolve_model
from bantamnet.runs.modelfile import ModelInfo, load_model, save_model
from bantamnet.training import train
from bantamnet.training.signals import Stopped
from conftest import invoke, tiny
from same_run import assert_same_run, stopping_after
from test_models import PUBLISHED as PUBLISHED_BEFORE
from test_models import plain_resnet18

PUBLISHED = {
    "airbench94": 1_972_792,
    # Ours: stem, filters, BatchNorm and head, added up by hand.
    "speed94": 312 + 9 * (24 * 64 + 64 * 64 + 64 * 256 + 3 * 256 * 256) + 2 * (2 * 64 + 4 * 256) + 2560,
    "speed95": 312 + 9 * (24 * 128 + 128 * 128 + 128 * 384 + 3 * 384 * 384) + 2 * (2 * 128 + 4 * 384) + 3840,
    "speed96": 312 + 9 * (24 * 128 + 2 * 128**2 + 128 * 320 + 2 * 320**2 + 320 * 384 + 384**2) + 2 * (384 + 960 + 768) + 3840,
    # He et al. 2015, as counted by many; MLPerf Tiny; kuangliu/pytorch-cifar; the WRN tables; osmr/imgclsmob's own checks.
    "resnet32": 464_154, "resnet44": 658_586, "resnet56": 853_018, "resnet110": 1_727_962, "resnet-1202": 19_421_274,
    "resnet8-40": 481_530,
    "preactresnet18": 11_171_146,
    "wrn-16-2": 691_674, "wrn-16-4": 2_748_890, "wrn-22-4": 4_298_970, "wrn-28-2": 1_467_610, "wrn-28-10": 36_479_194,
    "wrn-40-2": 2_243_546, "wrn-40-4": 8_949_210, "wrn-16-10": 17_116_634, "wrn-22-8": 17_158_106, "wrn-40-8": 35_748_314,
    "se-resnet20": 274_847, "se-resnet56": 862_889, "se-resnet110": 1_744_952, "se-resnet-1202": 19_582_226,
    "pyramidnet-110-a48": 1_772_706, "pyramidnet-110-a84": 3_904_446, "pyramidnet-110-a270": 28_485_477,
    "pyramidnet-164-a270-bottleneck": 27_216_021, "pyramidnet-200-a240-bottleneck": 26_752_702,
    "pyramidnet-236-a220-bottleneck": 26_969_046, "pyramidnet-272-a200-bottleneck": 26_210_842,
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_counts_are_the_published_ones(name: str) -> None:
    net = build_to_count(resolve_model(name), 10)
    assert sum(p.numel() for p in net.parameters()) == PUBLISHED[name]
    assert name not in MEMBERS or MEMBERS[name].params == PUBLISHED[name]


def test_every_named_net_has_a_published_count() -> None:
    assert set(MEMBERS) <= {*PUBLISHED, *PUBLISHED_BEFORE}
    for name in ("wrn-16-4", "pyramidnet-110-a48", "resnet32"):
        assert count_parameters(bantamnet.build(name)) == PUBLISHED[name]


def test_counts_with_other_keys_and_classes() -> None:
    with_final = build_on_meta(resolve_model("preactresnet18", ["model.final_norm=true"]), 10)
    assert count_parameters(with_final) == 11_172_170  # the usual ResNetV2-18 for CIFAR
    imagenet = resolve_model("preactresnet18", ["model.final_norm=true", "model.stem=imagenet"])
    assert count_parameters(build_on_meta(imagenet, 1000)) == 11_687_848  # osmr/imgclsmob's PreResNet-18
    assert count_parameters(build_on_meta(resolve_model("pyramidnet-110-a84"), 100)) == 3_913_536
    assert count_parameters(build_on_meta(resolve_model("se-resnet20"), 100)) == 280_697
    assert count_parameters(build_on_meta(resolve_model("wrn-28-10"), 100)) == 36_536_884


def test_a_wrong_recorded_count_of_a_new_net_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MEMBERS, "wrn-16-2", MEMBERS["wrn-16-2"]._replace(params=691_675))
    with pytest.raises(AssertionError, match="691674"):
        build_on_meta(resolve_model("wrn-16-2"), 10)


def test_families_spell_nets_of_any_depth() -> None:
    def without_name(name: str) -> Model:
        return resolve_model(name).model_copy(update={"name": "custom"})

    assert without_name("resnet-20") == without_name("resnet20") and without_name("se-resnet-20") == without_name("se-resnet20")
    assert without_name("pyramidnet-110-a48").out_widths[0][:3] == [17, 18, 19]  # type: ignore[index]
    assert [widths[-1] for widths in without_name("pyramidnet-110-a48").out_widths or []] == [32, 48, 64]
    assert without_name("wrn-10-3").widths == [48, 96, 192] and without_name("wrn-10-3").blocks == [1, 1, 1]
    assert resolve_model("wrn-22-2", ["model.drop_path=0.2"]).drop_path == 0.2
    for name in ("wrn-22", "wrn-016-4", "wrn-16-0", "pyramidnet-110", "resnet-", "Wrn-16-4", "pyramidnet-20-a8-b", "custom"):
        assert find_member(name) is None
    wrong = {
        "wrn-17-2": r"\(D − 4\) % 6 = 0, from 10 to 6004; 16 is the nearest to 17$",
        "resnet-18": r"\(D − 2\) % 6 = 0, .*; resnet18 is a net of its own",
        "wrn-4-2": "10 is the nearest",
        "pyramidnet-21-a84-bottleneck": r"\(D − 2\) % 9 = 0, from 11 to 9002; 20 is the nearest to 21",
        "resnet-99999999999999999999999": "6002 is the nearest",
        "wrn-16-1001": "1000 or less",
    }
    for name, words in wrong.items():
        with pytest.raises(UserError, match=words):
            find_member(name)


def test_families_on_the_command_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = invoke(["summary", "wrn-22-2", "--json"], monkeypatch, capsys)
    assert code == 0 and json.loads(out)["params"] == 1_079_642 and json.loads(out)["net"] == "wrn-22-2"
    for words in (["summary", "wrn-17-2"], ["train", "quickstart", "--set", "model.name=wrn-17-2"]):
        code, _, err = invoke(words, monkeypatch, capsys)
        assert code == 2 and "wrn-17-2: a depth must fulfil (D − 4) % 6 = 0" in err and "Traceback" not in err
    code, _, err = invoke(["summary", "wrn-16"], monkeypatch, capsys)
    assert code == 2 and "did you mean 'wrn-16-" in err and "wrn-D-K" in err


# Everything that was there before stays as it was.


def test_older_nets_keep_their_names_and_their_draws() -> None:
    torch.manual_seed(5)
    net, after = bantamnet.build("resnet18"), torch.rand(1)
    torch.manual_seed(5)
    twin, twins_after = plain_resnet18(), torch.rand(1)
    for (name, ours), theirs in zip(net.state_dict().items(), twin.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs), name
    assert torch.equal(after, twins_after)
    names = [name.removeprefix("stages.1.0.") for name, _ in net.named_parameters() if name.startswith("stages.1.0.")]
    weights = ["residual.0.weight", "residual.1.weight", "residual.1.bias", "residual.3.weight", "residual.4.weight"]
    assert names == [*weights, "residual.4.bias", "shortcut.0.weight", "shortcut.1.weight", "shortcut.1.bias"]
    for options in ({"block_dropout": 0.3, "drop_path": 0.2}, {"se_reduction": 4}):
        other = bantamnet.build("resnet20", {f"model.{key}": value for key, value in options.items()})
        kept = [name for name, _ in other.named_parameters() if ".residual.5." not in name]
        assert kept == [name for name, _ in bantamnet.build("resnet20").named_parameters()]


def test_the_imagenet_stem_is_drawn_after_the_small_one() -> None:
    torch.manual_seed(5)
    stem = bantamnet.build("resnet-8", {"model.stem": "imagenet"}).stem[0]
    torch.manual_seed(5)
    nn.Conv2d(3, 16, 3, bias=False)
    assert torch.equal(stem.weight, nn.Conv2d(3, 16, 7, bias=False).weight)


def test_descriptions_from_before_these_options_still_mean_the_same_net() -> None:
    new = {"order", "final_norm", "out_widths", "block_dropout", "drop_path", "se_reduction", "zero_init"}
    for name in ("resnet8", "improved-resnet"):
        arch = complete(resolve_model(name))
        older = {key: value for key, value in arch.model_dump(mode="json").items() if key not in new}
        assert complete(Model(**older)) == arch and len(older) == 13


# The slow twin: plain functional calls on the net's own weights, one block at a time.


def norm(p: dict[str, Tensor], name: str, x: Tensor, training: bool) -> Tensor:
    if training:
        mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False)
    else:
        mean, var = p[f"{name}.running_mean"], p[f"{name}.running_var"]
    x = (x - mean[:, None, None]) / (var[:, None, None] + 1e-5).sqrt()
    return x * p[f"{name}.weight"][:, None, None] + p[f"{name}.bias"][:, None, None]


def conv(p: dict[str, Tensor], name: str, x: Tensor, stride: int) -> Tensor:
    weight = p[f"{name}.weight"]
    return F.conv2d(x, weight, p.get(f"{name}.bias"), stride, weight.shape[-1] // 2)


def slow_block(
    arch: Model, p: dict[str, Tensor], at: str, x: Tensor, stride: int, training: bool, kept: list[bool], rate: float
) -> Tensor:
    post, pre, pyramid = (arch.order == order for order in ("post", "pre", "pyramid"))
    num_convs = 2 if arch.block == "basic" else 3
    strided = 0 if arch.block == "basic" else 1
    y = x
    if pre:
        y = shared = F.relu(norm(p, f"{at}.before.0", x, training))
    if pyramid:
        y = norm(p, f"{at}.before.0", x, training)
    for index in range(num_convs):
        y = conv(p, f"{at}.residual.{3 * index}", y, stride if index == strided else 1)
        last = index == num_convs - 1
        if not (pre and last):
            y = norm(p, f"{at}.residual.{3 * index + 1}", y, training)
        if not last:
            y = F.relu(y)
    if arch.se_reduction:
        se = f"{at}.residual.{3 * num_convs - (2 if pre else 1)}"
        gates = [[float(value) for value in _gates(p, se, [float(channel.mean()) for channel in image])] for image in y.detach()]
        y = y * torch.tensor(gates)[:, :, None, None]
    if training and arch.drop_path:
        y = torch.stack([branch / (1 - rate) if keep else branch * 0 for branch, keep in zip(y, kept, strict=True)])
    out_channels = y.shape[1]
    if stride == 1 and x.shape[1] == out_channels:
        short = x
    elif arch.shortcut == "conv":
        short = conv(p, f"{at}.shortcut", shared if pre else x, stride)
    elif arch.shortcut == "conv-bn":
        short = norm(p, f"{at}.shortcut.1", conv(p, f"{at}.shortcut.0", shared if pre else x, stride), training)
    else:
        short = torch.zeros_like(y)
        missing = out_channels - x.shape[1]
        if arch.shortcut == "pool-pad":
            short[:, : x.shape[1]] = F.avg_pool2d(x, stride)
        else:
            short[:, missing // 2 : missing // 2 + x.shape[1]] = x[:, :, ::stride, ::stride]
    return F.relu(y + short) if post else y + short


def _gates(p: dict[str, Tensor], at: str, means: list[float]) -> Tensor:
    hidden = torch.relu(p[f"{at}.reduce.weight"] @ torch.tensor(means) + p[f"{at}.reduce.bias"])
    return 1 / (1 + torch.exp(-(p[f"{at}.expand.weight"] @ hidden + p[f"{at}.expand.bias"])))


def slow_net(net: ResNet, x: Tensor, training: bool, drawn: list[list[bool]] | None = None) -> Tensor:
    arch = net.arch
    p = {name: tensor.detach() for name, tensor in net.state_dict().items()}
    x = conv(p, "stem.0", x, 1)
    if arch.order != "pre":
        x = norm(p, "stem.1", x, training)
    if arch.order == "post":
        x = F.relu(x)
    number = 0
    for stage, blocks in enumerate(arch.blocks):
        for index in range(blocks):
            rate = arch.drop_path * (number + 1) / sum(arch.blocks)
            kept = drawn[number] if drawn else [True] * len(x)
            stride = (1 if stage == 0 else 2) if index == 0 else 1
            x = slow_block(arch, p, f"stages.{stage}.{index}", x, stride, training, kept, rate)
            number += 1
    if arch.order != "post" and arch.final_norm:
        x = F.relu(norm(p, "final.0", x, training))
    return x.mean((2, 3)) @ p["head.weight"].T + p["head.bias"]


SMALL: dict[str, Any] = {"stem_width": 8, "widths": [8, 16], "blocks": [2, 2]}
GROWING: dict[str, Any] = {**SMALL, "widths": [13, 17], "out_widths": [[10, 13], [15, 17]]}
NETS: dict[str, dict[str, Any]] = {
    "pre, convolution": {**SMALL, "order": "pre", "shortcut": "conv"},
    "pre, widened at once": {**SMALL, "order": "pre", "shortcut": "conv", "widths": [12, 24], "conv_bias": True},
    "pre, padded, no final norm": {**SMALL, "order": "pre", "shortcut": "pad", "final_norm": False},
    "pre, bottleneck": {**SMALL, "order": "pre", "shortcut": "conv-bn", "block": "bottleneck"},
    "pre, se": {**SMALL, "order": "pre", "shortcut": "conv", "se_reduction": 4},
    "post, se": {**SMALL, "se_reduction": 4},
    "post, se, bottleneck": {**SMALL, "se_reduction": 16, "block": "bottleneck"},
    "post, pooled": {**GROWING, "shortcut": "pool-pad"},
    "pyramid": {**GROWING, "order": "pyramid", "shortcut": "pool-pad"},
    "pyramid, se, pad": {**GROWING, "order": "pyramid", "shortcut": "pad", "se_reduction": 3},
    "pyramid, projections": {**GROWING, "order": "pyramid", "shortcut": "conv-bn", "final_norm": False},
    "pyramid, bottleneck": {
        **SMALL,
        "order": "pyramid",
        "block": "bottleneck",
        "widths": [6, 9],
        "out_widths": [[20, 24], [32, 36]],
        "shortcut": "pool-pad",
    },
    "everything": {**GROWING, "order": "pyramid", "shortcut": "pool-pad", "se_reduction": 2, "drop_path": 0.5},
}


def shaken(model: Model, num_classes: int = 5) -> ResNet:
    """The net with weights and statistics of every kind away from 0 and 1, so that none goes unnoticed."""
    torch.manual_seed(0)
    net = build(model, num_classes)
    for tensor in net.state_dict().values():
        if tensor.dtype == torch.float32:
            tensor.add_(torch.rand_like(tensor) * 0.2)
    return net


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("training", [False, True])
def test_forward_pass_is_the_slow_twins(name: str, training: bool) -> None:
    net = shaken(Model(**NETS[name]))
    images = torch.randn(6, 3, 8, 8)
    arch = net.arch
    torch.manual_seed(7)
    num = sum(arch.blocks)
    drawn = [[bool(u >= arch.drop_path * (block + 1) / num) for u in torch.rand(6, 1, 1, 1).flatten()] for block in range(num)]
    expected = slow_net(net, images, training, drawn)
    torch.manual_seed(7)
    logits = net.train(training)(images)
    scale = expected.abs().max()
    torch.testing.assert_close(logits / scale, expected / scale, rtol=0, atol=1e-5)
    if arch.drop_path:
        assert not all(all(kept) for kept in drawn)


@pytest.mark.parametrize("name", NETS)
def test_gradient_reaches_every_parameter(name: str) -> None:
    net = shaken(Model(**{**NETS[name], "activation": "leaky_relu", "block_dropout": 0.1}))
    F.cross_entropy(net(torch.randn(16, 3, 8, 8)), torch.arange(16) % 5).backward()
    for key, parameter in net.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), key
        if not key.endswith("bias"):  # that of a convolution before a BatchNorm changes nothing
            assert parameter.grad.abs().max() > 1e-9, key


@pytest.mark.parametrize("name", NETS)
def test_a_net_is_rebuilt_from_its_description_and_from_a_model_file(name: str, tmp_path: Path) -> None:
    net = shaken(Model(**NETS[name]))
    again = ResNet(Model(**json.loads(json.dumps(net.arch.model_dump(mode="json")))), 5)
    assert again.arch == net.arch == complete(net.arch)
    again.load_state_dict(net.state_dict())
    info = ModelInfo(tuple("abcde"), Preprocessing((8, 8), (0.0,) * 3, (1.0,) * 3), "last", "clean", {}, "", [])
    save_model(tmp_path / "net.safetensors", net.arch, net.state_dict(), info)
    loaded = load_model(tmp_path / "net.safetensors")[0]
    images = torch.randn(2, 3, 8, 8)
    assert loaded.arch == net.arch
    expected = net.eval()(images)
    assert torch.equal(again.eval()(images), expected) and torch.equal(loaded(images), expected)


@pytest.mark.parametrize("name", ["wrn-10-2", "pyramidnet-14-a24", "pyramidnet-20-a24-bottleneck", "se-resnet-8"])
def test_a_net_with_thinner_insides_is_just_another_net(name: str) -> None:
    full = complete(resolve_model(name))
    assert full.inner is not None and full.out_widths is not None
    inner = [[list(widths) for widths in stage] for stage in full.inner]
    block = inner[1][0]
    removed = 3
    block[0] -= removed
    thin = build(full.model_copy(update={"inner": inner}), 10)
    came_from, goes_to, kernel = full.out_widths[0][-1], full.out_widths[1][0] if len(block) == 1 else block[1], 9
    into = came_from * (9 if len(block) == 1 else 1)
    assert count_parameters(build(full, 10)) - count_parameters(thin) == removed * (into + 2 + kernel * goes_to)
    assert thin.stages[1][0].residual[0].out_channels == block[0]
    assert thin(torch.zeros(2, 3, 16, 16)).shape == (2, 10)


def test_pyramid_widths_grow_in_a_straight_line() -> None:
    widths = [w for stage in resolve_model("pyramidnet-110-a84").out_widths or [] for w in stage]
    assert len(widths) == 54 and widths[-1] == 100
    assert all(abs(width - (16 + 84 * (k + 1) / 54)) <= 0.5 for k, width in enumerate(widths))
    bottleneck = resolve_model("pyramidnet-164-a270-bottleneck").out_widths or []
    assert bottleneck[-1][-1] == 4 * 286 and complete(resolve_model("pyramidnet-164-a270-bottleneck")).inner[2][-1] == [286, 286]  # type: ignore[index]


# Stochastic depth.


def test_stochastic_depth_drops_whole_samples_at_its_rate_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    module = StochasticDepth(0.3).train()
    num = 20_000
    out = module(torch.full((num, 2, 1, 2), 7.0)).flatten(1)
    assert (out == out[:, :1]).all(), "a sample is kept or dropped whole"
    kept = out[:, 0] != 0
    torch.testing.assert_close(out[kept], torch.full_like(out[kept], 10.0))
    spread = (0.3 * 0.7 / num) ** 0.5
    assert abs(kept.double().mean() - 0.7) < 4 * spread
    assert abs(out.double().mean() - 7.0) < 4 * 10 * spread


def test_stochastic_depth_is_the_identity_in_evaluation_and_draws_from_the_global_generator() -> None:
    module, images = StochasticDepth(0.5), torch.randn(64, 3, 2, 2)
    state = torch.get_rng_state()
    assert module.eval()(images) is images and torch.equal(state, torch.get_rng_state())
    outs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        outs.append(module.train()(images))
    assert torch.equal(outs[0], outs[1]) and not torch.equal(outs[0], outs[2])
    last = images.bfloat16().contiguous(memory_format=torch.channels_last)
    out = module(last)
    assert out.dtype == torch.bfloat16 and out.is_contiguous(memory_format=torch.channels_last)


def test_rates_rise_in_a_straight_line_to_the_last_block() -> None:
    net = bantamnet.build("resnet20", {"model.drop_path": 0.45})
    rates = [m.rate for m in net.modules() if isinstance(m, StochasticDepth)]
    assert rates == pytest.approx([0.05 * block for block in range(1, 10)]) and rates[-1] == 0.45
    plain = bantamnet.build("resnet20")
    plain.load_state_dict(net.state_dict())
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(net.eval()(images), plain.eval()(images))


def test_dropout_inside_a_block_stands_before_its_last_convolution() -> None:
    net = bantamnet.build("wrn-10-1", {"model.block_dropout": 0.3})
    block = net.stages[0][0]
    act, dropout = block.residual[2]
    assert isinstance(act, nn.ReLU) and isinstance(dropout, nn.Dropout) and dropout.p == 0.3
    assert isinstance(block.residual[3], nn.Conv2d)
    bottleneck = build(Model(**SMALL, block="bottleneck", block_dropout=0.2), 10).stages[0][0].residual
    assert isinstance(bottleneck[5][1], nn.Dropout) and not any(isinstance(m, nn.Dropout) for m in bottleneck[:5].modules())
    plain = bantamnet.build("wrn-10-1")
    plain.load_state_dict(net.state_dict())
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(net.eval()(images), plain.eval()(images)) and not torch.equal(net.train()(images), plain.train()(images))


@pytest.mark.slow
def test_training_with_every_option_resumes_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = "order: pyramid, shortcut: pool-pad, se_reduction: 4, drop_path: 0.5, block_dropout: 0.2, zero_init: true"
    net = f"model={{name: custom, stem_width: 4, widths: [6, 8], out_widths: [[5, 6], [8]], blocks: [2, 1], {keys}}}"
    config = tiny(net, "data.augment=hflip", "epochs=3", "device=cpu")
    whole = train.train(config, tmp_path / "whole").path
    with stopping_after(monkeypatch, 4), pytest.raises(Stopped):
        train.train(config, tmp_path / "stopped")
    assert_same_run(train.resume(tmp_path / "stopped").path, whole)


# Zero-initialised residuals.


@pytest.mark.parametrize("order", ["post", "pyramid"])
@pytest.mark.parametrize("se_reduction", [None, 4])
def test_a_net_started_at_zero_is_its_shortcuts(order: str, se_reduction: int | None) -> None:
    keys = {**GROWING, "order": order, "shortcut": "pool-pad", "se_reduction": se_reduction}
    torch.manual_seed(0)
    net = build(Model(**keys, zero_init=True), 10)
    torch.manual_seed(0)
    usual = build(Model(**keys), 10)
    maps = net.stem(images := torch.randn(3, 3, 8, 8))
    for block in [block for stage in net.stages for block in stage]:
        assert not block.residual(maps).any()
        maps = block.shortcut(maps).relu() if order == "post" else block.shortcut(maps)
    maps = net.final(maps) if net.final else maps
    torch.testing.assert_close(net(images), net.head(maps.mean((2, 3))))
    zeroed = [name for name, p in net.named_parameters() if not p.any() and usual.get_parameter(name).any()]
    assert zeroed == [f"stages.{stage}.{index}.residual.4.weight" for stage in (0, 1) for index in (0, 1)]
    F.cross_entropy(net(images), torch.arange(3)).backward()
    assert all(net.get_parameter(name).grad.abs().max() > 0 for name in zeroed), "they can leave zero"  # type: ignore[union-attr]


# What it costs.


def test_summary_of_every_net_adds_up() -> None:
    for keys in NETS.values():
        net = build_on_meta(Model(**keys), 5)
        summary = summarize(net, (8, 8))
        assert sum(layer.params for layer in summary.layers) == summary.params == count_parameters(net)


def test_macs_of_squeeze_and_excitation_and_pre_activation_counted_by_hand() -> None:
    keys: dict[str, Any] = {"stem_width": 4, "widths": [8], "blocks": [1], "strides": [2], "order": "pre", "shortcut": "conv"}
    plain, se = (summarize(build(Model(**keys, **more), 10), (16, 16)) for more in ({}, {"se_reduction": 4}))
    assert plain.macs == 256 * 4 * 27 + 64 * (8 * 36 + 8 * 72 + 8 * 4) + 80
    assert se.macs - plain.macs == 2 * 8 * 2
    assert plain.params == 4 * 27 + 8 + 8 * 36 + 16 + 8 * 72 + 8 * 4 + 16 + 90
    assert se.params - plain.params == (2 * 8 + 2) + (8 * 2 + 8)
    pyramid = summarize(build(Model(**{**keys, "order": "pyramid", "shortcut": "pool-pad", "drop_path": 0.1}), 10), (16, 16))
    assert pyramid.macs == 256 * 4 * 27 + 64 * (8 * 36 + 8 * 72) + 80
    shapes = {layer.kind: layer.shape for layer in pyramid.layers}
    assert shapes["PoolPadShortcut"] == (8, 8, 8) == shapes["StochasticDepth"]


def test_macs_of_a_published_net() -> None:
    macs = summarize(build_on_meta(resolve_model("wrn-28-10"), 10), (32, 32)).macs
    assert round(macs / 1e9, 2) == 5.24  # "5.2B mult-adds" wherever WRN-28-10 is compared


# Shapes, sizes and processors.


@pytest.mark.parametrize("name", ["resnet-8", "wrn-10-2", "pyramidnet-8-a12", "pyramidnet-11-a12-bottleneck", "se-resnet-8"])
def test_the_imagenet_stem_takes_64_pixels(name: str) -> None:
    net = bantamnet.build(name, {"model.stem": "imagenet"}, num_classes=200)
    shapes = {layer.name: layer.shape for layer in summarize(net, (64, 64)).layers}
    assert shapes["stem.3"] == (16, 16, 16) and shapes["pool"][1:] == (1, 1)
    assert [type(m) for m in net.stem] == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.MaxPool2d]
    assert net(torch.zeros(2, 3, 64, 64)).shape == (2, 200)
    assert net(torch.zeros(2, 3, 67, 61)).shape == (2, 200), "odd sizes at every stride"


def test_pooled_shortcut_averages_what_there_is_and_pads_behind() -> None:
    images = torch.randn(2, 3, 5, 4)
    out = PoolPadShortcut(3, 7, 2)(images)
    assert out.shape == (2, 7, 3, 2) and not out[:, 3:].any()
    for y in range(3):
        for x in range(2):
            mean = images[:, :, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2].mean((2, 3))
            torch.testing.assert_close(out[:, :3, y, x], mean)
    assert torch.equal(PoolPadShortcut(3, 4, 1)(images)[:, :3], images)
    with pytest.raises(UserError, match="shortcut: pool-pad cannot go from 9 to 8 channels; use shortcut: conv-bn"):
        PoolPadShortcut(9, 8, 1)


@pytest.mark.parametrize("order", ["post", "pre", "pyramid"])
@pytest.mark.parametrize("shortcut", ["conv", "conv-bn"])
def test_no_thin_strided_pointwise_convolution_goes_to_onednn(order: str, shortcut: str) -> None:
    for block in ("basic", "bottleneck"):
        net = build(
            Model(stem_width=8, widths=[3, 20], blocks=[1, 1], strides=[2, 2], order=order, shortcut=shortcut, block=block), 10
        )
        thin = [m for m in net.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (1, 1) and m.stride != (1, 1)]
        assert len(thin) == 2
        assert all(isinstance(m, ThinStrided) for m in thin if m.in_channels < 16)
        images = torch.randn(5, 3, 8, 8)
        net.train().to(memory_format=torch.channels_last)
        twin = build(net.arch, 10).double()
        twin.load_state_dict(net.state_dict())
        net(images.contiguous(memory_format=torch.channels_last)).square().mean().backward()
        twin(images.double()).square().mean().backward()
        for m, other in zip(net.modules(), twin.modules(), strict=True):
            if isinstance(m, ThinStrided):
                assert isinstance(other, ThinStrided) and m.weight.grad is not None and other.weight.grad is not None
                torch.testing.assert_close(m.weight.grad.double(), other.weight.grad, rtol=1e-3, atol=1e-5)


def test_squeeze_and_excitation_of_an_image_is_its_own() -> None:
    module = SqueezeExcite(Model(**SMALL, se_reduction=2), 8)
    images = torch.randn(4, 8, 3, 3)
    torch.testing.assert_close(module(images)[1:2], module(images[1:2]))
    ratio = module(images) / images
    torch.testing.assert_close(ratio, ratio[:, :, :1, :1].expand_as(ratio), rtol=1e-4, atol=1e-5)
    assert ratio.min() > 0 and ratio.max() < 1


# What makes no sense.


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"order": "pre", "zero_init": True}, "use order: post or pyramid, or zero_init: false"),
        ({"final_norm": False}, "use order: pre or pyramid"),
        ({"se_reduction": 9}, "squeezes a block of 8 channels to nothing; use 8 or less"),
        ({"se_reduction": 0}, "greater than 0"),
        ({"drop_path": 1.0}, "less than 1"),
        ({"block_dropout": -0.1}, "greater than or equal to 0"),
        ({"out_widths": [[8, 8]]}, "out_widths has 1 entries and widths 2; give one for each stage"),
        ({"out_widths": [[8], [16, 16]]}, r"out_widths\[0\] must hold 2 widths, one a block; out_widths: null"),
        ({"out_widths": [[8, 9], [16, 16]]}, r"out_widths\[0\] ends in 9, but widths\[0\] makes it 8; change both"),
        ({"block": "bottleneck", "out_widths": [[2, 32], [64, 64]]}, "give 4 or more"),
        ({"order": "sideways"}, "post"),
    ],
)
def test_options_that_make_no_sense_are_refused_with_the_fix(keys: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Model(**SMALL, **keys)
