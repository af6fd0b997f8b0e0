"""Learned and random policies over a common set of changes, as torchvision reads them (bins, signs, nearest pixel).

A policy draws which change happens to each image at each stage and how strongly (a bin of that change's range, a sign);
images are then grouped by change.
"""

from collections.abc import Callable
from typing import Annotated

import torch
from pydantic import Field
from torch import Generator, Tensor

from bantamnet.data.colour import autocontrast, blend, equalize, grey, mean_grey
from bantamnet.data.filters import smooth
from bantamnet.data.geometry import affine, rotate
from bantamnet.data.operation import Fill, Operation, Parameters, arguments

Change = Callable[[Tensor, Tensor, Fill], Tensor]
"""(images uint8 (N, 3, H, W), levels float64 (N,), fill) → images."""


def _moved(
    images: Tensor, fill: Fill, xy: Tensor | int = 0, x: Tensor | int = 0, yx: Tensor | int = 0, y: Tensor | int = 0
) -> Tensor:
    """Each pixel (x, y) from (x + `xy`·y + `x`, y + `yx`·x + `y`)."""
    column, add_x, row, add_y = (torch.zeros(len(images), dtype=torch.float64, device=images.device) + k for k in (xy, x, yx, y))
    one = torch.ones_like(column)
    return affine(images, (one, column, add_x), (row, one, add_y), fill)


def _factor(level: Tensor) -> Tensor:
    return (1 + level).float()[:, None, None, None]


def _posterize(images: Tensor, bits: Tensor) -> Tensor:
    kept = 256 - 2 ** (8 - bits)
    return images & kept.to(torch.uint8)[:, None, None, None]


def _solarize(images: Tensor, threshold: Tensor) -> Tensor:
    return torch.where(images < threshold[:, None, None, None], images, ~images)


CHANGES: dict[str, Change] = {
    "identity": lambda images, level, fill: images,
    "shear x": lambda images, level, fill: _moved(images, fill, xy=level),
    "shear y": lambda images, level, fill: _moved(images, fill, yx=level),
    "translate x": lambda images, level, fill: _moved(images, fill, x=-level.trunc()),
    "translate y": lambda images, level, fill: _moved(images, fill, y=-level.trunc()),
    "rotate": rotate,
    "brightness": lambda images, level, fill: blend(torch.zeros_like(_factor(level)), images, _factor(level)),
    "colour": lambda images, level, fill: blend(grey(images).float(), images, _factor(level)),
    "contrast": lambda images, level, fill: blend(mean_grey(images), images, _factor(level)),
    "sharpness": lambda images, level, fill: blend(smooth(images), images, _factor(level)),
    "posterize": lambda images, level, fill: _posterize(images, level),
    "solarize": lambda images, level, fill: _solarize(images, level),
    "autocontrast": lambda images, level, fill: autocontrast(images),
    "equalize": lambda images, level, fill: equalize(images),
    "invert": lambda images, level, fill: ~images,
}
"""What can happen to an image: shears in pixels a pixel about the top left corner, translations in whole pixels (right, down),
degrees counter-clockwise, factors less 1, bits kept, first value inverted; the last three and the first have no level."""

NAMES = list(CHANGES)
SIGNED = ("shear x", "shear y", "translate x", "translate y", "rotate", "brightness", "colour", "contrast", "sharpness")
UNIFORM = NAMES[:-1]
"""What random policies choose from; inverting is AutoAugment's alone."""

SHARE = 150 / 331
"""Furthest translation as a share of the size: 150 pixels on the 331 of the images on which the range was set."""


def narrow(height: int, width: int) -> dict[str, tuple[float, float]]:
    """Level at the first and at the last bin, for AutoAugment and RandAugment."""
    enhance = dict.fromkeys(("brightness", "colour", "contrast", "sharpness"), (0.0, 0.9))
    shear = dict.fromkeys(("shear x", "shear y"), (0.0, 0.3))
    translate = {"translate x": (0.0, SHARE * width), "translate y": (0.0, SHARE * height)}
    return {**shear, **translate, "rotate": (0.0, 30.0), **enhance, "posterize": (8.0, 4.0), "solarize": (255.0, 0.0)}


