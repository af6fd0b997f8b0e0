"""A set of labelled images that is asked for batches, however its pixels are kept."""

import hashlib
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from bantamnet.errors import UserError
from bantamnet.runtime import generator


@dataclass(frozen=True)
class Split:
    """Images in memory: `images` uint8 (N, 3, H, W), `labels` int64 (N,), `ids` int64 (N,) that stay with an image in subsets."""

    images: Tensor
    labels: Tensor
    ids: Tensor
    class_names: tuple[str, ...]
    fingerprint: str

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.images.shape[2], self.images.shape[3]

    def gather(self, indices: Tensor) -> Tensor:
        """Images uint8 (len(indices), 3, H, W) of these samples."""
        return self.images[indices]

    def to(self, device: torch.device) -> "Split":
        """The same split with pixels and labels on `device`."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))

    def subset(self, indices: Tensor) -> "Split":
        """Those samples alone; the fingerprint is that of their ids within this split's."""
        ids = self.ids[indices]
        digest = hashlib.sha256(self.fingerprint.encode() + ids.numpy().tobytes()).hexdigest()
        return replace(self, images=self.images[indices], labels=self.labels[indices], ids=ids, fingerprint=digest)


def canonical(images: np.ndarray, labels: np.ndarray, class_names: tuple[str, ...]) -> Split:
    """A split in canonical order: by the sha256 of each record (label byte, then planar pixels), so any mirror gives the same.

    `images` is uint8 (N, 3, H, W). The fingerprint is the sha256 of those sums in that order.
    """
    records = np.concatenate([labels.astype(np.uint8)[:, None], images.reshape(len(images), -1)], axis=1)
    sums = [hashlib.sha256(record).digest() for record in records]
    order = sorted(range(len(sums)), key=sums.__getitem__)
    return Split(
        images=torch.from_numpy(images[order]),
        labels=torch.from_numpy(labels[order].astype(np.int64)),
        ids=torch.arange(len(order)),
        class_names=class_names,
        fingerprint=hashlib.sha256(b"".join(sums[index] for index in order)).hexdigest(),
    )


def check_held_out(count: int, num: int) -> None:
    """Raise `UserError` unless `count` of `num` training images can be held out."""
    if not 0 < count < num:
        raise UserError(f"data.val.count: {count} of {num} training images cannot be held out; give 1 to {num - 1}")


def hold_out(split: Split, count: int, seed: int) -> tuple[Split, Split]:
    """(rest, held out): `count` images drawn by `seed`, stratified, class shares rounded so that they add up."""
    check_held_out(count, len(split))
    shuffled = torch.randperm(len(split), generator=generator("hold out", seed))
    by_class = [shuffled[split.labels[shuffled] == label] for label in range(len(split.class_names))]
    exact = [len(members) * count / len(split) for members in by_class]
    counts = [int(share) for share in exact]
    remainders = sorted(range(len(exact)), key=lambda label: counts[label] - exact[label])
    for label in remainders[: count - sum(counts)]:
        counts[label] += 1
    held = torch.cat([members[:num] for members, num in zip(by_class, counts, strict=True)]).sort().values
    mask = torch.ones(len(split), dtype=torch.bool)
    mask[held] = False
    return split.subset(mask.nonzero()[:, 0]), split.subset(held)
