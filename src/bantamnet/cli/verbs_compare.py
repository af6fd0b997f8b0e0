"""The verbs `compare` and `ablate`, and what `train --seeds` does."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bantamnet.cli import compared, show
from bantamnet.cli.options import DataDir, Json, Set, Use
from bantamnet.errors import UserError, unknown

if TYPE_CHECKING:
    from bantamnet.config import RunConfig
    from bantamnet.training.train import Options


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.command(epilog="Example: bantamnet compare runs/quickstart-seeds runs/mine-seeds")(compare)
    app.command(epilog="Example: bantamnet ablate quickstart --vary optim.lr=0.1,0.05 --vary model.blocks=[1,1,1],[2,2,2]")(
        ablate
    )


def compare(
    paths: Annotated[list[Path], typer.Argument(metavar="RUN_OR_GROUP…", help="Finished runs, or groups of seeds; two or more.")],
    split: Annotated[str, typer.Option(help="test or val.")] = "test",
    json: Json = False,
) -> None:
    """Say whether one run, or recipe, is better than another, or whether that may be chance."""
    from bantamnet.report.compare import compare as compare_runs

    if split not in ("test", "val"):
        raise UserError(f"--split: {unknown('split', split, ('test', 'val'))}")
    show.either(json, compare_runs(paths, split), compared.comparison)


def ablate(
    name: Annotated[
        str | None,
        typer.Argument(metavar="RECIPE|ABLATION", help="A recipe to vary, a shipped ablation, or a .yaml file of either."),
    ] = None,
    vary: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=V1,V2", help="Values of a key, the first of them the base; several keys make a grid."),
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Runs of each cell (default: 3, or what the ablation says).")] = None,
    sets: Set = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where runs and tables go (default: runs/NAME-ablation); goes on there.")
    ] = None,
    use: Use = None,
    data_dir: DataDir = None,
    device: Annotated[str | None, typer.Option(help="Short for --set device=auto|cpu|cuda.")] = None,
    list_all: Annotated[bool, typer.Option("--list", help="List the shipped ablations, and train nothing.")] = False,
    json: Json = False,
) -> None:
    """Train a grid over keys of a recipe with several seeds each, and say what makes a difference. Repeated, it goes on."""
    if list_all:
        from bantamnet.runs.ablation import list_ablations

        show.either(json, {"ablations": list_ablations()}, compared.ablations)
        return
    if name is None:
        raise UserError("name a recipe and what to vary (--vary optim.lr=0.1,0.05), or a shipped ablation (--list)")
    from bantamnet.report.ablate import ablate as ablate_recipe
    from bantamnet.runtime import is_main_process
    from bantamnet.training.signals import Stopped
    from bantamnet.training.train import Options

    options = Options(data_dir=data_dir, console=show.console(stderr=json))
    fixed = [*(sets or []), *([f"device={device}"] if device else [])]
    try:
        facts = ablate_recipe(name, vary or [], seeds, fixed, out, use or [], options)
    except Stopped as stopped:
        if is_main_process():
            print(stopped, file=sys.stderr)
        raise typer.Exit(128 + stopped.signum) from None
    if is_main_process():
        show.either(json, facts, compared.ablation)
    if any("diverged" in row["states"] for row in facts["cells"]):
        raise typer.Exit(3)


def train_group(what: "RunConfig | Path", num_seeds: int | None, out: Path | None, options: "Options") -> dict[str, Any]:
    """Train a config with so many seeds, or go on with the group at a path; the figures of what has come of it."""
    from bantamnet.evaluate.measured import group_facts
    from bantamnet.report.pictures import draw_once
    from bantamnet.training.seeds import resume_seeds, train_seeds

    if isinstance(what, Path):
        path = resume_seeds(what, options, draw_once)
    else:
        path = train_seeds(what, num_seeds or 1, out, options, draw_once)
    return group_facts(path)
