"""The gradient of one step: forward and backward, once, or twice with SAM (Foret et al. 2020, arXiv 2010.01412)."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bantamnet.config import Sam
from bantamnet.runtime import Ranks, autocast, rng_state, set_rng_state
from bantamnet.training.setup import Setup


def gradients(setup: Setup, net: nn.Module, images: Tensor, targets: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Leave the gradient of a batch in the parameters of `net`; (loss, logits) of the net as it stands.

    With SAM the gradient is that of the worst point near by; loss and logits are those of the first pass. Both passes drop out
    the same activations, so that the second follows the same function from a neighbouring point, and SAM leaves the sequence of
    random numbers as it is. Over ranks each pass averages its gradient, so all ranks go to one and the same point.
    """
    sam = setup.config.sam
    generators = rng_state(setup.device) if sam else {}
    loss, logits = _backward(setup, net, images, targets, share)
    if sam:
        with at_worst_point(net, sam):
            set_rng_state(generators, setup.device)
            _backward(setup, net, images, targets, share)
    if setup.config.clip_norm:
        nn.utils.clip_grad_norm_(list(net.parameters()), setup.config.clip_norm)
    return loss, logits


def _backward(setup: Setup, net: nn.Module, images: Tensor, targets: Tensor, share: float) -> tuple[Tensor, Tensor]:
    with autocast(setup.device, setup.precision):  # one for each pass: autocast remembers its casts of the weights until its end
        loss, logits = setup.task(net, images, targets)
    (loss * share).backward()
    if setup.ranks.size > 1:
        average_over_ranks(setup.ranks, net)
    return loss, logits


def average_over_ranks(ranks: Ranks, net: nn.Module) -> None:
    """Give all ranks the mean of their gradients, and of the running statistics that each has of its own images.

    A parameter that this rank's images did not reach counts as one with gradient 0.
    """
    parameters = [parameter for parameter in net.parameters() if parameter.requires_grad]
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    statistics = [buffer for buffer in net.buffers() if buffer.is_floating_point()]
    ranks.average_([*(parameter.grad for parameter in parameters if parameter.grad is not None), *statistics])


@contextlib.contextmanager
def at_worst_point(net: nn.Module, sam: Sam) -> Iterator[None]:
    """`net` where its loss is highest within `rho`, to first order, and without gradients; its weights come back at the end.

    The point is w + rho g / |g|, or with `adaptive` w + rho w² g / |w g| (Kwon et al. 2021, arXiv 2102.11600). Meanwhile
    BatchNorm's running statistics stand still: they are for the weights that are kept, and this point is left again at once.
    """
    parameters: list[Tensor] = [parameter for parameter in net.parameters() if parameter.grad is not None]
    weights = [parameter.detach().clone() for parameter in parameters]
    directions = [parameter.grad for parameter in parameters if parameter.grad is not None]
    with torch.no_grad():
        if sam.adaptive:
            scaled = torch._foreach_mul(directions, weights)
            directions = list(torch._foreach_mul(scaled, weights))
        norm = nn.utils.get_total_norm(scaled if sam.adaptive else directions)
        torch._foreach_add_(parameters, list(torch._foreach_mul(directions, sam.rho / (norm + 1e-12))))
    net.zero_grad(set_to_none=True)
    norms = [module for module in net.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    for module in norms:
        module.track_running_stats = False
    try:
        yield
    finally:
        for module in norms:
            module.track_running_stats = True
        with torch.no_grad():
            torch._foreach_copy_(parameters, weights)
