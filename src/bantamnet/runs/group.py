"""Runs that differ in nothing but their seed: a folder of ordinary run directories, and a group.json that names them."""

import contextlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from bantamnet.config import RunConfig
from bantamnet.errors import UserError, WriteError
from bantamnet.runs.directory import GROUP_FILE, RunDirectory
from bantamnet.runs.tensorfile import write_bytes

DIVERGED = "diverged.json"
"""In a run directory of a group: why it could not go on, so that it is not tried again and again."""


def is_group(path: Path) -> bool:
    """Whether this is a folder that `train --seeds` or `ablate` made."""
    return (path / GROUP_FILE).is_file()


def member_name(seed: int) -> str:
    """The folder of a group's run."""
    return f"seed-{seed}"


def seed_of(run: RunDirectory) -> int:
    """The seed of a group's run, which may not have begun; raises `UserError` where the folder's name tells none."""
    if not (run.path.name.startswith("seed-") and run.path.name[5:].isdigit()):
        raise UserError(f"{run.path.parent}: {GROUP_FILE} must name folders seed-0, seed-1, …, not {run.path.name}")
    return int(run.path.name[5:])


def group_runs(path: Path) -> list[RunDirectory]:
    """The runs that a group names, whether they have begun or not, by seed; raises `UserError` for what is no group."""
    try:
        names = json.loads((path / GROUP_FILE).read_text(encoding="utf-8"))["runs"]
        assert isinstance(names, list) and all(isinstance(name, str) and Path(name).name == name for name in names)
    except (OSError, ValueError, KeyError, TypeError, AssertionError):
        raise UserError(
            f"{path} is no group of runs (its {GROUP_FILE} is missing or damaged); make one: train RECIPE --seeds 5"
        ) from None
    return [RunDirectory(path / name) for name in names]


def named_runs(path: Path, seeds: Iterable[int]) -> list[RunDirectory]:
    """The runs of these seeds, and those that the group has already, by seed; nothing need be there, and nothing is written."""
    before = [run.path.name for run in group_runs(path)] if is_group(path) else []
    names = sorted({*before, *map(member_name, seeds)}, key=lambda name: (len(name), name))
    return [RunDirectory(path / name) for name in names]


def write_group(path: Path, runs: Iterable[RunDirectory]) -> None:
    """Name the runs in `path`; raises `UserError` where something else is."""
    refuse_other_folder(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(path, error) from None
    text = json.dumps({"runs": [run.path.name for run in runs]}) + "\n"
    file = path / GROUP_FILE
    if not file.is_file() or file.read_text(encoding="utf-8") != text:
        write_bytes(file, text.encode())


def refuse_other_folder(path: Path) -> None:
    """Raise `UserError` where something is in the way of a group."""
    if path.exists() and not is_group(path) and (not path.is_dir() or any(path.iterdir())):
        raise UserError(f"{path} exists already and is no group of runs; choose another --out")


def state(run: RunDirectory) -> str:
    """finished, damaged, diverged, unfinished or not begun."""
    try:
        if run.summary():
            return "finished"
    except UserError:
        return "damaged"
    if (run.path / DIVERGED).exists():
        return "diverged"
    return "unfinished" if (run.path / "config.yaml").is_file() else "not begun"


def runs_of(path: Path) -> list[RunDirectory]:
    """The runs of a group, or the one run that `path` is; raises `UserError` where it is neither."""
    return group_runs(path) if is_group(path) else [RunDirectory.open(path)]


def refuse_other_config(run: RunDirectory, planned: RunConfig) -> None:
    """Raise `UserError` naming the first key in which a run that has begun differs from what is to be trained there."""
    begun, asked = run.config().dump(), planned.dump()
    for key in ("mean", "std"):
        if asked["data"][key] is None:  # measured, and written into the run
            begun["data"][key] = None
    for tree in (begun, asked):
        del tree["use"], tree["device"]  # the same code under another path is told by its sum, when it is run
    if others := _differences(begun, asked):
        key, was, now = others[0]
        raise UserError(
            f"{run.path} was begun with {key}={_short(was)}, and this would train {key}={_short(now)}; "
            "repeat the command that made it, or choose another --out"
        )


def _differences(then: Any, now: Any, path: str = "") -> list[tuple[str, Any, Any]]:
    if isinstance(then, Mapping) and isinstance(now, Mapping):
        keys = {**then, **now}
        return [found for key in keys for found in _differences(then.get(key), now.get(key), f"{path}.{key}" if path else key)]
    if isinstance(then, list) and isinstance(now, list) and len(then) == len(now):
        return _differences(dict(enumerate(then)), dict(enumerate(now)), path)
    return [] if then == now else [(path, then, now)]


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}…"


def clear_unbegun(run: RunDirectory) -> None:
    """Remove the empty folders of a run whose process was killed before it had a config; anything else is left alone.

    Every rank may call.
    """
    if not (run.path / "config.yaml").exists() and run.path.is_dir():
        for leftover in [*run.path.glob(".*.tmp"), run.path / "command.txt"]:
            leftover.unlink(missing_ok=True)
        for folder in (run.checkpoints, run.path / "predictions", run.path):
            with contextlib.suppress(OSError):  # not empty, or gone
                folder.rmdir()
