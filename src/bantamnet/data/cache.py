"""Pictures decoded once: a file of pixels and an index beside it, keyed by the files they came from.

The key is over names, sizes and times of the files, not their bytes: a file changed without a change of either is not noticed.
"""

import contextlib
import hashlib
import io
import json
import os
import zipfile
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import PIL
import torch
from PIL import Image
from torch import Tensor

from bantamnet.data.folder import Listing, PictureFile
from bantamnet.data.listener import Listener
from bantamnet.data.pictures import PictureError, Resize, read_picture
from bantamnet.data.split import record_digest
from bantamnet.errors import UserError
from bantamnet.lock import alone

Item = TypeVar("Item")
Result = TypeVar("Result")

VERSION = 2
BLOCK = 2**24
"""Bytes read at once when a file is checked."""


@dataclass(frozen=True)
class Decoded:
    """The readable pictures of a listing, in its order."""

    pixels: Tensor
    """uint8 (M, 3, H, W) over a memory-mapped file."""
    files: np.ndarray
    """int64 (M,): each picture's number in the listing."""
    digests: np.ndarray
    """uint8 (M, 32): each record's sha256."""
    sizes: np.ndarray
    """int64 (M, 2): height and width of the picture before it was resized."""
    bad: dict[int, str]
    """Why the files of these numbers could not be read."""
    passing: bool
    """Whether some may be readable another time, so that all is decoded again then."""


def cache_dir() -> Path:
    """`BANTAMNET_CACHE`, else `bantamnet/pictures` in the user's cache folder."""
    if folder := os.environ.get("BANTAMNET_CACHE"):
        return Path(folder).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "bantamnet" / "pictures"


def decoded(listing: Listing, size: tuple[int, int], resize: Resize, listener: Listener) -> Decoded:
    """The pictures of a listing at `size` (height, width), from the cache or into it.

    Each folder and size has one place in the cache, which a changed folder takes over. Processes that want the same place wait
    for the one that fills it; a file has its name only when it is complete, and one that is damaged is made anew.
    """
    place = hashlib.sha256(json.dumps([VERSION, os.fsencode(listing.root.resolve()).hex(), size, resize]).encode()).hexdigest()[
        :16
    ]
    folder, key = cache_dir() / place, _key(listing)
    pixels, index = folder / f"{key}.pixels", folder / f"{key}.npz"
    try:
        with _locked(folder):
            if index.exists():
                try:
                    if not (found := _load(pixels, index, size)).passing:
                        return found
                except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
                    listener.tell(f"the cache {folder} is damaged ({error}); decoding again")
            for leftover in folder.iterdir():
                if leftover.suffix in (".npz", ".pixels", ".tmp"):
                    leftover.unlink()
            _decode(listing, size, resize, pixels, index, listener)
            return _load(pixels, index, size)
    except OSError as error:
        raise UserError(
            f"cannot keep decoded pictures in {folder}: {error.strerror or error}; name a folder with room with BANTAMNET_CACHE"
        ) from None


def _key(listing: Listing) -> str:
    total = hashlib.sha256(PIL.__version__.encode())
    for file in listing.files:
        total.update(f"{file.part}\0{file.label}\0{file.size}\0{file.mtime_ns}\0".encode() + os.fsencode(file.path) + b"\0")
    return total.hexdigest()[:16]


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Alone in the folder among all processes; the lock ends with its process."""
    folder.mkdir(parents=True, exist_ok=True)
    with alone(folder):
        yield


def _load(pixels: Path, index: Path, size: tuple[int, int]) -> Decoded:
    """Raises `ValueError` or what reading raises, unless both files are as they were written."""
    with np.load(index, allow_pickle=False) as stored:
        files, digests, sizes, crc = stored["files"], stored["digests"], stored["sizes"], int(stored["crc"])
        bad = {int(number): why for number, why in json.loads(stored["bad"].tobytes())}
        passing = bool(stored["passing"])
    shape = (len(files), 3, *size)
    if pixels.stat().st_size != np.prod(shape, dtype=np.int64):
        raise ValueError("its length is wrong")
    if _crc(pixels) != crc:
        raise ValueError("its checksum does not hold")
    # Copy on write: pages stay the file's own, as nobody writes, and nothing could reach the file if somebody did.
    mapped = np.memmap(pixels, np.uint8, mode="c", shape=shape) if len(files) else np.empty(shape, np.uint8)
    return Decoded(torch.from_numpy(mapped), files, digests, sizes, bad, passing)


def _crc(path: Path) -> int:
    crc = 0
    with path.open("rb", buffering=0) as file:
        while block := file.read(BLOCK):
            crc = zlib.crc32(block, crc)
    return crc


def _decode(listing: Listing, size: tuple[int, int], resize: Resize, pixels: Path, index: Path, listener: Listener) -> None:
    num_classes, total = len(listing.class_names), len(listing.files)
    files, digests, sizes, bad, crc, passing = [], [], [], [], 0, False

    def read(file: PictureFile) -> tuple[bytes, bytes, tuple[int, int]] | PictureError:
        try:
            image, own_size = read_picture(listing.root / file.path, size, resize, strict=True)
        except PictureError as error:
            return error
        return image.tobytes(), record_digest(image, file.label, num_classes), own_size

    Image.init()  # not by several threads at once
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    listener.progress(0, total)
    with _written(pixels) as out, ThreadPoolExecutor(workers) as pool:
        for number, result in enumerate(_in_order(pool, read, listing.files, ahead=8 * workers)):
            if isinstance(result, PictureError):
                bad.append((number, str(result)))
                passing |= result.passing
            else:
                image, digest, own_size = result
                out.write(image)
                crc = zlib.crc32(image, crc)
                files.append(number)
                digests.append(np.frombuffer(digest, np.uint8))
                sizes.append(own_size)
            listener.progress(number + 1, total)
    with _written(index) as out:
        arrays = {
            "files": np.array(files, np.int64),
            "digests": np.array(digests, np.uint8).reshape(-1, 32),
            "sizes": np.array(sizes, np.int64).reshape(-1, 2),
            "bad": np.frombuffer(json.dumps(bad).encode(), np.uint8),
            "crc": np.array(crc, np.int64),
            "passing": np.array(passing),
        }
        content = io.BytesIO()
        np.savez(content, **arrays)  # type: ignore[arg-type]
        out.write(content.getvalue())


def _in_order(
    pool: ThreadPoolExecutor, function: Callable[[Item], Result], items: Iterable[Item], ahead: int
) -> Iterator[Result]:
    """Results in the order of the items, computed at most `ahead` of the consumer, so that few wait in memory."""
    pending: deque[Future[Result]] = deque()
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()


@contextlib.contextmanager
def _written(path: Path) -> Iterator[Any]:
    """A binary file that gets its name when it is complete and on the disk."""
    temporary = path.with_suffix(path.suffix + ".tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def memory_limit() -> int:
    """Bytes of memory that this process may count on: a quarter of the machine's or the container's, shared among its ranks."""
    limit = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for name in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):
            limit = min(limit, int(Path(name).read_text(encoding="ascii")))
    return limit // 4 // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
