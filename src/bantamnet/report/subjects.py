"""What a report is on: runs, and groups of runs that differ in nothing but their seed."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

from bantamnet.errors import UserError
from bantamnet.evaluate.groups import Spread
from bantamnet.evaluate.measured import Measured, measured
from bantamnet.evaluate.verdict import Verdict
from bantamnet.report.compare import judge, short_names
from bantamnet.report.facts import RunFacts, read_run

ALL_PAIRS = 5
"""So many subjects are compared each with each; of more, every one with the best."""


@dataclass(frozen=True)
class Subject:
    """A run, or a group of them."""

    name: str
    measured: Measured
    runs: Sequence[RunFacts]

    @property
    def first(self) -> RunFacts:
        """The run that stands for all where one must."""
        return self.runs[0]

    @cached_property
    def spread(self) -> Spread:
        """Mean, standard deviation and interval of the test accuracy."""
        return self.measured.spread()

    @property
    def interval(self) -> tuple[float, float]:
        """95% interval of the accuracy: of one run that in its summary, of a group that of the mean."""
        low, high = self.first.test["accuracy_95"] if len(self.runs) == 1 else self.spread.interval or (0.0, 1.0)
        return low, high

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of its runs."""
        return self.measured.seeds


def read_subjects(paths: Sequence[Path], data_dir: Path | None = None, data: str | None = None) -> list[Subject]:
    """A subject for each path: a run directory, or a group of seeds; raises `UserError` for what is neither, or unfinished."""
    if len({path.resolve() for path in paths}) < len(paths):
        raise UserError("the same run is named twice; name different ones")
    names = short_names(paths) if len(paths) > 1 else [paths[0].resolve().name]
    read = [measured(path) for path in paths]
    return [
        Subject(name, found, [read_run(run.path, data_dir, data) for run in found.runs])
        for name, found in zip(names, read, strict=True)
    ]


def verdicts_on(subjects: Sequence[Subject]) -> list[Verdict]:
    """Whether their differences are real: over test images between single runs, else over seeds; strangers are left out."""
    pairs = list(combinations(range(len(subjects)), 2))
    if len(subjects) > ALL_PAIRS:
        best = max(range(len(subjects)), key=lambda index: subjects[index].spread.mean)
        pairs = [(index, best) for index in range(len(subjects)) if index != best]
    alike = [(one, two) for one, two in pairs if same_images(subjects[one], subjects[two])]
    return judge(alike, [subject.measured for subject in subjects], [subject.name for subject in subjects])


def same_images(one: Subject, two: Subject) -> bool:
    """Whether both were measured on the same test images."""
    return one.measured.fingerprint == two.measured.fingerprint


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
    below: dict[str, Any] = {}
    if isinstance(tree, dict):
        below = {f"{key}.{part}" if key else part: value for part, value in tree.items()}
    elif isinstance(tree, list) and tree and isinstance(tree[0], dict):
        below = {f"{key}.{index}" if len(tree) > 1 else key: value for index, value in enumerate(tree)}
    if below:
        return {name: value for part, inside in below.items() for name, value in _flat(inside, part).items()}
    return {key: "none" if tree in (None, "", [], {}) else str(tree)}
