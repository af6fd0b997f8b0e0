"""Test images without labels, as contests hand them out."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bantamnet.data.pickles import read_batch
from bantamnet.data.preprocess import Preprocessing, find_pictures
from bantamnet.errors import UserError


@dataclass(frozen=True)
class Unlabelled:
    """`images` uint8 (N, 3, H, W) and `ids` int64 (N,), no two alike, in the order of the file."""

    images: Tensor
    ids: Tensor
    ids_from: str
    """Where the ids come from, in words."""

    def __len__(self) -> int:
        return len(self.images)


def read_unlabelled(path: Path, preprocessing: Preprocessing) -> Unlabelled:
    """Images from a pickle, an .npy file or a folder of pictures; raises `UserError` for anything doubtful.

    - Pickle: a dictionary with `data` and, where it has them, `ids`, as NYU's contests of 2024 (`data` planar rows (N, 3072))
      and of 2025 (`data` (N, 32, 32, 3)) have it. Nothing that it names is run.
    - .npy: an array of one of these shapes.
    - Folder: read as `predict` does; names that are numbers, as in 17.png, are the ids.

    Without ids the images count from 0; a folder's in the natural order of their names.
    """
    if path.is_dir():
        files = find_pictures([path])
        return Unlabelled(torch.stack([preprocessing.read_image(file) for file in files]), *_named(files))
    if not path.is_file():
        raise UserError(f"--test: {path}: no such file or folder")
    if path.suffix.lower() == ".npy":
        stored: dict[str, Any] = {"data": _read_npy(path)}
    else:
        stored = read_batch(path)
    if "data" not in stored:
        raise UserError(f"--test: {path} has no `data`, but {', '.join(sorted(stored)) or 'nothing'}")
    images = _planar(stored["data"], path)
    if "ids" not in stored:
        return Unlabelled(images, torch.arange(len(images)), f"0 to {len(images) - 1}, as the file has none")
    return Unlabelled(images, _whole_ids(stored["ids"], len(images), path), "the file's")


def _read_npy(path: Path) -> np.ndarray:
    try:
        # Mapped, so that a header cannot ask for more than there is; a .npz in disguise is no array.
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, SyntaxError, OverflowError) as error:
        raise UserError(f"--test: {path}: not an .npy file that can be read ({error})") from None
    if not isinstance(array, np.ndarray):
        raise UserError(f"--test: {path}: not an .npy file")
    return array


def _planar(data: Any, path: Path) -> Tensor:
    """uint8 (N, 3, H, W) of an array in one of the known shapes."""
    if not isinstance(data, np.ndarray):
        raise UserError(f"--test: {path}: `data` should be an array, got {type(data).__name__}")
    if data.dtype != np.uint8:
        raise UserError(f"--test: {path}: pixels should be uint8, 0 to 255, got {data.dtype}; give the file as it was handed out")
    if data.ndim == 2 and data.shape[1] == 3072:
        data = data.reshape(-1, 3, 32, 32)
    elif data.ndim == 4 and data.shape[3] == 3:
        data = data.transpose(0, 3, 1, 2)
    elif data.ndim != 4 or data.shape[1] != 3:
        raise UserError(f"--test: {path}: `data` should be (N, 32, 32, 3) or rows (N, 3072), got {data.shape}")
    if not data.size:
        raise UserError(f"--test: {path} holds no images")
    if data.max() <= 1:
        raise UserError(f"--test: {path}: pixels go from {data.min()} to {data.max()} instead of 255; were they divided?")
    return torch.from_numpy(np.array(data, order="C"))


def _whole_ids(ids: Any, num: int, path: Path) -> Tensor:
    """int64 (num,), one for each image."""
    if isinstance(ids, np.ndarray):
        ids = ids.tolist()
    if not isinstance(ids, list) or not all(type(one) is int and 0 <= one < 1 << 62 for one in ids):
        raise UserError(f"--test: {path}: `ids` should be whole numbers from 0")
    if len(ids) != num:
        raise UserError(f"--test: {path}: {len(ids):,} ids for {num:,} images; the file is cut or mixed up")
    return _unique(ids, str(path))


def _unique(ids: list[int], where: str) -> Tensor:
    number, times = Counter(ids).most_common(1)[0]
    if times > 1:
        raise UserError(f"--test: {where}: id {number} is there {times} times; each row of a submission needs its own")
    if max(ids) >= 1 << 62:
        raise UserError(f"--test: {where}: id {max(ids)} is too large; ids are whole numbers below 2^62")
    return torch.tensor(ids)


def _named(files: list[Path]) -> tuple[Tensor, str]:
    """Ids that pictures are named by, and where they come from."""
    numbers = [int(file.stem) if file.stem.isascii() and file.stem.isdecimal() else None for file in files]
    ids = [number for number in numbers if number is not None]
    if not ids:
        ends = f"{files[0].name} is 0, {files[-1].name} is {len(files) - 1}"
        return torch.arange(len(files)), f"0 to {len(files) - 1}, in the order of the pictures' names ({ends})"
    if len(ids) < len(files):
        odd = files[numbers.index(None)].name
        raise UserError(f"--test: some pictures are named by number, and {odd} is not; name all of them by id, or none")
    return _unique(ids, str(files[0].parent)), "the pictures' names"
