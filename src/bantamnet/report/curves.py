"""Loss, accuracy and learning rate over the epochs of one or several runs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bantamnet.report.blocks import Figure
from bantamnet.report.facts import RunFacts
from bantamnet.report.markup import Markup, element
from bantamnet.report.svg import BOTTOM, HEIGHT, TOP, Frame, chart

MOST_POINTS = 400
"""Epochs up to which each point tells its value when pointed at."""


@dataclass(frozen=True)
class Line:
    """Values over epochs, drawn in the page's `style` (line1, line2, …)."""

    name: str
    style: str
    epochs: Sequence[float]
    values: Sequence[float]


def curve_figures(facts: RunFacts) -> list[Figure]:
    """The three charts of a run; the epoch whose weights were kept is marked."""
    epochs, kept = facts.epochs, int(facts.summary["chosen"]["epoch"])
    scored = "test" if facts.config.data.val.source == "test" else "validation"
    if facts.config.data.val.augment:
        scored += " (augmented)"
    number = [line["epoch"] for line in epochs]

    def of(key: str, scale: float = 1) -> list[float]:
        return [scale * line[key] for line in epochs]

    has_val = all("val_loss" in line for line in epochs)
    figures = []
    for key, scale, title, unit in (("loss", 1, "Loss", "loss (nats)"), ("accuracy", 100, "Accuracy", "accuracy (%)")):
        lines = [Line("training", "line1", number, of(f"train_{key}", scale))]
        lines += [Line(scored, "line2", number, of(f"val_{key}", scale))] if has_val else []
        figures.append(
            Figure(line_chart(f"{title} over epochs", "epoch", unit, lines, kept), _caption(key, lines, kept), "third")
        )
    groups = len(epochs[0]["lr"])
    rates = [
        Line(
            f"group {index + 1}" if groups > 1 else "rate", f"line{index % 6 + 1}", number, [line["lr"][index] for line in epochs]
        )
        for index in range(groups)
    ]
    lowest = min(rates[0].values)
    caption = (
        f"Learning rate of each epoch's last step: highest {max(rates[0].values):.3g}, lowest {lowest:.3g} (epoch "
        f"{number[list(rates[0].values).index(lowest)]}), at the end {rates[0].values[-1]:.3g}."
    )
    figures.append(Figure(line_chart("Learning rate over epochs", "epoch", "learning rate", rates, kept), caption, "third"))
    return figures


def _caption(key: str, lines: Sequence[Line], kept: int) -> str:
    end = "; ".join(f"{line.name} {line.values[-1]:.2f}{'%' if key == 'accuracy' else ''}" for line in lines)
    what = {"loss": "Loss (training: as trained on, so augmentation and smoothing count)", "accuracy": "Accuracy"}[key]
    return f"{what}. At the end: {end}. Kept: epoch {kept}."


def line_chart(title: str, x_name: str, y_name: str, lines: Sequence[Line], mark: int | None = None) -> Markup:
    """Lines over epochs; `mark` is an epoch to draw a dotted line at."""
    values = [value for line in lines for value in line.values if math.isfinite(value)] or [0.0]
    low, high = min(values), max(values)
    room = 0.06 * (high - low) or abs(high) * 0.1 or 1.0
    bottom = 0.0 if 0 <= low < 0.35 * high else low - room
    last = max(max(line.epochs) for line in lines)
    first = min(min(line.epochs) for line in lines)
    if first == last:
        first, last = first - 1, last + 1
    frame = Frame(first, last, bottom, high + room)
    drawn: list[Any] = frame.axes(x_name, y_name, _whole(first, last))
    if mark is not None and first <= mark <= last:
        drawn.append(element("line", x1=frame.x(mark), x2=frame.x(mark), y1=TOP - 4, y2=HEIGHT - BOTTOM, class_="mark"))
    for line in lines:
        drawn.append(element("polyline", points=frame.points(line.epochs, line.values), class_=line.style, fill="none"))
        if len(line.epochs) <= MOST_POINTS:
            radius = 3 if len(line.epochs) == 1 else 2
            for epoch, value in zip(line.epochs, line.values, strict=True):
                if math.isfinite(value):
                    told = element("title", f"{line.name}, epoch {epoch:g}: {value:.4g}")
                    drawn.append(
                        element("circle", told, cx=frame.x(epoch), cy=frame.y(value), r=radius, class_=f"{line.style} dot")
                    )
    entries = [(line.style, line.name) for line in lines]
    return chart(title, drawn, [*entries, *([("mark", f"kept: epoch {mark}")] if mark is not None else [])])


def _whole(first: float, last: float) -> list[float]:
    """Whole epochs to name on the axis, with the first and the last."""
    span = last - first
    step = next((s for s in (1, 2, 5, 10, 20, 25, 50, 100, 200, 500) if span / s <= 6), 1000)
    inner = [float(n) for n in range(math.ceil(first), math.floor(last) + 1) if n % step == 0]
    kept = [n for n in inner if last - n >= 0.6 * step or n == last]
    return sorted({float(math.ceil(first)), *kept, float(math.floor(last))} - {n for n in inner if 0 < n - first < 0.6 * step})
