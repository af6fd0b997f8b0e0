"""Everything a run needs in memory, built from its config and its seed alone."""

import copy
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from bantamnet.config import RunConfig
from bantamnet.data import augment, mixing
from bantamnet.data.augment import chunk_size
from bantamnet.data.balance import class_weights
from bantamnet.data.listener import Listener
from bantamnet.data.preprocess import Preprocessing
from bantamnet.data.split import Split
from bantamnet.data.statistics import Stat, normalization
from bantamnet.errors import UserError, told
from bantamnet.evaluate.scoring import divide, load_parts
from bantamnet.memory import keep_freed_memory
from bantamnet.models.build import adapt, build, differing
from bantamnet.models.syncnorm import synchronise
from bantamnet.optim.ema import Ema
from bantamnet.optim.groups import Optimizers
from bantamnet.optim.swa import Swa
from bantamnet.runs.modelfile import load_model
from bantamnet.runtime import Ranks, key, memory_format, pick_precision
from bantamnet.training.hard import HardMemory
from bantamnet.training.losses import Classification
from bantamnet.training.pace import Pace, TimeBudget
from bantamnet.training.progress import SCORING_COST
from bantamnet.training.resizing import Resizing
from bantamnet.training.stopping import EarlyStopping


class Point(NamedTuple):
    """How far a run is."""

    step: int = 0
    progress: float = 0.0
    """Share of the schedule."""
    epochs: int = 0
    """Those that are scored."""


@dataclass
class State:
    """What changes while training; a checkpoint holds all of it and the state of the random generators."""

    net: nn.Module
    optimizers: Optimizers
    ema: Ema | None
    swa: Swa | None
    hard: HardMemory | None
    early_stop: EarlyStopping
    totals: Tensor
    """float64 (3,): sum of losses, correct, images, of this rank since the epoch began."""
    pace: Pace
    """How many steps there are, and how far in the schedule each one is."""
    step: int = 0
    epochs_done: int = 0
    best: dict[str, Any] | None = None
    """Validation figures of the chosen epoch so far."""
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    best_logits: Tensor | None = None
    """What they say of the plain validation images, so that these need not be scored again; None after a resume."""
    seconds: float = 0.0
    """Wall time spent, over all resumes."""

    @property
    def point(self) -> Point:
        """Where it stands."""
        return Point(self.step, self.pace.progress(self.step), self.epochs_done)

    def end(self, steps_per_epoch: int) -> Point:
        """Where the run ends, as far as is known now."""
        return Point(self.pace.steps, 1.0, self.pace.num_epochs(steps_per_epoch))

    @property
    def scored_net(self) -> nn.Module:
        """The net whose figures count: an average where there is one, Lookahead's slow weights where there are some."""
        if self.ema:
            return self.ema.net
        if self.swa and self.swa.num_averaged:
            return self.swa.net
        return self.optimizers.slow_net(self.net)