def wide(height: int, width: int) -> dict[str, tuple[float, float]]:
    """Level at the first and at the last bin, for TrivialAugment."""
    most = dict.fromkeys(("shear x", "shear y", "brightness", "colour", "contrast", "sharpness"), (0.0, 0.99))
    translate = dict.fromkeys(("translate x", "translate y"), (0.0, 32.0))
    return {**most, **translate, "rotate": (0.0, 135.0), "posterize": (8.0, 2.0), "solarize": (255.0, 0.0)}


def levels(ranges: dict[str, tuple[float, float]], bins: int) -> Tensor:
    """float32 (changes, bins): the level of each bin of each change; 0 where it has none."""
    table = torch.zeros(len(NAMES), bins)
    for name, (low, high) in ranges.items():
        spaced = torch.linspace(low, high, bins)
        table[NAMES.index(name)] = spaced.round() if name == "posterize" else spaced
    return table


class Policy(Operation):
    """Changes one after another, their strength from `bins` equal steps of `ranges`."""

    fill: Fill
    bins: int
    ranges: Callable[[int, int], dict[str, tuple[float, float]]] = staticmethod(narrow)

    def apply(self, images: Tensor, parameters: Parameters) -> Tensor:
        """Stage by stage, each change to the images whose turn it is.

        `change`, `bin` (uint8) and `negative` (bool) are (N, stages).
        """
        height, width = images.shape[2:]
        table = levels(self.ranges(height, width), self.bins).double().to(images.device)
        change = parameters["change"].long()
        level = table[change, parameters["bin"].long()]
        signed = torch.tensor([name in SIGNED for name in NAMES], device=images.device)[change]
        level = torch.where(signed & parameters["negative"], -level, level)
        images = images.clone()
        for stage in range(change.shape[1]):
            order = change[:, stage].argsort(stable=True)
            counts = change[:, stage].bincount(minlength=len(NAMES)).tolist()
            for name, rows in zip(NAMES, order.split(counts), strict=True):
                if len(rows) and name != "identity":
                    images[rows] = CHANGES[name](images[rows], level[rows, stage], self.fill)
        return images


SUB_POLICIES = (
    (("invert", 0.1, 0), ("contrast", 0.2, 6)),
    (("rotate", 0.7, 2), ("translate x", 0.3, 9)),
    (("sharpness", 0.8, 1), ("sharpness", 0.9, 3)),
    (("shear y", 0.5, 8), ("translate y", 0.7, 9)),
    (("autocontrast", 0.5, 0), ("equalize", 0.9, 0)),
    (("shear y", 0.2, 7), ("posterize", 0.3, 7)),
    (("colour", 0.4, 3), ("brightness", 0.6, 7)),
    (("sharpness", 0.3, 9), ("brightness", 0.7, 9)),
    (("equalize", 0.6, 0), ("equalize", 0.5, 0)),
    (("contrast", 0.6, 7), ("sharpness", 0.6, 5)),
    (("colour", 0.7, 7), ("translate x", 0.5, 8)),
    (("equalize", 0.3, 0), ("autocontrast", 0.4, 0)),
    (("translate y", 0.4, 3), ("sharpness", 0.2, 6)),
    (("brightness", 0.9, 6), ("colour", 0.2, 8)),
    (("solarize", 0.5, 2), ("invert", 0.0, 0)),
    (("equalize", 0.2, 0), ("autocontrast", 0.6, 0)),
    (("equalize", 0.2, 0), ("equalize", 0.6, 0)),
    (("colour", 0.9, 9), ("equalize", 0.6, 0)),
    (("autocontrast", 0.8, 0), ("solarize", 0.2, 8)),
    (("brightness", 0.1, 3), ("colour", 0.7, 0)),
    (("solarize", 0.4, 5), ("autocontrast", 0.9, 0)),
    (("translate y", 0.9, 9), ("translate y", 0.7, 9)),
    (("autocontrast", 0.9, 0), ("solarize", 0.8, 3)),
    (("equalize", 0.8, 0), ("invert", 0.1, 0)),
    (("translate y", 0.7, 9), ("autocontrast", 0.9, 0)),
)
"""AutoAugment's CIFAR-10 policy (Cubuk et al. 2018): two of (change, probability, bin of ten) each."""


