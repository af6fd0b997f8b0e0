"""The verb `report`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from bantamnet.cli import show
from bantamnet.cli.options import DataDir, DataOption, Json, named_data


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(epilog="Example: bantamnet report runs/quickstart")(report)


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN…", help="Finished runs, or folders of runs that differ in their seed; several are compared."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.html",
            help="The page (default: report.html in the run, comparison.html for several); FILE.md beside it.",
        ),
    ] = None,
    data: DataOption = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Write what a run is worth as one HTML page that needs no network, and as Markdown."""
    from bantamnet.report.write import write_report

    show.either(json, write_report(runs, out, data_dir, named_data(data) if data else None), written)


def written(facts: dict[str, Any]) -> None:
    """Where the report is, and its claim."""
    for claim in facts["claims"]:
        print(claim)
    if facts["why_no_images"]:
        print(f"images no: {facts['why_no_images']}")
    print(f"report {facts['report']}  (and {facts['markdown']})")
