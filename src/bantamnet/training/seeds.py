"""Several runs, one after another: those that are finished are left alone, one that was stopped goes on where it stood."""

import contextlib
import dataclasses
import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from bantamnet.config import RunConfig
from bantamnet.errors import NonFiniteError, UserError
from bantamnet.lock import hold
from bantamnet.runs.directory import RunDirectory
from bantamnet.runs.group import DIVERGED, clear_unbegun, group_runs, named_runs, refuse_other_config, seed_of, write_group
from bantamnet.runs.own import use_copies
from bantamnet.runs.tensorfile import write_bytes
from bantamnet.runtime import is_main_process
from bantamnet.training.precheck import check_before_data
from bantamnet.training.rescore import take_training
from bantamnet.training.signals import Stopped
from bantamnet.training.train import Options, resume, train

Finish = Callable[[RunDirectory], object]


@dataclass(frozen=True)
class Planned:
    """A run that is to be finished."""

    run: RunDirectory
    config: RunConfig
    twin: RunDirectory | None = None
    """A run that trains the same and is scored otherwise, so that its training need not be done again."""


def train_seeds(config: RunConfig, num_seeds: int, out: Path | None, options: Options, finish: Finish) -> Path:
    """Train a config with so many seeds, from its own upwards, into the group `out` (default `runs/NAME-seeds`); its path.

    The same call again goes on with what is missing; a larger number adds seeds. `finish` is called with each finished run.
    """
    check_before_data(config)
    path = out or Path("runs") / f"{config.name}-seeds"
    runs = named_runs(path, range(config.seed, config.seed + num_seeds))
    refuse_other_runs(runs, config)
    if is_main_process():
        write_group(path, runs)
    train_runs([Planned(run, with_seed(config, seed_of(run))) for run in runs], path, options, finish)
    return path


def resume_seeds(path: Path, options: Options, finish: Finish) -> Path:
    """Go on with a group that was stopped, with the config of its first run; its path."""
    if options.data:
        raise UserError(
            f"--data goes with one run; go on with the runs of {path} one by one: train --resume {path}/seed-N --data …"
        )
    runs = group_runs(path)
    begun = next((run for run in runs if (run.path / "config.yaml").is_file()), None)
    if begun is None:
        raise UserError(f"{path}: none of its runs has begun; repeat the command that made it")
    config = begun.config()
    use_copies(begun.path, config.use)
    refuse_other_runs(runs, config)
    train_runs([Planned(run, with_seed(config, seed_of(run))) for run in runs], path, options, finish)
    return path


def with_seed(config: RunConfig, seed: int) -> RunConfig:
    """The same run with another seed."""
    return config.model_copy(update={"seed": seed})


def refuse_other_runs(runs: Iterable[RunDirectory], config: RunConfig) -> None:
    """Raise `UserError` where one of them was begun with another config, its seed aside."""
    for run in runs:
        if (run.path / "config.yaml").is_file():
            refuse_other_config(run, with_seed(config, seed_of(run)))


def train_runs(planned: Sequence[Planned], folder: Path, options: Options, finish: Finish, again: str = "") -> None:
    """Train each config into its run directory, in turn; `folder` holds them all and is held against other processes.

    A run whose loss is no longer finite is marked as diverged and the others go on. `again` says how to go on after a signal
    (default: resume `folder`). Ranks that `torchrun` started share each run. Raises `Stopped`.
    """
    console = options.console or Console(quiet=True)
    options = dataclasses.replace(options, others_follow=True)
    with contextlib.ExitStack() as held:
        if is_main_process():
            held.enter_context(hold(folder))
        for number, one in enumerate(planned, 1):
            run = one.run
            if is_main_process():
                about = f"run {number} of {len(planned)}: {run.path}"
                state = "finished" if run.summary() else "diverged" if (run.path / DIVERGED).exists() else ""
                told, style = (f"{about} is {state} already", "dim") if state else (f"\n{about}", "bold")
                console.print(told, style=style, markup=False)
            try:
                _train_one(one, options, finish)
            except Stopped as stopped:
                raise Stopped(stopped.signum, folder, again) from None
            except NonFiniteError as error:
                if int(os.environ.get("WORLD_SIZE", "1")) > 1:  # the other ranks have lost this one
                    raise
                write_bytes(run.path / DIVERGED, (json.dumps({"error": str(error)}, ensure_ascii=False) + "\n").encode())
                console.print(f"diverged: {error}", soft_wrap=True, markup=False)


def _train_one(one: Planned, options: Options, finish: Finish) -> None:
    run = one.run
    if (run.path / DIVERGED).exists():
        return
    if not run.summary():
        clear_unbegun(run)
        if one.twin and not (run.path / "config.yaml").is_file():
            take_training(one.twin, run, one.config)
            if options.console and (run.path / "config.yaml").is_file():
                options.console.print(f"takes over the training of {one.twin.path}, which differs in tta alone", markup=False)
        if (run.path / "config.yaml").is_file():
            resume(run.path, options)
        else:
            train(one.config, run.path, options)
    if is_main_process():
        finish(run)
