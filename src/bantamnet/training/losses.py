"""A task turns a net and a batch into a loss to minimise and the logits behind it."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Classification:
    """Cross-entropy, mean over the batch, with label smoothing (Szegedy et al. 2015, arXiv 1512.00567)."""

    label_smoothing: float = 0.0
    class_weights: Tensor | None = None
    """float32 (classes,): what an image of each class counts; the mean is still over images, so that it is the same for any
    number of ranks, unlike PyTorch's, which is over the weights of those in the batch."""

    def __call__(self, net: nn.Module, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """(loss scalar float32, logits float32 (N, classes)); `targets` int64 (N,), or shares float32 (N, classes)."""
        logits = net(images).float()
        if self.class_weights is not None:
            summed = F.cross_entropy(
                logits, targets, weight=self.class_weights, reduction="sum", label_smoothing=self.label_smoothing
            )
            return summed / len(targets), logits
        return F.cross_entropy(logits, targets, label_smoothing=self.label_smoothing), logits
