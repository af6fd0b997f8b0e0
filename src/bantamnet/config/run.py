"""A whole run."""

import math
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from bantamnet.config.averaging import EarlyStop, Ema, Sam, Swa
from bantamnet.config.claims import Claims
from bantamnet.config.data import Data
from bantamnet.config.ending import Duration, Refit, parse_duration
from bantamnet.config.own import AnyModel, AnyOptimizer, Used
from bantamnet.config.resizing import Smaller
from bantamnet.config.section import Section
from bantamnet.config.tta import Tta

WEIGHT_CLASSES = {"fly": 78_186, "bantam": 481_530, "feather": 1_000_000, "light": 5_000_000}
"""Most parameters of each weight class (fly and bantam are MLPerf Tiny's ResNet-8 with 16 and with 40 filters)."""


class Checkpointing(Section):
    """When the state of training is written, and how much of it stays."""

    every_steps: Annotated[int, Field(gt=0)] | None = None
    """Also write every so many steps; null writes at the end of each epoch only."""
    min_interval: Annotated[float, BeforeValidator(parse_duration), Field(ge=0)] = 0.0
    """Seconds (`10s`, `1m`) after which the end of an epoch writes again; a stop, and the end of the last epoch, always do."""
    keep: Annotated[int, Field(gt=0)] = 2
    """Checkpoints that stay."""


