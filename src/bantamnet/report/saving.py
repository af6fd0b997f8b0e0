"""A figure as a file or as bytes; a name in a script that the font lacks is shown as boxes, without a word."""

import io
import warnings
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure


def save(figure: Figure, target: Path | io.BytesIO, dpi: float = 130, **words: Any) -> None:
    """As `Figure.savefig`, which takes `words`: a file is of the kind that its ending says."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")
        figure.savefig(target, dpi=dpi, **words)


def png(figure: Figure, dpi: float = 130) -> bytes:
    """The figure as PNG."""
    content = io.BytesIO()
    save(figure, content, dpi, format="png")
    return content.getvalue()
