"""A chart's frame: round ticks, axes with names and units, a legend; colours are the page's own, so light and dark both work."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bantamnet.report.markup import Markup, element

WIDTH, HEIGHT = 380, 250
LEFT, RIGHT, TOP, BOTTOM = 64, 12, 34, 42
NAME = 26
"""Letters of a name in a legend."""


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers from `low` to `high`, at most `most`."""
    span = high - low
    if span <= 0:
        return [low]
    step = 10.0 ** math.floor(math.log10(span / most))
    step *= next(factor for factor in (1, 2, 5, 10, 20) if span / (step * factor) <= most - 1 + 1e-9)
    first = math.ceil(low / step - 1e-9)
    return [round(index * step, 12) for index in range(first, math.floor(high / step + 1e-9) + 1)]


def tick_text(value: float) -> str:
    """The shortest way to write it."""
    return f"{value:,.0f}" if value == int(value) and abs(value) >= 1 else f"{value:.4g}"


@dataclass(frozen=True)
class Frame:
    """Where values lie in a drawing of WIDTH × HEIGHT; a logarithmic y axis needs values above 0."""

    x_low: float
    x_high: float
    y_low: float
    y_high: float
    log_x: bool = False

    def x(self, value: float) -> float:
        """Pixels from the left."""
        low, high = self.x_low, self.x_high
        if self.log_x:
            value, low, high = (math.log10(number) for number in (value, low, high))
        return LEFT + (value - low) / ((high - low) or 1) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        """Pixels from the top."""
        return HEIGHT - BOTTOM - (value - self.y_low) / ((self.y_high - self.y_low) or 1) * (HEIGHT - TOP - BOTTOM)

    def points(self, xs: Sequence[float], ys: Sequence[float]) -> str:
        """The points of a line, as SVG writes them; those that are no numbers are left out."""
        pairs = [(self.x(x), self.y(y)) for x, y in zip(xs, ys, strict=True) if math.isfinite(y)]
        return " ".join(f"{x:.1f},{y:.1f}" for x, y in pairs)

    def axes(
        self, x_name: str, y_name: str, x_ticks: Sequence[float] | None = None, y_text: Callable[[float], str] = tick_text
    ) -> list[Markup]:
        """Grid, ticks, and the names of both axes."""
        drawn = []
        for value in ticks(self.y_low, self.y_high):
            y = self.y(value)
            drawn += [
                element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, class_="grid"),
                element("text", y_text(value), x=LEFT - 6, y=y + 4, class_="tick", text_anchor="end"),
            ]
        for value in ticks(self.x_low, self.x_high) if x_ticks is None else x_ticks:
            x, text = self.x(value), tick_text(value)
            drawn += [
                element("line", x1=x, x2=x, y1=HEIGHT - BOTTOM, y2=HEIGHT - BOTTOM + 4, class_="axis"),
                element(
                    "text", text, x=min(x, WIDTH - 3.4 * len(text)), y=HEIGHT - BOTTOM + 17, class_="tick", text_anchor="middle"
                ),
            ]
        middle = (TOP + HEIGHT - BOTTOM) / 2
        return [
            *drawn,
            element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=HEIGHT - BOTTOM, y2=HEIGHT - BOTTOM, class_="axis"),
            element("text", x_name, x=(LEFT + WIDTH - RIGHT) / 2, y=HEIGHT - 6, class_="name", text_anchor="middle"),
            element("text", y_name, x=12, y=middle, class_="name", text_anchor="middle", transform=f"rotate(-90 12 {middle:g})"),
        ]


def chart(title: str, drawn: Sequence[object], entries: Sequence[tuple[str, str]]) -> Markup:
    """A drawing in a `Frame` with its legend, (class of a line, what it is), above; a long one makes the drawing higher."""
    lines: list[list[tuple[float, str, str]]] = [[]]
    x = float(LEFT)
    for style, words in entries:
        shown = words if len(words) <= NAME else f"{words[: NAME - 1]}…"
        wide = 24 + 6.2 * len(shown)
        if x + wide > WIDTH and lines[-1]:
            lines, x = [*lines, []], float(LEFT)
        lines[-1].append((x, style, shown))
        x += wide + 14
    above = 14.0 * max(0, len(lines) - 2)
    named = []
    for row, line in enumerate(lines):
        y = 10 + 14 * row - above
        for x, style, shown in line:
            named += [
                element("line", x1=x, x2=x + 18, y1=y - 4, y2=y - 4, class_=style),
                element("text", shown, x=x + 23, y=y, class_="tick"),
            ]
    return drawing(title, drawn, named, above=above)


def drawing(
    title: str,
    *children: object,
    width: float = WIDTH,
    height: float = HEIGHT,
    above: float = 0,
    class_: str = "chart",
    style: str | None = None,
) -> Markup:
    """An SVG that scales with the page; `title` is what a screen reader says of it, `above` is room over y = 0."""
    return element(
        "svg",
        *children,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 {-above:g} {width:g} {height + above:g}",
        role="img",
        aria_label=title,
        class_=class_,
        style=style,
    )
