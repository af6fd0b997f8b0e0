"""Operations of our own in C: when they are taken, pooling against PyTorch's, and machines without them."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bantamnet import kernels, runtime
from bantamnet.config import Model
from bantamnet.errors import UserError
from bantamnet.evaluate.scoring import evaluate
from bantamnet.kernels import library, winograd
from bantamnet.kernels import norm as norm_act
from bantamnet.models.resnet import build
from bantamnet.runs.directory import RunDirectory
from bantamnet.training.train import train
from conftest import tiny
from test_loop import CPU

if kernels.missing():
    pytest.skip(f"no kernels: {kernels.missing()}", allow_module_level=True)

TYPES = list(library.NUMBERS)
WINOGRAD = {torch.bfloat16: "bf16-winograd", torch.float32: "fp32-winograd"}


def channels_last(*shape: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    return torch.randn(shape).to(dtype).to(memory_format=torch.channels_last)


TAKEN = nn.Conv2d(32, 32, 3, padding=1)
LEFT = {
    "stride": nn.Conv2d(32, 32, 3, stride=2, padding=1),
    "no padding": nn.Conv2d(32, 32, 3),
    "dilation": nn.Conv2d(32, 32, 3, padding=2, dilation=2),
    "groups": nn.Conv2d(64, 64, 3, padding=1, groups=2),
    "5×5": nn.Conv2d(32, 32, 5, padding=2),
    "reflecting": nn.Conv2d(32, 32, 3, padding=1, padding_mode="reflect"),
    "few in": nn.Conv2d(15, 64, 3, padding=1),
    "few out": nn.Conv2d(64, 15, 3, padding=1),
    "few of both": nn.Conv2d(17, 17, 3, padding=1),
}


@pytest.mark.parametrize("dtype", TYPES)
def test_only_convolutions_that_the_kernels_know_are_taken(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []

    def counting(*args: Any, **kwargs: Any) -> Tensor:
        taken.append(1)
        return winograd.convolution(*args, **kwargs)

    monkeypatch.setitem(kernels.INSTEAD, torch.conv2d, [(winograd.takes, counting)])
    for name, conv in LEFT.items():
        images = torch.randn(8, conv.in_channels, 32, 32)
        with runtime.autocast(CPU, WINOGRAD[dtype].removesuffix("-winograd")):
            expected = conv(images)
        with runtime.autocast(CPU, WINOGRAD[dtype]):
            assert torch.equal(conv(images), expected), name
    assert not taken
    images = torch.randn(8, 32, 32, 32)
    for precision in ("fp32", "bf16"):
        with runtime.autocast(CPU, precision):
            TAKEN(images)
    with runtime.autocast(CPU, "fp32-winograd"):
        assert (TAKEN.double()(images.double())).dtype == torch.double
        TAKEN.float()
    with runtime.autocast(CPU, "fp32-winograd"), torch.autocast("cpu", torch.float16):
        assert TAKEN(images).dtype == torch.float16
    assert not taken
    with runtime.autocast(CPU, WINOGRAD[dtype]):
        assert TAKEN(images).shape == (8, 32, 32, 32) and len(taken) == 1
        TAKEN(images[:, ::1, ::2, ::2])
        assert TAKEN(images[:0]).shape == (0, 32, 32, 32) and TAKEN(images[0]).shape == (32, 32, 32)
        assert TAKEN(images[:, :, :2, :2]).shape == (8, 32, 2, 2) and TAKEN(images[:, :, :1]).shape == (8, 32, 1, 32)
        F.conv2d(images, TAKEN.weight, padding="same")
        TAKEN.to("meta")(images.to("meta"))
        TAKEN.to_empty(device="cpu")
    assert len(taken) == 2


F32, BOTH = [torch.float32], TYPES
WORTH_IT = [
    (128, 64, 64, 32, 1, BOTH),
    (1000, 24, 64, 32, 1, BOTH),
    (128, 22, 22, 32, 1, BOTH),
    (128, 16, 16, 32, 1, []),
    (1, 512, 512, 4, 1, []),
    (128, 512, 512, 4, 1, BOTH),
    (128, 512, 512, 2, 1, []),
    (128, 64, 128, 32, 2, F32),
    (128, 128, 256, 16, 2, F32),
    (128, 256, 512, 8, 2, F32),
    (32, 256, 512, 8, 2, []),
    (512, 16, 32, 32, 2, []),
    (1, 32, 32, 5000, 1, []),
]
"""Images, channels in and out, side, stride → types of number in which Winograd's algorithm was faster, and can be had."""


