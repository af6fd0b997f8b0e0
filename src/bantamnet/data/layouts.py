"""Find a CIFAR set in a folder, in whatever layout it lies there, and read it."""

import io
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bantamnet.data.archives import ENDINGS
from bantamnet.data.pickles import read_batch
from bantamnet.errors import UserError

PIXELS = 3072
DEPTH = 3
"""Folders below the data folder that are looked into."""
PARQUET_FIX = "pip install 'bantamnet[parquet]'"

_DAMAGED = (OSError, ValueError, LookupError, RuntimeError, struct.error)
"""What pyarrow and Pillow raise over damaged files."""

Arrays = tuple[np.ndarray, np.ndarray]
"""Images uint8 (N, 3, 32, 32) and labels int64 (N,)."""
Files = dict[str, tuple[str, ...]]
"""File names of the train and of the test part."""


@dataclass(frozen=True)
class Layouts:
    """How the layouts spell one set."""

    folder_names: str
    """A regular expression that is found in the name of folders and archives of this set, and in no other set's."""
    num_classes: int
    num_images: dict[str, int]
    """By part; a Parquet file with other counts is another set."""
    binary: Files
    label_bytes: int
    """Before each record in the binary layout; the last of them is the label."""
    python: Files
    label_names: tuple[str, ...]
    """What the labels are called in pickles and as a Parquet column."""


@dataclass(frozen=True)
class Found:
    """A set that lies in a folder, its content not yet checked."""

    kind: str
    folder: Path
    files: dict[str, tuple[Path, ...]]
    read_file: Callable[[Path], Arrays]
    num_classes: int

    def read(self, part: str) -> Arrays:
        """The train or the test part; raises `UserError` for damaged files."""
        parts = [self.read_file(path) for path in self.files[part]]
        images = np.concatenate([images for images, _ in parts])
        labels = np.concatenate([labels for _, labels in parts])
        if labels.min() < 0 or labels.max() >= self.num_classes:
            raise UserError(f"{self.folder}: labels from {labels.min()} to {labels.max()} for {self.num_classes} classes")
        return images, labels


def find_unpacked(root: Path, layouts: Layouts) -> list[Found]:
    """Every layout of this set in the folder, nearest first."""
    found = []
    for folder in _folders(root, layouts):
        for kind, names, read in (
            ("binary", layouts.binary, lambda path: read_binary(path, layouts.label_bytes)),
            ("python", layouts.python, lambda path: read_python(path, layouts.label_names)),
        ):
            files = {part: tuple(folder / name for name in names[part]) for part in names}
            if all(path.is_file() for paths in files.values() for path in paths):
                found.append(Found(kind, folder, files, read, layouts.num_classes))
        files = {part: _parquet_files(folder, part) for part in layouts.num_images}
        if all(files.values()) and _may_be_this_set(files, layouts):
            read = lambda path: read_parquet(path, layouts.label_names)  # noqa: E731
            found.append(Found("parquet", folder, files, read, layouts.num_classes))
    return found


def find_archives(root: Path, layouts: Layouts) -> list[Path]:
    """Archives that are called as this set's are."""
    return [
        path
        for folder in _folders(root, layouts)
        for path in _entries(folder)
        if path.name.lower().endswith(ENDINGS) and re.search(layouts.folder_names, path.name.lower()) and path.is_file()
    ]


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError:
        return []


def _folders(root: Path, layouts: Layouts) -> Iterator[Path]:
    """The folder itself and those below it whose names say that they could hold the set, so that no other set is searched."""
    level = [root]
    for _ in range(DEPTH + 1):
        yield from level
        level = [
            path for folder in level for path in _entries(folder) if _could_hold(path.name.lower(), layouts) and path.is_dir()
        ]


def _could_hold(name: str, layouts: Layouts) -> bool:
    if re.search(layouts.folder_names, name):
        return True
    # `plain_text`, `default` and `data` are folders of Parquet mirrors; a name with another number is another set's.
    return name in ("cifar", "data", "default", "plain_text") or ("cifar" in name and not re.search(r"\d", name))


def read_binary(path: Path, label_bytes: int) -> Arrays:
    """The official binary layout: records of label bytes and 3,072 planar pixel bytes."""
    try:
        raw = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error}") from None
    record = label_bytes + PIXELS
    if len(raw) == 0 or len(raw) % record:
        raise UserError(f"{path}: {len(raw)} bytes are no whole number of {record}-byte records; fetch the file again")
    records = raw.reshape(-1, record)
    return records[:, label_bytes:].reshape(-1, 3, 32, 32), records[:, label_bytes - 1].astype(np.int64)


