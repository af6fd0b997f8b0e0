"""Data keys."""

import os
from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from bantamnet.config.section import Section, word

Seed = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]


def is_path(name: str) -> bool:
    """Whether a data set's name is the path of a folder of pictures: it starts with a dot or ~, or holds a slash."""
    return name.startswith((".", "~")) or "/" in name or os.sep in name


class Validation(Section):
    """Where the images that are scored after every epoch come from."""

    source: Literal["train", "test", "none"] = "train"
    """`train` holds images out of the training set (or takes a folder's own `val`), `test` looks at the test set (as some
    reports did), `none` scores nothing."""
    count: Annotated[int, Field(gt=0)] | None = 5000
    """Images held out when the source is `train`, the same share of each class as near as can be; null is a tenth, and the
    default for a folder of pictures."""
    split_seed: Seed = 0
    """Seed of the held-out choice, apart from the run's own seed."""
    augment: bool = False
    """Send these images through the training augmentation (a fault of some reports; only to repeat them)."""


class HeldOutTest(Section):
    """Which pictures become test images where a folder has none of its own; known data sets bring theirs."""

    share: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Share of each class."""
    split_seed: Seed = 0
    """Seed of the choice, apart from the run's own seed."""


class HardExamples(Section):
    """A stretch of the schedule, up to the next one's, that trains on the hardest images only."""

    share: Annotated[float, Field(gt=0, lt=1)]
    """Share of the training images: those whose loss was largest when each was last trained on. An epoch still has as many
    images, so they come several times."""
    since: Annotated[float, Field(gt=0, lt=1)]
    """Share of the schedule after which it begins, with the next epoch."""


class Data(Section):
    """What is trained on, and how pixels reach the net."""

    name: Annotated[str, word("data")]
    """A known data set, or the path of a folder of pictures: PATH/{train,val,test}/CLASS/* or PATH/CLASS/*."""
    size: Annotated[int, Field(ge=8, le=1024)] | None = None
    """Height and width of a folder's pictures as the net sees them; null is 32. Known data sets have their own."""
    resize: Literal["crop", "pad", "squash"] = "crop"
    """How a picture of another shape becomes a square: its centre cut out, black bars beside it, or stretched."""
    skip_bad: bool = False
    """Leave out pictures that cannot be read (they are counted); otherwise all of them are listed and nothing is trained."""
    keep: Literal["auto", "memory", "map"] = "auto"
    """Where a folder's pixels are kept: in memory or in a memory-mapped file; `auto` maps what takes over a quarter of memory."""
    val: Validation = Validation()
    """Validation images."""
    test: HeldOutTest = HeldOutTest()
    """Test images."""
    balance: Literal["none", "sampler", "loss"] = "none"
    """Against unequal classes: `sampler` draws every class equally often, `loss` weights classes by 1 / their share."""
    augment: Annotated[str, word("augment")] = ""
    """Operations in the order applied, as in `crop(4)|hflip|rotate(15)`; empty for none."""
    mix: Annotated[str, word("mix")] = ""
    """Mixing of pairs of images and their targets, as in `mixup(0.2)` or `cutmix(1.0, p=0.5)`; empty for none."""
    hard_examples: list[HardExamples] = []
    """Stretches of the schedule that leave out easy images, one after another; before the first all images are trained on."""
    mean: tuple[float, float, float] | None = None
    """Subtracted from pixels in [0, 1], per channel; null is that of the training images, and becomes a number in the run."""
    std: tuple[Positive, Positive, Positive] | None = None
    """Divides what is left, per channel; null is that of the training images, and becomes a number in the run."""

    @model_validator(mode="after")
    def _hard_examples_are_plain(self) -> Self:
        if self.hard_examples and (self.mix or self.balance == "sampler"):
            what = f"mix: {self.mix}" if self.mix else "balance: sampler"
            raise ValueError(
                f"hard_examples choose images by their own losses; {what} does not go with that, leave out one of them"
            )
        if any(a.since >= b.since for a, b in pairwise(self.hard_examples)):
            raise ValueError("hard_examples: each stretch must begin later in the schedule than the one before it")
        return self

    @model_validator(mode="after")
    def _size_and_test_are_free(self) -> Self:
        if self.size is not None and not is_path(self.name):
            raise ValueError(f"size is for folders of pictures; {self.name} has its own, leave the key out")
        if self.test != HeldOutTest() and not is_path(self.name):
            raise ValueError(f"test is for folders of pictures; {self.name} has test images of its own, leave the key out")
        return self