class RunConfig(Section):
    """A whole run."""

    schema_version: Literal[1] = Field(1, alias="schema")
    """Version of this schema."""
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    """Name of the recipe."""
    about: str = ""
    """One line on what it is for."""
    budget: Annotated[int, Field(gt=0)] | Literal["fly", "bantam", "feather", "light"] | None = "light"
    """Most parameters allowed: a weight class, a number, or null for no limit."""
    data: Data
    """Data, split, augmentation and normalisation."""
    model: AnyModel
    """The net."""
    init: str | None = None
    """A model file to start from; null starts from scratch."""
    optim: list[AnyOptimizer]
    """Optimiser groups, first match wins; a single group is a short form."""
    epochs: Annotated[int, Field(gt=0)]
    """Passes over the training images."""
    time_budget: Duration | None = None
    """Seconds (or text: 90s, 20m, 1h30m, 1:30:00) from the first step to the end of the last scoring. The schedule that `epochs`
    describes is stretched or shrunk into as many steps as the machine makes in that time; null makes `epochs` passes."""
    max_steps: Annotated[int, Field(gt=0)] | None = None
    """Steps of the whole run, into which the schedule that `epochs` describes is stretched or shrunk; null makes `epochs`
    passes."""
    pace: list[tuple[Annotated[int, Field(ge=0)], Annotated[float, Field(ge=0, lt=1)], Annotated[int, Field(gt=0)]]] | None = None
    """Plans of a run with a time budget, from its summary, to repeat it exactly: [step from which it holds, share of the schedule
    done before that step, steps of the whole run]; `[[0, 0, N]]` is `max_steps: N`."""
    refit_of: Refit | None = None
    """The run that this one trains again on all training images, written by `train --refit`."""
    batch_size: Annotated[int, Field(gt=0)] = 128
    """Images a step, over all ranks."""
    sync_batchnorm: bool = True
    """BatchNorm sees the batch of all ranks together, as one process would; false lets each rank see its own part, and averages
    the running statistics."""
    drop_last: bool = False
    """Leave out the last batch of an epoch when it is short."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the target spread evenly over all classes (Szegedy et al. 2015, arXiv 1512.00567)."""
    progressive_resizing: list[Smaller] = []
    """Stretches of the schedule that train on smaller pictures, one after another from its start; then pictures have their full
    size, as in all scoring."""
    clip_norm: Annotated[float, Field(gt=0)] | None = None
    """Scale the gradient of all parameters together down to this norm where it is longer; null for never."""
    sam: Sam | None = None
    """Sharpness-aware minimisation around all groups; a number is its rho, null for none."""
    ema: Ema | None = None
    """Exponential moving average of the weights, which is then what is scored and kept; a number is its decay, null for none."""
    swa: Swa | None = None
    """Equal average of the weights at the ends of the last epochs, which is then what is scored and kept; null for none."""
    early_stop: EarlyStop | None = None
    """End the run when validation accuracy stops rising; null goes through all epochs."""
    select: Literal["best-val", "best-test", "last"] = "best-val"
    """Which epoch's weights become the model."""
    tta: Tta = Tta()
    """Test-time augmentation of the final scoring; a word or a line of views is a short form. Epochs are scored without."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of initialisation, order, augmentation and dropout."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` takes CUDA where there is one."""
    precision: Literal["auto", "fp32", "bf16", "fp32-winograd", "bf16-winograd"] = "auto"
    """`auto` computes in bf16 (weights stay fp32) where the processor has instructions for it, else in fp32; `-winograd`, which
    it prefers where a CPU has a C compiler, takes 3×3 convolutions by Winograd's algorithm: about twice as fast, in bf16
    each with 1.3% of rounding error instead of 0.2%, in fp32 with three hundred-thousandths at most."""
    compile: Literal["none", "default", "reduce-overhead", "max-autotune"] = "none"
    """Run training steps through `torch.compile` in this mode, which needs a C++ compiler; `reduce-overhead` is for a GPU, where
    it replays steps as CUDA graphs. Compiling takes from half a minute to minutes before the first step, less when repeated."""
    checkpoint: Checkpointing = Checkpointing()
    """Checkpoints."""
    track: Literal["none", "tensorboard"] = "none"
    """Where the lines of metrics.jsonl go as well: `tensorboard` writes event files into the run's folder of that name."""
    use: list[Used] = []
    """Python files that register own nets, operations, optimisers or data; a plain list of names is a short form."""
    assumed: dict[str, str] = {}
    """Facts that a report leaves open and this recipe chose."""
    claims: Claims | None = None
    """What the reproduced report says."""

    @field_validator("budget", mode="before")
    @classmethod
    def _budget_known(cls, value: Any) -> Any:
        if value is None or (isinstance(value, str) and value in WEIGHT_CLASSES) or (type(value) is int and value > 0):
            return value
        raise ValueError(f"takes a weight class ({', '.join(WEIGHT_CLASSES)}), a number above 0, or null; got {value!r}")

    @field_validator("use", mode="before")
    @classmethod
    def _short_use(cls, value: Any) -> Any:
        files = [value] if isinstance(value, str) else value
        return [{"file": file} if isinstance(file, str) else file for file in files] if isinstance(files, list) else files

    @field_validator("optim", mode="before")
    @classmethod
    def _short_optim(cls, value: Any) -> Any:
        return [value] if isinstance(value, dict) else value

    @field_validator("tta", mode="before")
    @classmethod
    def _short_tta(cls, value: Any) -> Any:
        return {"views": value} if isinstance(value, str) else value

    @field_validator("sam", mode="before")
    @classmethod
    def _short_sam(cls, value: Any) -> Any:
        return {"rho": value} if isinstance(value, int | float | str) else value

    @field_validator("ema", mode="before")
    @classmethod
    def _short_ema(cls, value: Any) -> Any:
        return {"decay": value} if isinstance(value, int | float | str) else value

    @model_validator(mode="after")
    def _one_average(self) -> Self:
        if self.ema and self.swa:
            raise ValueError("ema and swa are two averages, and one net is scored and kept; set ema=null or swa=null")
        return self

    @model_validator(mode="after")
    def _selection_has_images(self) -> Self:
        source = self.data.val.source
        if self.select == "best-val" and source == "none":
            raise ValueError("select: best-val needs validation images; set data.val.source=train, or select=last")
        if self.select == "best-val" and source == "test":
            raise ValueError(
                "data.val.source is test, so choosing by it is select: best-test; say so, or use data.val.source=train"
            )
        if self.select == "best-test" and source != "test":
            raise ValueError("select: best-test needs data.val.source=test")
        if source == "none" and self.watches_plateau:
            raise ValueError("a plateau schedule watches validation loss; set data.val.source=train")
        if source == "none" and self.early_stop:
            raise ValueError("early_stop watches validation accuracy; set data.val.source=train, or early_stop=null")
        if not self.optim:
            raise ValueError("optim needs at least one group")
        return self

    @model_validator(mode="after")
    def _stretches_in_order(self) -> Self:
        ends = [stretch.until for stretch in self.progressive_resizing]
        if any(a >= b for a, b in pairwise(ends)):
            raise ValueError("progressive_resizing: each stretch must end later in the schedule than the one before it")
        return self

    @model_validator(mode="after")
    def _one_ending(self) -> Self:
        given = [key for key in ("time_budget", "max_steps", "pace") if getattr(self, key) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} both say when the run ends; give one of them")
        if given and self.watches_plateau:
            raise ValueError(f"a plateau schedule has no end that {given[0]} could fit in; set optim.schedule=cosine")
        if given and self.swa:
            raise ValueError(f"swa counts epochs, of which {given[0]} leaves the number open; use ema, or set swa=null")
        if self.pace is not None:
            rising = all(a[0] < b[0] and a[1] <= b[1] for a, b in pairwise(self.pace))
            if not self.pace or not rising or self.pace[0][:2] != (0, 0.0) or any(p[0] >= p[2] for p in self.pace):
                raise ValueError(
                    "pace: takes plans [step, share done, steps of the run] in the order of steps, from [0, 0, …] on"
                )
        if self.refit_of and (self.select != "last" or self.data.val.source != "none"):
            raise ValueError("refit_of: a refit trains on all images and keeps the last weights; use train --refit RUN")
        return self

    @property
    def counts_epochs(self) -> bool:
        """Whether the run makes `epochs` passes, rather than as many as something else says."""
        return not (self.time_budget or self.max_steps or self.pace)

    def epochs_averaged(self, epochs_done: int) -> int:
        """How many of the first `epochs_done` epochs count for `swa`'s average."""
        return max(0, epochs_done - math.floor(self.swa.start * self.epochs + 1e-9)) if self.swa else 0

    @property
    def watches_plateau(self) -> bool:
        """Whether validation loss steers a learning rate."""
        return any(piece.name == "plateau" for group in self.optim for piece in group.schedule)

    @property
    def max_parameters(self) -> int | None:
        """The budget as a number."""
        return WEIGHT_CLASSES[self.budget] if isinstance(self.budget, str) else self.budget

    @property
    def label(self) -> Literal["clean", "final", "as published"]:
        """What a test figure of this run is worth; derived, never set.

        *as published*: test images or augmented validation images chose the checkpoint, steered the rate or ended the run.
        *final*: trained on all training images, last weights. *clean*: everything else.
        """
        chosen = self.select != "last" or self.watches_plateau or self.early_stop is not None
        if chosen and (self.data.val.source == "test" or self.data.val.augment):
            return "as published"
        return "final" if self.select == "last" and self.data.val.source != "train" else "clean"

    def dump(self) -> dict[str, Any]:
        """Every key as plain JSON values; `validate(config.dump())` gives the same config."""
        return self.model_dump(mode="json", by_alias=True)
