"""What finished runs have said of each image of a split, read from their directories for comparison."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bantamnet.errors import UserError
from bantamnet.evaluate.groups import Spread, spread
from bantamnet.runs.directory import RunDirectory
from bantamnet.runs.group import group_runs, refuse_other_config, runs_of, seed_of, state
from bantamnet.runs.tensorfile import read_tensors


@dataclass(frozen=True)
class Measured:
    """A run, or a group of runs that differ in their seed."""

    path: Path
    runs: tuple[RunDirectory, ...]
    """Finished ones, at least one."""
    seeds: tuple[int, ...]
    missing: tuple[str, ...]
    """Runs of the group that are unfinished or diverged, and so are not counted."""
    split: str
    correct: Tensor
    """bool (runs, images), in the order of their ids."""
    ids: Tensor
    """int64 (images,), rising."""
    targets: Tensor
    """int64 (images,)."""
    fingerprint: str
    """Of the images and their labels."""
    summaries: tuple[dict[str, Any], ...]

    @property
    def accuracies(self) -> list[float]:
        """Of each run, in [0, 1]."""
        num = self.correct.shape[1]
        return [int(row.sum()) / num for row in self.correct]

    @property
    def nets(self) -> list[str]:
        """Digests of their weights, in the order of the runs."""
        return [str(summary["weights_digest"]) for summary in self.summaries]

    def spread(self) -> Spread:
        """Mean, standard deviation and 95% interval."""
        return spread(self.accuracies, self.correct)

    def facts(self) -> dict[str, Any]:
        """As JSON values; parameters and label are those of the first run."""
        seen, first = self.spread(), self.summaries[0]
        return {
            "path": str(self.path),
            "recipe": first["name"],
            "num_runs": len(self.runs),
            "runs": [str(run.path) for run in self.runs],
            "seeds": list(self.seeds),
            "missing": list(self.missing),
            "accuracies": list(seen.values),
            "mean": seen.mean,
            "std": seen.std,
            "interval_95": seen.interval,
            "interval_over": seen.over,
            "parameters": first["parameters"],
            "label": first["label"],
            "tta": first["figures"][self.split]["tta"] if self.split in first["figures"] else None,
        }


def measured(path: Path, split: str = "test") -> Measured:
    """Read a run or a group; raises `UserError` for one without a finished run, or whose runs do not belong together."""
    every = runs_of(path)
    finished = [run for run in every if (run.summary() if run.path == path else state(run) == "finished")]
    missing = [f"{run.path.name} ({state(run)})" for run in every if run not in finished]
    if not finished:
        raise UserError(f"{path} has no finished run yet ({', '.join(missing)}); go on with: bantamnet train --resume {path}")
    configs = [run.config() for run in finished]
    for run, config in zip(finished, configs, strict=True):
        refuse_other_config(run, configs[0].model_copy(update={"seed": config.seed}))
    seeds = [config.seed for config in configs]
    if len(set(seeds)) < len(seeds):
        raise UserError(f"{path}: two of its runs have the same seed ({seeds}), so they tell the same twice; remove one")
    read = [_read(run, split) for run in finished]
    first = read[0]
    for run, other in zip(finished, read, strict=True):
        refuse_other_images(first, other, str(finished[0].path), str(run.path))
    return Measured(
        path=path,
        runs=tuple(finished),
        seeds=tuple(seeds),
        missing=tuple(missing),
        split=split,
        correct=torch.stack([each["correct"] for each in read]),
        ids=first["ids"],
        targets=first["targets"],
        fingerprint=first["fingerprint"],
        summaries=tuple(run.summary() or {} for run in finished),
    )


def group_facts(path: Path) -> dict[str, Any]:
    """A group's runs and, where one is finished, its figures on each split that has predictions."""
    runs = group_runs(path)
    rows = []
    for run in runs:
        figures = (run.summary() or {}).get("figures", {}) if state(run) == "finished" else {}
        accuracies = {split: figures.get(split, {}).get("accuracy") for split in ("val", "test")}
        rows.append({"run": str(run.path), "seed": seed_of(run), "state": state(run), **accuracies})
    scored = [split for split in ("val", "test") if any(row[split] is not None for row in rows)]
    return {
        "group": str(path),
        "runs": rows,
        "diverged": sum(row["state"] == "diverged" for row in rows),
        "figures": {split: measured(path, split).facts() for split in scored},
    }


def _read(run: RunDirectory, split: str) -> dict[str, Any]:
    path = run.path / "predictions" / f"{split}.safetensors"
    if not path.is_file():
        there = sorted(file.stem for file in path.parent.glob("*.safetensors"))
        raise UserError(f"{run.path} has no predictions of {split} images (it has: {', '.join(there) or 'none'})")
    stored, header = read_tensors(path)
    order = stored["ids"].argsort(stable=True)
    correct = stored["logits"].argmax(1) == stored["targets"]
    return {
        "correct": correct[order],
        "ids": stored["ids"][order],
        "targets": stored["targets"][order],
        "fingerprint": header["fingerprint"],
    }


def refuse_other_images(one: dict[str, Any], two: dict[str, Any], first: str, second: str) -> None:
    """Raise `UserError` unless both were scored on the same images with the same labels."""
    same = one["fingerprint"] == two["fingerprint"] and torch.equal(one["ids"], two["ids"])
    if not same or not torch.equal(one["targets"], two["targets"]):
        raise UserError(
            f"{first} and {second} were scored on different images (fingerprints {one['fingerprint'][:12]} and "
            f"{two['fingerprint'][:12]}), so their figures cannot be compared; train or evaluate both on the same data"
        )


def refuse_strangers(subjects: Sequence[Measured]) -> None:
    """Raise `UserError` unless all were scored on the same images."""
    for other in subjects[1:]:
        refuse_other_images(vars(subjects[0]), vars(other), str(subjects[0].path), str(other.path))
