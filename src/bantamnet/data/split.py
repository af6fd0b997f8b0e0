"""A set of labelled images that is asked for batches, however its pixels are kept."""

import hashlib
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from bantamnet.errors import UserError
from bantamnet.runtime import generator


@dataclass(frozen=True)
class Mapped:
    """Images that stay in a memory-mapped file: `file` uint8 (M, 3, H, W) over it, `rows` int64 (N,) which of them, in order.

    Indexing reads those images into memory; nothing else does.
    """

    file: Tensor
    rows: Tensor

    @property
    def shape(self) -> torch.Size:
        """(N, 3, H, W)."""
        return torch.Size((len(self.rows), *self.file.shape[1:]))

    def __getitem__(self, indices: Tensor) -> Tensor:
        """uint8 (len(indices), 3, H, W) in memory."""
        return self.file[self.rows[indices.to(self.rows.device)]]

    def subset(self, indices: Tensor) -> "Mapped":
        """Those images, still in the file."""
        return Mapped(self.file, self.rows[indices])


@dataclass(frozen=True)
class Split:
    """`images` uint8 (N, 3, H, W), `labels` int64 (N,), `ids` int64 (N,) that stay with an image in subsets.

    Ask `gather` for pixels: `images` may be a memory-mapped file, or on another device than the labels.
    """

    images: Tensor | Mapped
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
        """Images uint8 (len(indices), 3, H, W) of these samples, on the labels' device, where `indices` are too."""
        return self.images[indices if isinstance(self.images, Mapped) else indices.to(self.images.device)].to(self.labels.device)

    def to(self, device: torch.device) -> "Split":
        """The same split with its labels on `device`, and its pixels unless they are in a file or too many for its memory."""
        images = self.images
        if isinstance(images, Tensor) and (device.type != "cuda" or 2 * images.nbytes < torch.cuda.mem_get_info(device)[0]):
            images = images.to(device)
        return replace(self, images=images, labels=self.labels.to(device))

    def subset(self, indices: Tensor) -> "Split":
        """Those samples alone; the fingerprint is that of their ids within this split's."""
        ids = self.ids[indices]
        digest = hashlib.sha256(self.fingerprint.encode() + ids.numpy().tobytes()).hexdigest()
        images = self.images.subset(indices) if isinstance(self.images, Mapped) else self.images[indices]
        return replace(self, images=images, labels=self.labels[indices], ids=ids, fingerprint=digest)


def record_digest(image: np.ndarray, label: int, num_classes: int) -> bytes:
    """sha256 of a record: the label in one byte, in four (little end first) where there are over 256 classes, then the pixels.

    `image` is uint8 (3, H, W), so the pixels come plane by plane.
    """
    head = int(label).to_bytes(1 if num_classes <= 256 else 4, "little")
    return hashlib.sha256(head + image.tobytes()).digest()


def canonical_order(digests: list[bytes]) -> tuple[list[int], str]:
    """(the records' numbers in canonical order: by digest; the fingerprint: sha256 of the digests in that order)."""
    order = sorted(range(len(digests)), key=digests.__getitem__)
    return order, hashlib.sha256(b"".join(digests[index] for index in order)).hexdigest()


def canonical(images: np.ndarray, labels: np.ndarray, class_names: tuple[str, ...]) -> Split:
    """A split in canonical order, by the digest of each record, so that any mirror gives the same.

    `images` is uint8 (N, 3, H, W).
    """
    digests = [record_digest(image, label, len(class_names)) for image, label in zip(images, labels, strict=True)]
    order, fingerprint = canonical_order(digests)
    return Split(
        images=torch.from_numpy(images[order]),
        labels=torch.from_numpy(labels[order].astype(np.int64)),
        ids=torch.arange(len(order)),
        class_names=class_names,
        fingerprint=fingerprint,
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
