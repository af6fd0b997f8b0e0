"""Images of a data set in a page: as PNG inside it, scaled up without smoothing, with what they are beneath."""

import base64
import io
from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image
from torch import Tensor

from bantamnet.report.markup import Markup, element

AS_IT_IS, SHRUNK = 64, 96
"""Images of up to so many pixels a side are kept pixel for pixel; larger ones are shrunk to that, so that a page stays small."""


def picture(image: Tensor | np.ndarray, alt: str) -> Markup:
    """An `img` of uint8 (3, H, W)."""
    pixels = np.ascontiguousarray(np.asarray(image).transpose(1, 2, 0))
    shown = Image.fromarray(pixels)
    file = io.BytesIO()
    if max(shown.size) <= AS_IT_IS:
        shown.save(file, "PNG", optimize=True)
        kind, style = "png", "pixels"
    else:
        shown.thumbnail((SHRUNK, SHRUNK), Image.Resampling.LANCZOS)
        shown.save(file, "JPEG", quality=88)
        kind, style = "jpeg", "shrunk"
    content = base64.b64encode(file.getvalue()).decode()
    return element(
        "img", src=f"data:image/{kind};base64,{content}", alt=alt, class_=style, width=shown.width, height=shown.height
    )


def tile(shown: Markup | Sequence[Markup], *words: object, style: str = "") -> Markup:
    """A picture (or a few side by side) with lines of words beneath."""
    lines = [element("span", line) for line in words if line]
    return element("figure", element("div", shown, class_="shown"), element("figcaption", lines), class_=f"tile {style}".strip())


def grid(tiles: Iterable[Markup], style: str = "") -> Markup:
    """Tiles in as many columns as there is room for."""
    return element("div", list(tiles), class_=f"tiles {style}".strip())
