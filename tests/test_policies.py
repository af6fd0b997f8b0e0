"""AutoAugment, RandAugment and TrivialAugment equal their Pillow twins pixel for pixel, and draw what they say.

The twins take names, bins and signs as published; what they know of magnitudes is written out here a second time.
"""

import itertools
import re
from collections import Counter
from collections.abc import Callable

import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

from bantamnet.data.augment import rows
from bantamnet.data.operation import Operation, Parameters
from bantamnet.data.operations import AutoAugment, RandAugment, TrivialAugment
from bantamnet.data.policies import CHANGES, NAMES, SUB_POLICIES, levels, narrow, wide
from twins import from_pil, generator, mixed_images, to_pil

PUBLISHED = """
(Invert,0.1,7) (Contrast,0.2,6)
(Rotate,0.7,2) (TranslateX,0.3,9)
(Sharpness,0.8,1) (Sharpness,0.9,3)
(ShearY,0.5,8) (TranslateY,0.7,9)
(AutoContrast,0.5,8) (Equalize,0.9,2)
(ShearY,0.2,7) (Posterize,0.3,7)
(Color,0.4,3) (Brightness,0.6,7)
(Sharpness,0.3,9) (Brightness,0.7,9)
(Equalize,0.6,5) (Equalize,0.5,1)
(Contrast,0.6,7) (Sharpness,0.6,5)
(Color,0.7,7) (TranslateX,0.5,8)
(Equalize,0.3,7) (AutoContrast,0.4,8)
(TranslateY,0.4,3) (Sharpness,0.2,6)
(Brightness,0.9,6) (Color,0.2,8)
(Solarize,0.5,2) (Invert,0.0,3)
(Equalize,0.2,0) (AutoContrast,0.6,0)
(Equalize,0.2,8) (Equalize,0.6,4)
(Color,0.9,9) (Equalize,0.6,6)
(AutoContrast,0.8,4) (Solarize,0.2,8)
(Brightness,0.1,3) (Color,0.7,0)
(Solarize,0.4,5) (AutoContrast,0.9,3)
(TranslateY,0.9,9) (TranslateY,0.7,9)
(AutoContrast,0.9,2) (Solarize,0.8,3)
(Equalize,0.8,8) (Invert,0.1,3)
(TranslateY,0.7,9) (AutoContrast,0.9,1)
"""
"""Table 7 of Cubuk et al. 2018; bins of changes that have no strength mean nothing."""
OURS = {
    "ShearX": "shear x", "ShearY": "shear y", "TranslateX": "translate x", "TranslateY": "translate y", "Color": "colour",
}  # fmt: skip


def published() -> list[list[tuple[str, float, int]]]:
    entries = [re.findall(r"\((\w+),([\d.]+),(\d)\)", line) for line in PUBLISHED.strip().splitlines()]
    return [[(OURS.get(name, name.lower()), float(p), int(number)) for name, p, number in pair] for pair in entries]


def moved(picture: Image.Image, matrix: tuple[float, ...], fill: tuple[int, int, int]) -> Image.Image:
    return picture.transform(picture.size, Image.Transform.AFFINE, matrix, Image.Resampling.NEAREST, fillcolor=fill)


Fill = tuple[int, int, int]
TWINS: dict[str, Callable[[Image.Image, float, Fill], Image.Image]] = {
    "identity": lambda picture, level, fill: picture,
    "shear x": lambda picture, level, fill: moved(picture, (1, level, 0, 0, 1, 0), fill),
    "shear y": lambda picture, level, fill: moved(picture, (1, 0, 0, level, 1, 0), fill),
    "translate x": lambda picture, level, fill: moved(picture, (1, 0, -int(level), 0, 1, 0), fill),
    "translate y": lambda picture, level, fill: moved(picture, (1, 0, 0, 0, 1, -int(level)), fill),
    "rotate": lambda picture, level, fill: picture.rotate(level, Image.Resampling.NEAREST, fillcolor=fill),
    "brightness": lambda picture, level, fill: ImageEnhance.Brightness(picture).enhance(1 + level),
    "colour": lambda picture, level, fill: ImageEnhance.Color(picture).enhance(1 + level),
    "contrast": lambda picture, level, fill: ImageEnhance.Contrast(picture).enhance(1 + level),
    "sharpness": lambda picture, level, fill: ImageEnhance.Sharpness(picture).enhance(1 + level),
    "posterize": lambda picture, level, fill: ImageOps.posterize(picture, int(level)),
    "solarize": lambda picture, level, fill: ImageOps.solarize(picture, level),  # type: ignore[arg-type]
    "autocontrast": lambda picture, level, fill: ImageOps.autocontrast(picture),
    "equalize": lambda picture, level, fill: ImageOps.equalize(picture),
    "invert": lambda picture, level, fill: ImageOps.invert(picture),
}
SIGNS = {"shear x", "shear y", "translate x", "translate y", "rotate", "brightness", "colour", "contrast", "sharpness"}


