"""Train the cells of an ablation, each with several seeds."""

from collections.abc import Callable, Sequence
from pathlib import Path

from bantamnet.config import RunConfig
from bantamnet.errors import UserError
from bantamnet.lock import hold
from bantamnet.runs.ablation import Cell
from bantamnet.runs.directory import RunDirectory
from bantamnet.runs.group import member_name, named_runs, refuse_other_folder, write_group
from bantamnet.runs.own import with_files
from bantamnet.runtime import is_main_process, pick_device, pick_precision
from bantamnet.training.precheck import check_before_data
from bantamnet.training.rescore import trains_alike
from bantamnet.training.seeds import Planned, refuse_other_runs, train_runs, with_seed
from bantamnet.training.tracking import check_tracker
from bantamnet.training.train import Options


def check_cells(cells: Sequence[Cell], num_seeds: int, out: Path) -> None:
    """Raise `UserError` naming every cell that could not be trained, or that was begun in `out` with another config."""
    mistakes = []
    for cell in cells:
        try:
            device = pick_device(cell.config.device)
            pick_precision(cell.config.precision, device, compiled=cell.config.compile != "none")
            check_tracker(cell.config.track)
            check_before_data(with_files(cell.config))
            refuse_other_folder(out / cell.folder)
            refuse_other_runs(named_runs(out / cell.folder, _seeds(cell.config, num_seeds)), cell.config)
        except UserError as error:
            mistakes.append(f"{cell.name}: {error}")
    if mistakes:
        raise UserError("\n  ".join(["these cells of the grid cannot be trained, so nothing was:", *mistakes]))


def train_cells(
    cells: Sequence[Cell], num_seeds: int, out: Path, options: Options, finish: Callable[[RunDirectory], object], again: str
) -> None:
    """Train every cell into the group `out/FOLDER`, the first seed of all cells first; what is finished is left alone.

    A cell that differs from an earlier one in its test-time augmentation alone takes over its training. Raises `Stopped`,
    whose words end with `again`.
    """
    if is_main_process():
        with hold(out):
            for cell in cells:
                group = out / cell.folder
                write_group(group, named_runs(group, _seeds(cell.config, num_seeds)))
    twins = [
        next((other for other in cells[:place] if trains_alike(other.config, cell.config)), None)
        for place, cell in enumerate(cells)
    ]
    planned = []
    for number in range(num_seeds):
        for cell, twin in zip(cells, twins, strict=True):
            name = member_name(cell.config.seed + number)
            run = RunDirectory(out / cell.folder / name)
            other = RunDirectory(out / twin.folder / name) if twin else None
            planned.append(Planned(run, with_seed(cell.config, cell.config.seed + number), other))
    train_runs(planned, out, options, finish, again)


def _seeds(config: RunConfig, num_seeds: int) -> range:
    return range(config.seed, config.seed + num_seeds)
