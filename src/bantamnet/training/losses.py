"""A task turns a net and a batch into a loss to minimise and the logits behind it."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Classification:
    """Cross-entropy, mean over the batch, with label smoothing (Szegedy et al. 2015, arXiv 1512.00567)."""

    label_smoothing: float = 0.0

    def __call__(self, net: nn.Module, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """(loss scalar float32, logits float32 (N, classes)); `targets` int64 (N,), or shares float32 (N, classes)."""
        logits = net(images).float()
        return F.cross_entropy(logits, targets, label_smoothing=self.label_smoothing), logits
