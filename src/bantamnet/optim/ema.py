"""Exponential moving average of a net's weights (Polyak & Juditsky 1992)."""

import copy

import torch
from torch import Tensor, nn


class Ema:
    """`net` is the average: parameters move by 1 − decay towards the trained ones each step, buffers are copied.

    Early on the decay is (1 + step) / (10 + step) where that is smaller, so the random start is forgotten quickly.
    """

    def __init__(self, net: nn.Module, decay: float) -> None:
        self.net = copy.deepcopy(net).requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, net: nn.Module, step: int) -> None:
        """Take in the weights after step number `step`, from 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        average: list[Tensor] = list(self.net.parameters())
        weights: list[Tensor] = list(net.parameters())
        torch._foreach_lerp_(average, weights, 1 - decay)
        for mean, value in zip(self.net.buffers(), net.buffers(), strict=True):
            mean.copy_(value)
