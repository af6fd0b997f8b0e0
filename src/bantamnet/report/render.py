"""Blocks as HTML, and a whole page in its template."""

from collections.abc import Sequence
from importlib.resources import files
from string import Template

from bantamnet.report.blocks import Block, Code, Figure, Finding, Section, Table, Text
from bantamnet.report.markup import Markup, element, join

LONG = 40
"""Cells of more characters may be broken anywhere."""


def page(title: str, head: Markup, sections: Sequence[Section], foot: str) -> str:
    """A whole page: one file that asks for no other."""
    template = Template(_resource("page.html"))
    contents = element(
        "nav", [element("a", section.title, href=f"#{section.name}") for section in sections], aria_label="Contents"
    )
    return template.substitute(
        title=element("b", title)[3:-4],
        style=_resource("page.css"),
        head=head,
        nav=contents,
        sections="\n".join(_section(section) for section in sections),
        foot=join(foot),
    )


def _resource(name: str) -> str:
    return files("bantamnet.report").joinpath(name).read_text(encoding="utf-8").strip()


def _section(section: Section) -> Markup:
    blocks = element("div", [render(block) for block in section.blocks], class_="blocks")
    return element("section", element("h2", section.title), blocks, id=section.name)


def render(block: Block) -> Markup:
    """A block as HTML."""
    if isinstance(block, Text):
        return element("p", block.text, class_=None if block.kind == "plain" else block.kind)
    if isinstance(block, Code):
        return element("pre", block.text)
    if isinstance(block, Figure):
        style = f"{block.width} gallery" if "<img" in block.markup else block.width
        return element("figure", block.markup, element("figcaption", block.caption), class_=style)
    if isinstance(block, Finding):
        head = element(
            "p", element("strong", block.severity), " · ", block.check, element("span", f" · read in {block.read}", class_="note")
        )
        said = [element("p", block.evidence), element("p", f"→ {block.fix}", class_="fix")]
        return element("div", head, said, class_=f"finding {block.severity}")
    shown = element("div", _table(block), class_=f"scroll {block.width}", tabindex="0")
    return element("details", element("summary", block.folded), shown) if block.folded else shown


def _table(table: Table) -> Markup:
    kinds = ["number" if column in table.numbers else None for column in table.columns]
    head = element("tr", [element("th", column, class_=kind) for column, kind in zip(table.columns, kinds, strict=True)])
    body = []
    for index, row in enumerate(table.rows):
        cells = []
        for column, kind, cell in zip(table.columns, kinds, row, strict=True):
            bar = table.bars.get(column)
            styles = [*([kind] if kind else []), *(["bar"] if bar else []), *(["long"] if len(cell) > LONG else [])]
            share = f"--share: {100 * min(1.0, max(0.0, bar[index])):.1f}%" if bar else None
            cells.append(element("td", cell, class_=" ".join(styles) or None, style=share))
        body.append(element("tr", cells))
    if table.totals:
        cells = [element("td", cell, class_=kind) for cell, kind in zip(table.totals, kinds, strict=True)]
        body.append(element("tr", cells, class_="totals"))
    return element("table", element("thead", head), element("tbody", body))
