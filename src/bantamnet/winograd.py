"""3×3 convolutions of bf16 maps on a CPU by Winograd's algorithm (Lavin and Gray 2015, arXiv 1509.09308): four times fewer multiplications.

A processor that multiplies matrices at its full rate in oneDNN's convolutions can only be sped up by fewer multiplications. Here
4 × 4 pixels of output take 36 a pair of channels instead of 144, in the forward pass and for both gradients; `winograd.c` carries
maps to and from the 36 points, PyTorch multiplies the matrices. What it costs is accuracy: rounding 36 numbers to bf16, not 16 of
them, is amplified. With the textbook's points 0, ±1, ±2 outputs and gradients are 3% (of their root mean square) off, with those
of `winograd.c` 1.3%; plain bf16 is 0.2% off. Training does not suffer from that (`results/speed-notes.md`).
"""

import contextlib
import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

SOURCE = Path(__file__).with_suffix(".c")
COMMAND = ("-O3", "-march=native", "-fopenmp", "-shared", "-fPIC")
LANES = 16
"""Fewest channels that the kernels take."""
POINTS = 36
TILE = 4
"""Height and width of a tile's output."""
SCRATCH = 8 * 1024**2
"""Bytes of tiles, of inputs and outputs together, that are worked on at a time, so that they stay in the processor's cache."""


class NoKernelsError(Exception):
    """The kernels cannot be had on this machine; says why."""


@functools.cache
def kernels() -> ctypes.CDLL:
    """The compiled `winograd.c`; compiles it when it is first needed by this user on this processor (about two seconds).

    Raises `NoKernelsError` where that fails, which happens without a C compiler.
    """
    with contextlib.suppress(OSError):
        return ctypes.CDLL(str(_library()))
    compiler = os.environ.get("CC") or next(filter(shutil.which, ("cc", "gcc", "clang")), None)
    if compiler is None:
        raise NoKernelsError("there is no C compiler (cc, gcc, clang or $CC)")
    library = _library()
    try:
        library.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=library.parent) as folder:  # other processes may be at it too
            made = Path(folder) / library.name
            command = [*compiler.split(), *COMMAND, str(SOURCE), "-o", str(made)]
            told = subprocess.run(command, capture_output=True, text=True, check=False)
            if told.returncode:
                raise NoKernelsError(f"{compiler} fails: {' '.join(told.stderr.split())[:200]}")
            made.replace(library)
    except OSError as error:
        raise NoKernelsError(f"the kernels cannot be compiled ({error})") from error
    return ctypes.CDLL(str(library))


