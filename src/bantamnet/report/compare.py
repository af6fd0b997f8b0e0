"""Whether one run, or group of runs, is better than another."""

from collections.abc import Sequence
from itertools import combinations
from os.path import commonpath
from pathlib import Path
from typing import Any

from bantamnet.errors import UserError
from bantamnet.evaluate.groups import Grouped, paired_t, welch
from bantamnet.evaluate.measured import Measured, measured, refuse_strangers
from bantamnet.evaluate.paired import Paired, mcnemar
from bantamnet.evaluate.verdict import Verdict, verdicts

MODELS = (
    "One run against one run, paired over the images (McNemar): this tells these two trained models apart, not their recipes; "
    "another seed may turn it round. For recipes, train groups: bantamnet train RECIPE --seeds 5"
)
RECIPES = (
    "Groups over seeds (Welch): this tells the recipes apart, on these images; the spread between seeds is what chance can do."
)
PAIRED = "Where both are figures of the same nets, scored in two ways, they are compared net by net (paired t)."
HOLM = "{} comparisons at once: how likely each is by chance was raised for that (Holm), so that all together are wrong in 5%."


def compare(paths: Sequence[Path], split: str = "test") -> dict[str, Any]:
    """Figures of runs and groups on a split, and a verdict for each pair; raises `UserError` for what cannot be compared.

    Two with one finished run each are compared over the images, all others over their seeds.
    """
    if len(paths) < 2:
        raise UserError("name two or more runs or groups to compare; `bantamnet runs` lists them")
    if len({path.resolve() for path in paths}) < len(paths):
        raise UserError("the same run is named twice; name two or more different ones")
    subjects = [measured(path, split) for path in paths]
    refuse_strangers(subjects)
    names = short_names(paths)
    found = judge(list(combinations(range(len(subjects)), 2)), subjects, names)
    return {
        "split": split,
        "num_images": len(subjects[0].ids),
        "fingerprint": subjects[0].fingerprint,
        "subjects": [{"name": name, **subject.facts()} for name, subject in zip(names, subjects, strict=True)],
        "comparisons": [verdict.facts() for verdict in found],
        "notes": notes(found, subjects, names),
    }


def judge(pairs: Sequence[tuple[int, int]], subjects: Sequence[Measured], names: Sequence[str]) -> list[Verdict]:
    """The verdict of each pair of places in `subjects`, all made at once."""
    return verdicts([(names[a], names[b], difference(subjects[a], subjects[b])) for a, b in pairs])


def difference(first: Measured, second: Measured) -> Paired | Grouped:
    """Two runs over the images, all else over seeds: in pairs where both have the same nets and scored them otherwise."""
    if len(first.runs) == len(second.runs) == 1:
        return mcnemar(first.correct[0], second.correct[0])
    if first.nets == second.nets:
        return paired_t(first.accuracies, second.accuracies)
    return welch(first.accuracies, second.accuracies)


def notes(found: Sequence[Verdict], subjects: Sequence[Measured], names: Sequence[str]) -> list[str]:
    """What a reader of the verdicts must know."""
    told = [text for unit, text in (("images", MODELS), ("seeds", RECIPES)) if any(verdict.unit == unit for verdict in found)]
    if any(verdict.test == "paired t" for verdict in found):
        told.append(PAIRED)
    if (most := max((verdict.comparisons for verdict in found), default=1)) > 1:
        told.append(HOLM.format(most))
    for subject, name in zip(subjects, names, strict=True):
        if subject.missing:
            told.append(f"{name}: not counted are {', '.join(subject.missing)}")
        summary = subject.summaries[0]
        if summary["label"] == "as published":
            told.append(f"{name} is labelled as published: test or augmented images steered it, so its figure is too high")
        elif subject.split == "val" and summary["chosen"]["by"] != "last":
            told.append(f"{name}: these images chose its epoch, so its figure is too high; --split test is fairer")
    return told


def short_names(paths: Sequence[Path]) -> list[str]:
    """The paths without the folder that they all lie in."""
    whole = [path.resolve() for path in paths]
    shared = Path(commonpath([path.parent for path in whole]))
    return [str(path.relative_to(shared)) for path in whole]
