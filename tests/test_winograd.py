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
from bantamnet.kernels.library import run
from test_loop import CPU

if kernels.missing():
    pytest.skip(f"no kernels: {kernels.missing()}", allow_module_level=True)

FINITE = {4: (0.0, 0.625, -0.625, 1.5, -1.5), 8: (0.0, 0.375, -0.375, 0.8125, -0.8125, 1.25, -1.25, 2.5, -2.5)}
"""Side of a tile → the points but infinity."""


def matrices(tile: int) -> tuple[Tensor, Tensor, Tensor]:
    """A, G and B of F(tile, 3): polynomials multiplied through their values at the points (Toom and Cook), transposed."""
    finite = FINITE[tile]
    powers = np.array([[point**power for power in range(tile)] for point in finite] + [[0] * (tile - 1) + [1]])
    scale = [np.prod([point - other for other in finite if other != point]) for point in finite]
    filters = np.array([[point**power / by for power in range(3)] for point, by in zip(finite, scale, strict=True)] + [[0, 0, 1]])
    without = [np.poly([other for other in finite if other != point])[::-1] for point in finite]
    inputs = np.array([[*coefficients, 0] for coefficients in without] + [np.poly(finite)[::-1]]).T
    return torch.tensor(powers), torch.tensor(filters), torch.tensor(inputs)


@pytest.mark.parametrize("tile", FINITE)
def test_the_matrices_convolve(tile: int) -> None:
    of_out, of_filter, of_in = matrices(tile)
    d, g = torch.randn(tile + 2, dtype=torch.double), torch.randn(3, dtype=torch.double)
    torch.testing.assert_close(of_out.T @ ((of_filter @ g) * (of_in.T @ d)), F.conv1d(d[None, None], g[None, None])[0, 0])


TYPES = list(library.NUMBERS)
WINOGRAD = {torch.bfloat16: "bf16-winograd", torch.float32: "fp32-winograd"}
WAYS = [(torch.bfloat16, 4), (torch.float32, 4), (torch.float32, 8)]
"""Type of number and side of a tile that go together."""


