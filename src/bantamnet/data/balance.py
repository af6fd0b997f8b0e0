"""Unequal classes: shown, and put right by drawing or by weighing."""

import torch
from torch import Generator, Tensor

from bantamnet.data.split import Split
from bantamnet.errors import UserError

IMBALANCED = 1.5
"""Largest over smallest class from which on it is worth a word."""


def counts(split: Split) -> Tensor:
    """int64 (classes,) on the CPU: images of each class."""
    return split.labels.cpu().bincount(minlength=len(split.class_names))


def refuse_missing(split: Split) -> None:
    """Raise `UserError` naming the classes of which no training image is left."""
    missing = [split.class_names[index] for index in (counts(split) == 0).nonzero()[:, 0].tolist()]
    if missing:
        raise UserError(
            f"no training images are left of {len(missing)} classes ({', '.join(missing[:10])}): too few pictures, or too many "
            "held out or left out; add pictures, or lower data.val.count or data.test.share"
        )


def class_weights(split: Split) -> Tensor:
    """float32 (classes,): images / (classes · images of the class), so that the mean over images is 1."""
    per_class = counts(split)
    return len(split) / (len(per_class) * per_class.float())


def balanced_order(labels: Tensor, num_classes: int, generator: Generator) -> Tensor:
    """int64 (N,): as many samples as there are, every class equally often (± 1), in random order.

    Within a class every sample comes before any comes again, so of a large class an epoch sees a part, and of a small one each
    image several times (± 1). `labels` int64 (N,) on the CPU, each class at least once.
    """
    num = len(labels)
    shares = torch.full((num_classes,), num // num_classes)
    shares[torch.randperm(num_classes, generator=generator)[: num % num_classes]] += 1
    drawn = []
    for label, share in enumerate(shares.tolist()):
        members = (labels == label).nonzero()[:, 0]
        rounds = -(-share // len(members))
        again = [members[torch.randperm(len(members), generator=generator)] for _ in range(rounds)]
        drawn.append(torch.cat(again)[:share] if again else members[:0])
    chosen = torch.cat(drawn)
    return chosen[torch.randperm(num, generator=generator)]
