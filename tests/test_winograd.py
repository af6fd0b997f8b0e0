"""Winograd's convolutions against exact ones, their kernels against the matrices that the points give."""

import itertools
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bantamnet import kernels, runtime
from bantamnet.kernels import library, winograd
from bantamnet.kernels.winograd import Tiling
from test_loop import CPU

if kernels.missing():
    pytest.skip(f"no kernels: {kernels.missing()}", allow_module_level=True)

FINITE = {4: (0.0, 0.625, -0.625, 1.5, -1.5), 8: (0.0, 0.375, -0.375, 0.8125, -0.8125, 1.25, -1.25, 2.5, -2.5)}
"""Side of a tile → the points but infinity."""
TILINGS = [Tiling(4), Tiling(8), Tiling(4, stride=2), Tiling(8, stride=2)]


def matrices(tiling: Tiling) -> tuple[Tensor, Tensor, Tensor]:
    """A, G and B of F(side, 3), or F(side, 2) of a phase: polynomials multiplied through their values (Toom and Cook)."""
    side, finite = tiling.side, FINITE[tiling.side]
    taps = 4 - tiling.stride
    infinity = [1] * (taps == 3)
    powers = np.array([[point**power for power in range(side)] for point in finite] + [[0] * (side - 1) + [1] for _ in infinity])
    scale = [np.prod([point - other for other in finite if other != point]) for point in finite]
    filters = [[point**power / by for power in range(taps)] for point, by in zip(finite, scale, strict=True)]
    without = [np.poly([other for other in finite if other != point])[::-1] for point in finite]
    inputs = [[*coefficients, *(0 for _ in infinity)] for coefficients in without] + [np.poly(finite)[::-1] for _ in infinity]
    return torch.tensor(powers), torch.tensor(np.array(filters + [[0, 0, 1] for _ in infinity])), torch.tensor(np.array(inputs).T)


@pytest.mark.parametrize("tiling", TILINGS)
def test_the_matrices_convolve(tiling: Tiling) -> None:
    of_out, of_filter, of_in = matrices(tiling)
    d, g = torch.randn(len(of_in), dtype=torch.double), torch.randn(4 - tiling.stride, dtype=torch.double)
    torch.testing.assert_close(of_out.T @ ((of_filter @ g) * (of_in.T @ d)), F.conv1d(d[None, None], g[None, None])[0, 0])


