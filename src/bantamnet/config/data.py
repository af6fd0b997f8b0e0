"""Data keys."""

from typing import Annotated, Literal

from pydantic import Field

from bantamnet.config.section import Section, word


class Validation(Section):
    """Where the images that are scored after every epoch come from."""

    source: Literal["train", "test", "none"] = "train"
    """`train` holds images out of the training set, `test` looks at the test set (as some reports did), `none` scores nothing."""
    count: Annotated[int, Field(gt=0)] = 5000
    """Images held out when the source is `train`, the same number of each class as near as can be."""
    split_seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the held-out choice, apart from the run's own seed."""
    augment: bool = False
    """Send these images through the training augmentation (a fault of some reports; only to repeat them)."""


class Data(Section):
    """What is trained on, and how pixels reach the net."""

    name: Annotated[str, word("data")]
    """A known data set."""
    val: Validation = Validation()
    """Validation images."""
    augment: Annotated[str, word("augment")] = ""
    """Operations in the order applied, as in `crop(4)|hflip|rotate(15)`; empty for none."""
    mix: Annotated[str, word("mix")] = ""
    """Mixing of pairs of images and their targets, as in `mixup(0.2)` or `cutmix(1.0, p=0.5)`; empty for none."""
    mean: tuple[float, float, float]
    """Subtracted from pixels in [0, 1], per channel."""
    std: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]]
    """Divides what is left, per channel."""
