"""The verb `compare`, and what `train --seeds` does."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bantamnet.cli import compared, show

if TYPE_CHECKING:
    from bantamnet.config import RunConfig
    from bantamnet.training.train import Options


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(epilog="Example: bantamnet compare runs/quickstart-seeds runs/mine-seeds")(compare)


def compare(
    paths: Annotated[list[Path], typer.Argument(metavar="RUN_OR_GROUP…", help="Finished runs, or groups of seeds; two or more.")],
    split: Annotated[str, typer.Option(help="test or val.")] = "test",
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else there.")] = False,
) -> None:
    """Say whether one run, or recipe, is better than another, or whether that may be chance."""
    from bantamnet.errors import UserError, unknown
    from bantamnet.report.compare import compare as compare_runs

    if split not in ("test", "val"):
        raise UserError(f"--split: {unknown('split', split, ('test', 'val'))}")
    show.either(json, compare_runs(paths, split), compared.comparison)


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
