"""Two trained nets on the same images: McNemar's test, the interval of the difference, and how many images would decide.

This tells two nets apart, as they were trained. Whether one recipe is better than another is a question over seeds (`groups`).
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

import torch
from torch import Tensor

from bantamnet.evaluate.distributions import Z_95, half_binomial_tail

FEWEST_DISAGREEMENTS = 5
"""With fewer, even if all of them speak for one net, the mid-p of McNemar's test stays above 5%."""
POWER = 0.8


@dataclass(frozen=True)
class Paired:
    """How a second net differs from a first on the same images; shares are in [0, 1]."""

    num: int
    """Images."""
    only_first: int
    """Images that the first net alone has right."""
    only_second: int
    """Images that the second net alone has right."""
    difference: float
    """Accuracy of the second less that of the first."""
    interval: tuple[float, float]
    """95% interval of the difference."""
    p: float
    """How often nets that are equally good on such images would differ at least so much here."""
    needed: int | None
    """Images on which a difference and disagreement of this size are seen four times in five; None where there is none."""

    @property
    def decidable(self) -> bool:
        """Whether the nets disagree often enough for any verdict."""
        return self.only_first + self.only_second >= FEWEST_DISAGREEMENTS


def mcnemar(first: Tensor, second: Tensor) -> Paired:
    """Compare two bool vectors (N,), right or wrong on the same images in the same order; raises `ValueError` for others."""
    if first.shape != second.shape or first.ndim != 1 or not len(first):
        raise ValueError(f"two vectors over the same images are compared, got shapes {tuple(first.shape)}, {tuple(second.shape)}")
    first, second, num = first.bool(), second.bool(), len(first)
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    difference, disagreement = (only_second - only_first) / num, (only_first + only_second) / num
    p = float(mid_p(torch.tensor(only_first), torch.tensor(only_second)))
    return Paired(
        num=num,
        only_first=only_first,
        only_second=only_second,
        difference=difference,
        interval=paired_interval(only_first, only_second, num, p),
        p=p,
        needed=images_needed(difference, disagreement),
    )


def mid_p(only_first: Tensor, only_second: Tensor) -> Tensor:
    """Two-sided mid-p of McNemar's exact test, float64, elementwise over counts of images that one net alone has right.

    The mid-p counts half of what is as likely as the outcome itself; unlike the exact p it is not far below its level, and
    unlike chi-squared it does not go above it (Fagerland, Lydersen & Laake 2013).
    """
    both = only_first + only_second
    tail, itself = half_binomial_tail(both.clamp(min=1), torch.minimum(only_first, only_second))
    return torch.where(both > 0, 2 * tail - itself, torch.ones_like(tail)).clamp(0, 1)


def paired_interval(only_first: int, only_second: int, num: int, p: float) -> tuple[float, float]:
    """95% interval of (only_second − only_first) / num; `p` is the mid-p of these counts.

    Wald's, with one image added to each count (Bonett & Price 2012). Where the nets disagree on few images that approximation
    and the exact test can differ about 0; the end near 0 is then that of the test, turned around: the difference among so many
    disagreements that would just be seen.
    """
    b, c, n = (only_first + 1) / (num + 2), (only_second + 1) / (num + 2), num + 2
    middle, half = c - b, Z_95 * math.sqrt((b + c - (c - b) ** 2) / n)
    low, high = max(-1.0, middle - half), min(1.0, middle + half)
    if (p < 0.05) == (low <= 0 <= high):
        exact = _end_near_zero(only_first, only_second) / num
        return (exact, high) if only_second > only_first else (low, exact)
    return low, high


def _end_near_zero(only_first: int, only_second: int) -> float:
    """Disagreements more for the second net (or fewer) that are just compatible with the counts, by the mid-p test; none at 0."""
    num, more = only_first + only_second, max(only_first, only_second)
    low, high = 0.0, 1.0
    for _ in range(60):  # P(X > more) + P(X = more) / 2 rises with the share
        share = (low + high) / 2
        terms = [binomial(num, k, share) for k in range(more, num + 1)]
        low, high = (share, high) if sum(terms) - terms[0] / 2 < 0.025 else (low, share)
    return (2 * low - 1) * num * (1 if only_second > only_first else -1)


def binomial(num: int, count: int, share: float) -> float:
    """How often so many of `num` come up that each do with `share`, which lies between 0 and 1."""
    ways = math.lgamma(num + 1) - math.lgamma(count + 1) - math.lgamma(num - count + 1)
    return math.exp(ways + count * math.log(share) + (num - count) * math.log1p(-share))


def paired_power(difference: float, disagreement: float, num: int) -> float:
    """How often McNemar's test sees this difference on `num` images, where the nets disagree on a share `disagreement` of them.

    Normal approximation (Miettinen 1968; Connor 1987).
    """
    spread = math.sqrt(max(disagreement - difference**2, 1e-12))
    normal = NormalDist()
    far = Z_95 * math.sqrt(disagreement)
    return sum(normal.cdf((sign * difference * math.sqrt(num) - far) / spread) for sign in (1, -1))


def images_needed(difference: float, disagreement: float, power: float = POWER) -> int | None:
    """Images on which a difference of this size is seen with this `power` at the 5% level; None for no difference."""
    if difference == 0:
        return None
    spread = math.sqrt(max(disagreement - difference**2, 0.0))
    root = (Z_95 * math.sqrt(disagreement) + NormalDist().inv_cdf(power) * spread) / abs(difference)
    return max(math.ceil(root**2), math.ceil(FEWEST_DISAGREEMENTS / disagreement))
