"""Small drawings of the first screen: an interval on its scale, a size among the weight classes."""

import math
from collections.abc import Sequence

from bantamnet.config import WEIGHT_CLASSES
from bantamnet.report.markup import Markup, element
from bantamnet.report.svg import drawing, tick_text, ticks

WIDTH = 320


def interval_bar(value: float, low: float, high: float, marks: Sequence[tuple[str, float]] = ()) -> Markup:
    """An accuracy with its interval, in percent, on a scale about six times as wide; `marks` are (what, percent) beside it."""
    others = [mark for _, mark in marks]
    room = max(1.2 * (high - low), 0.3)
    begin, end = max(0.0, min([low, *others]) - room), min(100.0, max([high, *others]) + room)

    def x(percent: float) -> float:
        return 14 + (percent - begin) / (end - begin) * (WIDTH - 28)

    drawn = [element("line", x1=x(begin), x2=x(end), y1=30, y2=30, class_="axis")]
    for tick in ticks(begin, end, 6):
        drawn += [
            element("line", x1=x(tick), x2=x(tick), y1=30, y2=35, class_="axis"),
            element(
                "text", f"{tick_text(tick)}%", x=min(max(x(tick), 14), WIDTH - 16), y=49, class_="tick", text_anchor="middle"
            ),
        ]
    for what, mark in marks:
        drawn += [
            element("line", element("title", what), x1=x(mark), x2=x(mark), y1=14, y2=30, class_="claimed"),
            element("text", what, x=min(max(x(mark), 60), WIDTH - 60), y=10, class_="tick", text_anchor="middle"),
        ]
    drawn += [
        element("line", x1=x(low), x2=x(high), y1=22, y2=22, class_="span"),
        element("line", x1=x(low), x2=x(low), y1=16, y2=28, class_="span thin"),
        element("line", x1=x(high), x2=x(high), y1=16, y2=28, class_="span thin"),
        element("circle", cx=x(value), cy=22, r=5, class_="point"),
    ]
    title = f"{value:.2f}% with its 95% interval from {low:.2f}% to {high:.2f}%"
    return drawing(title, drawn, width=WIDTH, height=54, class_="small")


def budget_bar(params: int, budget: int | None) -> Markup:
    """Parameters on a logarithmic scale with the weight classes, and the budget where it is another number."""
    smallest, largest = min(10_000, params), max(12_000_000, params)

    def x(value: float) -> float:
        return 8 + math.log(value / (smallest / 1.2)) / math.log(largest * 1.2 / (smallest / 1.2)) * (WIDTH - 16)

    drawn, begin = [], x(smallest / 1.2)
    for index, (name, most) in enumerate(WEIGHT_CLASSES.items()):
        end = x(most)
        if end > begin:
            told = element("title", f"{name}: at most {most:,} parameters")
            drawn.append(element("rect", told, x=begin, y=18, width=end - begin - 2, height=9, class_=f"class{index + 1}"))
            if end - begin > 30:
                drawn.append(element("text", name, x=(begin + end) / 2, y=42, class_="tick", text_anchor="middle"))
            begin = end
    drawn.append(element("rect", x=begin, y=18, width=max(0.0, WIDTH - 8 - begin), height=9, class_="over"))
    if budget and budget not in WEIGHT_CLASSES.values():
        told = element("title", f"budget: {budget:,}")
        drawn.append(element("line", told, x1=x(budget), x2=x(budget), y1=14, y2=31, class_="claimed"))
    drawn.append(element("circle", cx=x(params), cy=22.5, r=6, class_="point"))
    drawn.append(
        element("text", f"{params:,}", x=min(max(x(params), 34), WIDTH - 34), y=11, class_="tick strong", text_anchor="middle")
    )
    return drawing(f"{params:,} parameters among the weight classes", drawn, width=WIDTH, height=48, class_="small")
