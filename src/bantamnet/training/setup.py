"""Everything a run needs in memory, built from its config and its seed alone."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from bantamnet.config import RunConfig
from bantamnet.data import augment, mixing
from bantamnet.data.preprocess import Preprocessing
from bantamnet.data.split import Split
from bantamnet.errors import UserError
from bantamnet.evaluate.scoring import load_splits
from bantamnet.models.build import build, differing
from bantamnet.models.syncnorm import synchronise
from bantamnet.optim.ema import Ema
from bantamnet.optim.groups import Optimizers
from bantamnet.runs.modelfile import load_model
from bantamnet.runtime import Ranks, key, memory_format, pick_precision
from bantamnet.training.losses import Classification


@dataclass
class State:
    """What changes while training; a checkpoint holds all of it and the state of the random generators."""

    net: nn.Module
    optimizers: Optimizers
    ema: Ema | None
    totals: Tensor
    """float64 (3,): sum of losses, correct, images, of this rank since the epoch began."""
    step: int = 0
    epochs_done: int = 0
    best: dict[str, Any] | None = None
    """Validation figures of the chosen epoch so far."""
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    seconds: float = 0.0
    """Wall time spent, over all resumes."""

    @property
    def scored_net(self) -> nn.Module:
        """The net whose figures count: the moving average where there is one."""
        return self.ema.net if self.ema else self.net


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
    steps_per_epoch: int

    @property
    def num_steps(self) -> int:
        """Steps of the whole run."""
        return self.config.epochs * self.steps_per_epoch


def build_net(config: RunConfig, num_classes: int, with_init: bool) -> nn.Module:
    """The net as the run starts with it: from scratch by the seed, or from `init`."""
    torch.manual_seed(key(config.seed, "init"))
    net = build(config.model, num_classes)
    if config.init and with_init:
        weights = load_model(Path(config.init))[0].state_dict()
        if others := differing(net, weights):
            raise UserError(f"init: {config.init} is another net than {config.model.name}: {', '.join(others[:5])} differ")
        net.load_state_dict(weights)
    return net


def prepare(
    config: RunConfig, data_dir: Path | None, device: torch.device, ranks: Ranks, with_init: bool = True
) -> tuple[Setup, State]:
    """Load the data, build the net and its optimisers; raises `UserError` for what does not fit together.

    `with_init` false leaves `config.init` unread, for a run that goes on from a checkpoint.
    """
    precision = pick_precision(config.precision, device)
    splits = {name: split.to(device) for name, split in load_splits(config, data_dir).items()}
    train = splits["train"]
    if config.drop_last and config.batch_size > len(train):
        raise UserError(
            f"batch_size: {config.batch_size} is more than the {len(train)} training images; with drop_last no batch is left"
        )
    if min(config.batch_size, len(train) % config.batch_size or config.batch_size) < ranks.size and not config.drop_last:
        raise UserError(
            f"batch_size: the last batch of an epoch has {len(train) % config.batch_size or config.batch_size} images for "
            f"{ranks.size} ranks; choose another batch_size, or drop_last=true"
        )
    round_steps = math.floor if config.drop_last else math.ceil
    setup = Setup(
        config=config,
        splits=splits,
        device=device,
        precision=precision,
        ranks=ranks,
        augmentation=augment.parse(config.data.augment),
        mixing=mixing.parse(config.data.mix),
        preprocessing=Preprocessing(train.size, config.data.mean, config.data.std),
        task=Classification(config.label_smoothing),
        steps_per_epoch=round_steps(len(train) / config.batch_size),
    )
    net = build_net(config, len(train.class_names), with_init).to(device, memory_format=memory_format(device, precision))  # type: ignore[call-overload]
    if ranks.size > 1 and config.sync_batchnorm:
        net = synchronise(net, device)
    torch.manual_seed(key(config.seed, "dropout", ranks.rank))
    state = State(
        net=net,
        optimizers=Optimizers(config.optim, net, setup.steps_per_epoch, config.epochs),
        ema=Ema(net, config.ema) if config.ema else None,
        totals=torch.zeros(3, dtype=torch.float64, device=device),
    )
    return setup, state


def over_ranks(net: nn.Module, setup: Setup) -> nn.Module:
    """The net as the loop calls it: gradients are averaged over ranks where there are several."""
    if setup.ranks.size == 1:
        return net
    return DistributedDataParallel(net, device_ids=[setup.device] if setup.device.type == "cuda" else None)