def _library() -> Path:
    """Where the compiled kernels lie: a name for each source, set of options and processor."""
    processor = platform.processor() + platform.machine()
    with contextlib.suppress(OSError), Path("/proc/cpuinfo").open(encoding="utf-8") as lines:
        processor += next((line for line in lines if line.startswith("flags")), "")
    digest = hashlib.sha256(SOURCE.read_bytes() + repr((COMMAND, processor)).encode()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return cache / "bantamnet" / "kernels" / f"winograd-{digest}.so"


@functools.cache
def missing() -> str | None:
    """Why the kernels cannot be had here; None where they can."""
    try:
        kernels()
    except NoKernelsError as error:
        return str(error)
    return None


class Convolutions(TorchFunctionMode):
    """Within it, each convolution that `takes` allows goes through `convolution`, whichever module calls it."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Every function of PyTorch, as it is called."""
        kwargs = kwargs or {}
        return convolution(*args, **kwargs) if func is torch.conv2d and takes(*args, **kwargs) else func(*args, **kwargs)


def takes(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> bool:
    """Whether this convolution, with the arguments of `torch.conv2d`, is a "same" 3×3 one of 16 channels at least, on a CPU."""
    return (
        input.device.type == "cpu"
        and input.dtype in (torch.bfloat16, torch.float32)
        and input.dim() == 4
        and len(input) > 0
        and weight.shape[2:] == (3, 3)
        and min(weight.shape[:2]) >= LANES
        and groups == 1
        and _pair(stride) == (1, 1)
        and _pair(padding) == (1, 1)
        and _pair(dilation) == (1, 1)
    )


def _pair(value: Any) -> Any:
    return (value, value) if isinstance(value, int) else value if isinstance(value, str) else tuple(value)


def convolution(input: Tensor, weight: Tensor, bias: Tensor | None = None, *_: Any, **__: Any) -> Tensor:
    """(N, in, H, W) float or bf16, (out, in, 3, 3) float → (N, out, H, W) bf16, channels last; padding 1, stride 1."""
    out: Tensor = _Convolution.apply(input.bfloat16(), weight)
    return out if bias is None else out + bias.to(out.dtype)[:, None, None]


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor) -> Tensor:
        images = images.contiguous(memory_format=torch.channels_last)
        filters = torch.empty(POINTS, *weight.shape[:2], dtype=images.dtype)
        _run("filters_in", weight.float().contiguous(memory_format=torch.channels_last), filters, weight.shape[:2])
        out = torch.empty(len(images), len(weight), *images.shape[2:], dtype=images.dtype, memory_format=torch.channels_last)
        for part, tiles, products in _parts(images, out):
            _map("tiles_in", images[part], tiles)
            torch.bmm(tiles, filters.transpose(1, 2), out=products)
            _map("tiles_out", out[part], products)
        ctx.save_for_backward(images, filters)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        images, filters = ctx.saved_tensors
        grad = grad.to(images.dtype).contiguous(memory_format=torch.channels_last)
        images_grad = torch.empty_like(images) if ctx.needs_input_grad[0] else None
        weight_grads: list[Tensor] = []
        for part, tiles, products in _parts(images, grad):
            _map("grads_in", grad[part], products)
            if ctx.needs_input_grad[1]:
                _map("tiles_in", images[part], tiles)
                weight_grads.append(_weight_grad(torch.bmm(products.transpose(1, 2), tiles)))
            if images_grad is not None:
                torch.bmm(products, filters, out=tiles)
                _map("grads_out", images_grad[part], tiles)
        return images_grad, functools.reduce(Tensor.add_, weight_grads) if weight_grads else None


def _weight_grad(filters_grad: Tensor) -> Tensor:
    """(36, out, in) bf16 → (out, in, 3, 3) float, channels last."""
    num_out, num_in = filters_grad.shape[1:]
    grad = torch.empty(num_out, num_in, 3, 3, memory_format=torch.channels_last)
    _run("filters_out", grad, filters_grad, (num_out, num_in))
    return grad


def _parts(inputs: Tensor, outputs: Tensor) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Images to work on together, with room for their tiles (36, tiles, in) and (36, tiles, out).

    The number of tiles is made odd: were a point's tiles a multiple of 4 KB, those of all 36 points would contend for the same
    few lines of the cache, which takes twice the time.
    """
    num, num_in, height, width = inputs.shape
    tiles_an_image = -(-height // TILE) * -(-width // TILE)
    values = num_in + outputs.shape[1]
    size = min(num, max(1, SCRATCH // (POINTS * tiles_an_image * values * inputs.element_size())))
    scratch = inputs.new_empty(POINTS * (size * tiles_an_image + 1) * values)
    for start in range(0, num, size):
        part = slice(start, min(start + size, num))
        tiles = (part.stop - start) * tiles_an_image | 1
        used = POINTS * tiles * num_in
        yield part, scratch[:used].view(POINTS, tiles, num_in), scratch[used:][: POINTS * tiles * outputs.shape[1]].view(POINTS, tiles, -1)


def _map(name: str, maps: Tensor, tiles: Tensor) -> None:
    """One of the kernels between maps (N, C, H, W), channels last, and their tiles (36, tiles, C)."""
    num, channels, height, width = maps.shape
    _run(name, maps, tiles, (num, height, width, channels, tiles[0].numel()))


def _run(name: str, natural: Tensor, points: Tensor, sizes: Iterable[int]) -> None:
    kernel = getattr(kernels(), name)
    kernel(ctypes.c_void_p(natural.data_ptr()), ctypes.c_void_p(points.data_ptr()), *map(ctypes.c_long, sizes))
