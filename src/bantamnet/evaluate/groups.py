"""Runs that differ in nothing but their seed: spread, intervals, whether two recipes differ, and how many seeds would decide."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from statistics import NormalDist, fmean, stdev
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from bantamnet.evaluate.distributions import Z_95, student_t_limit, student_t_p
from bantamnet.evaluate.metrics import wilson_interval
from bantamnet.evaluate.paired import POWER

FEWEST_SEEDS = 3
"""With two, the spread of seeds is a guess from a single difference, and Welch's test sees next to nothing."""
FEWEST_TO_PERMUTE = 4
"""Seeds each with which the most extreme of all ways to deal them out has a share under 5%: 2 of 70."""
FEWEST_TO_PAIR = 6
"""Pairs of which the chance that all lie on one side is under 5%: 2 of 64."""
RESAMPLES = 10_000


@dataclass(frozen=True)
class Spread:
    """Figures of one recipe over seeds; accuracies are in [0, 1]."""

    values: tuple[float, ...]
    mean: float
    std: float | None
    """Sample standard deviation (n − 1); None for a single run."""
    interval: tuple[float, float] | None
    """95% interval of the mean, by bootstrap, of a single run Wilson's; None for a single run whose images are not known."""
    over: str
    """What was drawn again for it: `seeds`, `images` or `seeds and images`."""


@dataclass(frozen=True)
class Grouped:
    """How a second group of runs differs from a first."""

    num: tuple[int, int]
    """Seeds of each."""
    difference: float
    """Mean of the second less that of the first."""
    interval: tuple[float, float] | None
    """95% interval of the difference, by Welch's t; None where there is no spread to tell it from."""
    p: float | None
    """How often recipes that are equally good would differ at least so much; None where it cannot be told."""
    permutation_p: float | None
    """The same by dealing the runs out in every other way; None where there are too many ways, or a single run."""
    needed: int | None
    """Seeds each with which a difference of this size is seen four times in five (the fewest for any verdict, where no spread
    is known); None where there is no difference."""
    decidable: bool
    """Whether there are seeds enough for a verdict."""
    test: Literal["welch", "paired t", "sign", "permutation", "none"]
    """What `p` comes from."""


def spread(values: Sequence[float], correct: Tensor | None = None) -> Spread:
    """Mean, standard deviation and bootstrap interval of accuracies over seeds.

    `correct`, bool (seeds, images), says which run has which image right where these are known.
    """
    runs = tuple(float(value) for value in values)
    over = " and ".join(word for word, known in (("seeds", len(runs) > 1), ("images", correct is not None)) if known)
    return Spread(
        values=runs,
        mean=fmean(runs),
        std=stdev(runs) if len(runs) > 1 else None,
        interval=_interval(runs, correct) if over else None,
        over=over,
    )


def _interval(values: Sequence[float], correct: Tensor | None) -> tuple[float, float]:
    if correct is not None and len(values) == 1:
        return wilson_interval(int(correct.sum()), correct.shape[1])
    return bootstrap_interval(values, correct)