def read_python(path: Path, label_names: tuple[str, ...]) -> Arrays:
    """A batch of the official Python layout, which is a pickle: `data` uint8 (N, 3072) planar, and a list of labels."""
    batch = read_batch(path)
    data = batch.get("data")
    labels = next((batch[name] for name in label_names if name in batch), None)
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != PIXELS or len(data) == 0:
        raise UserError(f"{path}: no CIFAR batch; `data` should hold rows of {PIXELS} bytes")
    return data.reshape(-1, 3, 32, 32), _whole(labels, len(data), path)


def _whole(labels: Any, num: int, path: Path) -> np.ndarray:
    if isinstance(labels, np.ndarray):
        labels = labels.tolist()
    if not isinstance(labels, list) or len(labels) != num or not all(type(n) is int and 0 <= n < 1 << 31 for n in labels):
        raise UserError(f"{path}: it should hold one label for each of its {num} images")
    return np.array(labels, np.int64)


def _parquet_files(folder: Path, part: str) -> tuple[Path, ...]:
    """`train-00000-of-00002.parquet` and so on, or `train/*.parquet`."""
    beside = [path for path in _entries(folder) if path.name.startswith(part)]
    inside = _entries(folder / part) if (folder / part).is_dir() else []
    return tuple(path for path in [*beside, *inside] if path.suffix == ".parquet" and path.is_file())


def _may_be_this_set(files: dict[str, tuple[Path, ...]], layouts: Layouts) -> bool:
    """By columns and counts; files that cannot be looked into may be."""
    try:
        parquet = _pyarrow_parquet()
        for part, paths in files.items():
            opened = [parquet.ParquetFile(path) for path in paths]
            if sum(file.metadata.num_rows for file in opened) != layouts.num_images[part]:
                return False
            if not all(_column(file.schema_arrow.names, layouts.label_names) for file in opened):
                return False
    except (UserError, *_DAMAGED):
        return True
    return True


def _pyarrow_parquet() -> Any:
    try:
        import pyarrow.parquet as parquet  # type: ignore[import-untyped]
    except ImportError:
        raise UserError(f"reading Parquet files needs pyarrow; {PARQUET_FIX}") from None
    return parquet


def _column(names: list[str], wanted: tuple[str, ...]) -> str | None:
    return next((name for name in wanted if name in names), None)


def read_parquet(path: Path, label_names: tuple[str, ...]) -> Arrays:
    """A Parquet file with PNG bytes in a column `img` or `image` (bytes, or a struct that holds `bytes`) and a label column."""
    parquet = _pyarrow_parquet()
    images, labels = [], []
    try:
        file = parquet.ParquetFile(path)
        image_column = _column(file.schema_arrow.names, ("img", "image"))
        label_column = _column(file.schema_arrow.names, label_names)
        if image_column is None or label_column is None:
            raise UserError(f"{path}: no columns img or image, and {' or '.join(label_names)}")
        for batch in file.iter_batches(batch_size=1000, columns=[image_column, label_column]):
            for cell in batch.column(image_column).to_pylist():
                images.append(_read_png(cell["bytes"] if isinstance(cell, dict) else cell, path))
            labels += batch.column(label_column).to_pylist()
    except UserError:
        raise
    except _DAMAGED as error:
        raise UserError(f"{path}: not a Parquet file that can be read ({error})") from None
    if not images:
        raise UserError(f"{path}: it holds no images")
    return np.stack(images), _whole(labels, len(images), path)


def _read_png(raw: Any, path: Path) -> np.ndarray:
    """uint8 (3, 32, 32); only PNG, which keeps every pixel, and only of that size, so that none can be a bomb."""
    if not isinstance(raw, bytes):
        raise UserError(f"{path}: it holds no image bytes")
    try:
        with Image.open(io.BytesIO(raw), formats=["PNG"]) as picture:
            if picture.size == (32, 32) and picture.mode == "RGB":
                return np.asarray(picture).transpose(2, 0, 1)
    except (*_DAMAGED, SyntaxError, EOFError):
        raise UserError(f"{path}: it holds a picture that is no PNG, or damaged") from None
    raise UserError(f"{path}: it holds a picture that is not 32×32 pixels in RGB")
