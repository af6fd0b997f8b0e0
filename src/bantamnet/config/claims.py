"""What a published report says of itself, so far as it can be held against a config, a run, or itself."""

from typing import Annotated, Literal

from pydantic import Field

from bantamnet.config.section import Section, word

Percent = Annotated[float, Field(ge=0, le=100)]
Count = Annotated[int, Field(gt=0)]
Channels = tuple[float, float, float]


class Inference(Section):
    """How a report's own code uses the trained net, where that is another way than its training was."""

    normalization: Literal["as in training", "another"] = "as in training"
    """Whether its pixels are normalised as in training; `another` where the numbers differ."""
    mean: Channels | None = None
    """Mean that it subtracts, where it is known."""
    std: Channels | None = None
    """Standard deviation that it divides by, where it is known."""
    epoch: Count | None = None
    """Epoch whose weights it loads."""


class FewerParameters(Section):
    """A saving of parameters as a report quotes it."""

    than: Annotated[str, word("model")]
    """The net that it compares itself with."""
    percent: Percent
    """By how many percent it says to be smaller."""


class Ablation(Section):
    """A comparison that a report draws a conclusion from."""

    varies: str
    """What it is said to vary."""
    also: list[str] = []
    """What else differed between the two."""
    accuracy: Percent | None = None
    """Accuracy of the one, in percent."""
    against: Percent | None = None
    """Accuracy of the other, in percent."""
    num: Count | None = None
    """Images behind each of them."""


class Claims(Section):
    """What a published report says of itself, so that a run can be held against it."""

    report: str
    """Title."""
    accuracy: float | None = None
    """Headline accuracy in percent."""
    measured_on: str | None = None
    """Images and checkpoint behind the headline, as far as report and logs tell."""
    num: Count | None = None
    """Images that the headline is said to be measured on."""
    mean_of: Literal["images", "batches"] = "images"
    """Whether every image counts once, or every batch, however short the last one is."""
    logged: list[Percent] = []
    """Figures that its logs show for the headline; empty where no log is known."""
    best_epoch: Count | None = None
    """Epoch that the headline belongs to."""
    inference: Inference | None = None
    """How its own code uses the net, where that differs from training."""
    tta: Annotated[str, word("tta")] | None = None
    """Test-time augmentation that it describes, as a line of views."""
    tta_measured: bool = True
    """Whether the headline was measured with it."""
    initial_weights: str | None = None
    """What its logged run started from, where that is not told and not random."""
    runs: Count | None = None
    """Runs behind the headline that have left a trace."""
    runs_told: str | None = None
    """What it says of the number of its runs, where that is more."""
    parameters: int | None = None
    """Trainable parameters."""
    parameters_told: list[str] = []
    """Other counts that it quotes, as written: 4.74 M."""
    fewer_parameters: list[FewerParameters] = []
    """Savings that it quotes."""
    optimizer: str | None = None
    """Optimiser as the report describes it."""
    told: dict[str, list[str]] = {}
    """What text, README and code say of a key of the config, where one of them differs from the run: key → every reading."""
    hardware: str | None = None
    """Hardware and time."""
    milestones: dict[str, dict[int, float]] = {}
    """Curves of its logs: what was measured → epoch → percent."""
    ablations: list[Ablation] = []
    """Comparisons that it draws conclusions from."""
    notes: list[str] = []
    """What cannot be executed, or contradicts itself."""
