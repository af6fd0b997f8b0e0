"""Hard example mining: later epochs pass over the training images that the net finds easy.

What is easy is what had a small loss when it was last trained on, so it costs no pass of its own. Choosing by a training loss is
as old as Sung & Poggio 1994; that it pays in short CIFAR-10 runs is from cifar10-airbench (Jordan 2024, arXiv 2404.00498), where
a second net does the choosing.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from bantamnet.config import HardExamples
from bantamnet.runtime import Ranks


class HardMemory:
    """The last loss of every training image, and which images an epoch takes."""

    def __init__(self, stretches: Sequence[HardExamples], num: int, device: torch.device) -> None:
        self.stretches = stretches
        self.losses = torch.full((num,), math.inf, device=device)
        """float32 (N,): of an image's last step; infinite, so the hardest, before its first."""
        self.seen = torch.full((num,), -1, device=device)
        """int64 (N,): that step."""
        self.chosen: Tensor | None = None
        """int64 (K,) on the CPU: the images of the epoch that has begun; None for all."""

    def share(self, progress: float) -> float:
        """Share of the images that an epoch takes which begins here in the schedule."""
        passed = [stretch.share for stretch in self.stretches if progress >= stretch.since - 1e-9]
        return passed[-1] if passed else 1.0

    def begin_epoch(self, progress: float, ranks: Ranks) -> None:
        """Choose its images: the hardest, the first in canonical order where losses are equal."""
        share = self.share(progress)
        if share == 1:
            self.chosen = None
            return
        self.merge(ranks)
        hardest = self.losses.argsort(descending=True, stable=True)
        self.chosen = hardest[: max(1, round(share * len(hardest)))].cpu()

    def observe(self, samples: Tensor, logits: Tensor, labels: Tensor, step: int) -> None:
        """Remember the losses of these images (int64 (B,)) from logits (B, classes) and labels int64 (B,)."""
        # Of an image that comes twice in a batch the larger loss counts: whichever is written last would be chance.
        losses = F.cross_entropy(logits.detach().float(), labels, reduction="none")
        self.losses[samples] = 0
        self.losses.scatter_reduce_(0, samples, losses, "amax")
        self.seen[samples] = step

    def merge(self, ranks: Ranks) -> None:
        """Let every rank know what the one that last saw an image knows."""
        if ranks.size > 1:
            losses, seen = torch.stack(ranks.gather(self.losses)), torch.stack(ranks.gather(self.seen))
            self.seen = seen.amax(0)
            # Two ranks may have it in the same step: the larger loss counts, as in `observe`.
            self.losses = losses.where(seen == self.seen, -math.inf).amax(0)

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint keeps."""
        chosen = {} if self.chosen is None else {"chosen": self.chosen}
        return {"losses": self.losses, "seen": self.seen, **chosen}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Undo for `tensors`."""
        self.losses.copy_(tensors["losses"])
        self.seen.copy_(tensors["seen"])
        self.chosen = tensors.get("chosen")


def passes(chosen: Tensor, num: int, generator: torch.Generator) -> Tensor:
    """int64 (num,): all of `chosen` in random order, then all again in another, as often as it takes."""
    rounds = -(-num // len(chosen))
    return torch.cat([chosen[torch.randperm(len(chosen), generator=generator)] for _ in range(rounds)])[:num]
