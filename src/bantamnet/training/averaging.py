"""Stochastic weight averaging at the ends of epochs (Izmailov et al. 2018, arXiv 1803.05407)."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bantamnet.runtime import autocast
from bantamnet.training.progress import Progress
from bantamnet.training.setup import Setup, State


def average_epoch(setup: Setup, state: State, epoch: int, images: Iterable[Tensor], progress: Progress) -> None:
    """Where the epoch (from 0) counts, take its last weights into the average, and measure BatchNorm's statistics for it anew.

    `images` are this rank's normalised training batches, read only then.
    """
    if state.swa is None or not setup.config.epochs_averaged(epoch + 1):
        return
    state.swa.update(state.optimizers.slow_net(state.net))
    update_bn(state.swa.net, _counted(images, progress, setup), setup)


def _counted(images: Iterable[Tensor], progress: Progress, setup: Setup) -> Iterable[Tensor]:
    for batch in images:
        yield batch
        progress.advance_scoring(len(batch) * setup.ranks.size)


@torch.no_grad()
def update_bn(net: nn.Module, images: Iterable[Tensor], setup: Setup) -> None:
    """Set BatchNorm's running statistics to the mean of those of the batches, as `torch.optim.swa_utils.update_bn` does.

    Unlike there dropout is off, as it is when the net is scored: nothing is drawn, and the statistics are those of what is
    scored. Over ranks the statistics are averaged.
    """
    norms = [module for module in net.modules() if isinstance(module, _BatchNorm)]
    momenta, was_training = [norm.momentum for norm in norms], net.training
    net.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over batches
        norm.train()
    for batch in images:
        with autocast(setup.device, setup.precision):
            net(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        for statistic in (norm.running_mean, norm.running_var):
            if statistic is not None:
                setup.ranks.sum(statistic).div_(setup.ranks.size)
    net.train(was_training)
