"""Test-time augmentation keys."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from bantamnet.config.section import Section, word


class Tta(Section):
    """Which views of an image are scored when a net is measured, and how they become one answer."""

    views: Annotated[str, word("tta")] = "none"
    """`none`, `hflip`, `hflip-translate`, or views as in `none + hflip(1) + 0.5*vflip(1)`: augmentation lines with weights."""
    average: Literal["logits", "probabilities"] = "logits"
    """What is averaged over the views."""
    below: Annotated[float, Field(gt=0, le=1)] | None = None
    """Only images whose plain top probability is under this get the views; null gives them to all."""

    @model_validator(mode="after")
    def _below_has_views(self) -> Self:
        if self.below is not None and self.views.strip() in ("none", "identity"):
            raise ValueError(
                f"below: {self.below} picks the images that get more views, and `none` has no more; name views: hflip"
            )
        return self