def strength(name: str, number: int, bins: int, size: tuple[int, int], is_wide: bool) -> float:
    """Level of a bin, unsigned: what `torch.linspace` in float32 gives, as torchvision has it."""
    furthest = {
        "shear x": (0.3, 0.99), "shear y": (0.3, 0.99), "rotate": (30, 135), "brightness": (0.9, 0.99), "colour": (0.9, 0.99),
        "contrast": (0.9, 0.99), "sharpness": (0.9, 0.99),
        "translate x": (150 / 331 * size[1], 32), "translate y": (150 / 331 * size[0], 32),
    }  # fmt: skip
    if name in furthest:
        return float(torch.linspace(0.0, furthest[name][is_wide], bins)[number])
    if name == "posterize":
        return 8 - round(number / ((bins - 1) / (6 if is_wide else 4)))
    return float(torch.linspace(255.0, 0.0, bins)[number]) if name == "solarize" else 0.0


def twin(image: Tensor, drawn: Parameters, bins: int, is_wide: bool, fill: Fill = (0, 0, 0)) -> Tensor:
    """One image through its row of parameters (stages,)."""
    picture = to_pil(image)
    size = (image.shape[1], image.shape[2])
    for change, number, negative in zip(*(drawn[key].tolist() for key in ("change", "bin", "negative")), strict=True):
        level = strength(NAMES[change], number, bins, size, is_wide)
        picture = TWINS[NAMES[change]](picture, -level if negative and NAMES[change] in SIGNS else level, fill)
    return from_pil(picture)


def assert_same(
    operation: Operation, images: Tensor, drawn: Parameters, bins: int, is_wide: bool, fill: Fill = (0, 0, 0)
) -> None:
    ours = operation.apply(images, drawn)
    for index, image in enumerate(images):
        row = {key: values[index] for key, values in drawn.items()}
        off = (ours[index] != twin(image, row, bins, is_wide, fill)).sum()
        assert off == 0, f"image {index}, {row}: {off} values differ"


def test_the_policy_is_the_published_one() -> None:
    for ours, theirs in zip(SUB_POLICIES, published(), strict=True):
        for (name, p, number), (name_there, p_there, number_there) in zip(ours, theirs, strict=True):
            assert (name, p) == (name_there, p_there)
            assert number == number_there or name in ("invert", "autocontrast", "equalize")


@pytest.mark.parametrize("which", range(25))
def test_each_sub_policy_is_pillows(which: int) -> None:
    """Both changes and either one, in every combination of signs; not a pixel may differ."""
    cases = torch.tensor(list(itertools.product([True, False], repeat=4)) * 3)
    images = mixed_images(len(cases), seed=which)[torch.randperm(len(cases), generator=generator())]
    operation = AutoAugment()
    drawn = operation.choose(torch.full((len(cases),), which), cases[:, :2], cases[:, 2:])
    assert_same(operation, images, drawn, 10, False)
    expected = torch.tensor([[NAMES.index(name) for name, _, _ in published()[which]]]) * cases[:, :2]
    assert torch.equal(drawn["change"].long(), expected)


@pytest.mark.parametrize("name", CHANGES)
def test_each_change_is_pillows_at_every_strength(name: str) -> None:
    """Five bins of each range, both signs, on square and oblong images."""
    for bins, numbers in ((31, [1, 9, 15, 22, 30]), (10, [0, 3, 6, 8, 9])):
        for is_wide, operation in ((False, RandAugment(bins=bins, magnitude=0)), (True, TrivialAugment(bins=bins))):
            number = torch.tensor(numbers * 4, dtype=torch.uint8)[:, None]
            drawn = {
                "change": torch.full_like(number, NAMES.index(name)),
                "bin": number,
                "negative": torch.arange(len(number))[:, None] % 2 == 0,
            }
            images = mixed_images(len(number), seed=bins)
            assert_same(operation, images, drawn, bins, is_wide)
            assert_same(operation, images[:, :, 3:26], drawn, bins, is_wide)


