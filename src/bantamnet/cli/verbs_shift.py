"""`evaluate --shift`: its options, what it does, and how its figures are told."""

from pathlib import Path
from typing import Annotated, Any

import typer

from bantamnet.cli import show
from bantamnet.errors import UserError

Facts = dict[str, Any]
Shift = Annotated[
    str | None,
    typer.Option(
        "--shift",
        metavar="KIND|FOLDER",
        help="Score shifted data: corruptions (generated), cifar10-c, cifar100-c, cifar10.1 (official files), or a folder.",
    ),
]
Corruptions = Annotated[str | None, typer.Option(metavar="NAME,…", help="With --shift: these alone.")]
Severities = Annotated[str | None, typer.Option(metavar="1,3,5", help="With --shift: these alone (default: all five).")]
Images = Annotated[int | None, typer.Option(help="With --shift: how many test images (default under corruptions: 1000).")]
Everything = Annotated[bool, typer.Option("--all", help="With --shift: every corruption, of every test image.")]
Picture = Annotated[Path | None, typer.Option(metavar="FILE.png", help="With --shift: also draw what is scored.")]


def refuse_without_shift(**given: object) -> None:
    """Raise `UserError` where an option was given that means nothing without --shift."""
    if names := [f"--{name}" for name, value in given.items() if value not in (None, False)]:
        raise UserError(f"{', '.join(names)}: only with --shift, as in --shift corruptions")


def evaluate_shift(
    model: Path,
    shift: str,
    split: str,
    corruptions: str | None,
    severities: str | None,
    images: int | None,
    everything: bool,
    picture: Path | None,
    tta: tuple[str, str | None, float | None],
    data: str | None,
    data_dir: Path | None,
    device: str,
    json: bool,
) -> None:
    """Plan, draw, score, tell."""
    from bantamnet.config.data import is_path
    from bantamnet.configfile import validate_origin
    from bantamnet.data.listener import ConsoleListener, Listener
    from bantamnet.evaluate.classifier import load_classifier
    from bantamnet.evaluate.scoring import moved
    from bantamnet.evaluate.shift import score_shift
    from bantamnet.evaluate.shift_plan import ShiftRequest, plan_shift
    from bantamnet.evaluate.tta import chosen_tta
    from bantamnet.report.shift_sheet import write_shift_sheet
    from bantamnet.runs.own import require
    from bantamnet.runtime import is_main_process

    if split != "test":
        raise UserError("--split: --shift has images of its own; leave --split out")
    if picture and picture.exists():
        raise UserError(f"--picture: {picture} exists already; choose another name")
    levels = {"severities": _numbers(severities)} if severities else {}
    request = ShiftRequest(shift, _words(corruptions), num_images=images, everything=everything, **levels)
    request.check()
    classifier = load_classifier(model, device, None)
    info = classifier.info
    config = moved(validate_origin(info.config, str(model)), data)
    if shift == "corruptions" and not is_path(config.data.name):
        require("data", config.data.name, info.config, str(model))
    console, main = show.console(stderr=True), is_main_process()
    plan = plan_shift(request, info, config, data_dir, ConsoleListener(console) if main else None)
    if picture and main:
        write_shift_sheet(plan, picture)
    views = chosen_tta(tta[0], info.config, tta[1], tta[2]).tta
    listener = ConsoleListener(console) if main else Listener()
    facts = score_shift(model, classifier, plan, config, views, data_dir, listener)
    if picture:
        facts["picture"] = str(picture)
    if main:
        show.either(json, facts, shifted)


def _words(text: str | None) -> tuple[str, ...]:
    return tuple(dict.fromkeys(word.strip() for word in (text or "").split(",") if word.strip()))


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(sorted({int(word) for word in _words(text)}))
    except ValueError:
        raise UserError(f"--severities: {text!r} are no numbers; write it as in 1,3,5") from None


def shifted(facts: Facts) -> None:
    """Clean and mean accuracy, the drop, and the table by corruption."""
    clean, low_high = facts["clean"], [show.percent(end) for end in facts["accuracy_95"]]
    if clean:
        print(f"clean  {show.figure_text(clean)}, on {clean['of']}")
    print(f"shift  {facts['shift']}: {facts['source']}")
    if facts["figures"]:
        print(f"       {show.figure_text(facts['figures'])}")
    else:
        images = f"{facts['images']:,} of {facts['images_of']:,} images in each"
        print(f"mean   {show.percent(facts['accuracy'])} (95% interval {low_high[0]} to {low_high[1]}, over images), {images}")
    if facts["drop_points"] is not None:
        ends = facts["drop_points_95"]
        between = f" (95% interval {ends[0]:.1f} to {ends[1]:.1f})" if ends else ""
        print(f"drop   {facts['drop_points']:.1f} points{between}")
    print(f"label  {facts['label']}; checkpoint {facts['chosen']}; {show.views_text(facts)}, {facts['precision']}")
    if facts["by_corruption"]:
        _table(facts)
    for name, why in facts["left_out"].items():
        print(f"left out: {name} ({why}); the published mean has it")


def _table(facts: Facts) -> None:
    levels = [f"severity {level}" for level in facts["severities"]]
    right = [*levels, "mean", "drop"]
    rows = [
        [
            row["corruption"],
            row["family"],
            *(show.percent(cell["accuracy"]) for cell in row["severities"]),
            show.percent(row["accuracy"]),
            _points(row["drop_points"]),
        ]
        for row in facts["by_corruption"]
    ]
    means = [show.percent(level["accuracy"]) for level in facts["by_severity"]]
    rows.append(["mean", "", *means, show.percent(facts["accuracy"]), _points(facts["drop_points"])])
    show.table(["corruption", "family", *right], rows, right)


def _points(drop: float | None) -> str:
    return "" if drop is None else f"{drop:.1f}"
