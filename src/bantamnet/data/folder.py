"""What a folder of pictures holds: parts, classes and files, found by listing alone."""

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from bantamnet.data.pictures import ENDINGS
from bantamnet.errors import UserError

PARTS = ("train", "val", "test")
WHOLE = "all"
"""Part of the pictures of a folder without parts."""


class PictureFile(NamedTuple):
    """A file that is named like a picture; `size` in bytes and `mtime_ns` are −1 for a link that leads nowhere."""

    part: str
    path: str
    """Below the folder."""
    label: int
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class Listing:
    """The pictures of a folder in a fixed order: by part, class, name, numbers in names by value."""

    root: Path
    class_names: tuple[str, ...]
    files: tuple[PictureFile, ...]
    ignored: tuple[str, ...]
    """A line for each kind of entry that was passed over."""

    @property
    def parts(self) -> list[str]:
        """`all` alone, or those of train, val and test that hold pictures."""
        present = {file.part for file in self.files}
        return [part for part in (WHOLE, *PARTS) if part in present]


def natural_key(name: str) -> tuple[tuple[str | int, ...], str]:
    """Sort key under which 2 comes before 10; names that differ only in leading zeros are still told apart."""
    pieces = re.split("([0-9]+)", name)
    return tuple(int(piece) if index % 2 else piece for index, piece in enumerate(pieces)), name


def scan(root: Path) -> Listing:
    """List `root`/{train,val,test}/CLASS/* or `root`/CLASS/*; raises `UserError` for what cannot be trained on.

    Part folders count as such when there is a `train` that holds folders. A class is a folder with pictures in it; its name is
    the folder's, in Unicode's composed form (NFC), so that train and test may come from different file systems.
    """
    ignored = _Ignored()
    found: dict[str, dict[str, list[tuple[str, int, int]]]] = {}
    parts = [part for part in PARTS if any(_is_folder(entry) for entry in _visible(root / part, _Ignored()))]
    if "train" in parts:
        for entry in _visible(root, ignored):
            if entry.name not in parts:
                ignored.add("entries beside train, val and test", entry.name)
        for part in parts:
            found[part] = _classes(root, part, ignored)
    else:
        found[WHOLE] = _classes(root, "", ignored)
    first = found[next(iter(found))]
    names = sorted(first, key=natural_key)
    _refuse(root, found, names, parts)
    files = tuple(
        PictureFile(part, path, label, size, mtime_ns)
        for part, classes in found.items()
        for label, name in enumerate(names)
        for path, size, mtime_ns in sorted(classes.get(name, []), key=lambda file: natural_key(file[0]))
    )
    return Listing(root, tuple(names), files, ignored.lines())


def _refuse(root: Path, found: dict[str, dict[str, list[tuple[str, int, int]]]], names: list[str], parts: list[str]) -> None:
    if not names:
        wanted = f"{root}/CLASS/picture.png or {root}/train/CLASS/picture.png ({', '.join(ENDINGS)})"
        raise UserError(f"{root}: no pictures in class folders; expected {wanted}")
    strange = [(part, name) for part, classes in found.items() for name in sorted(classes, key=natural_key) if name not in names]
    if strange:
        told = ", ".join(f"{part}/{name}" for part, name in strange)
        raise UserError(
            f"{root}: train has no pictures of {len(strange)} classes: {told}; train's classes are "
            f"{', '.join(names)}. Add pictures to train, or rename or remove these folders"
        )
    if len(names) < 2:
        hint = f"; its {' and '.join(parts)} would be parts if there were a train" if parts and parts != ["train"] else ""
        raise UserError(f"{root}: one class alone ({names[0]}); put each class's pictures in a folder of its own{hint}")


def _classes(root: Path, part: str, ignored: "_Ignored") -> dict[str, list[tuple[str, int, int]]]:
    """(path below `root`, size, mtime) of the files of each class that has any."""
    classes: dict[str, list[tuple[str, int, int]]] = defaultdict(list)
    for folder in _visible(root / part, ignored):
        below = os.path.relpath(folder.path, root)
        if not _is_folder(folder):
            ignored.add("files outside class folders", below)
            continue
        name = unicodedata.normalize("NFC", folder.name)
        try:
            name.encode()
        except UnicodeEncodeError:
            raise UserError(f"{root}: a class folder's name is no UTF-8 ({printable(below)}); rename it") from None
        files = []
        for entry in _visible(Path(folder.path), ignored):
            path = os.path.join(below, entry.name)  # noqa: PTH118  (a Path a file is slow, and a set may have millions)
            if _is_folder(entry):
                ignored.add("folders inside class folders", path)
            elif os.path.splitext(entry.name)[1].lower() in ENDINGS and (entry.is_file() or entry.is_symlink()):  # noqa: PTH122
                files.append((path, *_stat(entry)))
            else:
                ignored.add("entries that are no pictures", path)
        if files:
            classes[name] += files
        else:
            ignored.add("class folders without pictures", below)
    return dict(classes)


def _visible(folder: Path, ignored: "_Ignored") -> list["os.DirEntry[str]"]:
    """What is in a folder, in natural order, less what is hidden; nothing for a folder that is not there."""
    try:
        with os.scandir(folder) as inside:
            entries = sorted(inside, key=lambda entry: natural_key(entry.name))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise UserError(f"cannot list {folder}: {error.strerror or error}") from None
    for entry in entries:
        if is_hidden(entry.name):
            ignored.add("hidden entries", entry.name)
    return [entry for entry in entries if not is_hidden(entry.name)]


def is_hidden(name: str) -> bool:
    """Whether training and scoring leave a file or folder of this name alone."""
    return name.startswith(".") or name == "__MACOSX"


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _stat(entry: "os.DirEntry[str]") -> tuple[int, int]:
    try:
        stat = entry.stat()
    except OSError:
        return -1, -1
    return stat.st_size, stat.st_mtime_ns


def printable(path: str) -> str:
    """A path as text that any terminal takes, bytes that are no UTF-8 written as \\xNN."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


@dataclass
class _Ignored:
    """Counts entries passed over, by why, and remembers a few names."""

    names: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def add(self, why: str, name: str) -> None:
        self.names[why].append(name)

    def lines(self, shown: int = 5) -> tuple[str, ...]:
        return tuple(f"ignored {len(names):,} {why}: {_some(names, shown)}" for why, names in self.names.items())


def _some(names: Sequence[str], shown: int) -> str:
    told = ", ".join(printable(name) for name in names[:shown])
    return f"{told}, …" if len(names) > shown else told
