"""Official shifted test sets of CIFAR that lie in the data folder, and labels that follow a model's class order."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bantamnet.data.cifar import CIFARS, CifarSet
from bantamnet.data.layouts import find_unpacked
from bantamnet.data.obtain import trusted
from bantamnet.data.split import Mapped, Split
from bantamnet.errors import UserError, unknown

LEVELS = 5
"""Severities in a file, one after another."""


@dataclass(frozen=True)
class Official:
    """A published set: `folder` below the data folder, `num` images in each severity, of the classes of `clean`."""

    name: str
    folder: str
    num: int
    clean: str
    """The CIFAR set whose classes it has."""
    fetch: str
    """Where it is to be had."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """In the order of its labels."""
        return CIFARS[self.clean].class_names


_TAR = "unpack https://zenodo.org/records/{} there, so that {}/labels.npy is in it"
CORRUPTED: dict[str, Official] = {
    "cifar10-c": Official(
        "cifar10-c", "CIFAR-10-C", 10_000, "cifar10", _TAR.format("2535967/files/CIFAR-10-C.tar", "CIFAR-10-C")
    ),
    "cifar100-c": Official(
        "cifar100-c", "CIFAR-100-C", 10_000, "cifar100", _TAR.format("3555552/files/CIFAR-100-C.tar", "CIFAR-100-C")
    ),
}
"""Hendrycks & Dietterich 2019, arXiv 1903.12261: the test images under each corruption, in five severities."""
CIFAR10_1 = Official(
    "cifar10.1",
    "CIFAR-10.1",
    2_000,
    "cifar10",
    "put cifar10.1_v6_data.npy and cifar10.1_v6_labels.npy of https://github.com/modestyachts/CIFAR-10.1 there, or into "
    "CIFAR-10.1 below it",
)
"""Recht et al. 2018, arXiv 1806.00451, version 6: new images, collected as CIFAR-10's were."""


@dataclass(frozen=True)
class Corrupted:
    """The files of a corrupted set; `labels` int64 (num,) are those of the test images in the files' own order."""

    known: Official
    folder: Path
    labels: Tensor
    corruptions: tuple[str, ...]

    def split(self, corruption: str, severity: int) -> Split:
        """The test images under a corruption, in the files' order, still in their file; raises `UserError`."""
        if corruption not in self.corruptions:
            raise UserError(f"{self.folder}: {unknown('corruption', corruption, self.corruptions)}")
        path = self.folder / f"{corruption}.npy"
        num = len(self.labels)
        images = _images(path, LEVELS * num, self.known)
        rows = torch.arange((severity - 1) * num, severity * num)
        return Split(Mapped(images, rows), self.labels, torch.arange(num), self.known.class_names, f"{corruption}-{severity}")

    def clean(self, root: Path) -> Split | None:
        """The plain test images in the files' order, from what lies in the data folder, or None.

        The project keeps sets in an order of its own, by content; so a file is read again in its own order, and taken where its
        labels come in the order of these. The authors' layouts have the order that the corrupted images were made in: raises
        `UserError` where these labels follow another, and so are not those of the images beside them.
        """
        known: CifarSet = CIFARS[self.known.clean]
        for found in find_unpacked(root, known.layouts):
            try:
                fingerprint = trusted(known, found)[1].fingerprint
                images, labels = found.read("test")
            except UserError:
                continue
            if np.array_equal(labels, self.labels.numpy()):
                ids = torch.arange(len(labels))
                return Split(torch.from_numpy(images), self.labels, ids, known.class_names, fingerprint)
            if found.kind != "parquet":
                raise _damaged(
                    self.folder / "labels.npy", f"its labels are not in the order of the test images in {found.folder}"
                )
        return None


