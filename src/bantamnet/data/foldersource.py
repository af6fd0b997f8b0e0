"""A folder of pictures as a data set: from its listing and its decoded pixels to splits."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from bantamnet.config import Data
from bantamnet.data.cache import Decoded, decoded, memory_limit
from bantamnet.data.folder import WHOLE, Listing, printable, scan
from bantamnet.data.listener import Listener
from bantamnet.data.split import Mapped, Split, canonical_order, hold_out
from bantamnet.errors import UserError

DEFAULT_SIZE = 32


class BadPicturesError(UserError):
    """Files that cannot be read; `bad` holds (path below the folder, why) of every one."""

    def __init__(self, root: Path, bad: list[tuple[str, str]], total: int) -> None:
        self.bad = bad
        lines = "\n".join(f"  {printable(path)}: {why}" for path, why in bad)
        super().__init__(
            f"{root}: {len(bad):,} of {total:,} pictures cannot be read:\n{lines}\n"
            "Repair or remove them, or leave them out with --skip-bad"
        )


@dataclass(frozen=True)
class FolderData:
    """The splits of a folder, and where each image of them came from."""

    splits: dict[str, Split]
    """`train`, `test`, and `val` where the folder has one."""
    listing: Listing
    origins: dict[str, np.ndarray]
    """Numbers in the listing of the images of each split, in its order."""
    original_sizes: dict[str, np.ndarray]
    """int64 (N, 2): their heights and widths as they came."""
    bad: list[tuple[str, str]]
    """(path, why) of pictures left out."""


@dataclass(frozen=True)
class FolderSource:
    """A folder of pictures in the place of a known data set."""

    root: Path
    about: str = "a folder of pictures"
    mean: None = None
    std: None = None
    num_train: None = None
    size: tuple[int, int] = (DEFAULT_SIZE, DEFAULT_SIZE)

    @cached_property
    def listing(self) -> Listing:
        """Its files; raises `UserError` for a folder that cannot be trained on."""
        return scan(self.root)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Its classes in natural order."""
        return self.listing.class_names

    def read(self, keys: Data, listener: Listener) -> FolderData:
        """Decode, or read what was decoded before, and split; raises `BadPicturesError` unless bad ones are to be skipped."""
        pictures, bad = self._decoded(keys, listener)
        parts, rows = {}, {}
        for part in self.listing.parts:
            parts[part], rows[part] = _part(self.listing, pictures, part, _mapped(pictures, keys))
        splits, where = _with_test(parts, rows, keys, listener)
        for name, split in splits.items():
            listener.tell(f"{self.root}: {name} {class_counts(split)}")
        seen = set(map(bytes, pictures.digests[where["train"]]))
        if copies := sum(bytes(digest) in seen for digest in pictures.digests[where["test"]]):
            of = f"{copies:,} of {len(where['test']):,} test images"
            listener.tell(
                f"{self.root}: warning: {of} are training images too, pixel by pixel, so accuracy on them says little; "
                "`bantamnet data` names some"
            )
        return FolderData(
            splits=splits,
            listing=self.listing,
            origins={name: pictures.files[rows] for name, rows in where.items()},
            original_sizes={name: pictures.sizes[rows] for name, rows in where.items()},
            bad=bad,
        )

    def scored(self, keys: Data, listener: Listener) -> Split:
        """All pictures, or those of its test folder where it has parts, to be scored and never trained on."""
        pictures, _ = self._decoded(keys, listener)
        part = WHOLE if WHOLE in self.listing.parts else "test"
        if part not in self.listing.parts:
            raise UserError(f"{self.root} has train and no test folder; name a folder of CLASS folders, or add a test folder")
        split = _part(self.listing, pictures, part, _mapped(pictures, keys))[0]
        listener.tell(f"{self.root}: {class_counts(split)}")
        return split

    def _decoded(self, keys: Data, listener: Listener) -> tuple[Decoded, list[tuple[str, str]]]:
        """The pictures, and (path, why) of those left out; raises `BadPicturesError` unless these are to be skipped."""
        listing = self.listing
        for line in listing.ignored:
            listener.tell(f"{self.root}: {line}")
        pictures = decoded(listing, (keys.size or DEFAULT_SIZE,) * 2, keys.resize, listener)
        bad = [(listing.files[number].path, why) for number, why in pictures.bad.items()]
        if bad and not keys.skip_bad:
            raise BadPicturesError(self.root, bad, len(listing.files))
        if bad:
            listener.tell(f"{self.root}: skipped {len(bad):,} of {len(listing.files):,} pictures that cannot be read")
        return pictures, bad


def _mapped(pictures: Decoded, keys: Data) -> bool:
    """Whether pixels stay in their file."""
    return keys.keep == "map" or (keys.keep == "auto" and pictures.pixels.nbytes > memory_limit())


def _part(listing: Listing, pictures: Decoded, part: str, mapped: bool) -> tuple[Split, np.ndarray]:
    """One part in canonical order, and the rows of `pictures` it is made of."""
    in_part = np.array([listing.files[number].part == part for number in pictures.files], dtype=bool)
    rows = in_part.nonzero()[0]
    if not len(rows):
        raise UserError(f"{listing.root}: none of the pictures{'' if part == WHOLE else f' in {part}'} can be read")
    order, fingerprint = canonical_order([digest.tobytes() for digest in pictures.digests[rows]])
    rows = rows[order]
    images = Mapped(pictures.pixels, torch.from_numpy(rows))
    split = Split(
        images=images if mapped else images[torch.arange(len(rows))],
        labels=torch.tensor([listing.files[number].label for number in pictures.files[rows]], dtype=torch.int64),
        ids=torch.arange(len(rows)),
        class_names=listing.class_names,
        fingerprint=fingerprint,
    )
    return split, rows


def _with_test(
    parts: dict[str, Split], rows: dict[str, np.ndarray], keys: Data, listener: Listener
) -> tuple[dict[str, Split], dict[str, np.ndarray]]:
    """`train`, `test` and perhaps `val`; test images are drawn from the training images where the folder has none."""
    if "test" in parts:
        return parts, rows
    source = WHOLE if WHOLE in parts else "train"
    everything = parts[source]
    count = round(len(everything) * keys.test.share)
    if not 0 < count < len(everything):
        raise UserError(f"data.test.share: {keys.test.share} of {len(everything)} pictures leaves no training or no test images")
    train, test = hold_out(everything, count, keys.test.split_seed)
    listener.tell(f"no test folder: {count:,} pictures are drawn as test images (data.test.share {keys.test.share}, by class)")
    whole_rows = rows[source]
    splits = {"train": train, "test": test} | {name: split for name, split in parts.items() if name == "val"}
    where = {"train": whole_rows[train.ids.numpy()], "test": whole_rows[test.ids.numpy()]}
    return splits, where | {name: numbers for name, numbers in rows.items() if name == "val"}


def class_counts(split: Split) -> str:
    """1,000 images: cat 500, dog 300, … (the twenty largest)."""
    counts = split.labels.bincount(minlength=len(split.class_names)).tolist()
    ranked = sorted(zip(counts, split.class_names, strict=True), key=lambda pair: -pair[0])
    told = ", ".join(f"{name} {count:,}" for count, name in ranked[:20])
    return f"{len(split):,} images: {told}{', …' if len(ranked) > 20 else ''}"
