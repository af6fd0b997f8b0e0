"""What a net says about every image of a split."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from bantamnet.data.preprocess import Preprocessing
from bantamnet.data.split import Split
from bantamnet.errors import UserError, unknown
from bantamnet.runtime import Ranks, autocast, memory_format

VIEWS: dict[str, list[Callable[[Tensor], Tensor]]] = {
    "none": [lambda images: images],
    "hflip": [lambda images: images, lambda images: images.flip(3)],
}
"""Test-time augmentation: the logits of these views of an image are averaged."""

BATCH = 500
"""Images of 32×32 scored at once."""


def batch_size(size: tuple[int, int]) -> int:
    """Images of `size` (height, width) scored at once: fewer of larger ones, so that memory stays bounded."""
    return min(BATCH, max(32, BATCH * 32 * 32 // (size[0] * size[1])))


def view_functions(tta: str) -> list[Callable[[Tensor], Tensor]]:
    """The views of a test-time augmentation; raises `UserError` for an unknown one."""
    if tta not in VIEWS:
        raise UserError(f"tta: {unknown('value', tta, VIEWS)}")
    return VIEWS[tta]


@torch.no_grad()
def batch_logits(net: nn.Module, images: Tensor, preprocessing: Preprocessing, tta: str, precision: str) -> Tensor:
    """uint8 (N, 3, H, W) → float32 logits (N, classes), mean over views."""
    views = view_functions(tta)
    with autocast(images.device, precision):
        layout = memory_format(images.device, precision)
        total = torch.stack([net(preprocessing.normalize(view(images), layout)).float() for view in views])
    return total.mean(0)


def split_logits(
    net: nn.Module,
    split: Split,
    preprocessing: Preprocessing,
    *,
    precision: str,
    tta: str = "none",
    ranks: Ranks | None = None,
    transform: Callable[[Tensor, Tensor], Tensor] | None = None,
    advance: Callable[[int], None] | None = None,
) -> Tensor:
    """float32 logits (len(split), classes) in the order of the split, on every rank; the net is left in its mode.

    `transform(images, indices)` changes the uint8 images first; `advance(num)` hears of each batch.
    """
    ranks = ranks or Ranks()
    shards = [torch.arange(len(split))[rank :: ranks.size] for rank in range(ranks.size)]
    device = next(net.parameters()).device
    was_training = net.training
    net.eval()
    parts = []
    for indices in shards[ranks.rank].split(batch_size(split.size)):
        images = split.gather(indices.to(split.labels.device)).to(device)
        if transform:
            images = transform(images, indices)
        parts.append(batch_logits(net, images, preprocessing, tta, precision))
        if advance:
            advance(len(indices))
    net.train(was_training)
    gathered = ranks.gather(torch.cat(parts), [len(shard) for shard in shards])
    logits = torch.empty(len(split), gathered[0].shape[1], device=device)
    for shard, rows in zip(shards, gathered, strict=True):
        logits[shard.to(device)] = rows
    return logits
