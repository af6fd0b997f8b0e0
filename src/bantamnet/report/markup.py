"""HTML and SVG as values: whatever is not markup already is escaped when it is put in."""

import html


class Markup(str):
    """Text that is HTML (or SVG in it) already; everything else that goes into an element is escaped."""

    __slots__ = ()


VOID = {"img", "link", "meta", "br", "col", "rect", "circle", "line", "path", "polyline", "polygon"}


def element(name: str, *children: object, **attributes: object) -> Markup:
    """`<name …>children</name>`; `class_` is `class`, `_` is `-`, and an attribute of None is left out.

    Floats are written with two places at most, which is a hundredth of a pixel in a drawing.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(_text(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in VOID and not children:
        return Markup(f"<{name}{written}/>")
    return Markup(f"<{name}{written}>{join(children)}</{name}>")


def join(children: object) -> Markup:
    """Pieces one after another; lists and generators are gone through, None is nothing."""
    if isinstance(children, Markup):
        return children
    if children is None:
        return Markup("")
    if isinstance(children, str | int | float):
        return Markup(html.escape(_text(children)))
    assert hasattr(children, "__iter__"), f"{type(children).__name__} is no piece of a page"
    return Markup("".join(join(child) for child in children))


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.2f}".rstrip("0").rstrip(".") if "e" not in f"{value:.2f}" else str(value)
    return str(value)
