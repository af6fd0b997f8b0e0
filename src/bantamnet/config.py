"""The typed, complete description of a run; a field's docstring is its help.

A recipe (YAML) may leave keys out and use short forms; a `RunConfig` has every key. Words whose meaning lives in a higher
layer (an augmentation line, the name of a data set) are checked by functions that the caller passes to `validate`.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

WEIGHT_CLASSES = {"fly": 78_186, "bantam": 481_530, "feather": 1_000_000, "light": 5_000_000}
"""Most parameters of each weight class (fly and bantam are MLPerf Tiny's ResNet-8 with 16 and with 40 filters)."""

Checks = Mapping[str, Callable[[str], object]]
"""A function for each kind of word that a higher layer knows; it raises `ValueError` for an unknown one."""


def _word(kind: str) -> AfterValidator:
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

    name: Annotated[str, _word("data")]
    """A known data set."""
    val: Validation = Validation()
    """Validation images."""
    augment: Annotated[str, _word("augment")] = ""
    """Operations in the order applied, as in `crop(4)|hflip|rotate(15)`; empty for none."""
    mean: tuple[float, float, float]
    """Subtracted from pixels in [0, 1], per channel."""
    std: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]]
    """Divides what is left, per channel."""


Width = Annotated[int, Field(gt=0, le=65_536)]


class Model(Section):
    """A residual network (He et al. 2015, arXiv 1512.03385) and its variations."""

    name: Annotated[str, _word("model")] = "custom"
    """A named net, whose other keys it fills in, or any name of your own with all keys given."""
    block: Literal["basic", "bottleneck"] = "basic"
    """`basic` is two 3×3 convolutions, `bottleneck` 1×1, 3×3, 1×1 with four times the width at its end."""
    stem: Literal["cifar", "imagenet"] = "cifar"
    """`cifar` is one 3×3 convolution, `imagenet` a 7×7 one of stride 2 and a max-pool."""
    stem_width: Width
    """Channels after the stem."""
    widths: list[Width]
    """Width of each stage."""
    blocks: list[Annotated[int, Field(ge=0, le=1000)]]
    """Blocks of each stage; a stage of 0 blocks is left out."""
    strides: list[Annotated[int, Field(gt=0, le=1000)]] | None = None
    """Stride of each stage's first block; null is 1, then 2 for every further stage."""
    activation: Literal["relu", "leaky_relu", "silu", "gelu"] = "relu"
    """Activation everywhere."""
    slope: float = 0.01
    """Negative slope of `leaky_relu`."""
    dropout: list[Annotated[float, Field(ge=0, lt=1)]] | None = None
    """Dropout rate after each stage; null for none."""
    shortcut: Literal["conv-bn", "conv", "pad"] = "conv-bn"
    """Where a block changes shape: 1×1 convolution and BatchNorm, a bare 1×1 convolution, or zero-padded identity."""
    conv_bias: bool = False
    """Give every convolution a bias."""
    inner: list[list[list[Width]]] | None = None
    """Inner widths of each block of each stage (one number for basic, two for bottleneck); null is the stage's width."""

    @model_validator(mode="after")
    def _stages_agree(self) -> Self:
        num_stages = len(self.widths)
        if not num_stages or not any(self.blocks):
            raise ValueError("a net needs at least one stage with a block")
        for key in ("blocks", "strides", "dropout", "inner"):
            value = getattr(self, key)
            if value is not None and len(value) != num_stages:
                raise ValueError(f"{key} has {len(value)} entries and widths {num_stages}; give one for each stage")
        if self.inner is not None:
            per_block = 1 if self.block == "basic" else 2
            for stage, (inner, blocks) in enumerate(zip(self.inner, self.blocks, strict=True)):
                if len(inner) != blocks or any(len(widths) != per_block for widths in inner):
                    raise ValueError(f"inner[{stage}] must hold {blocks} lists of {per_block} for this {self.block} stage")
        return self


class Segment(Section):
    """A piece of a learning-rate schedule; its factor multiplies the group's rate. The last piece goes on past its length."""

    epochs: Annotated[float, Field(gt=0)] | None = None
    """Length in epochs; null (with `steps` null) follows the run's epochs."""
    steps: Annotated[int, Field(gt=0)] | None = None
    """Length in steps instead."""
    every: Literal["step", "epoch"] = "step"
    """Move each step, or only when an epoch begins."""

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if self.epochs is not None and self.steps is not None:
            raise ValueError("give the length in epochs or in steps, not both")
        return self


class Constant(Segment):
    """The group's own rate."""

    name: Literal["constant"] = "constant"


