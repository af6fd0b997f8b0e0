"""Named nets: what each one is and how many parameters it must have."""

from typing import Any, NamedTuple


class Member(NamedTuple):
    """A named net; `params` is asserted whenever it is built with `num_classes` classes."""

    about: str
    params: int
    keys: dict[str, Any]
    num_classes: int = 10


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
        {"stem_width": 16, "widths": [16, 32, 64], "blocks": [3, 3, 3], "shortcut": "pad"},
    ),
    "resnet8": Member(
        "ResNet-8 of MLPerf Tiny (arXiv 2106.07597): biased convolutions, bare shortcut convolutions",
        78_186,
        {"stem_width": 16, "widths": [16, 32, 64], "blocks": [1, 1, 1], "shortcut": "conv", "conv_bias": True},
    ),
}
