"""Options that several verbs take, and what is done with them before anything else."""

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else there.")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a key; may be repeated.")]
Use = Annotated[list[Path] | None, typer.Option("--use", metavar="FILE.py", help="Own code to register; may be repeated.")]
DataDir = Annotated[
    Path | None, typer.Option(help="Folder that holds CIFAR, or gets it (default: BANTAMNET_DATA, else the user's cache).")
]
Tta = Annotated[
    str, typer.Option(help="Views to average: none, hflip, hflip-translate, recipe (the run's own), or 'none + 0.5*hflip(1)'.")
]
TtaAverage = Annotated[str | None, typer.Option(help="What is averaged over views: logits or probabilities.")]
TtaBelow = Annotated[float | None, typer.Option(help="Only images of a top probability under this get the views.")]
DataOption = Annotated[str | None, typer.Option("--data", metavar="NAME|PATH", help="A data set, or a folder of pictures.")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Leave out pictures that cannot be read, and count them.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Model = Annotated[Path, typer.Argument(metavar="RUN|FILE", help="A run directory or a model file.")]


def run_own_code(files: list[Path] | None) -> None:
    """Run the Python files that --use names, so that what they register is known."""
    if files:
        from bantamnet.runs.own import use_file

        for file in files:
            use_file(file)


def named_data(given: str) -> str:
    """What --data says: a known data set's name as it is, the path of a folder in full, so that it cannot be taken for a name."""
    from bantamnet.data.sources import SOURCES

    return given if given in SOURCES or not Path(given).expanduser().is_dir() else str(Path(given).expanduser().resolve())
