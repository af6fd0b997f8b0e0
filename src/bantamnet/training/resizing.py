"""Progressive resizing: a run's first part sees smaller pictures, whose steps cost less (fast.ai's DAWNBench entry, 2018)."""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from bantamnet.config import Smaller


class Resizing:
    """How large pictures are at any point of the schedule; without stretches always as they come."""

    def __init__(self, stretches: Sequence[Smaller] = ()) -> None:
        self.stretches = stretches
        self.costs = {place.scale: place.scale**2 for place in stretches}
        """What a step costs at each scale, one at full size being 1: as its pixels, until it has been measured."""

    def scale(self, progress: float) -> float:
        """Share of the full height and width after this share of the schedule."""
        return next((stretch.scale for stretch in self.stretches if progress < stretch.until - 1e-9), 1.0)

    def size(self, full: Sequence[int], progress: float) -> list[int]:
        """Height and width at this point of pictures of this full height and width."""
        return [max(1, round(self.scale(progress) * side)) for side in full]

    def apply(self, images: Tensor, progress: float) -> Tensor:
        """Normalised images (N, C, H, W) float → the same at the size of this point.

        The filter is Pillow's `BILINEAR`, which averages where it shrinks.
        """
        if self.scale(progress) == 1:
            return images
        layout = torch.channels_last if images.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
        size = self.size(images.shape[2:], progress)
        return F.interpolate(images, size=size, mode="bilinear", antialias=True).contiguous(memory_format=layout)

    def places(self) -> dict[float, float]:
        """A share of the schedule at which each scale comes, the full one first."""
        ends = [0.0, *(stretch.until for stretch in self.stretches)]
        return {1.0: 1.0, **{self.scale(end): end for end in ends}}

    def cost(self, since: float, until: float) -> float:
        """What a step between two shares of the schedule costs on average, one at full size being 1."""
        ends = [since, *(stretch.until for stretch in self.stretches if since < stretch.until < until), until]
        if ends[0] >= ends[-1]:
            return self._cost_at(since)
        return sum((end - begin) * self._cost_at(begin) for begin, end in pairwise(ends)) / (ends[-1] - ends[0])

    def _cost_at(self, progress: float) -> float:
        return self.costs.get(self.scale(progress), 1.0)
