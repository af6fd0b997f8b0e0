"""The net and its file, held against config, records and claims."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from bantamnet.audit.claimed import misquoted
from bantamnet.audit.finding import Finding, NotCheckedError, Source
from bantamnet.audit.subject import Subject
from bantamnet.config import Imported
from bantamnet.data.views import read_views
from bantamnet.models.resnet import count_parameters

EXPORTED = (".onnx", ".pt2", ".pte", ".ptl", ".tflite", ".engine", ".mlmodel", ".mlpackage")
"""Endings of files that a net is exported to."""
REDUCED = (torch.float16, torch.bfloat16, torch.int8, torch.uint8, torch.float8_e4m3fn, torch.float8_e5m2)
"""Types of weights that were rounded after training; masks and counters of a user's own net have others."""


def parameters(subject: Subject) -> Iterator[Finding]:
    """Whether the net keeps its budget, and has the parameters that are told of it."""
    params = count_parameters(subject.net)

    def finding(evidence: str, fix: str, read: Source) -> Finding:
        return Finding("parameters", "error", evidence, fix, read)

    config = subject.config
    if not isinstance(config, Imported) and config.max_parameters is not None and params > config.max_parameters:
        yield finding(
            f"budget: {config.max_parameters:,} parameters ({config.budget}) are allowed, and the net of this config has "
            f"{params:,}",
            "make the net smaller (bantamnet summary RECIPE tells which layers cost most), or name its real weight class",
            "config",
        )
    if subject.claimed:
        yield from misquoted(subject.claimed, params, subject.num_classes)
    if subject.kind == "recipe":
        return
    trainable = {name for name, _ in subject.model[0].named_parameters()}
    held = sum(tensor.numel() for name, tensor in subject.weights.items() if name in trainable)
    told = {"the model file": (subject.header["parameters"], "model"), "the config's net": (params, "config")}
    if subject.kind == "run":
        told["summary.json"] = (subject.summary["parameters"], "run")
    for where, (count, read) in told.items():
        if count != held:
            fix = "train again, or put the file back that belongs to this run"
            yield finding(f"{where} has {count:,} parameters, the model file holds {held:,}", fix, read)  # type: ignore[arg-type]


def normalisation(subject: Subject) -> Iterator[Finding]:
    """Whether pixels are normalised in use as they were in training."""
    claims, keys = subject.claimed, subject.config.data

    def finding(evidence: str, read: Source) -> Finding:
        fix = "normalise with the training's mean and standard deviation wherever the net is used"
        return Finding("normalisation", "error", evidence, fix, read)

    if claims and claims.inference:
        used = {"mean": claims.inference.mean, "std": claims.inference.std}
        others = [
            f"{key} {_numbers(value)} instead of {_numbers(getattr(keys, key))}"
            for key, value in used.items()
            if value is not None and getattr(keys, key) is not None and not _equal(value, getattr(keys, key))
        ]
        if others:
            yield finding(f"claims.inference: the report's own tests and inference use {' and '.join(others)}", "claim")
        elif claims.inference.normalization == "another":
            yield finding(
                "claims.inference.normalization: the report's inference normalises otherwise than its training, which divides "
                f"by std {_numbers(keys.std)}; its numbers are not told here",
                "claim",
            )
    if subject.kind == "recipe":
        return
    for key in ("mean", "std"):
        in_file, carried = subject.header["preprocessing"][key], subject.header["repeat"]["config"]["data"][key]
        for where, trained in (("config.yaml", getattr(keys, key)), ("the config that the model file carries", carried)):
            if trained is not None and not _equal(in_file, trained):
                yield finding(
                    f"the model file's preprocessing has {key} {_numbers(in_file)}, and {where} trains with {_numbers(trained)}",
                    "model",
                )
                break


def _equal(first: Any, second: Any) -> bool:
    return all(abs(a - b) < 1e-6 for a, b in zip(first, second, strict=True))


def _numbers(values: Any) -> str:
    return "(not given)" if values is None else " ".join(f"{value:g}" for value in values)


def label_order(subject: Subject) -> Iterator[Finding]:
    """Whether a class is the same number to the data and to the model."""
    name = "label-order"
    if subject.kind == "recipe":
        raise NotCheckedError("a recipe is no run")
    in_file, in_data = tuple(subject.header["class_names"]), subject.class_names
    if in_file != in_data:
        place = next(
            (i for i, (a, b) in enumerate(zip(in_file, in_data, strict=False)) if a != b), min(len(in_file), len(in_data))
        )
        yield Finding(
            name,
            "error",
            f"the model file has {len(in_file)} classes and {subject.config.data.name} has {len(in_data)}; class {place} is "
            f"{_nth(in_file, place)} in the file and {_nth(in_data, place)} in the data",
            "give the folders of the classes their old names, or train again",
            "model",
        )
    if subject.kind != "run":
        return
    for split in subject.summary["figures"]:
        tensors, _ = subject.predictions(split)
        order = permuted(tensors["logits"].argmax(1), tensors["targets"], len(in_file))
        if order is not None:
            right = float((tensors["logits"].argmax(1) == tensors["targets"]).double().mean())
            moved = float((tensors["logits"].argmax(1) == order[tensors["targets"]]).double().mean())
            first = next(number for number, other in enumerate(order.tolist()) if number != other)
            yield Finding(
                name,
                "error",
                f"predictions/{split}.safetensors: {100 * right:.2f}% are right as they stand, and {100 * moved:.2f}% with the "
                f"classes in another order: {_nth(in_file, first)} is mostly called {_nth(in_file, int(order[first]))}",
                "compare the order of the class names where the labels were made and where the net was trained",
                "run",
            )


