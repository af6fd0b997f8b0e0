"""The verb `audit`."""

from typing import Annotated

import typer

from bantamnet.cli import show
from bantamnet.cli.options import DataDir, Json, Set, Use


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(epilog="Example: bantamnet audit resnet-variant-as-published")(audit)


def audit(
    subject: Annotated[str, typer.Argument(metavar="RUN|FILE|RECIPE", help="A run directory, a model file, or a recipe.")],
    sets: Set = None,
    near_duplicates: Annotated[
        bool, typer.Option("--near-duplicates", help="Also compare every training image with every test image (minutes).")
    ] = False,
    use: Use = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Look for faults that make a figure mean less than it seems to. Exit code 1 where there is an error, as linters have it."""
    from bantamnet.audit import full_audit
    from bantamnet.cli.findings import audited

    found = full_audit(subject, data_dir, near_duplicates=near_duplicates, sets=sets or [], use=use or [])
    show.either(json, found.as_dict(), audited)
    if any(found.of("error")):
        raise typer.Exit(1)
