"""Equal average of a net's weights over many moments (Izmailov et al. 2018, arXiv 1803.05407)."""

import copy

import torch
from torch import nn


class Swa:
    """`net` holds the mean of all weights taken in so far; its BatchNorm statistics are for others to measure."""

    def __init__(self, net: nn.Module) -> None:
        self.net = copy.deepcopy(net).requires_grad_(False)
        self.num_averaged = 0

    @torch.no_grad()
    def update(self, net: nn.Module) -> None:
        """Take in these weights."""
        self.num_averaged += 1
        torch._foreach_lerp_(list(self.net.parameters()), list(net.parameters()), 1 / self.num_averaged)