def bootstrap_interval(
    values: Sequence[float], correct: Tensor | None = None, num_resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """95% interval of the mean accuracy: runs are drawn again, and where `correct` is given the images too, both at once.

    Every run sees the same images, so images are drawn once for all of them (the pigeonhole bootstrap: Owen 2007). Few runs drawn
    again spread too little: what a draw of runs differs from the plain mean by is stretched by √(n / (n − 1)) and by how much
    wider than the normal distribution Student's is with n − 1 degrees of freedom (as the expanded interval of Hesterberg 2015).
    """
    random, runs = np.random.default_rng(seed), len(values)
    stretch = math.sqrt(runs / (runs - 1)) * _limit(runs - 1) / Z_95 if runs > 1 else 1.0
    drawn = (1 + stretch * (random.multinomial(runs, np.full(runs, 1 / runs), size=num_resamples) - 1)) / runs
    if correct is None:
        means = drawn @ np.asarray(values, dtype=np.float64)
    else:
        # Images on which the same runs are right are alike, so it is enough to draw how many there are of each kind.
        kinds, counts = torch.unique(correct.bool().cpu(), dim=1, return_counts=True)
        num = int(counts.sum())
        images = random.multinomial(num, counts.numpy() / num, size=num_resamples) / num
        means = (drawn * (images @ kinds.double().numpy().T)).sum(1)
    low, high = np.quantile(means, [0.025, 0.975]).clip(0, 1)
    return float(low), float(high)


def welch(first: Sequence[float], second: Sequence[float]) -> Grouped:
    """Compare the figures of two groups of runs, one for each seed, by Welch's t-test (1947): spreads may differ.

    Two groups without any spread are compared by permutation. With fewer than three seeds on a side nothing is decided: then
    `needed` takes what spread there is for that of both sides. Raises `ValueError` for an empty group.
    """
    if not first or not second:
        raise ValueError("a group without a run cannot be compared")
    num = len(first), len(second)
    difference = fmean(second) - fmean(first)
    known = [stdev(group) for group in (first, second) if len(group) > 1]
    permuted = permutation_p(first, second) if min(num) > 1 else None
    p, interval = None, None
    needed = None if known else FEWEST_SEEDS
    if known and max(known) > 0:
        one, two = known[0], known[-1]
        if len(known) == 2:
            p, half = (float(value) for value in _welch(difference, one, two, *num))
            interval = difference - half, difference + half
        needed = seeds_needed(difference, one, two)
    elif known:
        p, needed = (1.0 if difference == 0 else permuted), (FEWEST_TO_PERMUTE if difference else None)
    spreads = len(known) == 2 and max(known) > 0
    fewest = FEWEST_SEEDS if spreads or difference == 0 else FEWEST_TO_PERMUTE
    test: Literal["welch", "permutation", "none"] = "none" if p is None else "welch" if interval else "permutation"
    return Grouped(num, difference, interval, p, permuted, needed, min(num) >= fewest, test)


def paired_t(first: Sequence[float], second: Sequence[float]) -> Grouped:
    """Compare the figures of the same nets, one for each seed, scored in two ways: the t-test of their differences.

    What the seeds differ by among themselves is in both figures of a pair and falls out. Fewer than three pairs, or differences
    that are all the same (but not 0), decide nothing. Raises `ValueError` for no pair, or figures without a partner.
    """
    if len(first) != len(second) or not first:
        raise ValueError(f"pairs of figures are compared, got {len(first)} and {len(second)}")
    gains, num = [b - a for a, b in zip(first, second, strict=True)], len(first)
    difference, p, interval, needed = fmean(gains), None, None, None
    noise = stdev(gains) if num > 1 else 0.0
    if noise > 1e-12:
        t, limit = difference / (noise / math.sqrt(num)), _limit(num - 1)
        p = float(student_t_p(torch.tensor(t), torch.tensor(float(num - 1))))
        interval = difference - limit * noise / math.sqrt(num), difference + limit * noise / math.sqrt(num)
        needed = pairs_needed(difference, noise)
    elif abs(difference) < 1e-12:
        difference, p = 0.0, 1.0
    else:
        needed = FEWEST_TO_PAIR
        p = 2.0 ** (1 - num)  # the sign test: all of them on one side
    fewest = FEWEST_TO_PAIR if interval is None and difference else FEWEST_SEEDS
    return Grouped(
        (num, num), difference, interval, p, None, needed, num >= fewest, "paired t" if interval or p == 1.0 else "sign"
    )


def welch_p(first: Tensor, second: Tensor) -> Tensor:
    """Two-sided p of Welch's t-test along the last dimension of (…, seeds) float tensors, for many pairs of groups at once."""
    difference = second.double().mean(-1) - first.double().mean(-1)
    return _welch(difference, first.double().std(-1), second.double().std(-1), first.shape[-1], second.shape[-1])[0]


def _welch(difference: Tensor | float, std1: Tensor | float, std2: Tensor | float, n1: int, n2: int) -> tuple[Tensor, Tensor]:
    """(p, half the 95% interval)."""
    difference, std1, std2 = (torch.as_tensor(value, dtype=torch.float64) for value in (difference, std1, std2))
    one, two = std1**2 / n1, std2**2 / n2
    df = (one + two) ** 2 / (one**2 / (n1 - 1) + two**2 / (n2 - 1))
    error = (one + two).sqrt()
    return student_t_p(difference / error, df), student_t_limit(df) * error


def permutation_p(first: Sequence[float], second: Sequence[float], most: int = 200_000) -> float | None:
    """Share of all ways to deal the runs out to the two groups whose means differ at least as much; None above `most` ways."""
    values, size = [*first, *second], len(first)
    if math.comb(len(values), size) > most:
        return None
    total = sum(values)
    sums = torch.tensor([sum(chosen) for chosen in combinations(values, size)], dtype=torch.float64)
    differences = ((total - sums) / (len(values) - size) - sums / size).abs()
    observed = abs(fmean(second) - fmean(first))
    return float((differences >= observed - 1e-12).double().mean())


@lru_cache(maxsize=512)
def _limit(df: float) -> float:
    return float(student_t_limit(torch.tensor(df)))


def welch_power(difference: float, std1: float, std2: float, n1: int, n2: int) -> float:
    """How often Welch's test sees this difference between normal groups of these spreads (one above 0) and sizes, at the 5%
    level: the average, over the spreads that the seeds may show, of how often the means are far enough apart."""
    shown1, weight1 = _shown_spreads(n1)
    shown2, weight2 = _shown_spreads(n2)
    one, two = ((std1 * shown1) ** 2 / n1)[:, None], ((std2 * shown2) ** 2 / n2)[None, :]
    df = (one + two) ** 2 / (one**2 / (n1 - 1) + two**2 / (n2 - 1))
    grid = torch.logspace(math.log10(min(n1, n2) - 1 - 1e-9), math.log10(n1 + n2 - 2 + 1e-9), 64, dtype=torch.float64)
    limits = torch.from_numpy(np.interp(df.numpy(), grid.numpy(), student_t_limit(grid).numpy()))
    error = math.sqrt(std1**2 / n1 + std2**2 / n2)
    far = limits * (one + two).sqrt() / error
    seen = torch.special.ndtr(difference / error - far) + torch.special.ndtr(-difference / error - far)
    return float((seen * weight1[:, None] * weight2[None, :]).sum())


def paired_power(difference: float, noise: float, num: int) -> float:
    """How often the paired t-test sees this mean of `num` normal differences whose standard deviation is `noise`, above 0."""
    shown, weight = _shown_spreads(num)
    far, shift = _limit(num - 1) * shown, difference / noise * math.sqrt(num)
    return float(((torch.special.ndtr(shift - far) + torch.special.ndtr(-shift - far)) * weight).sum())


def pairs_needed(difference: float, noise: float, power: float = POWER) -> int | None:
    """Pairs with which the paired t-test sees this difference with this `power`; None where there is no difference."""
    if difference == 0:
        return None
    num = max(FEWEST_SEEDS, math.ceil((Z_95 + NormalDist().inv_cdf(power)) ** 2 * noise**2 / difference**2))
    while num < 100 and paired_power(abs(difference), noise, num) < power:
        num += 1
    return num


def _shown_spreads(num: int, nodes: int = 128) -> tuple[Tensor, Tensor]:
    """(sample standard deviation over the true one, weight) at points that stand for what `num` normal values show."""
    df = num - 1
    shown = (torch.arange(nodes, dtype=torch.float64) + 0.5) / nodes * (1 + 6 / math.sqrt(df))
    log_weight = (df - 1) * shown.log() - df * shown**2 / 2
    return shown, log_weight.softmax(0)


def seeds_needed(difference: float, std1: float, std2: float, power: float = POWER) -> int | None:
    """Seeds each with which Welch's test sees this difference with this `power`; None where there is no difference."""
    if difference == 0:
        return None
    normal = (Z_95 + NormalDist().inv_cdf(power)) ** 2 * (std1**2 + std2**2) / difference**2
    num = max(FEWEST_SEEDS, math.ceil(normal))
    while num < 100 and welch_power(abs(difference), std1, std2, num, num) < power:
        num += 1  # few seeds tell their spread badly, so that it takes one to three more than the normal formula says
    return num


def holm(ps: Sequence[float]) -> list[float]:
    """The p of several tests made at once, raised so that all of them together are wrong at most as often as one (Holm 1979)."""
    order = sorted(range(len(ps)), key=lambda index: ps[index])
    adjusted, highest = [0.0] * len(ps), 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[index]))
        adjusted[index] = highest
    return adjusted