@pytest.mark.parametrize("row", WORTH_IT)
@pytest.mark.parametrize("dtype", TYPES)
def test_convolutions_are_taken_where_that_saves_time(dtype: torch.dtype, row: tuple[Any, ...]) -> None:
    num, num_in, num_out, side, stride, types = row
    images, weight = torch.empty(1, num_in, 1, side, dtype=dtype).expand(num, -1, side, -1), torch.empty(num_out, num_in, 3, 3)
    assert winograd.takes(images, weight, None, stride, 1) == (dtype in types)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", ["convolution", "silu", "pool", "norm"])
def test_gradients_of_gradients_are_refused(name: str, dtype: torch.dtype) -> None:
    """Left to themselves they would be zero."""
    images = channels_last(8, 32, 16, 16, dtype=dtype).requires_grad_()
    layers = {"convolution": [TAKEN], "silu": [nn.SiLU()], "pool": [nn.MaxPool2d(2)], "norm": [nn.BatchNorm2d(32), nn.ReLU()]}[
        name
    ]
    with runtime.autocast(CPU, WINOGRAD[dtype]):
        out = kernels.chain(layers, images)
    (grad,) = torch.autograd.grad(out.float().square().sum(), images, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.float().sum().backward()


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("num", "bias"), [(1, False), (37, True)])
def test_convolutions_of_four_pixels_are_exact_but_for_rounding(num: int, bias: bool, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(24, 40, 3, padding=1, bias=bias).to(memory_format=torch.channels_last)
    images = channels_last(num, 24, 2, 2, dtype=dtype).requires_grad_()
    grad = channels_last(num, 40, 2, 2, dtype=dtype)
    with runtime.autocast(CPU, WINOGRAD[dtype]):
        out = conv(images)
    assert out.dtype == dtype and out.is_contiguous(memory_format=torch.channels_last)
    assert type(out.grad_fn).__name__ == "PermuteBackward0"
    grads = torch.autograd.grad(out, [images, *conv.parameters()], grad)
    exact = conv.double()
    expected = exact(images64 := images.detach().double().requires_grad_())
    for ours, theirs in zip(
        (out, *grads), (expected, *torch.autograd.grad(expected, [images64, *exact.parameters()], grad.double())), strict=True
    ):
        assert (ours.double() - theirs).norm() < (0.004 if dtype == torch.bfloat16 else 1e-6) * theirs.norm()


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", ["silu", "gelu"])
@pytest.mark.parametrize("num", [16, 33, 100_003])
def test_activations_and_their_gradients_are_exact_but_for_rounding(name: str, num: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    values = (4 * torch.randn(num)).to(dtype)
    values[:5] = torch.tensor([0.0, 90.0, -90.0, 1e4, torch.nan])
    grad = torch.randn(num).to(dtype)
    activation = getattr(F, name)
    found, exact = values.clone().requires_grad_(), values.double().requires_grad_()
    with runtime.autocast(CPU, WINOGRAD[dtype]):
        out = activation(found)
    assert type(out.grad_fn).__name__ == "_ActivationBackward"
    expected = activation(exact)
    pairs = (out, expected), (torch.autograd.grad(out, found, grad)[0], torch.autograd.grad(expected, exact, grad.double())[0])
    for ours, theirs in pairs:
        rtol, atol = (2**-8, 1e-5) if dtype == torch.bfloat16 else (1e-5, 3e-6)
        torch.testing.assert_close(ours.double(), theirs, rtol=rtol, atol=atol, equal_nan=True)


def test_activations_of_other_numbers_are_left_to_pytorch() -> None:
    images = torch.randn(2, 16, 4, 4).bfloat16()
    with runtime.autocast(CPU, "bf16-winograd"):
        for inputs in (images.double(), images[:, :, ::2], images.flatten()[:15]):
            assert torch.equal(F.silu(inputs), torch.ops.aten.silu(inputs)) and torch.equal(
                F.gelu(inputs), torch.ops.aten.gelu(inputs)
            )
        assert torch.equal(F.gelu(images, approximate="tanh"), torch.ops.aten.gelu(images, approximate="tanh"))
        inplace = images.clone()
        assert F.silu(inplace, inplace=True) is inplace


def norm_of(channels: int) -> nn.BatchNorm2d:
    torch.manual_seed(channels)
    norm = nn.BatchNorm2d(channels, momentum=0.3)
    for values in (norm.weight, norm.bias, norm.running_mean):
        assert values is not None
        nn.init.normal_(values)
    return norm


NORM_ACT = norm_act.norm_act
NORMED: list[tuple[nn.Module, bool]] = [(nn.ReLU(), False), (nn.ReLU(), True), (nn.SiLU(), False), (nn.GELU(), False)]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("size", [(1, 16, 1, 2), (5, 40, 9, 7), (33, 64, 17, 17)])
@pytest.mark.parametrize(("act", "adds"), NORMED)
def test_norm_sum_and_activation_in_one_are_exact_but_for_rounding(
    act: nn.Module, adds: bool, size: tuple[int, ...], dtype: torch.dtype
) -> None:
    norm = norm_of(size[1])
    exact = copy.deepcopy(norm).double()
    images, added, grad = (
        (channels_last(*size) + 20).to(dtype).requires_grad_(),  # of few digits, so that no two values differ by next to nothing
        channels_last(*size, dtype=dtype).requires_grad_(),
        torch.randn(size).to(dtype),
    )
    images64, added64 = (values.detach().double().requires_grad_() for values in (images, added))
    for _ in range(2):  # running statistics move twice
        with runtime.autocast(CPU, WINOGRAD[dtype]):
            out = kernels.add_act(nn.Sequential(norm), images, added, act) if adds else kernels.chain([norm, act], images)
        expected = act(exact(images64) + added64) if adds else act(exact(images64))
    assert type(out.grad_fn).__name__ == "_NormActBackward"
    inputs, inputs64 = [images, norm.weight, norm.bias], [images64, exact.weight, exact.bias]
    if adds:
        inputs, inputs64 = [*inputs, added], [*inputs64, added64]
    if isinstance(act, nn.ReLU):  # rounding may carry a value over 0; there the gradients differ
        grad = grad * (expected.abs() > 1e-3) * ((expected == 0) == (out == 0))
    grads = torch.autograd.grad(out, inputs, grad), torch.autograd.grad(expected, inputs64, grad.double())
    for ours, theirs in ((out, expected), *zip(*grads, strict=True)):
        near = 2**-8 if dtype == torch.bfloat16 else 1e-4
        torch.testing.assert_close(ours.double(), theirs, rtol=2 * near, atol=near * float(theirs.detach().abs().max()))
    for name, ours in norm.named_buffers():
        torch.testing.assert_close(ours, exact.get_buffer(name).to(ours.dtype), rtol=1e-5, atol=1e-6, msg=name)
    norm.eval(), exact.eval()
    with torch.no_grad(), runtime.autocast(CPU, WINOGRAD[dtype]):
        out = kernels.add_act(nn.Sequential(norm), images, added, act) if adds else kernels.chain([norm, act], images)
    expected = act(exact(images64) + added64) if adds else act(exact(images64))
    torch.testing.assert_close(out.double(), expected.detach(), rtol=2**-8 if dtype == torch.bfloat16 else 1e-5, atol=1e-5)


def test_norms_that_are_not_known_and_layers_that_are_watched_stay_by_themselves() -> None:
    images = channels_last(3, 32, 4, 4)
    others: list[tuple[Tensor, nn.Module, nn.Module]] = [
        (images, nn.BatchNorm2d(32, affine=False), nn.ReLU()),
        (images, nn.BatchNorm2d(32, track_running_stats=False), nn.ReLU()),
        (images, nn.BatchNorm2d(32).eval(), nn.ReLU()),
        (images, nn.GroupNorm(4, 32), nn.ReLU()),
        (images, norm_of(32), nn.Tanh()),
        (images, norm_of(32), nn.GELU("tanh")),
        (images.double(), norm_of(32).double(), nn.ReLU()),
        (images.contiguous(), norm_of(32), nn.ReLU()),
        (images[:, :8], norm_of(8), nn.ReLU()),
    ]
    for given, norm, act in others:
        with runtime.autocast(CPU, "bf16-winograd"):
            out = kernels.chain([norm, act], given)
            again = act(copy.deepcopy(norm)(given))
        assert torch.equal(out, again) and type(out.grad_fn).__name__ != "_NormActBackward", (norm, act)
    seen: list[str] = []
    layers = nn.Sequential(norm_of(32))
    act = nn.ReLU()
    for watched in (layers, layers[0], act):
        handle = watched.register_forward_hook(lambda module, inputs, output: seen.append(type(module).__name__))
        with runtime.autocast(CPU, "bf16-winograd"):
            kernels.add_act(layers, images, images, act)
        handle.remove()
    assert seen == ["Sequential", "BatchNorm2d", "ReLU"]
    with runtime.autocast(CPU, "bf16"):
        assert type(kernels.chain([layers[0], act], images).grad_fn).__name__ == "ReluBackward0"


@pytest.mark.parametrize("order", ["post", "pre", "pyramid"])
@pytest.mark.parametrize(("dtype", "widths"), [(torch.bfloat16, (16, 20)), (torch.float32, (64, 128))])
def test_a_net_with_layers_in_one_learns_as_with_layers_by_themselves(
    dtype: torch.dtype, widths: tuple[int, int], order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In bf16 gradients of a net too thin for Winograd are about as far from those in double precision as plain ones.

    In float, with Winograd, a sum a hundred-thousandth off is now and then on the other side of ReLU's zero.
    """
    torch.manual_seed(0)
    shortcut = "conv-bn" if order == "post" else "pad"
    model = Model.model_validate(
        {"stem_width": widths[0], "widths": widths, "blocks": [1, 2], "order": order, "shortcut": shortcut}
    )
    net = build(model, 10).to(memory_format=torch.channels_last).train()
    images = torch.randn(32, 3, 16, 16).bfloat16().float()
    calls: list[int] = []

    def counting(*args: Any) -> Tensor:
        calls.append(1)
        return NORM_ACT(*args)

    monkeypatch.setattr(norm_act, "norm_act", counting)
    exact = copy.deepcopy(net).double()
    exact(images.double()).logsumexp(1).sum().backward()
    gaps: dict[str, list[float]] = {}
    for precision in (WINOGRAD[dtype].removesuffix("-winograd"), WINOGRAD[dtype]):
        net.zero_grad()
        with runtime.autocast(CPU, precision):
            logits = net(images)
        logits.float().logsumexp(1).sum().backward()
        for (name, weight), reference in zip(net.named_parameters(), exact.parameters(), strict=True):
            assert weight.grad is not None and reference.grad is not None
            gap = (weight.grad.double() - reference.grad).norm() / (reference.grad.norm() + 1e-3)
            gaps.setdefault(name, []).append(float(gap))
    assert len(calls) == {"post": 7, "pre": 7, "pyramid": 4}[order]
    for name, (plain, ours) in gaps.items():
        assert ours < 2 * plain + (0.01 if dtype == torch.bfloat16 else 0.03), (name, plain, ours)


@pytest.mark.parametrize("size", [(1, 16, 2, 2), (3, 24, 5, 4), (2, 40, 6, 7), (2, 16, 31, 31)])
@pytest.mark.parametrize("dtype", TYPES)
def test_pooling_and_its_gradient_are_pytorchs(size: tuple[int, ...], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    images = torch.randint(-4, 5, size).to(dtype)  # many are equal
    images[0, 0, 0, 1] = torch.inf
    grad = torch.randn(*size[:2], size[2] // 2, size[3] // 2).to(dtype)
    found = []
    for precision in (WINOGRAD[dtype].removesuffix("-winograd"), WINOGRAD[dtype]):
        inputs = images.clone().requires_grad_()
        with runtime.autocast(CPU, precision):
            out = F.max_pool2d(inputs, 2)
        found.append((out, *torch.autograd.grad(out, inputs, grad), type(out.grad_fn).__name__))
    assert torch.equal(found[0][0], found[1][0]) and torch.equal(found[0][1], found[1][1])
    assert [row[2] for row in found] == ["MaxPool2DWithIndicesBackward0", "_MaxPoolBackward"]


def test_pooling_hands_on_that_a_value_is_no_number() -> None:
    images = torch.zeros(1, 16, 4, 4).bfloat16()
    images[0, 3, 1, 0] = images[0, 4, 2, 2] = torch.nan
    with runtime.autocast(CPU, "bf16-winograd"):
        assert nn.MaxPool2d(2)(images).isnan().sum() == 2


@pytest.mark.parametrize(
    "pool",
    [
        nn.MaxPool2d(3),
        nn.MaxPool2d(2, 1),
        nn.MaxPool2d(2, padding=1),
        nn.MaxPool2d(2, dilation=2),
        nn.MaxPool2d(2, ceil_mode=True),
    ],
)
def test_other_poolings_are_left_to_pytorch(pool: nn.Module) -> None:
    images = torch.randn(2, 16, 7, 7).bfloat16()
    with runtime.autocast(CPU, "bf16-winograd"):
        assert torch.equal(pool(images), pool.float()(images.float()).bfloat16())
        assert nn.MaxPool2d(2, return_indices=True)(images)[1].dtype == torch.int64
        assert torch.equal(F.max_pool2d(images[:, :8], 2), F.max_pool2d(images.float(), 2)[:, :8].bfloat16())


@pytest.mark.parametrize("plain", ["bf16", "fp32"])
def test_a_machine_without_a_compiler_computes_plainly(plain: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    faster = f"{plain}-winograd"
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: plain == "bf16")
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    assert runtime.pick_precision("auto", CPU) == faster
    assert runtime.pick_precision("auto", CPU, compiled=True) == plain
    with pytest.raises(UserError, match="compile=none"):
        runtime.pick_precision(faster, CPU, compiled=True)
    with pytest.raises(UserError, match=f"is for a CPU; use precision={plain}"):
        runtime.pick_precision(faster, torch.device("cuda"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for command, reason in (("no-such-compiler", "no-such-compiler"), ("false", "fails"), ("", "no C compiler")):
        monkeypatch.setenv("CC", command)
        monkeypatch.setattr("shutil.which", lambda name: None)
        library.library.cache_clear()
        library.missing.cache_clear()
        assert runtime.pick_precision("auto", CPU) == plain
        with pytest.raises(UserError, match=f"{reason}.*precision={plain}"):
            runtime.pick_precision(faster, CPU)
        assert runtime.recorded_precision(faster, CPU) == plain
    monkeypatch.undo()
    library.library.cache_clear()
    library.missing.cache_clear()
    assert kernels.missing() is None
    if plain == "bf16":
        monkeypatch.setattr(runtime, "has_bf16", lambda device: False)
        assert runtime.recorded_precision(faster, CPU) == runtime.recorded_precision("bf16", CPU) == "fp32-winograd"
        monkeypatch.setattr(runtime, "has_bf16", lambda device: True)
    assert runtime.recorded_precision(faster, CPU) == faster
    assert runtime.recorded_precision(faster, torch.device("cuda")) == plain


def test_kernels_are_compiled_once_a_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    library.library.cache_clear()
    library.library(torch.float32)
    (made,) = (tmp_path / "bantamnet" / "kernels").iterdir()
    monkeypatch.setenv("CC", "no-such-compiler")
    library.library.cache_clear()
    library.library(torch.float32)
    assert made.suffix == ".so"
    library.library.cache_clear()


def test_a_run_says_how_it_computed_and_is_scored_the_same_way_again(tmp_path: Path) -> None:
    net = "model={name: custom, stem_width: 32, widths: [32, 48], blocks: [1, 1]}"
    precision = runtime.pick_precision("auto", CPU)  # the other may be slow here
    assert precision.endswith("-winograd")
    train(tiny("epochs=2", f"precision={precision}", "device=cpu", net, "data.val.count=144"), tmp_path / "run")
    run = RunDirectory.open(tmp_path / "run")
    figures = json.loads((run.path / "summary.json").read_text())
    assert figures["environment"]["precision"] == precision
    again = evaluate(run.path)
    assert again["precision"] == precision and again["nll"] == pytest.approx(figures["figures"]["test"]["nll"], rel=1e-12)
