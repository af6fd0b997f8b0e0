"""What all groups of keys have in common."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationInfo, model_validator

Checks = Mapping[str, Callable[[str], object]]
"""A function for each kind of word that a higher layer knows; it raises `ValueError` for an unknown one."""


def word(kind: str) -> AfterValidator:
    """A validator of words whose meaning lives in a higher layer."""

    def check(value: str, info: ValidationInfo) -> str:
        if info.context and kind in info.context:
            info.context[kind](value)
        return value

    return AfterValidator(check)


class Section(BaseModel):
    """A group of keys; an unknown key is an error."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, populate_by_name=True, allow_inf_nan=False
    )

    @model_validator(mode="before")
    @classmethod
    def _a_bool_is_no_number(cls, values: Any) -> Any:
        # Python's True is an int, so `epochs: true` would train for one epoch; as a word it is refused like any other word.
        if not isinstance(values, dict):
            return values
        numbers = {key for name, field in cls.model_fields.items() if _is_number(field.annotation) for key in (name, field.alias)}
        return {key: _bools_as_words(value) if key in numbers else value for key, value in values.items()}


def _is_number(kind: Any) -> bool:
    """Whether numbers are among what a key of this type takes, and bools are not."""
    kinds = _kinds(kind)
    return bool(kinds & {int, float}) and bool not in kinds


def _kinds(kind: Any) -> set[type]:
    if get_origin(kind) is Literal:
        return {type(value) for value in get_args(kind)}
    own = {kind} if isinstance(kind, type) else set()
    return own.union(*(_kinds(part) for part in get_args(kind)))


def _bools_as_words(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_bools_as_words(item) for item in value]
    if isinstance(value, dict):
        return {key: _bools_as_words(item) for key, item in value.items()}
    return str(value).lower() if isinstance(value, bool) else value
