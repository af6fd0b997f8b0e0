"""A run whose training another one has done already: it is copied up to the last step, and scored in its own way."""

import json
import os
import shutil
from pathlib import Path

from bantamnet.config import RunConfig
from bantamnet.configfile import write_yaml
from bantamnet.errors import WriteError
from bantamnet.runs.directory import RunDirectory, read_lines
from bantamnet.runs.tensorfile import write_bytes
from bantamnet.training.checkpoints import list_checkpoints


def trains_alike(one: RunConfig, other: RunConfig) -> bool:
    """Whether two configs make the same steps and differ in how the end is scored at most."""
    return one.time_budget is None and one == other.model_copy(update={"tta": one.tta})


def take_training(twin: RunDirectory, run: RunDirectory, config: RunConfig) -> None:
    """Make `run` stand where the finished `twin`, which trains alike, stood after its last step, for `resume` to score it.

    Nothing is done where the twin has not finished or keeps no checkpoint, or several ranks train: then `run` trains itself.
    """
    if not twin.summary() or not list_checkpoints(twin.checkpoints) or int(os.environ.get("WORLD_SIZE", "1")) > 1:
        return
    begun = twin.config().model_copy(update={"tta": config.tta})
    copy = run.path.parent / f".{run.path.name}.copy"
    try:
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir(parents=True)
        (copy / "predictions").mkdir()
        for name in ("checkpoints", "own"):
            if (twin.path / name).is_dir():
                shutil.copytree(twin.path / name, copy / name)
        for name in ("metrics.jsonl", "command.txt"):
            shutil.copy2(twin.path / name, copy / name)
        looks = [line for line in read_lines(twin.evaluations) if line["why"] == "after an epoch"]
        if looks:
            write_bytes(copy / "evaluations.jsonl", "".join(json.dumps(line) + "\n" for line in looks).encode())
        write_bytes(copy / "config.yaml", write_yaml(begun.dump()).encode())
        _move(copy, run.path)
    except OSError as error:
        raise WriteError(run.path, error) from None


def _move(copy: Path, to: Path) -> None:
    if to.is_dir():
        to.rmdir()  # empty, or it would have been gone on with
    copy.rename(to)
