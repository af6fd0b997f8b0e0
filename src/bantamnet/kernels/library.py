"""The kernels in C, compiled for this processor and loaded."""

import contextlib
import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

SOURCES = sorted(Path(__file__).parent.glob("*.c"))
HEADERS = sorted(Path(__file__).parent.glob("*.h"))
OPTIONS = ("-O3", "-march=native", "-fopenmp", "-shared", "-fPIC")
NUMBERS: dict[torch.dtype, tuple[str, ...]] = {torch.bfloat16: (), torch.float32: ("-DFLOAT",)}
"""Types of number that maps are made of → options; each is a library of its own with functions of the same names."""
LEAST_CHANNELS = 16
"""Fewest channels that the kernels take: a vector's lanes in winograd.c and the others, or twice as many."""


class NoKernelsError(Exception):
    """The kernels cannot be had on this machine; says why."""


@functools.cache
def library(dtype: torch.dtype) -> ctypes.CDLL:
    """The C files beside this one for maps of a type; compiles them when this user first needs them on this processor (seconds).

    Raises `NoKernelsError` where that fails, which happens without a C compiler.
    """
    with contextlib.suppress(OSError):
        return ctypes.CDLL(str(_path(dtype)))
    compiler = os.environ.get("CC") or next(filter(shutil.which, ("cc", "gcc", "clang")), None)
    if compiler is None:
        raise NoKernelsError("there is no C compiler (cc, gcc, clang or $CC)")
    path = _path(dtype)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:  # other processes may be at it too
            made = Path(folder) / path.name
            command = [*compiler.split(), *OPTIONS, *NUMBERS[dtype], *map(str, SOURCES), "-o", str(made)]
            told = subprocess.run(command, capture_output=True, text=True, check=False)
            if told.returncode:
                raise NoKernelsError(f"{compiler} fails: {' '.join(told.stderr.split())[:200]}")
            made.replace(path)
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise NoKernelsError(f"the kernels cannot be compiled or loaded ({error})") from error


def _path(dtype: torch.dtype) -> Path:
    """Where the compiled kernels lie: a name for each source, set of options and processor."""
    processor = platform.processor() + platform.machine()
    with contextlib.suppress(OSError), Path("/proc/cpuinfo").open(encoding="utf-8") as lines:
        processor += next((line for line in lines if line.startswith("flags")), "")
    made_of = [file.read_bytes() for file in (*SOURCES, *HEADERS)]
    digest = hashlib.sha256(repr((made_of, OPTIONS, NUMBERS[dtype], processor)).encode()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return cache / "bantamnet" / "kernels" / f"{digest}.so"


@functools.cache
def missing(dtype: torch.dtype = torch.float32) -> str | None:
    """Why the kernels for maps of this type cannot be had here; None where they can."""
    try:
        library(dtype)
    except NoKernelsError as error:
        return str(error)
    return None


def run(name: str, tensors: Sequence[Tensor], sizes: Sequence[int]) -> None:
    """Call a kernel with the places of tensors on the CPU, whose layout and type it takes for granted, and whole numbers.

    It is the kernel for bf16 where one of the tensors is; sums and weights are always float.
    """
    dtype = torch.bfloat16 if any(tensor.dtype == torch.bfloat16 for tensor in tensors) else torch.float32
    _kernel(name, dtype, len(tensors), len(sizes))(*[tensor.data_ptr() for tensor in tensors], *sizes)


@functools.cache
def _kernel(name: str, dtype: torch.dtype, num_tensors: int, num_sizes: int) -> Callable[..., None]:
    kernel = getattr(library(dtype), name)
    kernel.argtypes, kernel.restype = [ctypes.c_void_p] * num_tensors + [ctypes.c_long] * num_sizes, None
    return kernel  # type: ignore[no-any-return]


def pair(value: Any) -> Any:
    """Height and width of a size as PyTorch's functions take it; a word ("same") stays what it is."""
    return (value, value) if isinstance(value, int) else value if isinstance(value, str) else tuple(value)


def computed_in(tensor: Tensor) -> torch.dtype:
    """The type that a convolution of this tensor on a CPU is computed in: autocast's where that is on, or its own."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else tensor.dtype


def whole(maps: Tensor) -> bool:
    """Whether these are maps on a CPU, of a type that the kernels take, that lie together with channels last."""
    return (
        maps.device.type == "cpu"
        and maps.dtype in NUMBERS
        and maps.dim() == 4
        and maps.is_contiguous(memory_format=torch.channels_last)
    )


def padded_3x3(input: Tensor, weight: Tensor, padding: Any = 0, dilation: Any = 1, groups: int = 1) -> bool:
    """Whether this is a 3×3 convolution with padding 1 of any stride, of as many channels as the kernels take."""
    return (
        input.device.type == "cpu"
        and input.dtype in NUMBERS
        and computed_in(input) in NUMBERS
        and input.dim() == 4
        and len(input) > 0
        and weight.shape[2:] == (3, 3)
        and min(weight.shape[:2]) >= LEAST_CHANNELS
        and groups == 1
        and pair(padding) == (1, 1)
        and pair(dilation) == (1, 1)
    )
