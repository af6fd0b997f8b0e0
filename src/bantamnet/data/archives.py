"""Unpack an archive from anywhere: plain files and folders only, inside the folder named, up to a size."""

import bz2
import gzip
import io
import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Any

from bantamnet.errors import UserError

ENDINGS = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar", ".zip")
MAX_BYTES = 1 << 29
"""Unpacked, CIFAR takes 186 MB."""
MAX_FILES = 1000

_COMPRESSIONS: dict[bytes, Callable[[IO[bytes]], Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
_DAMAGED = (EOFError, tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, gzip.BadGzipFile, MemoryError)


class _RefusedError(Exception):
    """What stands in the archive is not to be unpacked."""


class _Capped(io.RawIOBase):
    """A stream of which no more than `left` bytes are read, wherever they would go: a header can be a bomb too."""

    def __init__(self, stream: IO[bytes], left: int) -> None:
        self.stream, self.left = stream, left

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if size < 0 or size > self.left:
            size = self.left + 1
        block = self.stream.read(size)
        self.left -= len(block)
        if self.left < 0:
            raise _RefusedError("it unpacks to more than it may")
        return block


def extract(archive: Path, into: Path, max_bytes: int = MAX_BYTES, max_files: int = MAX_FILES) -> None:
    """Unpack a tar (plain, gzip, bzip2, xz) or zip archive into a folder that exists.

    Raises `UserError` for links, devices, names that are absolute or lead outside, more than `max_bytes` or `max_files`, and
    for a damaged archive; what was unpacked until then stays in `into`, and nothing is ever written outside it.
    """
    try:
        with archive.open("rb") as file:
            magic = file.read(6)
            file.seek(0)
            if magic.startswith(b"PK"):
                _extract_zip(file, into, max_bytes, max_files)
            else:
                opener = next((opener for start, opener in _COMPRESSIONS.items() if magic.startswith(start)), None)
                stream = opener(file) if opener else file
                _extract_tar(stream, into, max_bytes, max_files)
    except _RefusedError as refused:
        raise UserError(f"{archive}: not unpacked, {refused}") from None
    except tarfile.FilterError as error:
        raise UserError(f"{archive}: not unpacked, {error}") from None
    except (*_DAMAGED, UnicodeDecodeError, NotImplementedError, RuntimeError, ValueError, OverflowError) as error:
        raise UserError(f"{archive}: damaged, incomplete or no archive ({error or type(error).__name__})") from None
    except OSError as error:
        raise UserError(f"{archive}: cannot be unpacked into {into} ({error})") from None


def _check_name(name: str) -> None:
    if name in (".", "./"):  # the folder itself, as `tar -C FOLDER .` begins
        return
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if not parts or PurePosixPath(name).is_absolute() or PureWindowsPath(name).anchor or ".." in parts or "\0" in name:
        raise _RefusedError(f"{name!r} leads outside the folder")


class _Budget:
    def __init__(self, max_bytes: int, max_files: int) -> None:
        self.bytes, self.files = max_bytes, max_files

    def spend(self, size: int) -> None:
        self.bytes -= size
        self.files -= 1
        if size < 0 or self.bytes < 0 or self.files < 0:
            raise _RefusedError("it unpacks to more than it may")


def _extract_tar(stream: IO[bytes], into: Path, max_bytes: int, max_files: int) -> None:
    budget = _Budget(max_bytes, max_files)
    capped = _Capped(stream, 2 * max_bytes + (1 << 20))  # headers and padding come on top of the files
    with tarfile.open(fileobj=capped, mode="r|") as tar:
        for member in tar:
            _check_name(member.name)
            if not (member.isreg() or member.isdir()):
                raise _RefusedError(f"{member.name!r} is no plain file or folder")
            budget.spend(member.size)
            tar.extract(member, into, filter="data")


def _extract_zip(file: IO[bytes], into: Path, max_bytes: int, max_files: int) -> None:
    budget = _Budget(max_bytes, max_files)
    with zipfile.ZipFile(file) as packed:
        for info in packed.infolist():
            _check_name(info.filename)
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _RefusedError(f"{info.filename!r} is no plain file or folder")
            budget.spend(info.file_size)  # zipfile reads no more than this, whatever the data hold
            target = into / PurePosixPath(info.filename)
            if info.is_dir():
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with packed.open(info) as source, target.open("wb") as out:
                shutil.copyfileobj(source, out)
