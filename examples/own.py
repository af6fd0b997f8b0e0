"""A net, an operation, an optimiser and data of your own, each known by one line.

    bantamnet train examples/own.yaml --out runs/own
    bantamnet summary brick --use examples/own.py
    bantamnet train quickstart --use examples/own.py --set model.name=brick --set data.augment='crop(4)|negative(0.2)'
    bantamnet train quickstart --use examples/own.py --set optim.name=signs --set optim.lr=0.001

The run keeps a copy of this file. A model file never runs code: give it --use examples/own.py where it goes without its run.
All that changes while training belongs where PyTorch looks for it, in buffers of a net and in the `state` of an optimiser, and
all chance comes from PyTorch's generators: then a stopped run goes on bit for bit.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor, nn

import bantamnet
from bantamnet.data.operations import Operation, Parameters
from bantamnet.data.split import Split, canonical


@bantamnet.register("model", "brick")
class Brick(nn.Module):
    """One residual block again and again, its weights shared: depth for the price of one.

    Groups are normalised, not batches: one running mean cannot serve every pass through the block.
    """

    def __init__(self, num_classes: int, width: int = 24, depth: int = 3, rate: float = 0.1) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, stride=2, padding=1, bias=False)
        self.block = nn.Sequential(nn.GroupNorm(4, width), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1, bias=False))
        self.depth = depth
        self.dropout = nn.Dropout(rate)
        self.head = nn.Linear(width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (N, 3, H, W) → logits (N, classes)."""
        maps = self.stem(images)
        for _ in range(self.depth):
            maps = maps + self.block(maps)
        logits: Tensor = self.head(self.dropout(maps.relu().mean((2, 3))))
        return logits


@bantamnet.register("operation", "negative")
class Negative(Operation):
    """The negative of an image with probability `p`: write `negative` or `negative(0.2)` in an augmentation line."""

    p: float = 0.5

    def draw(self, num: int, generator: Generator) -> Parameters:
        """Whether to invert: a row for each sample, all chance from `generator`."""
        return {"invert": torch.rand(num, generator=generator) < self.p}

    def apply(self, images: Tensor, parameters: Parameters) -> Tensor:
        """uint8 (N, 3, H, W) → the same shape and type, by each image's own row."""
        return torch.where(parameters["invert"][:, None, None, None], 255 - images, images)


@bantamnet.register("optimizer", "signs")
class Signs(torch.optim.Optimizer):
    """Lion: steps of one size, by the sign of a momentum (Chen et al. 2023, arXiv 2302.06675)."""

    def __init__(
        self, params: Iterable[Any], lr: float, beta1: float = 0.9, beta2: float = 0.99, weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "beta1": beta1, "beta2": beta2, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Move every parameter that has a gradient; the schedule has set `lr`."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                momentum = self.state[weight].setdefault("momentum", torch.zeros_like(weight))
                direction = torch.lerp(weight.grad, momentum, group["beta1"]).sign_()
                weight.mul_(1 - group["lr"] * group["weight_decay"]).add_(direction, alpha=-group["lr"])
                momentum.lerp_(weight.grad, 1 - group["beta2"])


@bantamnet.register("data", "rings", about="bright discs and rings on dark, drawn from a seed")
def rings() -> tuple[Split, Split]:
    """600 training and 200 test images, 32×32: is it a disc or a ring?"""
    return _draw(600, seed=0), _draw(200, seed=1)


def _draw(num: int, seed: int) -> Split:
    rng = np.random.default_rng(seed)
    labels = np.arange(num) % 2
    row, column = np.mgrid[:32, :32]
    centre, radius = rng.uniform(12, 20, (num, 2, 1, 1)), rng.uniform(6, 10, (num, 1, 1))
    distance = np.hypot(row - centre[:, 0], column - centre[:, 1])
    shape = (distance < radius) & ((labels[:, None, None] == 0) | (distance > radius - 3))
    colours = rng.integers([[0], [150]], [[100], [256]], (2, num * 3)).reshape(2, num, 3, 1, 1)
    images = np.where(shape[:, None], colours[1], colours[0]) + rng.normal(0, 12, (num, 3, 32, 32))
    return canonical(images.clip(0, 255).astype(np.uint8), labels, ("disc", "ring"))
