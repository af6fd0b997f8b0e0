"""What a model is to be scored on when its data shift: a plan of cells, each a corruption in a severity, or one set."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from bantamnet.config import Data, Imported, RunConfig
from bantamnet.config.data import is_path
from bantamnet.data.corruptions.pixels import SIDE
from bantamnet.data.corruptions.table import (
    BENCHMARK,
    CORRUPTIONS,
    GENERATED,
    LEFT_OUT,
    SEVERITIES,
    check_size,
    corrupt,
    operation,
)
from bantamnet.data.foldersource import FolderSource
from bantamnet.data.listener import Listener
from bantamnet.data.shifted import CIFAR10_1, CORRUPTED, check_classes, find_cifar10_1, find_corrupted, in_order_of
from bantamnet.data.sources import default_data_dir
from bantamnet.data.split import Split, hold_out
from bantamnet.errors import UserError, unknown
from bantamnet.evaluate.scoring import load_splits
from bantamnet.runs.modelfile import ModelInfo

IMAGES = 1_000
"""Test images that are scored under each corruption unless more are asked for."""
SUBSET_SEED = 0
"""They are drawn by this seed, the same share of each class, so that every run is scored on the same ones."""
WITH_CORRUPTIONS = ("corruptions", *CORRUPTED)
KINDS = (*WITH_CORRUPTIONS, CIFAR10_1.name)
Transform = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class ShiftRequest:
    """What a user asks for; `shift` is one of `KINDS`, or the path of a folder of CLASS folders."""

    shift: str
    corruptions: tuple[str, ...] = ()
    """Empty for those of the benchmark that are there."""
    severities: tuple[int, ...] = SEVERITIES
    num_images: int | None = None
    """None for `IMAGES` of a test set under corruptions, and for all images of any other set."""
    everything: bool = False
    """Every corruption that is there, of every image."""

    def check(self) -> None:
        """Raise `UserError` for what can be seen to be wrong before anything is read."""
        if self.shift not in KINDS and not is_path(self.shift) and not Path(self.shift).is_dir():
            raise UserError(
                f"--shift: {unknown('shift', self.shift, KINDS)}; the path of a folder of pictures works too, as in ./photos"
            )
        if self.shift not in WITH_CORRUPTIONS and (self.corruptions or self.severities != SEVERITIES):
            raise UserError(
                f"--corruptions and --severities go with --shift {', '.join(WITH_CORRUPTIONS)}; not with {self.shift}"
            )
        for severity in self.severities:
            if severity not in SEVERITIES:
                raise UserError(f"--severities: {severity} is none; give some of 1,2,3,4,5")
        if self.num_images is not None and self.num_images < 1:
            raise UserError(f"--images: give 1 or more, got {self.num_images}")
        if self.everything and (self.corruptions or self.num_images is not None):
            raise UserError("--all takes every corruption and every image; leave --corruptions and --images out, or --all")
        if self.shift == "corruptions":
            for name in self.corruptions:
                operation(name, 1)


@dataclass(frozen=True)
class Cell:
    """Images that get an accuracy of their own."""

    split: Split
    corruption: str = ""
    severity: int = 0
    transform: Transform | None = None
    """(uint8 images, their rows in the split) → what the net sees; None where the images are shifted already."""


@dataclass(frozen=True)
class ShiftPlan:
    """`cells` to be scored, and the `clean` images that all of them are made of, row by row, where these are known."""

    request: ShiftRequest
    source: str
    """Where the images are from, in words."""
    cells: tuple[Cell, ...]
    clean: Split | None
    num_all: int
    """Images that those of a cell were drawn from."""
    left_out: dict[str, str]
    """Corruptions of the benchmark that were to be had and are not, and why."""

    @property
    def generated(self) -> bool:
        """Whether the images are made here, and are not those of official files or of a user."""
        return self.request.shift == "corruptions"

    @property
    def corruptions(self) -> tuple[str, ...]:
        """By name, in the order of the cells; none for a set that is shifted as it is."""
        return tuple(dict.fromkeys(cell.corruption for cell in self.cells if cell.corruption))


def plan_shift(
    request: ShiftRequest,
    info: ModelInfo,
    config: RunConfig | Imported,
    data_dir: Path | None = None,
    listener: Listener | None = None,
) -> ShiftPlan:
    """Read what the request needs, for a model of these classes whose data are those of `config`; raises `UserError`."""
    request.check()
    listener = listener or Listener()
    if request.shift == "corruptions":
        check_size(info.preprocessing.size)
        return _generated(request, info, load_splits(config, data_dir, listener)["test"])
    root = data_dir or default_data_dir()
    if request.shift in KINDS and info.preprocessing.size != (SIDE, SIDE):
        height, width = info.preprocessing.size
        raise UserError(f"--shift {request.shift}: its images are {SIDE}×{SIDE}, and the model reads {height}×{width}")
    if request.shift in CORRUPTED:
        return _official(request, info, root)
    told = f"--shift {request.shift}"
    if request.shift == CIFAR10_1.name:
        split, source = find_cifar10_1(root), "the official files, version 6 (arXiv 1806.00451)"
    else:
        split, source = _pictures(Path(request.shift), info, config.data, listener), "a folder of pictures"
    cell = Cell(_drawn(in_order_of(split, info.class_names, told), request.num_images))
    return ShiftPlan(request, source, (cell,), None, len(split), {})


def _generated(request: ShiftRequest, info: ModelInfo, test: Split) -> ShiftPlan:
    """The model's own test images, corrupted when they are scored."""
    split = _drawn(in_order_of(test, info.class_names, "--shift corruptions"), _num(request))
    names = request.corruptions or (tuple(CORRUPTIONS) if request.everything else BENCHMARK)
    cells = tuple(
        Cell(split, name, severity, _corrupting(split, name, severity)) for name in names for severity in request.severities
    )
    return ShiftPlan(request, GENERATED, cells, split, len(test), {} if request.corruptions else LEFT_OUT)


