"""Named nets: what each one is and how many parameters it must have; and families of nets, named by depth and width."""

import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any, NamedTuple

from bantamnet.errors import UserError


class Member(NamedTuple):
    """A named net; `params`, where known, is asserted whenever it is built with `num_classes` classes."""

    about: str
    params: int | None
    keys: dict[str, Any]
    num_classes: int = 10


def resnet(depth: int) -> dict[str, Any]:
    """Keys of He et al. 2015's ResNet for CIFAR (arXiv 1512.03385) with zero-padded identity shortcuts; depth is 6n + 2."""
    return {"stem_width": 16, "widths": [16, 32, 64], "blocks": [(depth - 2) // 6] * 3, "shortcut": "pad"}


def se_resnet(depth: int) -> dict[str, Any]:
    """Keys of a CIFAR ResNet of depth 6n + 2 with projection shortcuts and squeeze-and-excitation (arXiv 1709.01507)."""
    return {**resnet(depth), "shortcut": "conv-bn", "se_reduction": 16}


def wrn(depth: int, factor: int) -> dict[str, Any]:
    """Keys of a wide residual network (arXiv 1605.07146): order pre, bare shortcut convolutions; depth is 6n + 4."""
    widths = [16 * factor, 32 * factor, 64 * factor]
    return {"order": "pre", "stem_width": 16, "widths": widths, "blocks": [(depth - 4) // 6] * 3, "shortcut": "conv"}


def pyramidnet(depth: int, alpha: int, bottleneck: bool = False) -> dict[str, Any]:
    """Keys of an additive PyramidNet (arXiv 1610.02915): the width grows by α in equal steps over the blocks, from 16.

    Depth is 6n + 2, or 9n + 2 with bottlenecks.
    """
    per_stage = (depth - 2) // (9 if bottleneck else 6)
    grown = [round(16 + Fraction(alpha * block, 3 * per_stage)) for block in range(1, 3 * per_stage + 1)]
    stages = [grown[start : start + per_stage] for start in range(0, 3 * per_stage, per_stage)]
    return {
        "order": "pyramid",
        "block": "bottleneck" if bottleneck else "basic",
        "stem_width": 16,
        "widths": [widths[-1] for widths in stages],
        "blocks": [per_stage] * 3,
        "out_widths": [[width * (4 if bottleneck else 1) for width in widths] for widths in stages],
        "shortcut": "pool-pad",
    }


_A_AND_B: dict[str, Any] = {"stem_width": 64, "widths": [64, 128, 256], "blocks": [2, 2, 2]}

MEMBERS: dict[str, Member] = {
    "resnet-variant": Member("A, 'Modified ResNet Trained on CIFAR-10'", 2_777_674, _A_AND_B),
    "modified-resnet": Member("B, 'Optimizing Deep Learning Models … CIFAR-10'; the same net as A", 2_777_674, _A_AND_B),
    "improved-resnet": Member(
        "C, Team SPAR: bottlenecks, leaky ReLU, dropout after each stage",
        4_903_082,
        {
            "block": "bottleneck",
            "stem_width": 32,
            "widths": [64, 128, 256],
            "blocks": [3, 3, 3],
            "activation": "leaky_relu",
            "dropout": [0.1, 0.1, 0.1],
        },
    ),
    "resnet-small": Member(
        "D, NeuralVibes: four stages from 32 channels",
        4_754_218,
        {"stem_width": 32, "widths": [32, 64, 128, 256], "blocks": [4, 4, 4, 3]},
    ),
    "dreamfire": Member(
        "E, Dreamfire2025: ResNet-18 with its last stage moved forward",
        4_918_602,
        {"stem_width": 64, "widths": [64, 128, 256, 512], "blocks": [3, 5, 3, 0]},
    ),
    "resnet18": Member(
        "ResNet-18 with the CIFAR stem, as in kuangliu/pytorch-cifar (over every budget; a yardstick)",
        11_173_962,
        {"stem_width": 64, "widths": [64, 128, 256, 512], "blocks": [2, 2, 2, 2]},
    ),
    "resnet20": Member(
        "ResNet-20 of He et al. 2015 (arXiv 1512.03385), zero-padded identity shortcuts",
        269_722,
        resnet(20),
    ),
    "resnet32": Member("ResNet-32 of He et al. 2015", 464_154, resnet(32)),
    "resnet44": Member("ResNet-44 of He et al. 2015", 658_586, resnet(44)),
    "resnet56": Member("ResNet-56 of He et al. 2015", 853_018, resnet(56)),
    "resnet110": Member("ResNet-110 of He et al. 2015", 1_727_962, resnet(110)),
    "resnet8": Member(
        "ResNet-8 of MLPerf Tiny (arXiv 2106.07597): biased convolutions, bare shortcut convolutions",
        78_186,
        {"stem_width": 16, "widths": [16, 32, 64], "blocks": [1, 1, 1], "shortcut": "conv", "conv_bias": True},
    ),
    "resnet8-40": Member(
        "ResNet-8 of MLPerf Tiny with 40 filters, which the bantam class is named for",
        481_530,
        {"stem_width": 40, "widths": [40, 80, 160], "blocks": [1, 1, 1], "shortcut": "conv", "conv_bias": True},
    ),
    "preactresnet18": Member(
        "ResNet-18 of order pre as in kuangliu/pytorch-cifar, which has no final BatchNorm (over every budget; a yardstick)",
        11_171_146,
        {
            "order": "pre",
            "final_norm": False,
            "stem_width": 64,
            "widths": [64, 128, 256, 512],
            "blocks": [2, 2, 2, 2],
            "shortcut": "conv",
        },
    ),
    "se-resnet20": Member("SE-ResNet-20 as in osmr/imgclsmob, after arXiv 1709.01507", 274_847, se_resnet(20)),
    "se-resnet56": Member("SE-ResNet-56 as in osmr/imgclsmob", 862_889, se_resnet(56)),
    "se-resnet110": Member("SE-ResNet-110 as in osmr/imgclsmob", 1_744_952, se_resnet(110)),
    "wrn-16-2": Member("WRN-16-2 (Zagoruyko & Komodakis 2016, arXiv 1605.07146)", 691_674, wrn(16, 2)),
    "wrn-16-4": Member("WRN-16-4", 2_748_890, wrn(16, 4)),
    "wrn-22-4": Member("WRN-22-4", 4_298_970, wrn(22, 4)),
    "wrn-28-2": Member("WRN-28-2, the usual net of semi-supervised learning", 1_467_610, wrn(28, 2)),
    "wrn-28-10": Member("WRN-28-10 (over every budget; a yardstick)", 36_479_194, wrn(28, 10)),
    "wrn-40-2": Member("WRN-40-2", 2_243_546, wrn(40, 2)),
    "wrn-40-4": Member("WRN-40-4 (over every budget; a yardstick)", 8_949_210, wrn(40, 4)),
    "pyramidnet-110-a48": Member(
        "PyramidNet-110, α 48 (Han et al. 2016, arXiv 1610.02915), shortcuts averaged and zero-padded",
        1_772_706,
        pyramidnet(110, 48),
    ),
    "pyramidnet-110-a84": Member("PyramidNet-110, α 84", 3_904_446, pyramidnet(110, 84)),
    "airbench94": Member(
        "The net of cifar10-airbench (Jordan 2024, arXiv 2404.00498): whitening stem, six plain convolutions",
        1_972_792,
        {"groups": [64, 256, 256]},
    ),
    "speed94": Member(
        "As airbench94, with maps as large as the pictures",
        1_972_792,
        {"groups": [64, 256, 256], "activation": "silu", "stem_padding": True},
    ),
    "speed95": Member("As speed94, wider", 4_606_520, {"groups": [128, 384, 384], "activation": "silu", "stem_padding": True}),
    "speed96": Member(
        "As speed94, wider and deeper, with residuals",
        4_975_800,
        {"groups": [128, 320, 384], "convs": [3, 3, 2], "residual": True, "activation": "silu", "stem_padding": True},
    ),
}

FAMILIES = "resnet-D, se-resnet-D, wrn-D-K, pyramidnet-D-aALPHA[-bottleneck]"
"""How a net of any depth is spelt: depth D, widening factor K, widening ALPHA."""


class _Family(NamedTuple):
    """Nets of one spelling; depth is `step`·n + `rest`."""

    spelling: re.Pattern[str]
    step: int
    rest: int
    keys: Callable[..., dict[str, Any]]


_FAMILIES = [
    _Family(re.compile(r"resnet-([1-9][0-9]*)"), 6, 2, resnet),
    _Family(re.compile(r"se-resnet-([1-9][0-9]*)"), 6, 2, se_resnet),
    _Family(re.compile(r"wrn-([1-9][0-9]*)-([1-9][0-9]*)"), 6, 4, wrn),
    _Family(re.compile(r"pyramidnet-([1-9][0-9]*)-a([1-9][0-9]*)"), 6, 2, pyramidnet),
    _Family(
        re.compile(r"pyramidnet-([1-9][0-9]*)-a([1-9][0-9]*)-bottleneck"),
        9,
        2,
        lambda depth, alpha: pyramidnet(depth, alpha, True),
    ),
]
_MAX_BLOCKS = 1000
_MAX_NUMBER = 1000
"""Largest widening factor or α."""


def check_recorded(name: str, num_classes: int, params: int) -> None:
    """Assert that a net built as named has its recorded parameter count."""
    member = find_member(name)
    if member and member.params and num_classes == member.num_classes:
        assert params == member.params, f"{name}: {params} parameters"


def find_member(name: str) -> Member | None:
    """The net of that name: one of `MEMBERS`, or of a family; None for a name of neither.

    Raises `UserError` for a name of a family whose numbers give no net.
    """
    if name in MEMBERS:
        return MEMBERS[name]
    for family in _FAMILIES:
        found = family.spelling.fullmatch(name)
        if found:
            depth, *others = (int(number[:9]) for number in found.groups())
            blocks, left = divmod(depth - family.rest, family.step)
            if left or not 1 <= blocks <= _MAX_BLOCKS:
                nearest = family.rest + family.step * min(max(round((depth - family.rest) / family.step), 1), _MAX_BLOCKS)
                namesake = name.replace("-", "")
                hint = f"; {namesake} is a net of its own" if namesake in MEMBERS else ""
                raise UserError(
                    f"{name}: a depth must fulfil (D − {family.rest}) % {family.step} = 0, from {family.step + family.rest} to "
                    f"{_MAX_BLOCKS * family.step + family.rest}; {nearest} is the nearest to {depth}{hint}"
                )
            if any(number > _MAX_NUMBER for number in others):
                raise UserError(f"{name}: the number after the depth must be {_MAX_NUMBER} or less")
            return Member(f"{name}, by its family", None, family.keys(depth, *others))
    return None