@dataclass(frozen=True)
class Setup:
    """What stays the same while training."""

    config: RunConfig
    splits: dict[str, Split]
    device: torch.device
    precision: str
    ranks: Ranks
    augmentation: augment.Augmentation
    mixing: mixing.Mixing
    preprocessing: Preprocessing
    task: Classification
    resizing: Resizing
    steps_per_epoch: int
    loaded_at: float
    """When the data were in memory, on the clock of `time.perf_counter`."""
    resumed: bool

    @property
    def num_steps(self) -> int:
        """Steps that the config's epochs take: the run's own, unless it is stretched or shrunk into others (see `State.pace`)."""
        return self.config.epochs * self.steps_per_epoch

    @property
    def steps_per_chunk(self) -> int:
        """Steps whose images are augmented together."""
        return max(1, chunk_size(self.device, self.splits["train"].size) // self.config.batch_size)

    def work(self, since: Point, until: Point) -> float:
        """What steps, scoring after epochs and averages cost between two points of a run, in training images of full size."""
        val, train = len(self.splits.get("val", ())), len(self.splits["train"])
        averaged = self.config.epochs_averaged(until.epochs) - self.config.epochs_averaged(since.epochs)
        scored = (until.epochs - since.epochs) * val + averaged * train
        images = self._images(until.step) - self._images(since.step)
        return images * self.resizing.cost(since.progress, until.progress) + scored * SCORING_COST

    def _images(self, steps: int) -> int:
        """Images in so many steps; an epoch's last batch may be short."""
        epochs, rest = divmod(steps, self.steps_per_epoch)
        batch_size = self.config.batch_size
        per_epoch = min(len(self.splits["train"]), self.steps_per_epoch * batch_size)
        return epochs * per_epoch + min(rest * batch_size, per_epoch)


def build_net(config: RunConfig, num_classes: int, with_init: bool) -> nn.Module:
    """The net as the run starts with it: from scratch by the seed, or from `init`."""
    torch.manual_seed(key(config.seed, "init"))
    net = build(config.model, num_classes)
    if config.init and with_init:
        net.load_state_dict(initial_weights(Path(config.init).expanduser(), net, config.model.name))
    return net


def initial_weights(path: Path, net: nn.Module, name: str) -> dict[str, Tensor]:
    """The weights in a model file; raises `UserError` unless they fit `net`, called `name`, whose own may be on meta."""
    weights = load_model(path)[0].state_dict()
    if others := differing(net, weights):
        raise UserError(f"init: {path} is another net than {name}: {', '.join(others[:5])} differ")
    return weights


def check_batch(config: RunConfig, num_train: int, num_ranks: int = 1) -> None:
    """Raise `UserError` where `drop_last` leaves no batch, or the last batch has no image for one of the ranks."""
    if config.drop_last and config.batch_size > num_train:
        raise UserError(
            f"batch_size: {config.batch_size} is more than the {num_train} training images; with drop_last no batch is left"
        )
    smallest = smallest_batch(config, num_train)
    if smallest < num_ranks:
        raise UserError(
            f"batch_size: a batch of {smallest} images cannot be shared by {num_ranks} ranks; choose another batch_size"
            + ("" if config.drop_last else ", or drop_last=true")
        )


def smallest_batch(config: RunConfig, num_train: int) -> int:
    """Images in an epoch's smallest batch, over all ranks."""
    return config.batch_size if config.drop_last else num_train % config.batch_size or config.batch_size


def check_single_image(setup: Setup, net: nn.Module) -> None:
    """Raise `UserError` where a batch of one image will come that the net cannot be trained on.

    So it is with a BatchNorm over one value per channel, whose variance says nothing, and with a net that drops dimensions of 1.
    """
    config, train, ranks = setup.config, setup.splits["train"], setup.ranks
    ends_before = config.max_steps and config.max_steps < setup.steps_per_epoch and config.batch_size >= 2 * ranks.size
    if ends_before or smallest_batch(config, len(train)) >= 2 * ranks.size or (ranks.size > 1 and config.sync_batchnorm):
        return
    tried = copy.deepcopy(net).train()
    for place in setup.resizing.places().values():
        images = torch.zeros(1, 3, *setup.resizing.size(train.size, place), device=setup.device)
        try:
            with torch.no_grad():
                setup.task(tried, images, torch.zeros(1, dtype=torch.int64, device=setup.device))
        except Exception as error:
            only_last = len(train) % config.batch_size and not config.drop_last
            raise UserError(
                f"batch_size: a batch of one image is left{' for a rank' if ranks.size > 1 else ''}, which {config.model.name} "
                f"cannot be trained on: {told(error)}; choose another batch_size" + (", or drop_last=true" if only_last else "")
            ) from error


def prepare(
    config: RunConfig,
    data_dir: Path | None,
    device: torch.device,
    ranks: Ranks,
    with_init: bool = True,
    listener: Listener | None = None,
) -> tuple[Setup, State]:
    """Load the data, build the net and its optimisers; raises `UserError` for what does not fit together.

    `with_init` false leaves `config.init` unread, for a run that goes on from a checkpoint. The setup's config is complete:
    statistics of the training images that the config left open stand in it.
    """
    precision = pick_precision(config.precision, device, compiled=config.compile != "none")
    if device.type == "cpu":
        keep_freed_memory()
    parts = load_parts(config.data, data_dir, listener)
    torch.zeros(1, device=device)  # starts a GPU, as importing starts a process
    loaded_at = time.perf_counter()
    config, mean, std = with_statistics(config, parts["train"])
    splits = {name: split.to(device) for name, split in divide(parts, config.data.val).items()}
    train = splits["train"]
    check_batch(config, len(train), ranks.size)
    round_steps = math.floor if config.drop_last else math.ceil
    setup = Setup(
        config=config,
        splits=splits,
        device=device,
        precision=precision,
        ranks=ranks,
        augmentation=augment.parse(config.data.augment, config.data.mean),
        mixing=mixing.parse(config.data.mix),
        preprocessing=Preprocessing(train.size, mean, std, config.data.resize),
        task=Classification(config.label_smoothing, class_weights(train).to(device) if config.data.balance == "loss" else None),
        resizing=Resizing(config.progressive_resizing),
        steps_per_epoch=round_steps(len(train) / config.batch_size),
        loaded_at=loaded_at,
        resumed=not with_init,
    )
    net = build_net(config, len(train.class_names), with_init).to(device, memory_format=memory_format(device, precision))  # type: ignore[call-overload]
    if with_init and not config.init:
        adapt(net, lambda num: setup.preprocessing.normalize(train.gather(torch.arange(min(num, len(train)), device=device))))
    check_single_image(setup, net)
    ranks.copy_main_(net.state_dict().values())  # other processors may round the first weights otherwise
    if ranks.size > 1 and config.sync_batchnorm:
        net = synchronise(net, device)
    torch.manual_seed(key(config.seed, "dropout", ranks.rank))
    ema = config.ema
    state = State(
        net=net,
        optimizers=Optimizers(config.optim, net, setup.steps_per_epoch, config.epochs, precision),
        ema=Ema(net, ema.decay, average_buffers=ema.buffers == "average", warmup=ema.warmup) if ema else None,
        swa=Swa(net) if config.swa else None,
        hard=HardMemory(config.data.hard_examples, len(train), device) if config.data.hard_examples else None,
        early_stop=EarlyStopping(config.early_stop),
        totals=torch.zeros(3, dtype=torch.float64, device=device),
        pace=make_pace(setup),
    )
    if not config.counts_epochs:
        state.optimizers.position = lambda step: state.pace.progress(step) * setup.num_steps
    return setup, state


def make_pace(setup: Setup) -> Pace:
    """How the run ends: with its epochs, or as its config says otherwise."""
    config = setup.config
    if config.time_budget:
        return TimeBudget(config.time_budget, setup.steps_per_epoch, setup.steps_per_chunk, setup.ranks, setup.resizing.cost)
    return Pace(list(config.pace or [(0, 0.0, config.max_steps or setup.num_steps)]))


def with_statistics(config: RunConfig, train: Split) -> tuple[RunConfig, Stat, Stat]:
    """(the config with mean and standard deviation filled in from training images where it has none, mean, std)."""
    mean, std = config.data.mean, config.data.std
    if mean is None or std is None:
        found = normalization(train)
        mean, std = mean or found[0], std or found[1]
        config = config.model_copy(update={"data": config.data.model_copy(update={"mean": mean, "std": std})})
    return config, mean, std
