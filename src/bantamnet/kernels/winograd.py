"""3×3 convolutions on a CPU by Winograd's algorithm, with a fourth of the multiplications.

Lavin and Gray 2015, arXiv 1509.09308.

A processor that multiplies matrices at its full rate in oneDNN's convolutions can only be sped up by fewer multiplications. Here
4 × 4 pixels of output take 36 a pair of channels instead of 144, in the forward pass and for both gradients; `winograd.c` carries
maps to and from the 36 points, PyTorch multiplies the matrices. What it costs is accuracy: rounding 36 numbers to bf16, not 16 of
them, is amplified. With the textbook's points 0, ±1, ±2 outputs and gradients are 3% (of their root mean square) off, with those
of `winograd.c` 1.3%; plain bf16 is 0.2% off. Training does not suffer from that (`results/speed-notes.md`). In float they are a
millionth off, as any convolution is; so there tiles may be of 8 × 8 pixels too, 100 multiplications instead of 576, which is a
hundred-thousandth off, a hundredth of what plain bf16 is.
"""

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bantamnet.kernels.library import computed_in, run, same_3x3
from bantamnet.kernels.pooling import halves

TILE, LARGE = 4, 8
"""Heights and widths of a tile's output."""
FILTERS = 50
"""What fetching a filter takes, in multiplications with it."""
LEAST_PRODUCTS = 11
"""Multiplications for each value that goes through a transform, below which transforms cost what they save."""
SCRATCH = {torch.bfloat16: 8 * 1024**2, torch.float32: 64 * 1024**2}
"""Bytes of tiles, of inputs and outputs together, that are worked on at a time: few, so that they stay in the processor's cache,
but in float so many that fetching the filters, up to 26 MB from 256 to 256 channels, takes little beside multiplying by them."""


def takes(input: Tensor, weight: Tensor, bias: Tensor | None = None, *args: Any, **kwargs: Any) -> bool:
    """Whether this convolution, with the arguments of `torch.conv2d`, is a "same" 3×3 one on a CPU that is faster so.

    It must save a third of the multiplications, which maps of 2 × 2 pixels do not, and have enough of them for each value that is
    carried to the points and back: 22 channels to 22, as measured.
    """
    return (
        same_3x3(input, weight, *args, **kwargs)
        and weight.shape[0] * weight.shape[1] >= LEAST_PRODUCTS * (weight.shape[0] + weight.shape[1])
        and _points(TILE) * _num_tiles(TILE, *input.shape[2:]) <= 6 * input.shape[2] * input.shape[3]
    )


def takes_pooled(images: Tensor, conv: nn.Conv2d, pool: nn.MaxPool2d) -> bool:
    """Whether pool(conv(images)) can be had by `pooled_convolution`."""
    return (
        conv.bias is None
        and conv.padding_mode == "zeros"
        and takes(images, conv.weight, None, conv.stride, conv.padding, conv.dilation, conv.groups)
        and min(images.shape[2:]) >= 2
        and halves(pool.kernel_size, pool.stride, pool.padding, pool.dilation, pool.ceil_mode, pool.return_indices)
    )


def _points(tile: int) -> int:
    """Multiplications a pair of channels for a tile of this side."""
    return (tile + 2) ** 2


