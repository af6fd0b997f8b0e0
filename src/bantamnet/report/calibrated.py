"""Whether a probability means what it says: reliability diagram and calibration error, before and after temperature scaling."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from bantamnet.evaluate.calibration import BINS, calibration, reliability
from bantamnet.evaluate.temperature import run_temperature
from bantamnet.evaluate.tta import view_average
from bantamnet.report.blocks import Block, Figure, Section, Table, Text
from bantamnet.report.facts import RunFacts
from bantamnet.report.markup import Markup, element
from bantamnet.report.svg import Frame, chart
from bantamnet.report.words import percent


def calibration_section(facts: RunFacts) -> Section:
    """On test images; the temperature is fitted on validation images alone."""
    logits, targets = facts.predictions["logits"], facts.predictions["targets"]
    temperature, why = fitted(facts)
    found = calibration(logits, targets, temperature)
    blocks: list[Block] = [_figure("As it is", logits, targets, found["ece"])]
    columns = ["", "as it is"]
    rows = [
        ["ECE", percent(found["ece"])],
        ["ECE, bins of equal size", percent(found["ece_equal_mass"])],
        ["NLL", f"{facts.test['nll']:.4f}"],
    ]
    if temperature is not None:
        title = f"After temperature scaling, T = {temperature:.3f}"
        blocks.append(_figure(title, logits / temperature, targets, found["ece_scaled"]))
        columns.append(f"T = {temperature:.3f}")
        scaled = (percent(found["ece_scaled"]), percent(found["ece_equal_mass_scaled"]), f"{found['nll_scaled']:.4f}")
        rows = [[*row, value] for row, value in zip(rows, scaled, strict=True)]
    blocks.append(Table(columns, rows, frozenset(columns[1:]), width="third"))
    blocks.append(Text(why, "note" if temperature is not None else "missing"))
    blocks.append(Text(said(logits, targets), "note"))
    return Section("calibration", "Does 90% sure mean 90% right?", blocks)


def fitted(facts: RunFacts) -> tuple[float | None, str]:
    """(temperature, which images it was fitted on; or None and why)."""
    temperature, told = run_temperature(facts.run, facts.summary["weights_digest"], view_average(facts.config.tta))
    if temperature is None:
        return None, f"No temperature is fitted ({told.removeprefix('none: ')}), and test images are not for fitting."
    change = "less sure" if temperature > 1 else "surer"
    kept = f"it makes the net {change}, and changes no answer. ECE takes {BINS} bins"
    return temperature, f"T is {told} and never on test images: {kept}."


def said(logits: Tensor, targets: Tensor) -> str:
    """How often the net is right where it is sure."""
    sure, answer = logits.double().softmax(1).max(1)
    above = sure > 0.9
    if not above.any():
        return "No test image got a probability above 90%."
    right = float((answer == targets)[above].double().mean())
    return f"Of {int(above.sum()):,} test images named with a probability above 90%, {percent(right, 1)} were named right."


def _figure(title: str, logits: Tensor, targets: Tensor, error: float) -> Figure:
    return Figure(reliability_drawing(title, reliability(logits, targets)), f"{title}: ECE {percent(error)}.", "third")


def reliability_drawing(title: str, rows: Sequence[dict[str, Any]]) -> Markup:
    """Accuracy over confidence by bin; the gap to the diagonal is shaded, the width of a stroke below is how many images."""
    frame = Frame(0, 100, 0, 100)
    drawn: list[Any] = frame.axes("confidence (%)", "accuracy (%)")
    most = max((row["num"] for row in rows), default=1)
    for row in rows:
        x, end = frame.x(100 * row["low"]), frame.x(100 * row["high"])
        accuracy, confidence = 100 * row["accuracy"], 100 * row["confidence"]
        top, bottom = sorted((frame.y(accuracy), frame.y(confidence)))
        told = element("title", f"{row['num']:,} images: {confidence:.1f}% sure, {accuracy:.1f}% right")
        width, share = max(1.0, end - x - 1), 12 * row["num"] / most
        drawn += [
            element("rect", told, x=x, y=frame.y(accuracy), width=width, height=frame.y(0) - frame.y(accuracy), class_="bin"),
            element("rect", x=x, y=top, width=width, height=bottom - top, class_="gap"),
            element("rect", x=x, y=frame.y(0) - share, width=width, height=share, class_="share"),
        ]
    drawn.append(element("line", x1=frame.x(0), y1=frame.y(0), x2=frame.x(100), y2=frame.y(100), class_="ideal"))
    entries = [("key-bin", "accuracy"), ("key-gap", "gap"), ("ideal", "perfect"), ("key-share", "share of images")]
    return chart(f"Reliability diagram, {title}", drawn, entries)
