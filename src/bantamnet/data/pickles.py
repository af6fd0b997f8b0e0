"""Read the pickles of CIFAR's Python archives, and of contests' test images, without running anything that they name."""

import io
import math
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bantamnet.errors import UserError

MAX_BYTES = 1 << 29
"""The largest of the official files, CIFAR-100's `train`, has 155 MB."""
DTYPES = {"u1": np.uint8, "i4": np.int32, "i8": np.int64}


class _Array:
    """Stands in for a NumPy array while unpickling: takes its state, checks it and makes the array itself."""

    __slots__ = ("array",)
    array: np.ndarray

    def __setstate__(self, state: Any) -> None:
        version, shape, dtype, fortran, raw = state
        kind = dtype.kind if isinstance(dtype, _Dtype) else None
        if version != 1 or kind not in DTYPES or not isinstance(raw, bytes) or type(shape) is not tuple:
            raise pickle.UnpicklingError("an array of another kind than bytes or whole numbers")
        if not all(type(side) is int and side >= 0 for side in shape):
            raise pickle.UnpicklingError("an array of no valid shape")
        if len(raw) != math.prod(shape) * np.dtype(DTYPES[kind]).itemsize:
            raise pickle.UnpicklingError("an array whose pixels do not fill its shape")
        self.array = np.frombuffer(raw, DTYPES[kind]).reshape(shape, order="F" if fortran else "C")


class _Dtype:
    """Stands in for a NumPy dtype: remembers its name."""

    __slots__ = ("kind",)

    def __init__(self, kind: object) -> None:
        self.kind = kind.decode("ascii", "replace") if isinstance(kind, bytes) else kind

    def __setstate__(self, state: Any) -> None:
        """Byte order and flags change nothing for the types in `DTYPES`, which are little-endian or one byte."""
        if state[1] not in ("<", "|", b"<", b"|"):
            raise pickle.UnpicklingError("an array of foreign byte order")


class _Allowed:
    """A name that a pickle may call; it cannot be changed from inside the pickle."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make

    def __call__(self, *arguments: Any) -> Any:
        return self._make(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("an attempt to change what the pickle may call")


def _latin1(text: Any, encoding: Any) -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", b"latin1"):
        raise pickle.UnpicklingError("bytes of another encoding than latin1")
    return text.encode("latin1")


def _from_buffer(raw: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    """How protocol 5 writes an array that is contiguous."""
    made = _Array()
    made.__setstate__((1, shape, dtype, order == "F", raw))
    return made


_NAMES = {
    **{
        (f"numpy.{core}.multiarray", "_reconstruct"): _Allowed(lambda *_: _Array())
        for core in ("core", "_core")  # NumPy 1 and NumPy 2 call the same place so
    },
    **{(f"numpy.{core}.numeric", "_frombuffer"): _Allowed(_from_buffer) for core in ("core", "_core")},
    ("numpy", "ndarray"): _Allowed(lambda *_: _Array()),
    ("numpy", "dtype"): _Allowed(lambda kind, *_: _Dtype(kind)),
    ("_codecs", "encode"): _Allowed(_latin1),  # how Python 3 writes bytes for Python 2
}


_OPCODES = """
    PROTO FRAME STOP MARK MEMOIZE BINPUT LONG_BINPUT BINGET LONG_BINGET
    NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1
    BINSTRING SHORT_BINSTRING BINUNICODE SHORT_BINUNICODE BINBYTES SHORT_BINBYTES
    EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST APPEND APPENDS EMPTY_DICT SETITEM SETITEMS
    GLOBAL STACK_GLOBAL REDUCE BUILD BYTEARRAY8
""".split()  # noqa: SIM905


class _Unpickler(pickle._Unpickler):
    """In Python, not in C: a few bytes cannot make its memo or a buffer take gigabytes, and it knows no other opcodes."""

    dispatch = {code: pickle._Unpickler.dispatch[code] for code in (getattr(pickle, name)[0] for name in _OPCODES)}  # noqa: RUF012

    read: Callable[[int], bytes]
    append: Callable[[object], None]

    def load_bytearray8(self) -> None:
        """As bytes, and only as many as there are: Python's own takes the memory first."""
        (size,) = struct.unpack("<Q", self.read(8))
        raw = self.read(size) if size <= MAX_BYTES else b""
        if len(raw) != size:
            raise pickle.UnpicklingError("an array that is cut short")
        self.append(raw)

    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8  # type: ignore[assignment]

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _NAMES:
            raise pickle.UnpicklingError(f"it calls {module}.{name}, which no such file does")
        return _NAMES[module, name]


def read_batch(path: Path) -> dict[str, Any]:
    """The dictionary in a CIFAR batch file: names as text, arrays as NumPy arrays, all else plain values.

    What the file may call is the few names in `_NAMES`, and each is a stand-in of this module, so that no foreign code runs,
    whatever is in it. Raises `UserError` for any other file.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UserError(f"{path}: {path.stat().st_size:,} bytes are more than any CIFAR file has")
        raw = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error}") from None
    try:
        stored = _Unpickler(io.BytesIO(raw), encoding="bytes").load()
    except Exception as error:  # a damaged pickle can raise anything: IndexError, AttributeError, UnicodeDecodeError, …
        raise UserError(f"{path}: not a CIFAR batch ({error or type(error).__name__}); nothing in it was run") from None
    if not isinstance(stored, dict):
        raise UserError(f"{path}: not a CIFAR batch (no dictionary)")
    return {
        key.decode("latin1") if isinstance(key, bytes) else str(key): value.array if isinstance(value, _Array) else value
        for key, value in stored.items()
        if not isinstance(value, _Array) or hasattr(value, "array")
    }