def find_corrupted(known: Official, root: Path) -> Corrupted:
    """The set in the data folder; raises `UserError` where it is missing or damaged."""
    folder = root / known.folder
    if not (folder / "labels.npy").is_file():
        raise UserError(f"--shift {known.name}: no {known.folder}/labels.npy in {root}; {known.fetch}")
    stacked = _labels(folder / "labels.npy", LEVELS * known.num, known)
    blocks = stacked.view(LEVELS, known.num)
    if not bool((blocks == blocks[0]).all()):
        raise _damaged(folder / "labels.npy", "the five severities have different labels")
    expected = [known.num // len(known.class_names)] * len(known.class_names)
    if blocks[0].bincount(minlength=len(expected)).tolist() != expected:
        raise _damaged(folder / "labels.npy", f"these are not the labels of the test images, {expected[0]:,} of each class")
    names = tuple(sorted(path.stem for path in folder.glob("*.npy") if path.stem != "labels"))
    if not names:
        raise UserError(f"--shift {known.name}: no corruption in {folder}; {known.fetch}")
    return Corrupted(known, folder, blocks[0].clone(), names)


def find_cifar10_1(root: Path) -> Split:
    """CIFAR-10.1, version 6, in the data folder; raises `UserError` where it is missing or damaged."""
    known = CIFAR10_1
    folder = next((root / name for name in (known.folder, "") if (root / name / "cifar10.1_v6_data.npy").is_file()), None)
    if folder is None:
        raise UserError(f"--shift {known.name}: no cifar10.1_v6_data.npy in {root}; {known.fetch}")
    images = _images(folder / "cifar10.1_v6_data.npy", known.num, known)
    labels = _labels(folder / "cifar10.1_v6_labels.npy", known.num, known)
    rows = torch.arange(known.num)
    return Split(Mapped(images, rows), labels, rows, known.class_names, "cifar10.1-v6")


def in_order_of(split: Split, class_names: tuple[str, ...], told: str) -> Split:
    """The same images, labelled by their place in a model's `class_names`; raises `UserError` where the names differ."""
    check_classes(split.class_names, class_names, told)
    place = torch.tensor([class_names.index(name) for name in split.class_names])
    return replace(split, labels=place[split.labels], class_names=class_names)


def check_classes(found: tuple[str, ...], class_names: tuple[str, ...], told: str) -> None:
    """Raise `UserError` unless both have the same names, in whatever order."""
    differing = {
        "only there": [name for name in found if name not in class_names],
        "only in the model": [name for name in class_names if name not in found],
    }
    if any(differing.values()):
        parts = [
            f"{where}: {', '.join(names[:10])}{', …' if len(names) > 10 else ''}" for where, names in differing.items() if names
        ]
        raise UserError(
            f"{told}: its classes are not the model's ({'; '.join(parts)}); images are matched by class names, so name its class "
            "folders as the model's, or take a model of these classes"
        )


def _load(path: Path, known: Official) -> np.ndarray:
    """Mapped into memory, copied on write; nothing is unpickled."""
    try:
        array = np.load(path, mmap_mode="c", allow_pickle=False)
    except FileNotFoundError:
        raise UserError(f"--shift {known.name}: no {path.name} in {path.parent}; {known.fetch}") from None
    except (OSError, ValueError, EOFError) as error:
        raise _damaged(path, f"no array that can be read ({error})") from None
    if not isinstance(array, np.ndarray):
        raise _damaged(path, "an archive of arrays, where one array should be")
    return array


def _images(path: Path, num: int, known: Official) -> Tensor:
    """uint8 (num, 3, 32, 32) over the file, whose pixels come channel by channel."""
    array = _load(path, known)
    if array.dtype != np.uint8 or array.shape != (num, 32, 32, 3):
        raise _damaged(path, f"expected uint8 ({num}, 32, 32, 3), got {array.dtype} {array.shape}")
    return torch.from_numpy(array).permute(0, 3, 1, 2)


def _labels(path: Path, num: int, known: Official) -> Tensor:
    """int64 (num,)."""
    array = _load(path, known)
    if array.dtype.kind not in "iu" or array.shape != (num,):
        raise _damaged(path, f"expected whole numbers ({num},), got {array.dtype} {array.shape}")
    if int(array.min()) < 0 or int(array.max()) >= len(known.class_names):
        raise _damaged(path, f"labels from {array.min()} to {array.max()} for {len(known.class_names)} classes")
    return torch.from_numpy(array.astype(np.int64))


def _damaged(path: Path, why: str) -> UserError:
    return UserError(f"{path}: {why}; fetch the file again")
