"""The verb `submit`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from bantamnet.cli import show


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(epilog="Example: bantamnet submit runs/resnet-variant --test cifar_test_nolabel.pkl --tta hflip")(submit)


def submit(
    model: Annotated[Path, typer.Argument(metavar="RUN|FILE", help="A run directory or a model file.")],
    test: Annotated[
        Path, typer.Option(metavar="FILE.pkl", help="Images without labels; or an .npy file, or a folder of pictures.")
    ],
    out: Annotated[Path, typer.Option(metavar="FILE.csv", help="What to write: ID,Labels.")] = Path("submission.csv"),
    rows: Annotated[int | None, typer.Option(min=1, help="How many images there must be (default for CIFAR: 10000).")] = None,
    classes: Annotated[
        str | None, typer.Option(help="Data set whose labels are meant (default: what it was trained for).")
    ] = None,
    tta: Annotated[str, typer.Option(help="Views to average, as for predict.")] = "none",
    tta_average: Annotated[str | None, typer.Option(help="What is averaged over views: logits or probabilities.")] = None,
    tta_below: Annotated[float | None, typer.Option(help="Only images of a top probability under this get the views.")] = None,
    use: Annotated[list[Path] | None, typer.Option("--use", metavar="FILE.py", help="Own code to register.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else there.")] = False,
) -> None:
    """Write a contest's submission of test images without labels, everything checked before."""
    import bantamnet
    from bantamnet.cli.app import run_own_code
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
    show.console().print(show.table(["class", "label", "images"], rows, ["label", "images"]))
    print(f"\n{facts['out']}: {facts['rows']:,} rows, ids {facts['ids']}; {show.views_text(facts)}")
    order = f"the official ones of {facts['labels_of']}" if facts["labels_of"] else "places in the model's own list of classes"
    print(f"labels are {order}")
