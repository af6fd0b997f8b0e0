"""The verb `audit`."""

from pathlib import Path
from typing import Annotated

import typer

from bantamnet.cli import show


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(epilog="Example: bantamnet audit resnet-variant-as-published")(audit)


def audit(
    subject: Annotated[str, typer.Argument(metavar="RUN|FILE|RECIPE", help="A run directory, a model file, or a recipe.")],
    sets: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a key of a recipe.")] = None,
    near_duplicates: Annotated[
        bool, typer.Option("--near-duplicates", help="Also compare every training image with every test image (minutes).")
    ] = False,
    use: Annotated[list[Path] | None, typer.Option("--use", metavar="FILE.py", help="Own code to register.")] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder that holds CIFAR (default: BANTAMNET_DATA, else the user's cache).")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else there.")] = False,
) -> None:
    """Look for faults that make a figure mean less than it seems to. Exit code 1 where there is an error, as linters have it."""
    from bantamnet.audit import full_audit
    from bantamnet.cli.findings import audited

    found = full_audit(subject, data_dir, near_duplicates=near_duplicates, sets=sets or [], use=use or [])
    show.either(json, found.as_dict(), audited)
    if any(found.of("error")):
        raise typer.Exit(1)
