"""Keys of runs that end otherwise than after a recipe's epochs: at a time, after so many steps, or where another run says."""

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from bantamnet.config.section import Section

_UNITS = re.compile(r"(?:(?P<h>\d+(?:\.\d+)?)h)?(?:(?P<m>\d+(?:\.\d+)?)m(?:in)?)?(?:(?P<s>\d+(?:\.\d+)?)s)?")
_CLOCK = re.compile(r"(?:(\d+):)?(\d+):(\d\d(?:\.\d+)?)")


def parse_duration(value: Any) -> Any:
    """Seconds of `90s`, `20m`, `1h30m`, `1:30:00` or `20:00`; a number is seconds already; raises `ValueError` for other text."""
    if not isinstance(value, str):
        return value
    text = value.replace(" ", "").lower()
    if clock := _CLOCK.fullmatch(text):
        hours, minutes, seconds = (float(part or 0) for part in clock.groups())
    elif text and (units := _UNITS.fullmatch(text)):
        hours, minutes, seconds = (float(units[name] or 0) for name in "hms")
    else:
        try:
            return float(text)
        except ValueError:
            raise ValueError(f"takes seconds or a duration such as 90s, 20m, 1h30m or 1:30:00, got {value!r}") from None
    return 3600 * hours + 60 * minutes + seconds


Duration = Annotated[float, BeforeValidator(parse_duration), Field(gt=0)]


class Refit(Section):
    """The run whose recipe is trained again on all training images, and what validation said there."""

    run: str
    """Its directory."""
    weights_digest: str
    """Its model."""
    epoch: Annotated[int, Field(gt=0)]
    """The epoch that validation chose, counted from 1: the epochs of the refit."""
    epochs: Annotated[int, Field(gt=0)]
    """The epochs it ran for."""
    step: Annotated[int, Field(gt=0)]
    """Its steps up to the chosen epoch's end."""
    seed: Annotated[int, Field(ge=0)]
    """Its seed."""
    val_accuracy: float
    """Accuracy of its model on its validation images, in [0, 1]; these are training images of the refit."""
    val_num: Annotated[int, Field(gt=0)]
    """How many images that was measured on."""
