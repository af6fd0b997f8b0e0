"""Images that a net learns from and is scored on."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from bantamnet.audit.finding import Finding, NotCheckedError
from bantamnet.audit.subject import Subject
from bantamnet.data.facts import AT_ONCE, pixel_digests
from bantamnet.data.split import Split

SMALL = 8
"""Height and width at which all pairs of pictures are compared."""
CANDIDATE, NEAR = 0.9, 0.95
"""Correlation of pixels from which a pair is looked at closely, at that size, and counts as near-duplicate, at full size. Of
CIFAR-10's pairs above 0.95 all have equal labels, of those between 0.9 and 0.92 a third have not."""
GRAVE = 0.005
"""Share of the test images from which exact duplicates are an error: what they are worth is then half a point of accuracy."""


def duplicates(subject: Subject) -> Iterator[Finding]:
    """Whether images that a net is scored on were trained on, pixel for pixel."""
    splits = subject.splits
    places = {digest: row for row, digest in enumerate(pixel_digests(splits["train"]))}
    for name, split in splits.items():
        if name == "train" or (name == "val" and subject.config.data.val.source == "test"):
            continue
        pairs = [(places[digest], row) for row, digest in enumerate(pixel_digests(split)) if digest in places]
        if pairs:
            yield _finding("duplicates", splits["train"], split, name, pairs, "the same pixels as")


def near_duplicates(subject: Subject) -> Iterator[Finding]:
    """Whether test images are almost training images: other brightness, contrast or compression, or mirrored."""
    if not subject.near_duplicates:
        raise NotCheckedError("comparing all pairs takes up to minutes; --near-duplicates asks for it")
    splits = subject.splits
    known = set(pixel_digests(splits["train"]))
    test = splits["test"]
    others = torch.tensor([digest not in known for digest in pixel_digests(test)])
    pairs = near_pairs(splits["train"], test)
    pairs = [(first, second) for first, second in pairs if others[second]]
    if pairs:
        yield _finding("near-duplicates", splits["train"], test, "test", pairs, f"correlated by {NEAR} or more with")


def _finding(check: str, train: Split, split: Split, name: str, pairs: list[tuple[int, int]], how: str) -> Finding:
    num = len({row for _, row in pairs})
    share = num / len(split)
    examples = ", ".join(
        f"{name} {int(split.ids[row])} ({_label(split, row)}) and train {int(train.ids[first])} ({_label(train, first)})"
        for first, row in pairs[:3]
    )
    return Finding(
        check,
        "error" if (check, name) == ("duplicates", "test") and share >= GRAVE else "warning",
        f"{num:,} of {len(split):,} {name} images ({100 * share:.2f}%) are {how} a training image: {examples}",
        "take them out of the training images, or tell their number beside the figure",
        "data",
    )


def _label(split: Split, row: int) -> str:
    return split.class_names[int(split.labels[row])]


def near_pairs(train: Split, test: Split) -> list[tuple[int, int]]:
    """(training row, test row) for each test image that is correlated with a training image, or its mirror image.

    Both are shrunk to 8×8 and every pair is compared there; what is alike is compared again at full size. The mean of each
    channel is taken off first, so brightness, contrast and tint do not count, and a picture of one colour is like no other.
    """
    small_train, small_test = _vectors(train, None, SMALL), _vectors(test, None, SMALL)
    found: dict[int, tuple[float, int]] = {}
    mirrored = small_train.view(-1, 3, SMALL, SMALL).flip(3).reshape(len(small_train), -1)
    for start in range(0, len(small_test), 512):
        part = small_test[start : start + 512]
        for flip, others in ((False, small_train), (True, mirrored)):
            rows, columns = (part @ others.T > CANDIDATE).nonzero(as_tuple=True)
            for begin in range(0, len(rows), 4096):
                tests, trains = rows[begin : begin + 4096] + start, columns[begin : begin + 4096]
                whole = _vectors(train, trains, None)
                if flip:
                    whole = whole.view(-1, 3, *train.size).flip(3).reshape(len(whole), -1)
                alike = (whole * _vectors(test, tests, None)).sum(1)
                for value, row, other in zip(alike.tolist(), tests.tolist(), trains.tolist(), strict=True):
                    if value >= NEAR and value > found.get(row, (0.0, 0))[0]:
                        found[row] = value, other
    return [(other, row) for row, (_, other) in sorted(found.items())]


def _vectors(split: Split, rows: Tensor | None, size: int | None) -> Tensor:
    """float32 (N, pixels) of images, shrunk to `size` where it is given, less the mean of each channel, of length 1."""
    height, width = split.size
    parts = []
    for indices in (torch.arange(len(split)) if rows is None else rows).split(max(1, AT_ONCE // (12 * height * width))):
        images = split.gather(indices).float()
        if size:
            images = F.interpolate(images, (size, size), mode="area")
        parts.append(F.normalize((images - images.mean((2, 3), keepdim=True)).flatten(1)))
    return torch.cat(parts)
