"""Mean and standard deviation of a split's pixels, in exact integers whatever the order and the chunks."""

import math

import torch

from bantamnet.data.split import Split

Stat = tuple[float, float, float]
PIXELS_AT_ONCE = 2**22


def channel_statistics(split: Split) -> tuple[Stat, Stat]:
    """(mean, standard deviation) of each channel of pixels / 255, over all images, unrounded."""
    height, width = split.size
    total = torch.zeros(2, 3, dtype=torch.int64)
    for indices in torch.arange(len(split), device=split.labels.device).split(max(1, PIXELS_AT_ONCE // (height * width))):
        pixels = split.gather(indices).to(torch.int32)
        total += torch.stack([pixels.sum((0, 2, 3)), pixels.square().sum((0, 2, 3))]).cpu()
    num = len(split) * height * width
    sums, squares = total.tolist()
    means = [value / num for value in sums]
    deviations = [math.sqrt(max(0, num * square - value * value)) / num for value, square in zip(sums, squares, strict=True)]
    return _scaled(means), _scaled(deviations)


def _scaled(values: list[float]) -> Stat:
    red, green, blue = (value / 255 for value in values)
    return red, green, blue


def normalization(split: Split) -> tuple[Stat, Stat]:
    """(mean, standard deviation) to normalise with: to four places, as they are written for known data sets, and none of zero."""
    mean, std = channel_statistics(split)
    red, green, blue = (max(round(value, 4), 1e-4) for value in std)
    return (round(mean[0], 4), round(mean[1], 4), round(mean[2], 4)), (red, green, blue)