class Warmup(Segment):
    """Linear from `start` times the rate to the rate itself."""

    name: Literal["warmup"]
    start: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Factor at its beginning."""


class Cosine(Segment):
    """Half a cosine from the rate down to `min_lr` over its length (Loshchilov & Hutter 2016, arXiv 1608.03983).

    As in PyTorch, the cosine climbs again when a run goes on past that length.
    """

    name: Literal["cosine"]
    min_lr: Annotated[float, Field(ge=0)] = 0.0
    """Rate at its lowest point."""


class Multistep(Segment):
    """Multiply the rate at given epochs."""

    name: Literal["multistep"]
    at: list[Annotated[float, Field(gt=0)]]
    """Epochs (since the segment began) at which to multiply."""
    factor: Annotated[float, Field(gt=0)] = 0.1
    """What to multiply by."""


class Plateau(Segment):
    """Multiply the rate when validation loss stops falling, as `torch.optim.lr_scheduler.ReduceLROnPlateau` does.

    It is the last segment, and has no `eps`: the rate is multiplied however small it is.
    """

    name: Literal["plateau"]
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """What to multiply by."""
    patience: Annotated[int, Field(ge=0)] = 10
    """Epochs without improvement that are let pass."""
    threshold: Annotated[float, Field(ge=0)] = 1e-4
    """Relative fall that counts as improvement."""


AnySegment = Annotated[Constant | Warmup | Cosine | Multistep | Plateau, Field(discriminator="name")]


class Group(Section):
    """Parameters that share an optimiser and a schedule; a parameter belongs to the first group that matches it."""

    match: str = "*"
    """Glob on parameter names (`stem.*`), or `@weights` (two or more dimensions), or `@norm-bias` (the rest)."""
    lr: Annotated[float, Field(ge=0)]
    """Learning rate before the schedule."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Weight decay."""
    decay_norm_bias: bool = False
    """Let weight decay act on BatchNorm scales and biases too, as PyTorch does when nobody says otherwise."""
    schedule: list[AnySegment] = [Constant()]
    """Segments one after another; a single name or a single segment is a short form."""

    @field_validator("schedule", mode="before")
    @classmethod
    def _short_schedule(cls, value: Any) -> Any:
        pieces = value if isinstance(value, list) else [value]
        return [{"name": piece} if isinstance(piece, str) else piece for piece in pieces]

    @field_validator("schedule")
    @classmethod
    def _lengths_known(cls, value: list[AnySegment]) -> list[AnySegment]:
        if not value:
            raise ValueError("a schedule needs at least one segment, e.g. cosine")
        if any(piece.epochs is None and piece.steps is None for piece in value[:-1]):
            raise ValueError("only the last segment may follow the run's epochs; give the others `epochs` or `steps`")
        if any(piece.name == "plateau" for piece in value[:-1]):
            raise ValueError("plateau can only be the last segment")
        return value


class Sgd(Group):
    """Stochastic gradient descent."""

    name: Literal["sgd"]
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Momentum."""
    nesterov: bool = False
    """Nesterov's form of it."""

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Self:
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs a momentum above 0")
        return self


class Adam(Group):
    """Adam with coupled weight decay (Kingma & Ba 2014, arXiv 1412.6980)."""

    name: Literal["adam"]
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    """Decay of the first and the second moment."""
    eps: Annotated[float, Field(gt=0)] = 1e-8
    """Added to the denominator."""


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2017, arXiv 1711.05101)."""

    name: Literal["adamw"]  # type: ignore[assignment]


AnyGroup = Annotated[Sgd | Adam | AdamW, Field(discriminator="name")]


class Checkpointing(Section):
    """When the state of training is written, and how much of it stays."""

    every_steps: Annotated[int, Field(gt=0)] | None = None
    """Also write every so many steps; null writes at the end of each epoch only."""
    keep: Annotated[int, Field(gt=0)] = 2
    """Checkpoints that stay."""


class Claims(Section):
    """What a published report says of itself, so that a run can be held against it."""

    report: str
    """Title."""
    accuracy: float | None = None
    """Headline accuracy in percent."""
    measured_on: str | None = None
    """Images and checkpoint behind the headline, as far as report and logs tell."""
    parameters: int | None = None
    """Trainable parameters."""
    optimizer: str | None = None
    """Optimiser as the report describes it."""
    hardware: str | None = None
    """Hardware and time."""
    milestones: dict[str, dict[int, float]] = {}
    """Curves of its logs: what was measured → epoch → percent."""
    notes: list[str] = []
    """What cannot be executed, or contradicts itself."""


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
    model: Model
    """The net."""
    init: str | None = None
    """A model file to start from; null starts from scratch."""
    optim: list[AnyGroup]
    """Optimiser groups, first match wins; a single group is a short form."""
    epochs: Annotated[int, Field(gt=0)]
    """Passes over the training images."""
    batch_size: Annotated[int, Field(gt=0)] = 128
    """Images a step, over all ranks."""
    drop_last: bool = False
    """Leave out the last batch of an epoch when it is short."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the target spread evenly over all classes (Szegedy et al. 2015, arXiv 1512.00567)."""
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Decay of an exponential moving average of the weights, which is then what is scored and kept; null for none."""
    select: Literal["best-val", "best-test", "last"] = "best-val"
    """Which epoch's weights become the model."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of initialisation, order, augmentation and dropout."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` takes CUDA where there is one."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """`auto` computes in bf16 (weights stay fp32) where the processor has instructions for it."""
    checkpoint: Checkpointing = Checkpointing()
    """Checkpoints."""
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

    @field_validator("optim", mode="before")
    @classmethod
    def _short_optim(cls, value: Any) -> Any:
        return [value] if isinstance(value, dict) else value

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
        if not self.optim:
            raise ValueError("optim needs at least one group")
        return self

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

        *as published*: test images or augmented validation images chose the checkpoint or steered the rate. *final*: trained
        on all training images, last weights. *clean*: everything else.
        """
        chosen = self.select != "last" or self.watches_plateau
        if chosen and (self.data.val.source == "test" or self.data.val.augment):
            return "as published"
        return "final" if self.select == "last" and self.data.val.source != "train" else "clean"

    def dump(self) -> dict[str, Any]:
        """Every key as plain JSON values; `validate(config.dump())` gives the same config."""
        return self.model_dump(mode="json", by_alias=True)
