"""One safe file: tensors, JSON in the header, a checksum over both; never half written, never a pickle."""

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from bantamnet.errors import UserError, WriteError

HEADER_KEY = "bantamnet"


class DamagedFileError(UserError):
    """The file is cut short, changed, or was not written by bantamnet."""


def digest(tensors: Mapping[str, Tensor]) -> str:
    """sha256 over names, types, shapes and values, in the order of the names."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        total.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def write_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write a file that is complete the moment it has its name."""
    plain = _apart({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    text = json.dumps(header, ensure_ascii=False)
    checksum = hashlib.sha256(digest(plain).encode() + text.encode()).hexdigest()
    write_bytes(path, safetensors.torch.save(plain, {HEADER_KEY: text, "checksum": checksum}))


def _apart(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors, none of them sharing memory with another, as tied weights do: the format refuses those."""
    taken: set[int] = set()
    for name, tensor in tensors.items():
        place = tensor.untyped_storage().data_ptr()
        if place in taken:
            tensors[name] = tensor.clone()
        taken.add(place)
    return tensors


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """(tensors, header); raises `DamagedFileError` unless the checksum holds."""
    header, checksum, text = _read_header(path)
    try:
        tensors = safetensors.torch.load_file(path)
    except safetensors.SafetensorError as error:
        raise DamagedFileError(f"{path}: damaged ({error})") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error}") from None
    if hashlib.sha256(digest(tensors).encode() + text.encode()).hexdigest() != checksum:
        raise DamagedFileError(f"{path}: damaged (its checksum does not hold)")
    return tensors, header


def read_header(path: Path) -> dict[str, Any]:
    """The JSON alone, without reading the tensors."""
    return _read_header(path)[0]


def _read_header(path: Path) -> tuple[dict[str, Any], str, str]:
    try:
        with safetensors.safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except safetensors.SafetensorError as error:
        raise DamagedFileError(f"{path}: not a model file, or damaged ({error})") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error}") from None
    if HEADER_KEY not in metadata or "checksum" not in metadata:
        raise DamagedFileError(f"{path}: a safetensors file, but not one that bantamnet wrote")
    try:
        header = json.loads(metadata[HEADER_KEY])
    except json.JSONDecodeError:
        raise DamagedFileError(f"{path}: damaged (its header is no JSON)") from None
    return header, metadata["checksum"], metadata[HEADER_KEY]


def write_bytes(path: Path, content: bytes) -> None:
    """Write to a temporary name, flush, rename, flush the folder; raises `WriteError` and leaves nothing half written."""
    temporary: Path | None = None
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        temporary = Path(name)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise WriteError(path, error) from None
    finally:
        if temporary:
            temporary.unlink(missing_ok=True)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
