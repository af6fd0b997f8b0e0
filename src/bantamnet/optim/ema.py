"""Exponential moving average of a net's weights (Polyak & Juditsky 1992)."""

import copy

import torch
from torch import Tensor, nn


class Ema:
    """`net` is the average: parameters move by 1 − decay towards the trained ones each step, buffers are copied.

    With `average_buffers` BatchNorm's running statistics move as the parameters do. A copy is that of the last few batches
    alone, and belongs to other weights than the average. With `warmup` the decay is (1 + step) / (10 + step) where that is
    smaller, so the random start is forgotten quickly.
    """

    def __init__(self, net: nn.Module, decay: float, *, average_buffers: bool = False, warmup: bool = True) -> None:
        self.net = copy.deepcopy(net).requires_grad_(False)
        self.decay, self.average_buffers, self.warmup = decay, average_buffers, warmup

    @torch.no_grad()
    def update(self, net: nn.Module, step: int) -> None:
        """Take in the weights after step number `step`, from 0."""
        decay = min(self.decay, (1 + step) / (10 + step)) if self.warmup else self.decay
        average: list[Tensor] = list(self.net.parameters())
        weights: list[Tensor] = list(net.parameters())
        torch._foreach_lerp_(average, weights, 1 - decay)
        for mean, value in zip(self.net.buffers(), net.buffers(), strict=True):
            if self.average_buffers and mean.is_floating_point():
                mean.lerp_(value, 1 - decay)
            else:
                mean.copy_(value)
