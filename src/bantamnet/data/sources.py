"""Known data sets: a source is a function that returns the train and the test split."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np

from bantamnet.config.data import is_path
from bantamnet.data.foldersource import FolderSource
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


def default_data_dir() -> Path:
    """`BANTAMNET_DATA`, else `bantamnet/data` in the user's cache folder."""
    if folder := os.environ.get("BANTAMNET_DATA"):
        return Path(folder).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "bantamnet" / "data"


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


def _load_cifar(data_dir: Path | None, name: str) -> tuple[Split, Split]:
    layout = CIFAR_LAYOUTS[name]
    root = data_dir or default_data_dir()
    needed = [*layout.train_files, layout.test_file]
    folder = next((f for f in (root, root / layout.folder) if all((f / file).is_file() for file in needed)), None)
    if folder is None:
        raise UserError(
            f"data.name: {name} was not found: {root} should hold a folder {layout.folder} with {', '.join(needed)} "
            f"(the official binary archive, unpacked). Name the folder with --data-dir or BANTAMNET_DATA, or use the "
            "built-in data set: --set data.name=digits"
        )
    splits = []
    for part, names in (("train", layout.train_files), ("test", [layout.test_file])):
        raw = np.concatenate([_read_records(folder / file, layout.label_bytes) for file in names])
        images = raw[:, layout.label_bytes :].reshape(-1, 3, 32, 32)
        split = canonical(images, raw[:, layout.label_bytes - 1], layout.class_names)
        if split.fingerprint != layout.fingerprints[part]:
            raise UserError(
                f"{folder}: these are not {name}'s {part} images (fingerprint {split.fingerprint[:12]}…, expected "
                f"{layout.fingerprints[part][:12]}…); the files are damaged or changed, fetch them again"
            )
        splits.append(split)
    return splits[0], splits[1]


def _read_records(path: Path, label_bytes: int) -> np.ndarray:
    try:
        raw = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error}") from None
    record = label_bytes + 3072
    if len(raw) == 0 or len(raw) % record:
        raise UserError(f"{path}: {len(raw)} bytes are no whole number of {record}-byte records; fetch the file again")
    return raw.reshape(-1, record)


@dataclass(frozen=True)
class _CifarLayout:
    folder: str
    train_files: list[str]
    test_file: str
    label_bytes: int
    class_names: tuple[str, ...]
    fingerprints: dict[str, str]


DIGITS = tuple("0123456789")
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR100 = tuple(
    """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
    caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant flatfish
    forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle
    mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
    possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
    sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle wardrobe whale
    willow_tree wolf woman worm
    """.split()  # noqa: SIM905
)
CIFAR_LAYOUTS = {
    "cifar10": _CifarLayout(
        folder="cifar-10-batches-bin",
        train_files=[f"data_batch_{number}.bin" for number in range(1, 6)],
        test_file="test_batch.bin",
        label_bytes=1,
        class_names=CIFAR10,
        fingerprints={
            "train": "55a61f79a40ece2ceda9fb5f9f7078f6ea2fc4952489cef56682bcf92cfcc260",
            "test": "325704b01eb92e1e2a6215ae6a916bb7db7de054af0c496be1c7be2e0fcfbf5f",
        },
    ),
    "cifar100": _CifarLayout(
        folder="cifar-100-binary",
        train_files=["train.bin"],
        test_file="test.bin",
        label_bytes=2,
        class_names=CIFAR100,
        fingerprints={
            "train": "6d2a03c47c105e4c34d3a2ff16c2803e8df0e5d6fa0c631e46663a327aeac573",
            "test": "381b7d98ce1e9b98232a8df0db0a22992654c39ff2433270656ab8ace5a45e65",
        },
    ),
}

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
        load=lambda data_dir: _load_cifar(data_dir, "cifar10"),
        about="60,000 photographs in 10 classes (Krizhevsky 2009)",
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2470, 0.2435, 0.2616),
        class_names=CIFAR10,
        num_train=50_000,
    ),
    "cifar100": Source(
        load=lambda data_dir: _load_cifar(data_dir, "cifar100"),
        about="60,000 photographs in 100 classes (Krizhevsky 2009)",
        mean=(0.5071, 0.4865, 0.4409),
        std=(0.2673, 0.2564, 0.2762),
        class_names=CIFAR100,
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
