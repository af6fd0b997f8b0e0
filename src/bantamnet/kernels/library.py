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
LANES = 16
"""Fewest channels that the kernels take."""


class NoKernelsError(Exception):
    """The kernels cannot be had on this machine; says why."""


@functools.cache
def library() -> ctypes.CDLL:
    """The compiled C files beside this one; compiles them when this user first needs them on this processor (some seconds).

    Raises `NoKernelsError` where that fails, which happens without a C compiler.
    """
    with contextlib.suppress(OSError):
        return ctypes.CDLL(str(_path()))
    compiler = os.environ.get("CC") or next(filter(shutil.which, ("cc", "gcc", "clang")), None)
    if compiler is None:
        raise NoKernelsError("there is no C compiler (cc, gcc, clang or $CC)")
    path = _path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:  # other processes may be at it too
            made = Path(folder) / path.name
            command = [*compiler.split(), *OPTIONS, *map(str, SOURCES), "-o", str(made)]
            told = subprocess.run(command, capture_output=True, text=True, check=False)
            if told.returncode:
                raise NoKernelsError(f"{compiler} fails: {' '.join(told.stderr.split())[:200]}")
            made.replace(path)
    except OSError as error:
        raise NoKernelsError(f"the kernels cannot be compiled ({error})") from error
    return ctypes.CDLL(str(path))


def _path() -> Path:
    """Where the compiled kernels lie: a name for each source, set of options and processor."""
    processor = platform.processor() + platform.machine()
    with contextlib.suppress(OSError), Path("/proc/cpuinfo").open(encoding="utf-8") as lines:
        processor += next((line for line in lines if line.startswith("flags")), "")
    made_of = [file.read_bytes() for file in (*SOURCES, *HEADERS)]
    digest = hashlib.sha256(repr((made_of, OPTIONS, processor)).encode()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return cache / "bantamnet" / "kernels" / f"{digest}.so"


@functools.cache
def missing() -> str | None:
    """Why the kernels cannot be had here; None where they can."""
    try:
        library()
    except NoKernelsError as error:
        return str(error)
    return None


def run(name: str, tensors: Sequence[Tensor], sizes: Sequence[int]) -> None:
    """Call a kernel with the places of tensors on the CPU, whose layout and type it takes for granted, and whole numbers."""
    _kernel(name, len(tensors), len(sizes))(*[tensor.data_ptr() for tensor in tensors], *sizes)


@functools.cache
def _kernel(name: str, num_tensors: int, num_sizes: int) -> Callable[..., None]:
    kernel = getattr(library(), name)
    kernel.argtypes, kernel.restype = [ctypes.c_void_p] * num_tensors + [ctypes.c_long] * num_sizes, None
    return kernel  # type: ignore[no-any-return]


def pair(value: Any) -> Any:
    """Height and width of a size as PyTorch's functions take it; a word ("same") stays what it is."""
    return (value, value) if isinstance(value, int) else value if isinstance(value, str) else tuple(value)


def same_3x3(input: Tensor, weight: Tensor, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1) -> bool:
    """Whether this is a 3×3 convolution that leaves the size of maps as it is, of as many channels as the kernels take."""
    return (
        input.device.type == "cpu"
        and input.dtype in (torch.bfloat16, torch.float32)
        and input.dim() == 4
        and len(input) > 0
        and weight.shape[2:] == (3, 3)
        and min(weight.shape[:2]) >= LANES
        and groups == 1
        and pair(stride) == (1, 1)
        and pair(padding) == (1, 1)
        and pair(dilation) == (1, 1)
    )
