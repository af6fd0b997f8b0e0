"""An ablation file: a recipe, keys to vary, and seeds."""

from typing import Annotated, Any, Literal

from pydantic import Field

from bantamnet.config.section import Section


class Ablation(Section):
    """A grid over keys of a recipe."""

    schema_version: Literal[1] = Field(1, alias="schema")
    """Version of this schema."""
    about: str = ""
    """One line on what it is to find out."""
    recipe: str
    """A recipe's name, or a file beside this one."""
    set: dict[str, Any] = {}
    """Keys changed in every cell, as in `epochs: 20`; dots lead into sections."""
    vary: Annotated[dict[str, list[Any] | dict[str, Any]], Field(min_length=1)]
    """Key → its values, the first of them the base; or key → name of a value → value, for values that want a name."""
    seeds: Annotated[int, Field(gt=0)] = 3
    """Runs of each cell."""
    notes: list[str] = []
    """What the report that is taken up says of it, and what was chosen here."""
