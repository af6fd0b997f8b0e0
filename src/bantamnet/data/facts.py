"""What there is to know of a data set before training on it."""

import hashlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bantamnet.config import Data
from bantamnet.data.balance import counts
from bantamnet.data.foldersource import FolderData, FolderSource
from bantamnet.data.listener import Listener
from bantamnet.data.sources import find_source
from bantamnet.data.split import Split
from bantamnet.data.statistics import channel_statistics

AT_ONCE = 2**24
"""Bytes of pixels looked at together."""
SHOWN = 20
"""Examples of duplicates that are named."""


def inspect(keys: Data, data_dir: Path | None, listener: Listener) -> tuple[dict[str, Any], dict[str, Split]]:
    """(facts, parts) of the data set that the keys name."""
    source = find_source(keys.name)
    if isinstance(source, FolderSource):
        folder = source.read(keys, listener)
        return {"data": keys.name, **data_facts(folder.splits, folder)}, folder.splits
    train, test = source.load(data_dir)
    splits = {"train": train, "test": test}
    return {"data": keys.name, **data_facts(splits)}, splits


def data_facts(splits: Mapping[str, Split], folder: FolderData | None = None) -> dict[str, Any]:
    """Counts, balance, sizes, statistics, fingerprints and duplicates of the parts of a data set, as plain values."""
    train = splits["train"]
    per_class = {name: counts(split).tolist() for name, split in splits.items()}
    mean, std = channel_statistics(train)
    in_train = counts(train)
    return {
        "class_names": list(train.class_names),
        "size": list(train.size),
        "splits": {
            name: {"num": len(split), "fingerprint": split.fingerprint, "per_class": per_class[name]}
            for name, split in splits.items()
        },
        "imbalance": float(in_train.max() / in_train.min()) if int(in_train.min()) else None,
        "mean": list(mean),
        "std": list(std),
        "original_sizes": original_sizes(folder) if folder else None,
        "duplicates": duplicates(splits, folder),
        "bad": [{"path": path, "why": why} for path, why in folder.bad] if folder else [],
        "ignored": list(folder.listing.ignored) if folder else [],
    }


def original_sizes(folder: FolderData) -> dict[str, Any]:
    """Smallest, median and largest height and width of the files' pictures, and how many have the commonest shape."""
    sizes = np.concatenate(list(folder.original_sizes.values()))
    (height, width), num = Counter(map(tuple, sizes.tolist())).most_common(1)[0]
    return {
        "min": sizes.min(0).tolist(),
        "median": np.median(sizes, axis=0).tolist(),
        "max": sizes.max(0).tolist(),
        "commonest": [height, width],
        "commonest_share": num / len(sizes),
    }


def duplicates(splits: Mapping[str, Split], folder: FolderData | None = None) -> dict[str, Any]:
    """Images whose pixels, at the input size, are those of another.

    `inside` counts for each split the images that repeat an earlier one of it, `across` for each pair of splits the images of the
    second that the first holds too, `conflicting` the groups of equal images with different labels. Examples name images by
    their files, or by split and id.
    """
    places: dict[bytes, list[tuple[str, int]]] = {}
    for name, split in splits.items():
        for row, digest in enumerate(pixel_digests(split)):
            places.setdefault(digest, []).append((name, row))
    groups = [group for group in places.values() if len(group) > 1]
    names = list(splits)
    inside = dict.fromkeys(names, 0)
    across = {(first, second): 0 for index, first in enumerate(names) for second in names[index + 1 :]}
    conflicting = 0
    for group in groups:
        held = Counter(name for name, _ in group)
        for name, num in held.items():
            inside[name] += num - 1
        for first, second in across:
            across[first, second] += held[second] if held[first] else 0
        conflicting += len({int(splits[name].labels[row]) for name, row in group}) > 1
    return {
        "inside": inside,
        "across": [{"splits": list(pair), "num": num} for pair, num in across.items()],
        "conflicting": conflicting,
        "examples": [[_name(splits, folder, *place) for place in group] for group in groups[:SHOWN]],
    }


def pixel_digests(split: Split) -> list[bytes]:
    """sha256 of each image's pixels, in order."""
    height, width = split.size
    digests: list[bytes] = []
    for indices in torch.arange(len(split)).split(max(1, AT_ONCE // (3 * height * width))):
        digests += [hashlib.sha256(image.tobytes()).digest() for image in split.gather(indices).numpy()]
    return digests


def _name(splits: Mapping[str, Split], folder: FolderData | None, split: str, row: int) -> str:
    if folder:
        return folder.listing.files[int(folder.origins[split][row])].path
    return f"{split} {int(splits[split].ids[row])} ({splits[split].class_names[int(splits[split].labels[row])]})"
