"""The confusion matrix as a drawing, and the pairs of classes that are mixed up most."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from bantamnet.report.markup import Markup, element
from bantamnet.report.svg import drawing

NUMBERED, DRAWN = 20, 100
"""Up to so many classes every cell tells its count; up to so many the matrix is drawn at all."""


@dataclass(frozen=True)
class Pair:
    """`num` images of class `true` were taken for class `said`; `of` are all images of class `true`."""

    true: int
    said: int
    num: int
    of: int


def confused_pairs(matrix: Tensor, most: int = 8) -> list[Pair]:
    """The largest entries off the diagonal of int64 (classes, classes), largest first; none where nothing is wrong."""
    num_classes = len(matrix)
    wrong = matrix.clone().fill_diagonal_(0).flatten()
    counts, places = wrong.sort(descending=True, stable=True)
    support = matrix.sum(1).tolist()
    found = []
    for num, place in zip(counts[:most].tolist(), places[:most].tolist(), strict=True):
        if num:
            true, said = divmod(place, num_classes)
            found.append(Pair(true, said, num, support[true]))
    return found


def matrix_drawing(matrix: Tensor, names: Sequence[str]) -> Markup:
    """Rows are true classes, columns predicted ones; the diagonal and the mistakes have a colour each, as deep as their share."""
    num = len(names)
    numbered = num <= NUMBERED
    cell = 34.0 if numbered else max(3.0, 640 / num)
    every = 1 if num <= 50 else 10
    text = 12 if numbered else min(12.0, max(7.0, cell))
    longest = max(len(_short(name)) for name in names)
    left, top = 26 + 0.62 * text * longest, 30 + 0.5 * text * longest
    counts, support = matrix.tolist(), matrix.sum(1).tolist()
    drawn = []
    for row in range(num):
        for column in range(num):
            count = counts[row][column]
            share = count / support[row] if support[row] else 0.0
            x, y = left + column * cell, top + row * cell
            if not count and not numbered:
                continue
            # Mistakes are few beside what is right: the square root keeps them visible.
            shade = share if row == column else share**0.5
            told = element("title", f"{names[row]} taken for {names[column]}: {count:,} of {support[row]:,} ({100 * share:.1f}%)")
            style = "right" if row == column else "wrong"
            box = element("rect", told, x=x, y=y, width=cell - 1, height=cell - 1, class_=style, fill_opacity=0.04 + 0.9 * shade)
            drawn.append(box)
            if numbered and count:
                deep = " deep" if shade > 0.55 else ""
                at = {"x": x + cell / 2 - 0.5, "y": y + cell / 2 + 4, "text_anchor": "middle"}
                drawn.append(element("text", str(count), class_=f"count{deep}", **at))
    for index, name in enumerate(names):
        if index % every:
            continue
        middle = index * cell + cell / 2
        x, y = left + middle, top - 6
        short, whole = _short(name), element("title", name)
        drawn += [
            element(
                "text", short, whole, x=left - 6, y=top + middle + text / 3, class_="label", text_anchor="end", font_size=text
            ),
            element("text", short, whole, x=x, y=y, class_="label", font_size=text, transform=f"rotate(-45 {x:.1f} {y:.1f})"),
        ]
    side = num * cell
    drawn += [
        element("text", "predicted class →", x=left, y=top + side + 16, class_="name"),
        element("text", "true class →", x=12, y=top + side, class_="name", transform=f"rotate(-90 12 {top + side:.1f})"),
    ]
    width, height = max(left + side + 0.5 * text * longest + 8, left + 110), top + side + 24
    title = f"Confusion matrix of {num} classes"
    size = f"min-width: {min(width, 420):.0f}px; max-width: {1.5 * width:.0f}px"
    shown = drawing(title, drawn, width=width, height=height, class_="matrix", style=size)
    return element("div", shown, class_="scroll wide", tabindex="0")


def _short(name: str, most: int = 14) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"