@arguments
class AutoAugment(Policy):
    """One of the 25 sub-policies learned on CIFAR-10, at random for each image (Cubuk et al. 2018, arXiv 1805.09501).

    Each of its two changes happens with its own probability; those with a direction go either way (`ImageOps`,
    `ImageEnhance`, `Image.transform(AFFINE)`).
    """

    fill: Fill = 0
    bins = 10

    def draw(self, num: int, generator: Generator) -> Parameters:
        """Which sub-policy, whether each of its changes happens, and its sign."""
        policy = torch.randint(0, len(SUB_POLICIES), (num,), generator=generator)
        lots = torch.rand(num, 2, generator=generator)
        probabilities = torch.tensor([[p for _, p, _ in pair] for pair in SUB_POLICIES])
        return self.choose(policy, lots < probabilities[policy], torch.rand(num, 2, generator=generator) < 0.5)

    def choose(self, policy: Tensor, happens: Tensor, negative: Tensor) -> Parameters:
        """Parameters of given sub-policies (N,), of which changes happen (N, 2) and which signs are negative (N, 2)."""
        change = torch.tensor([[NAMES.index(name) for name, _, _ in pair] for pair in SUB_POLICIES], dtype=torch.uint8)
        bins = torch.tensor([[number for _, _, number in pair] for pair in SUB_POLICIES], dtype=torch.uint8)
        return {"change": change[policy] * happens, "bin": bins[policy], "negative": negative}


def _draw_uniform(num: int, stages: int, generator: Generator) -> Parameters:
    """Any change but inverting, in either direction."""
    return {
        "change": torch.randint(0, len(UNIFORM), (num, stages), generator=generator).to(torch.uint8),
        "negative": torch.rand(num, stages, generator=generator) < 0.5,
    }


@arguments
class RandAugment(Policy):
    """`num` of fourteen changes, each at random, all at bin `magnitude` of 0 … `bins` − 1 (Cubuk et al. 2019, arXiv 1909.13719).

    Doing nothing is one of the fourteen (`ImageOps`, `ImageEnhance`, `Image.transform(AFFINE)`).
    """

    num: Annotated[int, Field(gt=0, le=100)] = 2
    magnitude: Annotated[int, Field(ge=0)] = 9
    bins: Annotated[int, Field(ge=2, le=256)] = 31
    fill: Fill = 0

    def __post_init__(self) -> None:
        if self.magnitude >= self.bins:
            raise ValueError(f"randaugment: magnitude is a bin, 0 to {self.bins - 1}; got {self.magnitude}")

    def draw(self, num: int, generator: Generator) -> Parameters:
        """Which changes, and their signs."""
        drawn = _draw_uniform(num, self.num, generator)
        return {**drawn, "bin": torch.full_like(drawn["change"], self.magnitude)}


@arguments
class TrivialAugment(Policy):
    """One of fourteen changes, its bin uniform on a wide range (TrivialAugment Wide: Müller & Hutter 2021, arXiv 2103.10158).

    Doing nothing is one of the fourteen (`ImageOps`, `ImageEnhance`, `Image.transform(AFFINE)`).
    """

    bins: Annotated[int, Field(ge=2, le=256)] = 31
    fill: Fill = 0
    ranges = staticmethod(wide)

    def draw(self, num: int, generator: Generator) -> Parameters:
        """Which change, its bin and its sign."""
        drawn = _draw_uniform(num, 1, generator)
        return {**drawn, "bin": torch.randint(0, self.bins, (num, 1), generator=generator).to(torch.uint8)}
