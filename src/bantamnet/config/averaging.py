"""Keys of averages of weights, of sharpness-aware steps and of early stopping."""

from typing import Annotated, Literal

from pydantic import Field

from bantamnet.config.section import Section


class Ema(Section):
    """An exponential moving average of the weights (Polyak & Juditsky 1992), which is then what is scored and kept."""

    decay: Annotated[float, Field(gt=0, lt=1)]
    """What is left of the average after a step."""
    buffers: Literal["copy", "average"] = "copy"
    """Take BatchNorm's running statistics from the trained net as they are, or average them as the weights."""
    warmup: bool = True
    """Early on let the decay be (1 + step) / (10 + step) where that is smaller, so that the random start is soon forgotten."""


class Swa(Section):
    """Stochastic weight averaging (Izmailov et al. 2018, arXiv 1803.05407); once there is an average, it is scored and kept.

    Weights at the ends of epochs count equally. Before each scoring BatchNorm's statistics are measured anew on all
    training images, augmented as in the epoch.
    """

    start: Annotated[float, Field(ge=0, lt=1)] = 0.75
    """Share of the epochs that pass before the first one that counts; the last always counts."""


class Sam(Section):
    """Sharpness-aware minimisation (Foret et al. 2020, arXiv 2010.01412): the gradient of a step is that of the worst point near
    by. A step takes two passes forward and back."""

    rho: Annotated[float, Field(gt=0)] = 0.05
    """How far away that point is, in the Euclidean norm over all parameters."""
    adaptive: bool = False
    """Measure the distance relative to each parameter's size (ASAM; Kwon et al. 2021, arXiv 2102.11600), which wants a `rho` ten
    times or more as large."""


class EarlyStop(Section):
    """End the run when validation accuracy stops rising."""

    patience: Annotated[int, Field(gt=0)]
    """Epochs in a row without a rise after which the run ends."""
    min_delta: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """A rise is more than this, as a share: 0.001 is 0.1%."""
