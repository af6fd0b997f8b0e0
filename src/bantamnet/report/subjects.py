"""What is compared: runs, and groups of runs that differ in nothing but their seed."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bantamnet.errors import UserError
from bantamnet.evaluate.groups import Spread, spread, welch
from bantamnet.evaluate.paired import mcnemar
from bantamnet.evaluate.verdict import Verdict, verdicts
from bantamnet.report.facts import RunFacts, read_run

ALL_PAIRS = 5
"""So many subjects are compared each with each; of more, every one with the best."""


@dataclass(frozen=True)
class Subject:
    """A run, or a group of them."""

    name: str
    runs: Sequence[RunFacts]

    @property
    def first(self) -> RunFacts:
        """The run that stands for all where one must."""
        return self.runs[0]

    @cached_property
    def correct(self) -> Tensor:
        """bool (seeds, images): which test images each run named right."""
        return torch.stack([run.predictions["logits"].argmax(1) == run.predictions["targets"] for run in self.runs])

    @cached_property
    def spread(self) -> Spread:
        """Mean, standard deviation and interval of the test accuracy; of one run the interval in its summary."""
        return spread([run.test["accuracy"] for run in self.runs], self.correct)

    @property
    def interval(self) -> tuple[float, float]:
        """95% interval of the accuracy."""
        low, high = self.first.test["accuracy_95"] if len(self.runs) == 1 else self.spread.interval or (0.0, 1.0)
        return low, high

    @property
    def seeds(self) -> list[int]:
        """The seeds of its runs."""
        return [run.config.seed for run in self.runs]


def read_subjects(paths: Sequence[Path], data_dir: Path | None = None, data: str | None = None) -> list[Subject]:
    """A subject for each path: a run directory, or a folder of runs that differ in their seed alone; raises `UserError`."""
    found = []
    for path in paths:
        folders = [path] if (path / "config.yaml").is_file() else sorted(p.parent for p in path.glob("*/config.yaml"))
        if not folders:
            raise UserError(f"{path} is no run directory and holds none; `bantamnet runs` lists them")
        runs = [read_run(folder, data_dir, data) for folder in folders]
        alike = [{**run.config.dump(), "seed": 0} for run in runs]
        if any(config != alike[0] for config in alike):
            raise UserError(f"{path} holds runs of different configs; name them one by one: {' '.join(map(str, folders))}")
        found.append(Subject(path.resolve().name, runs))
    names = [subject.name for subject in found]
    if len(set(names)) < len(names):  # tell folders of one name apart by their whole path
        found = [Subject(str(path), subject.runs) for path, subject in zip(paths, found, strict=True)]
    return found


def compare(subjects: Sequence[Subject]) -> list[Verdict]:
    """Whether their differences are real: over seeds where both sides have several, over test images where both are one run."""
    pairs = list(combinations(subjects, 2))
    if len(subjects) > ALL_PAIRS:
        best = max(subjects, key=lambda subject: subject.spread.mean)
        pairs = [(subject, best) for subject in subjects if subject is not best]
    made: list[Any] = []
    for one, two in pairs:
        if len(one.runs) == len(two.runs) == 1:
            if same_images(one.first, two.first):
                made.append((one.name, two.name, mcnemar(one.correct[0], two.correct[0])))
        else:
            accuracies = ([run.test["accuracy"] for run in subject.runs] for subject in (one, two))
            made.append((one.name, two.name, welch(*accuracies)))
    return verdicts(made)


def same_images(one: RunFacts, two: RunFacts) -> bool:
    """Whether both were measured on the same test images in the same order."""
    return bool(
        one.test["fingerprint"] == two.test["fingerprint"] and torch.equal(one.predictions["ids"], two.predictions["ids"])
    )


def differing_keys(subjects: Sequence[Subject]) -> dict[str, list[str]]:
    """Config keys (dotted) whose values differ → the value of each subject; seeds, names and texts aside."""
    flat = [_flat(subject.first.config.dump()) for subject in subjects]
    keys = list(dict.fromkeys(key for config in flat for key in config))
    texts = ("seed", "name", "about", "claims", "assumed")
    return {
        key: [config.get(key, "–") for config in flat]
        for key in keys
        if key.split(".")[0] not in texts and len({config.get(key, "–") for config in flat}) > 1
    }


def _flat(tree: Any, key: str = "") -> dict[str, str]:
    if isinstance(tree, dict) and tree:
        return {
            name: value for part, below in tree.items() for name, value in _flat(below, f"{key}.{part}" if key else part).items()
        }
    if isinstance(tree, list) and tree and isinstance(tree[0], dict):
        return {
            n: value
            for index, below in enumerate(tree)
            for n, value in _flat(below, f"{key}.{index}" if len(tree) > 1 else key).items()
        }
    return {key: "none" if tree in (None, "", [], {}) else str(tree)}