def _corrupting(split: Split, name: str, severity: int) -> Transform:
    return lambda images, indices: corrupt(images, split.ids[indices].tolist(), name, severity)


def _official(request: ShiftRequest, info: ModelInfo, root: Path) -> ShiftPlan:
    """The published files: the same rows of each of them."""
    found = find_corrupted(CORRUPTED[request.shift], root)
    benchmark = [*BENCHMARK, *LEFT_OUT]
    names = request.corruptions or tuple(name for name in found.corruptions if request.everything or name in benchmark)
    if not names:
        there = ", ".join(found.corruptions)
        raise UserError(f"--shift {request.shift}: none of the benchmark's corruptions is in {root}; name some of: {there}")
    told = f"--shift {request.shift}"
    whole = {
        (name, severity): in_order_of(found.split(name, severity), info.class_names, told)
        for name in names
        for severity in request.severities
    }
    rows = _drawn(next(iter(whole.values())), _num(request)).ids
    clean = found.clean(root)
    return ShiftPlan(
        request,
        "the official files (arXiv 1903.12261)",
        tuple(Cell(split.subset(rows), name, severity) for (name, severity), split in whole.items()),
        in_order_of(clean, info.class_names, told).subset(rows) if clean else None,
        len(found.labels),
        {} if request.corruptions else {name: "not in the folder" for name in benchmark if name not in found.corruptions},
    )


def _pictures(folder: Path, info: ModelInfo, keys: Data, listener: Listener) -> Split:
    root = folder.expanduser().resolve()
    if not root.is_dir():
        raise UserError(f"--shift {folder}: no such folder; name one that holds a folder of pictures for each class")
    pictures = FolderSource(root)
    check_classes(pictures.class_names, info.class_names, f"--shift {folder}")  # before anything is decoded
    preprocessing = info.preprocessing
    height, width = preprocessing.size
    if height != width:
        raise UserError(f"--shift {folder}: folders are read as squares, and this net was trained on {height} × {width}")
    read = Data(name=str(root), size=preprocessing.size[0], resize=preprocessing.resize, skip_bad=keys.skip_bad, keep=keys.keep)
    return pictures.scored(read, listener)


def _num(request: ShiftRequest) -> int | None:
    return None if request.everything else request.num_images or IMAGES


def _drawn(split: Split, num: int | None) -> Split:
    """`num` images, the same share of each class, always the same ones; all of them where there are no more."""
    return split if num is None or num >= len(split) else hold_out(split, num, SUBSET_SEED)[1]
