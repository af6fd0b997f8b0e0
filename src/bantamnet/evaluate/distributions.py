"""Tails of Student's t and of the binomial, which PyTorch has not: both are the regularised incomplete beta function."""

from statistics import NormalDist

import torch
from torch import Tensor

Z_95 = NormalDist().inv_cdf(0.975)
"""How many standard errors either side of an estimate make a 95% interval: 1.96."""


def incomplete_beta(a: Tensor, b: Tensor, x: Tensor) -> Tensor:
    """I_x(a, b) in [0, 1], float64, elementwise over tensors of one shape; a, b > 0 and x in [0, 1].

    The continued fraction of DLMF 8.17.22, evaluated from the front by Lentz's method (Thompson & Barnett 1986), about ten
    digits and more.
    """
    a, b, x = (value.double() for value in torch.broadcast_tensors(a, b, x))
    mirrored = x > (a + 1) / (a + b + 2)  # the fraction converges fast below this point; above it I_x(a, b) = 1 − I_{1−x}(b, a)
    a, b, x = torch.where(mirrored, b, a), torch.where(mirrored, a, b), torch.where(mirrored, 1 - x, x)
    tiny = torch.full_like(x, 1e-300)

    def nonzero(value: Tensor) -> Tensor:
        return torch.where(value.abs() < tiny, tiny, value)

    numerator = torch.ones_like(x)
    denominator = 1 / nonzero(1 - (a + b) * x / (a + 1))
    fraction = denominator
    for m in range(1, 10_000):
        before = fraction
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            denominator = 1 / nonzero(1 + term * denominator)
            numerator = nonzero(1 + term / numerator)
            fraction = fraction * denominator * numerator
        if bool(((fraction - before).abs() <= 1e-14 * fraction.abs()).all()):
            break
    log_front = a * x.log() + b * (1 - x).log() + torch.lgamma(a + b) - torch.lgamma(a) - torch.lgamma(b)
    value = torch.where(x == 0, torch.zeros_like(x), log_front.exp() * fraction / a)
    return torch.where(mirrored, 1 - value, value).clamp(0, 1)


def student_t_p(t: Tensor, df: Tensor) -> Tensor:
    """Two-sided p: how often Student's t with `df` > 0 degrees of freedom is as far from 0 as `t`; float64, elementwise."""
    return incomplete_beta(df / 2, torch.full_like(df, 0.5), df / (df + t * t))


def student_t_limit(df: Tensor, level: float = 0.05) -> Tensor:
    """The t > 0 whose two-sided p is `level`; float64, elementwise."""
    df = df.double()
    t = torch.full_like(df, NormalDist().inv_cdf(1 - level / 2))
    log_scale = torch.lgamma((df + 1) / 2) - torch.lgamma(df / 2) - 0.5 * (df * torch.pi).log()
    for _ in range(100):  # p falls and is convex in t, and t is too small at first: Newton's steps rise to the limit
        density = (log_scale - (df + 1) / 2 * (t * t / df).log1p()).exp()
        step = (student_t_p(t, df) - level) / (2 * density)
        t = t + step
        if bool((step.abs() <= 1e-10 * t).all()):
            break
    return t


def half_binomial_tail(num: Tensor, most: Tensor) -> tuple[Tensor, Tensor]:
    """(P(X ≤ most), P(X = most)) of X, the heads in `num` tosses of a fair coin; float64, elementwise, 0 ≤ most < num."""
    num, most = num.double(), most.double()
    tail = incomplete_beta(num - most, most + 1, torch.full_like(num, 0.5))
    log_choices = torch.lgamma(num + 1) - torch.lgamma(most + 1) - torch.lgamma(num - most + 1)
    return tail, (log_choices - num * torch.tensor(2.0).double().log()).exp()
