"""What all groups of keys have in common."""

from collections.abc import Callable, Mapping

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationInfo

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