def phases(tensor: Tensor, stride: int) -> Tensor:
    """(N, C, stride · H, stride · W) → (N, phases · C, H, W), the phases one after another."""
    num, channels, height, width = tensor.shape
    split = tensor.reshape(num, channels, height // stride, stride, width // stride, stride)
    return split.permute(0, 3, 5, 1, 2, 4).reshape(num, stride**2 * channels, height // stride, width // stride)


def whole(tensor: Tensor, stride: int) -> Tensor:
    """What `phases` made its argument of."""
    num, channels, height, width = tensor.shape
    split = tensor.reshape(num, stride, stride, channels // stride**2, height, width).permute(0, 3, 4, 1, 5, 2)
    return split.reshape(num, channels // stride**2, stride * height, stride * width)


TYPES = list(library.NUMBERS)
WINOGRAD = {torch.bfloat16: "bf16-winograd", torch.float32: "fp32-winograd"}
WAYS = [(dtype, tiling) for tiling in TILINGS for dtype in TYPES if tiling.side == 4 or dtype == torch.float32]
"""Types of number and tilings that go together."""


def maps(*shape: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    return torch.randn(shape).to(dtype).to(memory_format=torch.channels_last)


def close(found: Tensor, expected: Tensor) -> None:
    """To the rounding of a number of its type, and that of the float sums it comes from."""
    rtol = 2**-8 if found.dtype == torch.bfloat16 else 1e-6
    torch.testing.assert_close(found.double(), expected, rtol=rtol, atol=1e-5 + 1e-6 * float(expected.abs().max()))


SIZES = [(1, 16, 3, 3), (2, 24, 4, 8), (3, 40, 7, 5), (2, 16, 31, 31), (1, 32, 1, 9)]


@pytest.mark.parametrize("tiling", TILINGS)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("size", SIZES)
def test_kernels_of_maps_apply_the_matrices(size: tuple[int, ...], dtype: torch.dtype, tiling: Tiling) -> None:
    """Inputs against the matrices on their phases, outputs against the matrices on themselves."""
    torch.manual_seed(0)
    of_out, _, of_in = matrices(tiling)
    side, span, stride = tiling.side, len(of_in), tiling.stride
    points, more = span**2, span - side
    num, channels, height, width = size
    rows, cols = -(-height // (side * stride)), -(-width // (side * stride))
    used, plane = num * rows * cols, num * rows * cols + 2
    inputs, outputs = maps(*size, dtype=dtype), maps(num, channels, -(-height // stride), -(-width // stride), dtype=dtype)
    padded = F.pad(
        inputs.double(), (stride, (side * cols + more - 1) * stride - width, stride, (side * rows + more - 1) * stride - height)
    )

    def tiled(values: Tensor, size: int) -> Tensor:
        """(tiles, C, size, size) of maps that whole tiles cover."""
        windows = values.unfold(2, size, side).unfold(3, size, side)
        return windows[:, :, :rows, :cols].permute(0, 2, 3, 1, 4, 5).reshape(used, -1, size, size)

    spare = F.pad(outputs.double(), (0, side * cols - outputs.shape[3], 0, side * rows - outputs.shape[2]))
    of_inputs, of_outputs = tiled(phases(padded, stride), span), tiled(spare, side)
    for name, from_maps, matrix, tiles in (("tiles_in", inputs, of_in.T, of_inputs), ("grads_in", outputs, of_out, of_outputs)):
        found = torch.full((points, plane, tiles.shape[1]), torch.nan, dtype=dtype)
        winograd._map(tiling.kernel(name), from_maps, found)
        close(found[:, :used], (matrix @ tiles @ matrix.T).permute(2, 3, 0, 1).reshape(points, used, -1))
        assert not found[:, used:].any(), "the room behind the last tile is part of the sums over tiles"

    def squares(values: Tensor) -> Tensor:
        """(N, rows, cols, C, span, span)"""
        return values[:, :used].double().reshape(span, span, num, rows, cols, -1).permute(2, 3, 4, 5, 0, 1)

    values = torch.randn(points, plane, channels).to(dtype)
    found = torch.full_like(outputs, torch.nan)
    winograd._map(tiling.kernel("tiles_out"), found, values)
    expected = (of_out.T @ squares(values) @ of_out).permute(0, 3, 1, 4, 2, 5).reshape(num, channels, side * rows, side * cols)
    close(found, expected[:, :, : outputs.shape[2], : outputs.shape[3]])

    values = torch.randn(points, plane, channels * stride**2).to(dtype)
    found = torch.full_like(inputs, torch.nan)
    winograd._map(tiling.kernel("grads_out"), found, values)
    summed = torch.zeros(num, channels * stride**2, side * rows + more, side * cols + more, dtype=torch.double)
    for row, col in itertools.product(range(rows), range(cols)):
        place = summed[:, :, side * row : side * row + span, side * col : side * col + span]
        place += of_in @ squares(values)[:, row, col] @ of_in.T
    close(found, whole(summed, stride)[:, :, stride : stride + height, stride : stride + width])


@pytest.mark.parametrize("tiling", TILINGS)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("num_out", "num_in"), [(16, 16), (32, 24), (17, 40)])
def test_kernels_of_filters_apply_the_matrices(num_out: int, num_in: int, dtype: torch.dtype, tiling: Tiling) -> None:
    torch.manual_seed(0)
    _, of_filter, _ = matrices(tiling)
    span, stride = len(of_filter), tiling.stride
    weight = torch.randn(num_out, num_in, 3, 3).to(memory_format=torch.channels_last)
    ahead = (stride - 1, 0, stride - 1, 0)  # with stride 2 the even phase's first tap is none of the filter's
    points = winograd._filters(weight, tiling, dtype)
    expected = of_filter @ phases(F.pad(weight.double(), ahead), stride) @ of_filter.T
    close(points, expected.permute(2, 3, 0, 1).reshape(span**2, num_out, num_in * stride**2))
    squares = points.double().reshape(span, span, num_out, num_in * stride**2).permute(2, 3, 0, 1)
    grads = whole(of_filter.T @ squares @ of_filter, stride)[:, :, stride - 1 :, stride - 1 :]
    torch.testing.assert_close(winograd._weight_grad(points, tiling).double(), grads, rtol=1e-4, atol=1e-4)


def off(found: Tensor, exact: Tensor) -> float:
    """Root mean square of the difference, as a share of that of `exact`."""
    return float(((found.double() - exact).norm() / exact.norm()).detach())


@pytest.mark.parametrize("scratch", [None, 1])
@pytest.mark.parametrize(
    ("num", "num_in", "num_out", "height", "width"), [(3, 24, 64, 15, 15), (5, 64, 16, 8, 3), (1, 33, 17, 32, 32)]
)
@pytest.mark.parametrize(("dtype", "tiling"), WAYS)
def test_output_and_gradients_are_those_of_an_exact_convolution(
    monkeypatch: pytest.MonkeyPatch,
    scratch: int | None,
    num: int,
    num_in: int,
    num_out: int,
    height: int,
    width: int,
    dtype: torch.dtype,
    tiling: Tiling,
) -> None:
    torch.manual_seed(0)
    monkeypatch.setattr(winograd, "best_tiling", lambda *_: tiling)
    if scratch:  # an image at a time
        monkeypatch.setitem(winograd.SCRATCH, dtype, scratch)
    images = torch.rand(num, num_in, height, width).to(dtype).requires_grad_()
    weight, bias = torch.randn(num_out, num_in, 3, 3).requires_grad_(), torch.randn(num_out).requires_grad_()
    found = winograd.convolution(images, weight, bias, tiling.stride)
    grad = torch.randn_like(found)
    assert found.dtype == dtype and found.is_contiguous(memory_format=torch.channels_last)
    of_found = torch.autograd.grad(found, (images, weight, bias), grad)
    exact_inputs = [tensor.detach().double().requires_grad_() for tensor in (images, weight, bias)]
    exact = F.conv2d(*exact_inputs, stride=tiling.stride, padding=1)
    of_exact = torch.autograd.grad(exact, exact_inputs, grad.double())
    for ours, theirs in zip((found, *of_found), (exact, *of_exact), strict=True):
        assert off(ours, theirs) < (0.02 if dtype == torch.bfloat16 else 3e-6 if tiling.side == 4 else 5e-5)


def test_tiles_are_large_where_maps_fill_them_and_numbers_are_exact() -> None:
    for num, side, stride, expected in (
        (128, 32, 1, 8),
        (128, 8, 1, 8),
        (1, 8, 1, 4),
        (128, 4, 1, 4),
        (128, 9, 1, 4),
        (128, 32, 2, 8),
        (128, 16, 2, 4),
        (512, 16, 2, 8),
        (512, 8, 2, 4),
    ):
        assert winograd.best_tiling(torch.float32, (num, 16, side, side), stride) == Tiling(expected, stride)
        assert winograd.best_tiling(torch.bfloat16, (num, 16, side, side), stride) == Tiling(4, stride)


@pytest.mark.parametrize("stride", [1, 2])
def test_in_bf16_training_steps_take_them(stride: int) -> None:
    images, weight = maps(2, 32, 16, 16), torch.randn(32, 32, 3, 3)
    exact = F.conv2d(images.double(), weight.double(), stride=stride, padding=1)
    errors = {}
    for precision in ("bf16", "bf16-winograd"):
        with runtime.autocast(CPU, precision):
            errors[precision] = off(F.conv2d(images, weight, stride=stride, padding=1), exact)
    assert errors["bf16"] < 0.004
    assert (errors["bf16-winograd"] > 0.004) == (stride == 1), "strided ones save too little in bf16"


@pytest.mark.parametrize(("dtype", "tiling"), [(dtype, tiling) for dtype, tiling in WAYS if tiling.stride == 1])
@pytest.mark.parametrize("scratch", [None, 1])
@pytest.mark.parametrize("size", [(3, 24, 15, 15), (2, 16, 8, 4), (1, 40, 31, 6), (2, 16, 2, 3)])
def test_pooled_convolutions_are_convolutions_and_then_pooled(
    monkeypatch: pytest.MonkeyPatch, scratch: int | None, size: tuple[int, int, int, int], dtype: torch.dtype, tiling: Tiling
) -> None:
    torch.manual_seed(0)
    monkeypatch.setattr(winograd, "best_tiling", lambda *_: tiling)
    if scratch:
        monkeypatch.setitem(winograd.SCRATCH, dtype, scratch)
    images = maps(*size, dtype=dtype).requires_grad_()
    weight = torch.randn(32, size[1], 3, 3).requires_grad_()
    found = winograd.pooled_convolution(images, weight)
    whole = winograd.convolution(images, weight)
    expected = F.max_pool2d(whole, 2)
    same = partial(
        torch.testing.assert_close, rtol=0 if dtype == torch.bfloat16 else 1e-5, atol=0 if dtype == torch.bfloat16 else 1e-4
    )
    same(found, expected)  # compilers may round sums otherwise in one kernel than in the other, which bf16 hides
    windows = F.unfold(whole.detach().float().flatten(0, 1)[:, None], 2, stride=2)  # (maps, 4, windows)
    first, second = windows.topk(2, dim=1).values.unbind(1)
    clear = (first > second + 1e-3 * (dtype == torch.float32)).view(
        found.shape
    )  # others may go to either pixel: they are equal when rounded, not before
    assert clear.float().mean() > 0.9
    grad = torch.randn_like(found) * clear
    ours = torch.autograd.grad(found, (images, weight), grad)
    theirs = torch.autograd.grad(expected, (images, weight), grad)
    for our, their in zip(ours, theirs, strict=True):
        same(our, their)


def test_pooling_goes_with_the_convolution_before_it_unless_somebody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    together: list[int] = []

    def counting(*args: Any) -> Tensor:
        together.append(1)
        return winograd._Convolution.apply(*args, 1, True)  # type: ignore[no-any-return, no-untyped-call]

    monkeypatch.setattr(winograd, "pooled_convolution", counting)
    conv, pool, images = nn.Conv2d(32, 32, 3, padding=1, bias=False), nn.MaxPool2d(2), maps(8, 32, 16, 16)
    with runtime.autocast(CPU, "bf16"):
        expected = kernels.chain([conv, pool], images)
    assert not together
    with runtime.autocast(CPU, "bf16-winograd"):
        assert off(kernels.chain([conv, pool], images), expected.double()) < 0.03 and len(together) == 1
        for other_conv, other_pool in (
            (nn.Conv2d(32, 32, 3, padding=1), pool),
            (conv, nn.MaxPool2d(3)),
            (nn.Conv2d(32, 8, 3), pool),
        ):
            kernels.chain([other_conv, other_pool], images)
        seen: list[Tensor] = []
        conv.register_forward_hook(lambda module, inputs, output: seen.append(output))
        kernels.chain([conv, pool], images)
    assert len(together) == 1 and seen[0].shape == (8, 32, 16, 16)


def test_gradients_that_nobody_asked_for_are_not_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    images, weight = maps(2, 16, 8, 8), torch.randn(16, 16, 3, 3)
    called: list[str] = []
    monkeypatch.setattr(winograd, "run", lambda name, *rest: (called.append(name), library.run(name, *rest)))
    for wanted, kernel, other in ((images, "grads_out", "filters_out"), (weight, "filters_out", "grads_out")):
        wanted.requires_grad_()
        winograd.convolution(images, weight).sum().backward()
        assert (images.grad is not None) == (wanted is images) and (weight.grad is not None) == (wanted is weight)
        assert kernel in called and other not in called
        called.clear()
        wanted.requires_grad_(False).grad = None
    assert not winograd.convolution(images, weight).requires_grad


@pytest.mark.parametrize("tiling", TILINGS)
def test_threads_share_the_work(tiling: Tiling, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(winograd, "best_tiling", lambda *_: tiling)
    images, weight = maps(7, 24, 20, 20, dtype=torch.float32).requires_grad_(), torch.randn(40, 24, 3, 3).requires_grad_()
    found = []
    for num in (1, 3):
        torch.set_num_threads(num)
        out = winograd.convolution(images, weight, None, tiling.stride)
        found.append((out, *torch.autograd.grad(out.square().sum(), (images, weight))))
    torch.set_num_threads(1)
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-2)


def test_gradients_are_float_where_backward_is_called_within_autocast() -> None:
    images, weight = maps(8, 32, 16, 16, dtype=torch.float32), torch.randn(32, 32, 3, 3).requires_grad_()
    grads = []
    for enabled in (False, True):
        out = winograd.convolution(images, weight)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            grads.append(torch.autograd.grad(out, weight, torch.ones_like(out))[0])
    assert torch.equal(*grads)