def _num_tiles(tile: int, height: int, width: int) -> int:
    """Tiles that cover maps of this size."""
    return -(-height // tile) * -(-width // tile)


def _best_tile(images: Tensor) -> int:
    """Side of the tiles that take the least time for images (N, C, H, W); large ones lose too much to rounding in bf16."""

    def cost(tile: int) -> int:
        return _points(tile) * (len(images) * _num_tiles(tile, *images.shape[2:]) + FILTERS)

    return TILE if images.dtype == torch.bfloat16 else min(TILE, LARGE, key=cost)


def convolution(input: Tensor, weight: Tensor, bias: Tensor | None = None, *_: Any, **__: Any) -> Tensor:
    """(N, in, H, W), (out, in, 3, 3) float → (N, out, H, W), channels last; padding 1, stride 1. In autocast's type."""
    out: Tensor = _Convolution.apply(input.to(computed_in(input)), weight, False)  # type: ignore[no-untyped-call]
    return out if bias is None else out + bias.to(out.dtype)[:, None, None]


def pooled_convolution(input: Tensor, weight: Tensor) -> Tensor:
    """As `convolution`, then the largest of each 2×2 pixels: (N, out, H // 2, W // 2). The whole maps never come to memory."""
    out: Tensor = _Convolution.apply(input.to(computed_in(input)), weight, True)  # type: ignore[no-untyped-call]
    return out


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, pooled: bool) -> Tensor:
        images = images.contiguous(memory_format=torch.channels_last)
        ctx.tile = tile = _best_tile(images)
        filters = _filters(weight, tile, images.dtype)
        size = tuple(side // 2 if pooled else side for side in images.shape[2:])
        out = torch.empty(len(images), len(weight), *size, dtype=images.dtype, memory_format=torch.channels_last)
        which = torch.empty_like(out, dtype=torch.uint8) if pooled else None
        for part, tiles, products in _parts(images, len(weight), tile):
            _map("tiles_in", images[part], tiles)
            torch.bmm(tiles, filters.transpose(1, 2), out=products)
            if which is None:
                _map("tiles_out", out[part], products)
            else:
                _map("tiles_out_pooled", out[part], products, which[part], images.shape[2:])
        ctx.save_for_backward(images, weight, which)  # filters in their points are up to 11 times as large: they are made again
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        images, weight, which = ctx.saved_tensors
        grad = grad.to(images.dtype).contiguous(memory_format=torch.channels_last)
        images_grad, filters = None, None
        if ctx.needs_input_grad[0]:
            images_grad, filters = torch.empty_like(images), _filters(weight, ctx.tile, images.dtype)
        weight_grads: list[Tensor] = []
        for part, tiles, products in _parts(images, grad.shape[1], ctx.tile):
            if which is None:
                _map("grads_in", grad[part], products)
            else:
                _map("grads_in_pooled", grad[part], products, which[part], images.shape[2:])
            if ctx.needs_input_grad[1]:
                _map("tiles_in", images[part], tiles)
                weight_grads.append(_weight_grad(_sums_over_tiles(products, tiles)))
            if images_grad is not None and filters is not None:
                torch.bmm(products, filters, out=tiles)
                _map("grads_out", images_grad[part], tiles)
        return images_grad, functools.reduce(Tensor.add_, weight_grads) if weight_grads else None, None


def _filters(weight: Tensor, tile: int, dtype: torch.dtype) -> Tensor:
    """(out, in, 3, 3) → (points, out, in) of a type."""
    filters = torch.empty(_points(tile), *weight.shape[:2], dtype=dtype)
    run(_named("filters_in", filters), (weight.float().contiguous(memory_format=torch.channels_last), filters), weight.shape[:2])
    return filters


def _sums_over_tiles(products: Tensor, tiles: Tensor) -> Tensor:
    """(points, tiles, out), (points, tiles, in) → (points, out, in); oneDNN is fast where the last dimension is 64 or more."""
    if tiles.shape[2] < 64 <= products.shape[2]:
        return torch.bmm(tiles.transpose(1, 2), products).transpose(1, 2).contiguous()
    return torch.bmm(products.transpose(1, 2), tiles)


def _weight_grad(filters_grad: Tensor) -> Tensor:
    """(points, out, in) → (out, in, 3, 3) float, channels last."""
    num_out, num_in = filters_grad.shape[1:]
    grad = torch.empty(num_out, num_in, 3, 3, memory_format=torch.channels_last)
    run(_named("filters_out", filters_grad), (grad, filters_grad), (num_out, num_in))
    return grad


def _named(name: str, tiles: Tensor) -> str:
    """The kernel of this name that knows these tiles, (points, …)."""
    return f"{name}_large" if len(tiles) == _points(LARGE) else name


def _parts(inputs: Tensor, num_out: int, tile: int) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Images to work on together, with room for their tiles (points, tiles, in) and (points, tiles, out).

    The number of tiles is made odd: were a point's tiles a multiple of 4 KB, those of all points would contend for the same
    few lines of the cache, which takes twice the time.
    """
    num, num_in, height, width = inputs.shape
    points, tiles_an_image = _points(tile), _num_tiles(tile, height, width)
    values = num_in + num_out
    size = min(num, max(1, SCRATCH[inputs.dtype] // (points * tiles_an_image * values * inputs.element_size())))
    scratch = inputs.new_empty(points * (size * tiles_an_image + 1) * values)
    for start in range(0, num, size):
        part = slice(start, min(start + size, num))
        if start == 0 or part.stop - start < size:
            tiles = (part.stop - start) * tiles_an_image | 1
            of_inputs, of_outputs = scratch[: points * tiles * values].split([points * tiles * num_in, points * tiles * num_out])
            rooms = of_inputs.view(points, tiles, num_in), of_outputs.view(points, tiles, num_out)
        yield part, *rooms


def _map(name: str, maps: Tensor, tiles: Tensor, which: Tensor | None = None, whole: Sequence[int] = ()) -> None:
    """One of the kernels between maps (N, C, H, W), channels last, and their tiles (points, tiles, C).

    For pooled maps `which` (N, C, H, W) uint8 goes with them, and `whole` is the height and width that they had.
    """
    num, channels = maps.shape[:2]
    tensors = (maps, tiles) if which is None else (maps, which, tiles)
    run(_named(name, tiles), tensors, (num, *(whole or maps.shape[2:]), channels, tiles[0].numel()))
