"""The same report as Markdown: text and tables whole, drawings by what stands under them."""

import re
from collections.abc import Sequence

from bantamnet.report.blocks import Block, Code, Figure, Finding, Section, Table, Text


def markdown(title: str, lead: Sequence[Block], sections: Sequence[Section], foot: str) -> str:
    """A whole file."""
    parts = [f"# {plain(title)}", *map(_block, lead)]
    for section in sections:
        parts += [f"## {plain(section.title)}", *map(_block, section.blocks)]
    return "\n\n".join(part for part in [*parts, plain(foot)] if part) + "\n"


def plain(text: str) -> str:
    """Text that Markdown takes as it is: no tag, emphasis, link or line of a table in it."""
    return re.sub(r"([\\`*_{}\[\]<>#|~])", r"\\\1", " ".join(text.split()))


def _block(block: Block) -> str:
    if isinstance(block, Text):
        return f"> {plain(block.text)}" if block.kind in ("warning", "missing") else plain(block.text)
    if isinstance(block, Code):
        fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", block.text)), default=0))
        return f"{fence}\n{block.text}\n{fence}"
    if isinstance(block, Figure):
        return f"*Figure in the HTML page: {plain(block.caption)}*"
    if isinstance(block, Finding):
        return f"- **{plain(block.severity)}** {plain(block.check)}: {plain(block.evidence)} Fix: {plain(block.fix)}"
    return _table(block)


def _table(table: Table) -> str:
    rows = [table.columns, [("---:" if column in table.numbers else "---") for column in table.columns]]
    escaped = [[plain(cell) for cell in row] for row in [*table.rows, *([table.totals] if table.totals else [])]]
    return "\n".join(f"| {' | '.join(row)} |" for row in [[plain(column) for column in rows[0]], rows[1], *escaped])
