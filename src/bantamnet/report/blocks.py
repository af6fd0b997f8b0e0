"""What a report is made of, before it is a page or a Markdown file: sections of paragraphs, tables, figures and pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from bantamnet.report.markup import Markup

Width = Literal["third", "half", "whole"]
"""Of the page, where that is wide enough."""


@dataclass(frozen=True)
class Text:
    """A paragraph; a `missing` one says why something is not there, a `warning` one stands out."""

    text: str
    kind: Literal["plain", "note", "missing", "warning"] = "plain"


@dataclass(frozen=True)
class Code:
    """Something to copy, as it is."""

    text: str


@dataclass(frozen=True)
class Table:
    """Rows of cells; `bars` draws a bar of that share behind each cell of a column, `numbers` are columns flush right."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: frozenset[str] = frozenset()
    bars: Mapping[str, Sequence[float]] = field(default_factory=dict)
    totals: Sequence[str] = ()
    """A last row that sums up."""
    folded: str = ""
    """A line under which the table is folded away until it is asked for; printed all the same."""
    width: Width = "whole"


@dataclass(frozen=True)
class Figure:
    """A drawing or pictures, with the words that stand under it (and instead of it where only words can stand)."""

    markup: Markup
    caption: str
    width: Width = "whole"


@dataclass(frozen=True)
class Finding:
    """What an audit found: how grave, which check, the numbers, what to do, where it was read."""

    severity: str
    check: str
    evidence: str
    fix: str
    read: str


Block = Text | Code | Table | Figure | Finding


@dataclass(frozen=True)
class Section:
    """A part of a report; `name` is its anchor."""

    name: str
    title: str
    blocks: Sequence[Block]
