"""A contest's submission: test images without labels to a CSV of `ID,Labels`."""

import hashlib
from pathlib import Path
from typing import Any

import torch

from bantamnet.data.contest import read_unlabelled
from bantamnet.data.sources import SOURCES
from bantamnet.errors import UserError, unknown
from bantamnet.evaluate.classifier import Classifier
from bantamnet.evaluate.tta import ViewAverage
from bantamnet.runs.tensorfile import write_bytes

HEADER = "ID,Labels"
NUM_TEST = {"cifar10": 10_000, "cifar100": 10_000}
"""Rows that a contest on these data asks for."""


def write_submission(
    classifier: Classifier, test: Path, out: Path, average: ViewAverage, classes: str | None = None, rows: int | None = None
) -> dict[str, Any]:
    """Classify the images in `test` and write `out`, a row an image, by rising id; returns what was done.

    Labels are places in the official order of the data set `classes`, by default the one that the model was trained for.
    Everything is checked first, and the file is complete the moment it has its name. Raises `UserError` for a model whose
    classes stand in another order, for another number of images than `rows` (default: 10,000 for CIFAR), for ids that are
    missing, double or no whole numbers, for pixels that are not uint8, and for logits that are no numbers.
    """
    if out.exists():
        raise UserError(f"--out: {out} exists already; choose another name")
    if not out.parent.is_dir():
        raise UserError(f"--out: {out.parent} is no folder; make it first, or choose another")
    known = official_classes(classifier, classes)
    given = read_unlabelled(test, classifier.info.preprocessing)
    wanted = rows or (NUM_TEST.get(known) if known else None)
    if wanted is not None and len(given) != wanted:
        raise UserError(
            f"--test: {test} holds {len(given):,} images, and {wanted:,} are asked for; --rows N asks for another number"
        )
    logits = classifier.logits(given.images, average)
    if not bool(logits.isfinite().all()):
        broken = int((~logits.isfinite().all(1)).sum())
        raise UserError(f"the net's answers to {broken:,} images are no numbers (NaN or infinite); is it damaged?")
    labels = logits.argmax(1)
    order = given.ids.argsort()
    lines = [HEADER, *(f"{row},{label}" for row, label in zip(given.ids[order].tolist(), labels[order].tolist(), strict=True))]
    content = ("\n".join(lines) + "\n").encode("ascii")
    write_bytes(out, content)
    counts = torch.bincount(labels, minlength=len(classifier.info.class_names)).tolist()
    return {
        "out": str(out),
        "test": str(test),
        "rows": len(given),
        "ids": given.ids_from,
        "labels_of": known,
        "labels": [
            {"label": label, "class": name, "num": num}
            for label, (name, num) in enumerate(zip(classifier.info.class_names, counts, strict=True))
        ],
        **average.figures(),
        "digest": classifier.digest,
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def official_classes(classifier: Classifier, classes: str | None) -> str | None:
    """The data set in whose order the model has its classes; None where its data are nobody's but the user's.

    `classes` None asks for the data that it was trained for, or for those that have classes of the same names.
    """
    names, trained_on = classifier.info.class_names, classifier.info.config["data"]["name"]
    if classes is None:
        alike = (name for name, source in SOURCES.items() if set(source.class_names) == set(names))
        classes = trained_on if trained_on in SOURCES else next(alike, None)
    if classes is None:
        return None
    if classes not in SOURCES:
        raise UserError(f"--classes: {unknown('data set', classes, SOURCES)}")
    official = SOURCES[classes].class_names
    if len(names) != len(official):
        raise UserError(f"--classes: the model has {len(names)} classes, and {classes} has {len(official)}")
    wrong = [place for place, pair in enumerate(zip(names, official, strict=True)) if pair[0] != pair[1]]
    if wrong:
        place = wrong[0]
        raise UserError(
            f"label {place} is {names[place]!r} to the model and {official[place]!r} in {classes}: labels would be misordered "
            f"({len(wrong)} of {len(names)}); train it on {classes}, or on folders in that order"
        )
    return classes