def _nth(names: tuple[str, ...], place: int) -> str:
    return repr(names[place]) if place < len(names) else "missing"


def permuted(predicted: Tensor, targets: Tensor, num_classes: int) -> Tensor | None:
    """For each class the one that most of its images are taken for, int64 (classes,), where that is another order of the classes.

    None unless it explains over half of the answers, and a tenth more of them than the order as it is, and by more than chance:
    three standard deviations of the difference of two such counts.
    """
    table = (targets * num_classes + predicted).bincount(minlength=num_classes**2).view(num_classes, num_classes)
    order = table.argmax(1)
    same = float(table.diag().sum() / table.sum())
    other = float(table.gather(1, order[:, None]).sum() / table.sum())
    chance = 3 * math.sqrt((same + other) / len(targets))
    is_order = sorted(order.tolist()) == list(range(num_classes)) and order.tolist() != list(range(num_classes))
    return order if is_order and other > 0.5 and other > same + max(0.1, chance) else None


def equal_views(subject: Subject) -> Iterator[Finding]:
    """Whether a view of test-time augmentation is another one under a different name."""

    def finding(where: str, line: str, first: int, later: int, read: Source) -> Finding:
        return Finding(
            "equal-views",
            "warning",
            f"{where}: of the views `{line}` number {later} is number {first} on every image; it adds weight and no view",
            "leave that view out, or give the other one its weight: 2*…",
            read,
        )

    size = (subject.config.data.size or 32,) * 2
    if subject.claimed and subject.claimed.tta:
        line = subject.claimed.tta
        for first, later in same_views(line, size):
            yield finding("claims.tta", line, first, later, "claim")
    line, seen = subject.config.tta.views, set()
    for first, later in same_views(line, size):
        seen.add(later)
        yield finding("tta.views", line, first, later, "config")
    if subject.kind == "recipe":
        return
    for figure in subject.figures:
        for first, later in figure.get("equal_views", []):
            if figure["tta"] != line or later not in seen:
                seen.add(later)
                yield finding(f"{figure['where']}, {figure['split']}", figure["tta"], first, later, "run")


def same_views(line: str, size: tuple[int, int] = (32, 32), num: int = 16) -> list[tuple[int, int]]:
    """(first, later) numbers, from 1, of views that are the same on `num` pictures of noise; each later one once.

    Half of them leave out the darkest and lightest values, as views that stretch values change nothing else.
    """
    generator = torch.Generator().manual_seed(0)
    shape = (num // 2, 3, *size)
    kinds = [torch.randint(*ends, shape, dtype=torch.uint8, generator=generator) for ends in ((0, 256), (40, 200))]
    images = torch.cat(kinds)
    seen = [view.apply(images, torch.arange(num)) for view in read_views(line)]
    pairs = ((first, later) for later in range(len(seen)) for first in range(later) if torch.equal(seen[first], seen[later]))
    once: dict[int, int] = {}
    for first, later in pairs:
        once.setdefault(later + 1, first + 1)
    return [(first, later) for later, first in once.items()]


def unverified_export(subject: Subject) -> Iterator[Finding]:
    """Whether there is a quantised or exported net that nobody has held against the one it was made of."""

    def finding(evidence: str, read: Source) -> Finding:
        fix = "score it on the test images and compare its answers with those of best.safetensors, image by image"
        return Finding("unverified-export", "error", evidence, fix, read)

    if subject.kind == "recipe":
        raise NotCheckedError("a recipe is no run")
    kinds = sorted({str(tensor.dtype).removeprefix("torch.") for tensor in subject.weights.values() if tensor.dtype in REDUCED})
    if kinds:
        yield finding(
            f"the model file holds weights of type {', '.join(kinds)}, and no record of how they compare with fp32", "model"
        )
    folder = subject.run.path if subject.kind == "run" else subject.model_path.parent
    stem = "" if subject.kind == "run" else subject.model_path.stem
    exported = sorted(path.name for path in folder.iterdir() if path.suffix in EXPORTED and path.stem.startswith(stem))
    if exported:
        yield finding(f"{', '.join(exported)}: exported, and no record that the answers are those of the model file", "run")
    if not kinds and not exported:
        raise NotCheckedError("it has no quantised or exported file")
