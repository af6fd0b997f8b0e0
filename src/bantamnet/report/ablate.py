"""An ablation from its name to its table."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from bantamnet.configfile import read_value, write_yaml
from bantamnet.errors import UserError, WriteError
from bantamnet.report.ablation import tabulate, write_tables
from bantamnet.report.pictures import draw_once
from bantamnet.runs.ablation import Cell, cells, find_ablation
from bantamnet.runs.directory import RunDirectory
from bantamnet.runs.tensorfile import write_bytes
from bantamnet.runtime import command_line, is_main_process
from bantamnet.training.grid import check_cells, train_cells
from bantamnet.training.train import Options

FILE = "ablation.yaml"


def ablate(
    name: str,
    vary: Sequence[str],
    num_seeds: int | None,
    sets: Sequence[str],
    out: Path | None,
    use: Sequence[Path],
    options: Options,
) -> dict[str, Any]:
    """Train what is missing of a grid into `out` and write its tables there, anew after each run; what the table holds.

    `name` is a recipe, of which `vary` lists `KEY=V1,V2`, or an ablation (shipped, or a file). Nothing is trained unless every
    cell can be. Raises `UserError`, and `Stopped` after a signal: the same call then goes on.
    """
    ablation, path = find_ablation(name, vary)
    grid = cells(ablation, path, sets, use)
    seeds = num_seeds or ablation.seeds
    title = path.stem if path else f"{Path(name).stem}-ablation"
    folder = out or Path("runs") / title
    if folder.exists() and not (folder / FILE).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} exists already and is no ablation; choose another --out")
    check_cells(grid, seeds, folder)
    given = {key.strip(): read_value(value) for key, _, value in (text.partition("=") for text in sets)}
    recipe = str(path.parent / ablation.recipe) if path and (path.parent / ablation.recipe).is_file() else ablation.recipe
    whole = ablation.model_copy(update={"set": {**ablation.set, **given}, "seeds": seeds, "recipe": recipe})
    if is_main_process():
        _begin(folder, whole.model_dump(mode="json", by_alias=True))
        _announce(options.console, grid, seeds, folder)
    about = {
        "name": title,
        "about": ablation.about,
        "recipe": grid[0].config.name,
        "out": str(folder),
        "num_seeds": seeds,
        "command": command_line(),
        "notes": ablation.notes,
    }

    def finish(run: RunDirectory) -> None:
        if draw_once(run):  # it has just been trained
            write_tables(tabulate(grid, folder, about), folder)

    train_cells(grid, seeds, folder, options, finish, "go on with the same command")
    facts = tabulate(grid, folder, about)
    if is_main_process():
        write_tables(facts, folder)
    return facts


def _begin(folder: Path, spec: dict[str, Any]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(folder, error) from None
    write_bytes(folder / FILE, write_yaml(spec).encode())


def _announce(console: Console | None, grid: Sequence[Cell], seeds: int, folder: Path) -> None:
    if console:
        console.print(f"{len(grid)} cells × {seeds} seeds = {len(grid) * seeds} runs, in {folder}:", markup=False)
        for place, cell in enumerate(grid):
            console.print(f"  {cell.name}{'' if place else '  (the base)'}", highlight=False, markup=False)
