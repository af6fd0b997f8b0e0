"""3×3 convolutions on a CPU by Winograd's algorithm, with a fourth of the multiplications.

Lavin and Gray 2015, arXiv 1509.09308.

A processor that multiplies matrices at its full rate in oneDNN's convolutions can only be sped up by fewer multiplications. Here
4 × 4 pixels of output take 36 a pair of channels instead of 144, in the forward pass and for both gradients; `winograd.c` carries
maps to and from the 36 points, PyTorch multiplies the matrices. What it costs is accuracy: rounding 36 numbers to bf16, not 16 of
them, is amplified. With the textbook's points 0, ±1, ±2 outputs and gradients are 3% (of their root mean square) off, with those
of `winograd.c` 1.3%; plain bf16 is 0.2% off. Trials see no difference in training (`results/speed-notes.md`). In float they are a
millionth off, as any convolution is; so there tiles may be of 8 × 8 pixels too, 100 multiplications instead of 576, which is a
hundred-thousandth off, a hundredth of what plain bf16 is.

A convolution of stride 2 is one of stride 1 by 2×2 filters over maps of half the size with four times the channels. There 8 × 8
pixels of output take 4 × 81 multiplications instead of 576.
"""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from bantamnet.kernels.library import computed_in, padded_3x3, pair, run
from bantamnet.kernels.pooling import halves

FETCHING, MAKING = 50, 30
"""What fetching a filter in its points takes, in multiplications with it, and what making it does beyond."""
MOST_PIXELS = 4096
"""Widest maps: a row of tiles must fit a thread's stack."""
LEAST_SAVED = {torch.bfloat16: 32, torch.float32: 40}
"""Multiplications saved for each value that is carried to the points or back, below which that costs what it saves, as measured:
in bf16 they are saved from 22 channels to 22 on."""
SCRATCH = {torch.bfloat16: 8 * 1024**2, torch.float32: 64 * 1024**2}
"""Bytes of tiles, of inputs and outputs together, that are worked on at a time: few, so that they stay in the processor's cache,
but in float so many that fetching the filters, up to 26 MB from 256 to 256 channels, takes little beside multiplying by them."""


