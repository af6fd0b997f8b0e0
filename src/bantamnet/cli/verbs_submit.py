"""The verb `submit`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from bantamnet.cli import show
from bantamnet.cli.options import Device, Json, Model, Tta, TtaAverage, TtaBelow, Use, run_own_code


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(epilog="Example: bantamnet submit runs/resnet-variant --test cifar_test_nolabel.pkl --tta hflip")(submit)


def submit(
    model: Model,
    test: Annotated[
        Path, typer.Option(metavar="FILE.pkl", help="Images without labels; or an .npy file, or a folder of pictures.")
    ],
    out: Annotated[Path, typer.Option(metavar="FILE.csv", help="What to write: ID,Labels.")] = Path("submission.csv"),
    rows: Annotated[int | None, typer.Option(min=1, help="How many images there must be (default for CIFAR: 10000).")] = None,
    classes: Annotated[
        str | None, typer.Option(help="Data set whose labels are meant (default: what it was trained for).")
    ] = None,
    tta: Tta = "none",
    tta_average: TtaAverage = None,
    tta_below: TtaBelow = None,
    use: Use = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Write a contest's submission of test images without labels, everything checked before."""
    import bantamnet
    from bantamnet.evaluate.submission import write_submission
    from bantamnet.evaluate.tta import chosen_tta

    run_own_code(use)
    classifier = bantamnet.load(model, device)
    average = chosen_tta(tta, classifier.info.config, tta_average, tta_below)
    facts = write_submission(classifier, test, out, average, classes, rows)
    show.warn_of_equal_views(facts)
    show.either(json, {"model": str(model), **facts}, submitted)


def submitted(facts: dict[str, Any]) -> None:
    """What was written, and how often each label is in it."""
    rows = [[row["class"], str(row["label"]), show.number(row["num"])] for row in facts["labels"]]
    show.table(["class", "label", "images"], rows, ["label", "images"])
    print(f"\n{facts['out']}: {facts['rows']:,} rows, ids {facts['ids']}; {show.views_text(facts)}")
    order = f"the official ones of {facts['labels_of']}" if facts["labels_of"] else "places in the model's own list of classes"
    print(f"labels are {order}")
