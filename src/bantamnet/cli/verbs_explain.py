"""The verb `explain`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from bantamnet.cli import show
from bantamnet.cli.options import DataDir, Device, Json, Model, Use, named_data, run_own_code
from bantamnet.errors import UserError


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(epilog="Example: bantamnet explain runs/quickstart examples/digits/7.png")(explain)


def explain(
    model: Model,
    pictures: Annotated[list[Path] | None, typer.Argument(metavar="PATH…", help="Picture files, or folders of them.")] = None,
    test: Annotated[str | None, typer.Option(metavar="3,17", help="Also test images of its data set, by number from 0.")] = None,
    class_name: Annotated[
        str | None, typer.Option("--class", metavar="NAME", help="What speaks for this class (default: for the net's answer).")
    ] = None,
    stage: Annotated[
        str, typer.Option(metavar="last|N|LAYER", help="Maps of the N-th stage, or of a layer that `summary` shows.")
    ] = "last",
    method: Annotated[str, typer.Option(help="gradcam, or cam for nets that end in global average pooling.")] = "gradcam",
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="A new folder for the PNGs (default: explained, numbered where taken).")
    ] = None,
    data: Annotated[str | None, typer.Option("--data", metavar="NAME|PATH", help="Where its data are now, for --test.")] = None,
    use: Use = None,
    data_dir: DataDir = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Show where a net looks: each picture beside the heat of what speaks for a class, as PNG."""
    import bantamnet
    from bantamnet.data.listener import ConsoleListener
    from bantamnet.evaluate.scoring import own_split
    from bantamnet.report.explained import from_files, from_split, write_explanations
    from bantamnet.runs.directory import free_directory

    if not pictures and test is None:
        raise UserError("name pictures, folders of them, or test images by number: --test 3,17")
    if out and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"--out: {out} holds something already; choose another name")
    rows = [] if test is None else numbers(test)
    run_own_code(use)
    classifier = bantamnet.load(model, device)
    shown = from_files(classifier, pictures or [])
    if rows:
        listener = ConsoleListener(show.console(stderr=True))
        _, split = own_split(classifier, model, "test", data_dir, named_data(data) if data else None, listener)
        shown += from_split(split, rows, "test")
    maps = int(stage) if stage.isdecimal() else stage
    folder = out or free_directory(Path(), "explained")
    told = write_explanations(classifier, shown, folder, class_name, method, maps)
    show.either(json, {"model": str(model), "method": method, "stage": maps, "explanations": told}, explanations)


def numbers(listed: str) -> list[int]:
    """From `3,17`."""
    words = [word.strip() for word in listed.split(",")]
    if not all(word.isdecimal() for word in words):
        raise UserError(f"--test: takes numbers from 0, as in --test 3,17; got {listed!r}")
    return [int(word) for word in words]


def explanations(facts: dict[str, Any]) -> None:
    """A line a picture."""
    rows = [
        [row["file"], row["class"], show.percent(row["probability"]), row["true"] or "", row["explained"]]
        for row in facts["explanations"]
    ]
    columns = ["picture", "says", "probability", "is", "explained"]
    if not any(row[3] for row in rows):
        columns, rows = columns[:3] + columns[4:], [row[:3] + row[4:] for row in rows]
    show.table(columns, rows, ["probability"])
