"""Known data sets: a source is a function that returns the train and the test split."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np

from bantamnet.config.data import is_path
from bantamnet.data.cifar import CIFAR10, CIFAR100
from bantamnet.data.foldersource import FolderSource
from bantamnet.data.obtain import find_cifar, load_cifar
from bantamnet.data.split import Split, canonical
from bantamnet.errors import UserError, unknown

Stat = tuple[float, float, float]


@dataclass(frozen=True)
class Source:
    """How to load a data set, and the per-channel mean and standard deviation of its training pixels / 255."""

    load: Callable[[Path | None], tuple[Split, Split]]
    about: str
    mean: Stat
    std: Stat
    class_names: tuple[str, ...]
    size: tuple[int, int] = (32, 32)
    num_train: int | None = None
    """Training images, where that is known before they are read."""
    find: Callable[[Path | None], tuple[Split, Split] | None] | None = None
    """As `load`, but None instead of a download; not given where nothing is downloaded."""


def default_data_dir() -> Path:
    """`BANTAMNET_DATA`, else `bantamnet/data` in the user's cache folder."""
    if folder := os.environ.get("BANTAMNET_DATA"):
        return Path(folder).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "bantamnet" / "data"


def _data_dir(named: Path | None) -> Path:
    """The folder as named, which must be there (a mistyped one would be made, and filled by a download), or the default one."""
    if named and not named.is_dir():
        raise UserError(
            f"--data-dir {named}: no such folder; make it, or let `bantamnet fetch cifar10 --data-dir {named}` fill it"
        )
    return named or default_data_dir()


def load_digits(data_dir: Path | None = None) -> tuple[Split, Split]:
    """1,437 training and 360 test images of handwritten digits, 8×8 in 17 greys, each pixel shown as 4×4 in three channels.

    UCI Optical Recognition of Handwritten Digits (Alpaydin & Kaynak 1998), CC BY 4.0, shipped with the package. Every fifth
    image in canonical order is a test image.
    """
    with files("bantamnet.data").joinpath("digits.npz").open("rb") as file:
        stored = np.load(file, allow_pickle=False)
        greys, labels = stored["greys"], stored["labels"]
    shown = np.rint(greys * (255 / 16)).astype(np.uint8).repeat(4, axis=1).repeat(4, axis=2)
    everything = canonical(np.repeat(shown[:, None], 3, axis=1), labels, DIGITS)
    is_test = everything.ids % 5 == 0
    return everything.subset((~is_test).nonzero()[:, 0]), everything.subset(is_test.nonzero()[:, 0])


DIGITS = tuple("0123456789")
SOURCES: dict[str, Source] = {
    "digits": Source(
        load=load_digits,
        about="1,797 handwritten digits, built in",
        mean=(0.305, 0.305, 0.305),
        std=(0.376, 0.376, 0.376),
        class_names=DIGITS,
        num_train=1437,
    ),
    "cifar10": Source(
        load=lambda data_dir: load_cifar("cifar10", _data_dir(data_dir)),
        find=lambda data_dir: find_cifar("cifar10", data_dir or default_data_dir()),
        about="60,000 photographs in 10 classes (Krizhevsky 2009)",
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2470, 0.2435, 0.2616),
        class_names=CIFAR10.class_names,
        num_train=50_000,
    ),
    "cifar100": Source(
        load=lambda data_dir: load_cifar("cifar100", _data_dir(data_dir)),
        find=lambda data_dir: find_cifar("cifar100", data_dir or default_data_dir()),
        about="60,000 photographs in 100 classes (Krizhevsky 2009)",
        mean=(0.5071, 0.4865, 0.4409),
        std=(0.2673, 0.2564, 0.2762),
        class_names=CIFAR100.class_names,
        num_train=50_000,
    ),
}


def find_source(name: str) -> Source | FolderSource:
    """The source of that name, or the folder at that path; raises `UserError` for an unknown one, naming the nearest."""
    if is_path(name):
        root = Path(name).expanduser()
        if not root.is_dir():
            raise UserError(
                f"{root}: no such folder; --data names a known data set ({', '.join(SOURCES)}) or a folder of pictures"
            )
        return FolderSource(root)
    if name not in SOURCES:
        raise UserError(unknown("data set", name, SOURCES) + "; a path to a folder of pictures works too, as in ./pictures")
    return SOURCES[name]