def maps(*shape: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    return torch.randn(shape).to(dtype).to(memory_format=torch.channels_last)


def close(found: Tensor, expected: Tensor) -> None:
    """To the rounding of a number of its type, and that of the float sums it comes from."""
    rtol = 2**-8 if found.dtype == torch.bfloat16 else 1e-6
    torch.testing.assert_close(found.double(), expected, rtol=rtol, atol=1e-5 + 1e-6 * float(expected.abs().max()))


SIZES = [(1, 16, 3, 3), (2, 24, 4, 8), (3, 40, 7, 5), (2, 16, 31, 31), (1, 32, 1, 9)]


@pytest.mark.parametrize("tile", FINITE)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("size", SIZES)
def test_kernels_of_maps_apply_the_matrices(size: tuple[int, ...], dtype: torch.dtype, tile: int) -> None:
    torch.manual_seed(0)
    of_out, _, of_in = matrices(tile)
    span = tile + 2
    points = span**2
    num, channels, height, width = size
    rows, cols = -(-height // tile), -(-width // tile)
    used, plane = num * rows * cols, num * rows * cols + 2
    images, dirty = maps(*size, dtype=dtype), torch.full((points, plane, channels), torch.nan, dtype=dtype)

    def tiled(values: Tensor, before: int, size: int) -> Tensor:
        """(tiles, C, size, size) of the images with zeros around."""
        padded = F.pad(values.double(), (before, tile * cols + 2 - before - width, before, tile * rows + 2 - before - height))
        return (
            padded.unfold(2, size, tile)
            .unfold(3, size, tile)[:, :, :rows, :cols]
            .permute(0, 2, 3, 1, 4, 5)
            .reshape(used, channels, size, size)
        )

    for name, matrix, tiles in (("tiles_in", of_in.T, tiled(images, 1, span)), ("grads_in", of_out, tiled(images, 0, tile))):
        found = dirty.clone()
        winograd._map(name, images, found)
        expected = (matrix @ tiles @ matrix.T).permute(2, 3, 0, 1).reshape(points, used, channels)
        close(found[:, :used], expected)
        assert not found[:, used:].any(), "the room behind the last tile is part of the sums over tiles"

    values = torch.randn(points, plane, channels).to(dtype)
    squares = values[:, :used].double().reshape(span, span, num, rows, cols, channels).permute(2, 3, 4, 5, 0, 1)
    found = torch.full_like(images, torch.nan)
    winograd._map("tiles_out", found, values)
    whole = (of_out.T @ squares @ of_out).permute(0, 3, 1, 4, 2, 5).reshape(num, channels, tile * rows, tile * cols)
    close(found, whole[:, :, :height, :width])
    found = torch.full_like(images, torch.nan)
    winograd._map("grads_out", found, values)
    summed = torch.zeros(num, channels, tile * rows + 2, tile * cols + 2, dtype=torch.double)
    for row, col in itertools.product(range(rows), range(cols)):
        summed[:, :, tile * row : tile * row + span, tile * col : tile * col + span] += of_in @ squares[:, row, col] @ of_in.T
    close(found, summed[:, :, 1 : height + 1, 1 : width + 1])


@pytest.mark.parametrize("tile", FINITE)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("num_out", "num_in"), [(16, 16), (32, 24), (17, 40)])
def test_kernels_of_filters_apply_the_matrices(num_out: int, num_in: int, dtype: torch.dtype, tile: int) -> None:
    torch.manual_seed(0)
    _, of_filter, _ = matrices(tile)
    weight = torch.randn(num_out, num_in, 3, 3).to(memory_format=torch.channels_last)
    points = torch.empty((tile + 2) ** 2, num_out, num_in, dtype=dtype)
    run(winograd._named("filters_in", points), (weight, points), (num_out, num_in))
    close(points, (of_filter @ weight.double() @ of_filter.T).permute(2, 3, 0, 1).reshape(len(points), num_out, num_in))
    squares = points.double().reshape(tile + 2, tile + 2, num_out, num_in).permute(2, 3, 0, 1)
    torch.testing.assert_close(winograd._weight_grad(points).double(), of_filter.T @ squares @ of_filter, rtol=1e-4, atol=1e-4)


def off(found: Tensor, exact: Tensor) -> float:
    """Root mean square of the difference, as a share of that of `exact`."""
    return float(((found.double() - exact).norm() / exact.norm()).detach())


@pytest.mark.parametrize("scratch", [None, 1])
@pytest.mark.parametrize(
    ("num", "num_in", "num_out", "height", "width"), [(3, 24, 64, 15, 15), (5, 64, 16, 8, 3), (1, 33, 17, 32, 32)]
)
@pytest.mark.parametrize(("dtype", "tile"), WAYS)
def test_output_and_gradients_are_those_of_an_exact_convolution(
    monkeypatch: pytest.MonkeyPatch,
    scratch: int | None,
    num: int,
    num_in: int,
    num_out: int,
    height: int,
    width: int,
    dtype: torch.dtype,
    tile: int,
) -> None:
    torch.manual_seed(0)
    monkeypatch.setattr(winograd, "_best_tile", lambda images: tile)
    if scratch:  # an image at a time
        monkeypatch.setitem(winograd.SCRATCH, dtype, scratch)
    images = torch.rand(num, num_in, height, width).to(dtype).requires_grad_()
    weight, bias = torch.randn(num_out, num_in, 3, 3).requires_grad_(), torch.randn(num_out).requires_grad_()
    grad = torch.randn(num, num_out, height, width).to(dtype)
    with runtime.autocast(CPU, WINOGRAD[dtype]):
        found = F.conv2d(images, weight, bias, padding=1)
    assert found.dtype == dtype and found.is_contiguous(memory_format=torch.channels_last)
    of_found = torch.autograd.grad(found, (images, weight, bias), grad)
    exact_inputs = [tensor.detach().double().requires_grad_() for tensor in (images, weight, bias)]
    exact = F.conv2d(*exact_inputs, padding=1)
    of_exact = torch.autograd.grad(exact, exact_inputs, grad.double())
    for ours, theirs in zip((found, *of_found), (exact, *of_exact), strict=True):
        assert off(ours, theirs) < (0.02 if dtype == torch.bfloat16 else 3e-6 if tile == 4 else 5e-5)
    assert dtype == torch.float32 or off(found, exact) > 0.004, "plain bf16 was taken"


def test_tiles_are_large_where_maps_fill_them_and_numbers_are_exact() -> None:
    for size, tile in (
        ((128, 16, 32, 32), 8),
        ((128, 16, 8, 8), 8),
        ((1, 16, 8, 8), 4),
        ((128, 16, 4, 4), 4),
        ((128, 16, 9, 9), 4),
    ):
        assert winograd._best_tile(maps(*size, dtype=torch.float32)) == tile, size
        assert winograd._best_tile(maps(*size)) == 4


@pytest.mark.parametrize(("dtype", "tile"), WAYS)
@pytest.mark.parametrize("scratch", [None, 1])
@pytest.mark.parametrize("size", [(3, 24, 15, 15), (2, 16, 8, 4), (1, 40, 31, 6), (2, 16, 2, 3)])
def test_pooled_convolutions_are_convolutions_and_then_pooled(
    monkeypatch: pytest.MonkeyPatch, scratch: int | None, size: tuple[int, int, int, int], dtype: torch.dtype, tile: int
) -> None:
    torch.manual_seed(0)
    monkeypatch.setattr(winograd, "_best_tile", lambda images: tile)
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
        return winograd._Convolution.apply(*args, True)  # type: ignore[no-any-return, no-untyped-call]

    monkeypatch.setattr(winograd, "pooled_convolution", counting)
    conv, pool, images = nn.Conv2d(32, 32, 3, padding=1, bias=False), nn.MaxPool2d(2), maps(2, 32, 8, 8)
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
    assert len(together) == 1 and seen[0].shape == (2, 32, 8, 8)


def test_gradients_that_nobody_asked_for_are_left_out() -> None:
    images, weight = maps(2, 16, 8, 8), torch.randn(16, 16, 3, 3)
    for wanted in (images, weight):
        wanted.requires_grad_()
        winograd.convolution(images, weight).sum().backward()
        assert (images.grad is not None) == (wanted is images) and (weight.grad is not None) == (wanted is weight)
        wanted.requires_grad_(False).grad = None
    assert not winograd.convolution(images, weight).requires_grad
