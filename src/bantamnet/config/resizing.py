"""Keys of progressive resizing."""

from typing import Annotated

from pydantic import Field

from bantamnet.config.section import Section


class Smaller(Section):
    """A stretch of the schedule that trains on smaller pictures."""

    scale: Annotated[float, Field(gt=0, lt=1)]
    """Their height and width, as a share of the recipe's; rounded to pixels."""
    until: Annotated[float, Field(gt=0, le=1)]
    """Share of the schedule after which the next stretch begins, or pictures have their full size."""
