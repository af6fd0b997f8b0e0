"""Mixing pairs of images of a batch and their targets: mixup and CutMix, written as a line like augmentations.

`mixup(0.2)` or `cutmix(1.0, p=0.5)`, or both with a bar between them: each batch takes at most one, with its probability `p`.
Coefficients, boxes and partners are drawn for a whole epoch at once by (seed, epoch), so that chunk size, resume point and
number of ranks change nothing.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from bantamnet.data.augment import read_line
from bantamnet.data.operation import Probability, arguments
from bantamnet.errors import UserError
from bantamnet.runtime import generator, key

Alpha = Annotated[float, Field(gt=0)]


@arguments
class Mix(ABC):
    """One way to mix; λ ~ Beta(α, α) is the share of the first image, one λ a batch."""

    alpha: Alpha = 1.0
    p: Probability = 1.0

    @abstractmethod
    def apply(self, images: Tensor, others: Tensor, share: Tensor, centre: Tensor) -> tuple[Tensor, Tensor]:
        """(mixed images, share (N,) of the first image that is really left).

        `images`, `others` float (N, 3, H, W), `share` float32 (N,) in [0, 1], `centre` float32 (N, 2) down and right in [0, 1).
        """


@arguments
class Mixup(Mix):
    """λ · image + (1 − λ) · other (Zhang et al. 2017, arXiv 1710.09412)."""

    def apply(self, images: Tensor, others: Tensor, share: Tensor, centre: Tensor) -> tuple[Tensor, Tensor]:
        """Blend whole images."""
        return torch.lerp(others, images, share[:, None, None, None]), share


@arguments
class Cutmix(Mix):
    """A box of the other image, 1 − λ of the area, centred anywhere and cut at the border (Yun et al. 2019, arXiv 1905.04899)."""

    def apply(self, images: Tensor, others: Tensor, share: Tensor, centre: Tensor) -> tuple[Tensor, Tensor]:
        """Paste the box; the share is what its visible part leaves."""
        height, width = images.shape[2:]
        side = (1 - share).sqrt()
        top, bottom = _span(centre[:, 0], side, height)
        left, right = _span(centre[:, 1], side, width)
        rows = torch.arange(height, device=images.device)
        columns = torch.arange(width, device=images.device)
        in_rows = (rows >= top[:, None]) & (rows < bottom[:, None])
        in_columns = (columns >= left[:, None]) & (columns < right[:, None])
        inside = (in_rows[:, :, None] & in_columns[:, None, :])[:, None]
        return torch.where(inside, others, images), 1 - (bottom - top) * (right - left) / (height * width)


def _span(centre: Tensor, share: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """(first, one past the last) pixel of a stretch of `share` of `size` around a centre, cut at the border."""
    middle, half = (centre * size).long(), (share * size).long() // 2
    return (middle - half).clamp(min=0), (middle + half).clamp(max=size)


MIXES: dict[str, type[Mix]] = {"mixup": Mixup, "cutmix": Cutmix}


@dataclass(frozen=True)
class Drawn:
    """What one epoch mixes; everything but `partner` has a row for each batch."""

    which: Tensor
    """int64 (batches,): index of the mix that acts, −1 for none."""
    share: Tensor
    """float32 (batches,): λ."""
    centre: Tensor
    """float32 (batches, 2)."""
    partner: list[Tensor]
    """For each batch the position of each image's partner in it, int64 (batch size,)."""


@dataclass(frozen=True)
class Mixing:
    """The mixes of a line; an empty one does nothing and is false."""

    mixes: tuple[Mix, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.mixes)

    def draw(self, batch_sizes: list[int], seed: int, epoch: int) -> Drawn:
        """What happens to each batch of an epoch; a function of seed and epoch alone."""
        random = generator("mix", seed, epoch)
        beta = np.random.default_rng(key("mix", "share", seed, epoch))
        num = len(batch_sizes)
        edges = torch.tensor([mix.p for mix in self.mixes]).cumsum(0)
        which = torch.bucketize(torch.rand(num, generator=random), edges, right=True)
        which[which == len(self.mixes)] = -1
        shares = torch.from_numpy(np.stack([beta.beta(mix.alpha, mix.alpha, num) for mix in self.mixes])).float()
        return Drawn(
            which=which,
            share=shares[which.clamp(min=0), torch.arange(num)],
            centre=torch.rand(num, 2, generator=random),
            partner=[torch.randperm(size, generator=random) for size in batch_sizes],
        )

    def apply(self, images: Tensor, labels: Tensor, num_classes: int, drawn: Drawn, batches: range) -> tuple[Tensor, Tensor]:
        """Mix the images of these batches, one after another in `images` (N, 3, H, W) float; `labels` int64 (N,).

        Returns (images, targets float32 (N, classes) whose rows sum to 1).
        """
        device = images.device
        sizes = torch.tensor([len(drawn.partner[batch]) for batch in batches])
        starts = (sizes.cumsum(0) - sizes).tolist()
        partner = torch.cat([drawn.partner[b] + start for b, start in zip(batches, starts, strict=True)]).to(device)
        chosen = torch.tensor(list(batches)).repeat_interleave(sizes)
        targets = F.one_hot(labels, num_classes).float()
        mixed, mixed_targets = images, targets
        for index, mix in enumerate(self.mixes):
            rows = (drawn.which[chosen] == index).nonzero()[:, 0]
            if len(rows):
                batch, rows = chosen[rows], rows.to(device)
                mixed, mixed_targets = (images.clone(), targets.clone()) if mixed is images else (mixed, mixed_targets)
                others = partner[rows]
                mixed[rows], left = mix.apply(
                    images[rows], images[others], drawn.share[batch].to(device), drawn.centre[batch].to(device)
                )
                mixed_targets[rows] = torch.lerp(targets[others], targets[rows], left[:, None])
        return mixed, mixed_targets


def parse(line: str) -> Mixing:
    """The mixing that a line describes; raises `UserError` naming the nearest mix or argument."""
    mixes = tuple(read_line(line, MIXES, "cutmix(1.0, p=0.5)"))
    if sum(mix.p for mix in mixes) > 1 + 1e-9:
        raise UserError(f"{line}: a batch takes at most one mix, so their p may add up to 1 at most; write p=0.5")
    return Mixing(mixes)