def test_colours_behind_moved_pictures() -> None:
    operation = TrivialAugment(fill=(1, 2, 3))
    images = mixed_images(60)
    assert_same(operation, images, operation.draw(60, generator()), 31, True, (1, 2, 3))


def test_images_smaller_than_a_filter() -> None:
    for shape in ((20, 3, 1, 1), (20, 3, 2, 5), (20, 3, 5, 2)):
        images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator())
        for operation, is_wide in ((RandAugment(3, 20), False), (TrivialAugment(), True)):
            assert_same(operation, images, operation.draw(20, generator()), 31, is_wide)


def test_levels_of_a_few_bins() -> None:
    """Worked out by hand for 32×32."""
    rows_of = {is_wide: dict(zip(NAMES, levels(space(32, 32), 31), strict=True)) for is_wide, space in ((0, narrow), (1, wide))}
    assert rows_of[0]["posterize"].tolist()[::6] == [8, 7, 6, 6, 5, 4]
    assert rows_of[1]["posterize"].tolist()[::6] == [8, 7, 6, 4, 3, 2]
    assert rows_of[0]["solarize"][[0, 9, 30]].tolist() == pytest.approx([255, 178.5, 0])
    assert rows_of[0]["translate x"][[9, 30]].tolist() == pytest.approx([4.350453, 14.501511])
    assert rows_of[1]["rotate"][[1, 30]].tolist() == pytest.approx([4.5, 135])


DRAWS = 200_000


def goodness(counts: Counter[tuple[object, ...]], expected: dict[tuple[object, ...], float]) -> float:
    """Chi-squared over its degrees of freedom: about 1 when the counts follow the expected shares."""
    assert set(counts) <= set(expected), set(counts) - set(expected)
    num = counts.total()
    return sum((counts[key] - num * share) ** 2 / (num * share) for key, share in expected.items()) / (len(expected) - 1)


def test_autoaugment_draws_sub_policies_with_their_probabilities_and_signs() -> None:
    drawn = AutoAugment().draw(DRAWS, generator())
    fields = torch.cat([drawn["change"].long(), drawn["bin"].long(), drawn["negative"].long()], 1).tolist()
    seen = Counter(tuple(row) for row in fields)
    expected: Counter[tuple[object, ...]] = Counter()
    for (first, p, bin_1), (second, q, bin_2) in SUB_POLICIES:
        for happens_1, happens_2, *signs in itertools.product((0, 1), repeat=4):
            share = (p if happens_1 else 1 - p) * (q if happens_2 else 1 - q) / 25 / 4
            key = (NAMES.index(first) * happens_1, NAMES.index(second) * happens_2, bin_1, bin_2, *signs)
            expected[key] += share  # type: ignore[assignment]
    assert sum(expected.values()) == pytest.approx(1)
    assert 0.75 < goodness(seen, {key: share for key, share in expected.items() if share}) < 1.25


def test_random_policies_draw_every_change_alike() -> None:
    drawn = RandAugment(num=2, magnitude=9).draw(DRAWS, generator())
    assert (drawn["bin"] == 9).all()
    seen = Counter(map(tuple, torch.cat([drawn["change"].long(), drawn["negative"].long()], 1).tolist()))
    assert 0.8 < goodness(seen, dict.fromkeys(itertools.product(range(14), range(14), (0, 1), (0, 1)), 1 / 784)) < 1.2
    drawn = TrivialAugment().draw(DRAWS, generator())
    assert all(values.shape == (DRAWS, 1) for values in drawn.values())
    seen = Counter(map(tuple, torch.cat([drawn[key].long() for key in ("change", "bin", "negative")], 1).tolist()))
    assert 0.8 < goodness(seen, dict.fromkeys(itertools.product(range(14), range(31), (0, 1)), 1 / 868)) < 1.2
    assert "invert" not in NAMES[:14] and len(NAMES) == 15


@pytest.mark.parametrize("operation", [AutoAugment(), RandAugment(), TrivialAugment()], ids=lambda kind: type(kind).__name__)
def test_the_chunk_does_not_matter(operation: Operation) -> None:
    images = mixed_images(200)
    drawn = [operation.draw(200, generator())]
    whole = operation.apply(images, drawn[0])
    assert whole.dtype == torch.uint8 and (whole != images).flatten(1).any(1).double().mean() > 0.5
    for chunk in (1, 7, 64):
        parts = [operation.apply(images[part], rows(drawn, part)[0]) for part in torch.arange(200).flip(0).split(chunk)]
        assert torch.equal(torch.cat(parts).flip(0), whole)
