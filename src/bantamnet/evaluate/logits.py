"""What a net says about every image of a split."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from bantamnet.config import Tta
from bantamnet.data.preprocess import Preprocessing
from bantamnet.data.split import Split
from bantamnet.evaluate.tta import ViewAverage, view_average
from bantamnet.runtime import Ranks, autocast, memory_format

BATCH = 500
"""Images of 32×32 scored at once."""


def batch_size(size: tuple[int, int]) -> int:
    """Images of `size` (height, width) scored at once: fewer of larger ones, so that memory stays bounded."""
    return min(BATCH, max(32, BATCH * 32 * 32 // (size[0] * size[1])))


@torch.no_grad()
def batch_logits(
    net: nn.Module,
    images: Tensor,
    preprocessing: Preprocessing,
    tta: str | Tta | ViewAverage,
    precision: str,
    indices: Tensor | None = None,
) -> Tensor:
    """uint8 (N, 3, H, W) → float32 logits (N, classes), one answer over all views.

    `indices` int64 (N,) on the CPU say which samples these are, for views that draw; None counts from 0.
    """
    layout = memory_format(images.device, precision)

    def predict(pixels: Tensor) -> Tensor:
        logits: Tensor = net(preprocessing.normalize(pixels, layout)).float()
        return logits

    with autocast(images.device, precision):
        return view_average(tta).logits(predict, images, torch.arange(len(images)) if indices is None else indices)


def split_logits(
    net: nn.Module,
    split: Split,
    preprocessing: Preprocessing,
    *,
    precision: str,
    tta: str | Tta | ViewAverage = "none",
    ranks: Ranks | None = None,
    transform: Callable[[Tensor, Tensor], Tensor] | None = None,
    advance: Callable[[int], None] | None = None,
) -> Tensor:
    """float32 logits (len(split), classes) in the order of the split, on every rank; the net is left in its mode.

    A `ViewAverage` given as `tta` has counted what was done, on all ranks, when this returns.
    `transform(images, indices)` changes the uint8 images first; `advance(num)` hears of each batch.
    """
    ranks, average = ranks or Ranks(), view_average(tta)
    shards = [torch.arange(len(split))[rank :: ranks.size] for rank in range(ranks.size)]
    device = next(net.parameters()).device
    was_training = net.training
    net.eval()
    parts = []
    for indices in shards[ranks.rank].split(batch_size(split.size)):
        images = split.gather(indices.to(split.labels.device)).to(device)
        if transform:
            images = transform(images, indices)
        parts.append(batch_logits(net, images, preprocessing, average, precision, indices))
        if advance:
            advance(len(indices))
    net.train(was_training)
    average.sum(ranks, device)
    gathered = ranks.gather(torch.cat(parts), [len(shard) for shard in shards])
    logits = torch.empty(len(split), gathered[0].shape[1], device=device)
    for shard, rows in zip(shards, gathered, strict=True):
        logits[shard.to(device)] = rows
    return logits