@dataclass(frozen=True)
class Tiling:
    """How maps are cut into tiles: height and width of a tile's output, and the convolution's stride."""

    side: int
    stride: int = 1

    @property
    def phases(self) -> int:
        """Pixels of the input for one of the output, each with channels of its own in the tiles."""
        return self.stride**2

    @property
    def points(self) -> int:
        """Multiplications for a tile, an output channel and an input channel in one phase."""
        return (self.side + 3 - self.stride) ** 2

    def num(self, height: int, width: int) -> int:
        """Tiles that cover an input of this size."""
        side = self.side * self.stride
        return -(-height // side) * -(-width // side)

    def kernel(self, name: str) -> str:
        """The kernel of this name that cuts maps so."""
        return name + "_strided" * (self.stride == 2) + "_large" * (self.side == 8)


def best_tiling(dtype: torch.dtype, maps: Sequence[int], stride: int) -> Tiling:
    """The one that takes the least time for maps of shape (N, C, H, W); large tiles lose too much to rounding in bf16."""
    small, large = Tiling(4, stride), Tiling(8, stride)
    num, _, height, width = maps

    def cost(tiling: Tiling) -> int:
        return tiling.points * (num * tiling.num(height, width) + FETCHING)

    return small if dtype == torch.bfloat16 else min(small, large, key=cost)


def takes(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> bool:
    """Whether this convolution, with the arguments of `torch.conv2d`, is a 3×3 one on a CPU that is faster so.

    Its padding must be 1, its stride 1 or, in float, 2; there must be images, pixels and channels enough.
    """
    dtype, strides = computed_in(input), [(1, 1), (2, 2)]
    if not padded_3x3(input, weight, padding, dilation, groups) or pair(stride) not in strides[: 1 + (dtype == torch.float32)]:
        return False
    tiling = best_tiling(dtype, input.shape, pair(stride)[0])
    (num_out, num_in), (height, width) = weight.shape[:2], input.shape[2:]
    pixels = len(input) * -(-height // tiling.stride) * -(-width // tiling.stride)
    tiles = len(input) * tiling.num(height, width)
    saved = (9 * pixels - tiling.phases * tiling.points * (tiles + MAKING)) * num_in * num_out
    carried = tiling.points * tiles * (tiling.phases * num_in + num_out)
    return saved >= LEAST_SAVED[dtype] * carried and width <= MOST_PIXELS


def takes_pooled(images: Tensor, conv: nn.Conv2d, pool: nn.MaxPool2d) -> bool:
    """Whether pool(conv(images)) can be had by `pooled_convolution`."""
    return (
        conv.bias is None
        and conv.stride == (1, 1)
        and conv.padding_mode == "zeros"
        and takes(images, conv.weight, None, conv.stride, conv.padding, conv.dilation, conv.groups)
        and min(images.shape[2:]) >= 2
        and halves(pool.kernel_size, pool.stride, pool.padding, pool.dilation, pool.ceil_mode, pool.return_indices)
    )


def convolution(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, *_: Any, **__: Any) -> Tensor:
    """(N, in, H, W), (out, in, 3, 3) float → (N, out, H, W), channels last; padding 1. In autocast's type.

    With stride 2 the output's height and width are half of that, rounded up.
    """
    out: Tensor = _Convolution.apply(input.to(computed_in(input)), weight, pair(stride)[0], False)  # type: ignore[no-untyped-call]
    return out if bias is None else out + bias.to(out.dtype)[:, None, None]


def pooled_convolution(input: Tensor, weight: Tensor) -> Tensor:
    """As `convolution`, then the largest of each 2×2 pixels: (N, out, H // 2, W // 2). The whole maps never come to memory."""
    out: Tensor = _Convolution.apply(input.to(computed_in(input)), weight, 1, True)  # type: ignore[no-untyped-call]
    return out


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, stride: int, pooled: bool) -> Tensor:
        images = images.contiguous(memory_format=torch.channels_last)
        ctx.tiling = tiling = best_tiling(images.dtype, images.shape, stride)
        filters = _filters(weight, tiling, images.dtype)
        whole = [-(-side // stride) for side in images.shape[2:]]
        size = [side // 2 for side in whole] if pooled else whole
        out = torch.empty(len(images), len(weight), *size, dtype=images.dtype, memory_format=torch.channels_last)
        which = torch.empty_like(out, dtype=torch.uint8) if pooled else None
        for part, tiles, products in _parts(images, len(weight), tiling):
            _map(tiling.kernel("tiles_in"), images[part], tiles)
            torch.bmm(tiles, filters.transpose(1, 2), out=products)
            if which is None:
                _map(tiling.kernel("tiles_out"), out[part], products)
            else:
                _map(tiling.kernel("tiles_out_pooled"), out[part], products, which[part], whole)
        ctx.save_for_backward(images, weight, which)  # filters in their points are up to 36 times as large: they are made again
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        images, weight, which = ctx.saved_tensors
        tiling: Tiling = ctx.tiling
        grad = grad.to(images.dtype).contiguous(memory_format=torch.channels_last)
        images_grad, filters = None, None
        if ctx.needs_input_grad[0]:
            images_grad, filters = torch.empty_like(images), _filters(weight, tiling, images.dtype)
        weight_grads: list[Tensor] = []
        with torch.autocast("cpu", enabled=False):  # where somebody calls backward() within it
            for part, tiles, products in _parts(images, grad.shape[1], tiling):
                if which is None:
                    _map(tiling.kernel("grads_in"), grad[part], products)
                else:
                    _map(tiling.kernel("grads_in_pooled"), grad[part], products, which[part], images.shape[2:])
                if ctx.needs_input_grad[1]:
                    _map(tiling.kernel("tiles_in"), images[part], tiles)
                    weight_grads.append(_weight_grad(_sums_over_tiles(products, tiles), tiling))
                if images_grad is not None and filters is not None:
                    torch.bmm(products, filters, out=tiles)
                    _map(tiling.kernel("grads_out"), images_grad[part], tiles)
        return images_grad, functools.reduce(Tensor.add_, weight_grads) if weight_grads else None, None, None


def _filters(weight: Tensor, tiling: Tiling, dtype: torch.dtype) -> Tensor:
    """(out, in, 3, 3) → (points, out, phases · in) of a type."""
    num_out, num_in = weight.shape[:2]
    filters = torch.empty(tiling.points, num_out, tiling.phases * num_in, dtype=dtype)
    run(tiling.kernel("filters_in"), (weight.float().contiguous(memory_format=torch.channels_last), filters), (num_out, num_in))
    return filters


def _sums_over_tiles(products: Tensor, tiles: Tensor) -> Tensor:
    """(points, tiles, out), (points, tiles, in) → (points, out, in); oneDNN is fast where the last dimension is 64 or more."""
    if tiles.shape[2] < 64 <= products.shape[2]:
        return torch.bmm(tiles.transpose(1, 2), products).transpose(1, 2).contiguous()
    return torch.bmm(products.transpose(1, 2), tiles)


def _weight_grad(filters_grad: Tensor, tiling: Tiling) -> Tensor:
    """(points, out, phases · in) → (out, in, 3, 3) float, channels last."""
    num_out, num_in = filters_grad.shape[1], filters_grad.shape[2] // tiling.phases
    grad = torch.empty(num_out, num_in, 3, 3, memory_format=torch.channels_last)
    run(tiling.kernel("filters_out"), (grad, filters_grad), (num_out, num_in))
    return grad


def _parts(inputs: Tensor, num_out: int, tiling: Tiling) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Images to work on together, with room for their tiles (points, tiles, phases · in) and (points, tiles, out).

    The number of tiles is made odd: were a point's tiles a multiple of 4 KB, those of all points would contend for the same
    few lines of the cache, which takes twice the time.
    """
    num, num_in, height, width = inputs.shape
    num_in *= tiling.phases
    points, tiles_an_image, values = tiling.points, tiling.num(height, width), num_in + num_out
    size = min(num, max(1, SCRATCH[inputs.dtype] // (points * tiles_an_image * values * inputs.element_size())))
    scratch = inputs.new_empty(points * (size * tiles_an_image + 1) * values)
    for start in range(0, num, size):
        part = slice(start, min(start + size, num))
        if start == 0 or part.stop - start < size:
            tiles = (part.stop - start) * tiles_an_image | 1
            of_inputs, of_outputs = scratch[: points * tiles * values].split([points * tiles * num_in, points * tiles * num_out])
            rooms = of_inputs.view(points, tiles, num_in), of_outputs.view(points, tiles, num_out)
        yield part, *rooms


def _map(kernel: str, maps: Tensor, tiles: Tensor, which: Tensor | None = None, whole: Sequence[int] = ()) -> None:
    """One of the kernels between maps (N, C, H, W), channels last, and their tiles (points, tiles, phases · C).

    For pooled maps `which` (N, C, H, W) uint8 goes with them, and `whole` is the height and width that they had.
    """
    num, channels = maps.shape[:2]
    tensors = (maps, tiles) if which is None else (maps, which, tiles)
    run(kernel, tensors, (num, *(whole or maps.shape[2:]), channels, tiles[0].numel()))
