"""Every operation equals its Pillow twin at fixed parameters, and draws what it says."""

import math
import random

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

from bantamnet.data.augment import parse, rows
from bantamnet.data.operations import OPERATIONS, Crop, Erase, HFlip, Jitter, Rotate, Translate
from twins import assert_within_one, generator, to_pil

NUM = 300


@pytest.fixture(scope="module")
def images() -> Tensor:
    """Noise, smooth ramps, flat greys, and single-channel saturations: uint8 (N, 3, 32, 32)."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (NUM // 2, 3, 32, 32))
    low = rng.uniform(0, 256, (NUM // 2, 3, 4, 4)).repeat(8, 2).repeat(8, 3)
    everything = np.concatenate([noise, low]).clip(0, 255).astype(np.uint8)
    everything[0] = 0
    everything[1] = 255
    everything[2, 1:] = 0
    everything[3] = everything[3, :1]
    return torch.from_numpy(everything)


def test_crop_is_pillows_crop_on_a_larger_canvas(images: Tensor) -> None:
    operation = Crop(4, fill=7)
    drawn = operation.draw(NUM, generator())
    twins = []
    for image, (top, left) in zip(images, drawn["corner"].tolist(), strict=True):
        canvas = ImageOps.expand(to_pil(image), 4, (7, 7, 7))
        twins.append(canvas.crop((left, top, left + 32, top + 32)))
    assert_within_one(operation.apply(images, drawn), twins, exact=True)


def test_hflip_is_pillows_mirror(images: Tensor) -> None:
    operation = HFlip()
    drawn = operation.draw(NUM, generator())
    twins = [ImageOps.mirror(to_pil(i)) if f else to_pil(i) for i, f in zip(images, drawn["flip"], strict=True)]
    assert_within_one(operation.apply(images, drawn), twins, exact=True)


def test_rotate_is_pillows_rotate_nearest(images: Tensor) -> None:
    operation = Rotate(180, fill=9)
    drawn = operation.draw(NUM, generator())
    drawn["angle"][:5] = torch.tensor([0.0, 90.0, -90.0, 180.0, 45.0])
    twins = [
        to_pil(image).rotate(angle, Image.Resampling.NEAREST, fillcolor=(9, 9, 9))
        for image, angle in zip(images, drawn["angle"].tolist(), strict=True)
    ]
    assert_within_one(operation.apply(images, drawn), twins, exact=True)


def test_rotate_on_oblong_images() -> None:
    oblong = torch.randint(0, 256, (50, 3, 20, 33), dtype=torch.uint8, generator=generator())
    operation = Rotate(40)
    drawn = operation.draw(50, generator())
    twins = [to_pil(i).rotate(a, Image.Resampling.NEAREST) for i, a in zip(oblong, drawn["angle"].tolist(), strict=True)]
    assert_within_one(operation.apply(oblong, drawn), twins, exact=True)


def test_translate_is_pillows_affine_transform(images: Tensor) -> None:
    operation = Translate(0.1, fill=3)
    drawn = operation.draw(NUM, generator())
    twins = []
    for image, (down, right) in zip(images, drawn["shift"].tolist(), strict=True):
        matrix = (1, 0, -round(right * 32), 0, 1, -round(down * 32))
        twins.append(to_pil(image).transform((32, 32), Image.Transform.AFFINE, matrix, fillcolor=(3, 3, 3)))
    assert_within_one(operation.apply(images, drawn), twins, exact=True)


def hue_shifted(picture: Image.Image, turns: float) -> Image.Image:
    hue, saturation, value = picture.convert("HSV").split()
    shifted = (np.array(hue).astype(int) + int(turns * 255)) % 256
    return Image.merge("HSV", (Image.fromarray(shifted.astype(np.uint8)), saturation, value)).convert("RGB")


PILLOW_ADJUSTMENTS = [
    lambda picture, factor: ImageEnhance.Brightness(picture).enhance(factor),
    lambda picture, factor: ImageEnhance.Contrast(picture).enhance(factor),
    lambda picture, factor: ImageEnhance.Color(picture).enhance(factor),
    hue_shifted,
]


@pytest.mark.parametrize("which", range(4), ids=["brightness", "contrast", "saturation", "hue"])
def test_each_adjustment_is_pillows(images: Tensor, which: int) -> None:
    strengths = [0.0] * 4
    strengths[which] = 0.5
    operation = Jitter(*strengths)
    drawn = operation.draw(NUM, generator())
    twins = [PILLOW_ADJUSTMENTS[which](to_pil(i), f) for i, f in zip(images, drawn["factors"][:, which].tolist(), strict=True)]
    assert_within_one(operation.apply(images, drawn), twins)


def test_jitter_applies_its_parts_in_the_order_drawn(images: Tensor) -> None:
    """Each part alone equals Pillow's; here our own parts, one image at a time, are the twin of the batch."""
    operation = Jitter(0.4, 0.4, 0.4, 0.1)
    drawn = operation.draw(NUM, generator())
    together = operation.apply(images, drawn)
    for index in range(0, NUM, 7):
        image = images[index : index + 1]
        for which in drawn["order"][index].tolist():
            strengths = [0.0] * 4
            strengths[which] = 1e-6 if which < 3 else 0.1
            row = {name: values[index : index + 1] for name, values in drawn.items()}
            image = Jitter(*strengths).apply(image, row)
        assert torch.equal(image[0], together[index])


def test_erase_is_pillows_paste(images: Tensor) -> None:
    operation = Erase(p=0.8, fill=5)
    drawn = operation.draw(NUM, generator())
    twins = []
    for image, (top, left, height, width) in zip(images, operation.boxes(drawn, (32, 32)).tolist(), strict=True):
        picture = to_pil(image)
        if height:
            picture.paste((5, 5, 5), (left, top, left + width, top + height))
        twins.append(picture)
    assert_within_one(operation.apply(images, drawn), twins, exact=True)


def uniformity(values: Tensor, num_bins: int) -> float:
    """Chi-squared over its degrees of freedom of values in [0, 1): about 1 when uniform."""
    counts = (values * num_bins).long().clamp(0, num_bins - 1).bincount(minlength=num_bins).double()
    expected = len(values) / num_bins
    return float(((counts - expected) ** 2 / expected).sum() / (num_bins - 1))


DRAWS = 40_000


def test_draws_are_distributed_as_named() -> None:
    crop = Crop(4).draw(DRAWS, generator())["corner"]
    assert crop.min() == 0 and crop.max() == 8
    for axis in range(2):
        assert uniformity((crop[:, axis] + 0.5) / 9, 9) < 2.5
    assert abs(HFlip(0.3).draw(DRAWS, generator())["flip"].double().mean() - 0.3) < 0.01
    angle = Rotate(15).draw(DRAWS, generator())["angle"]
    assert angle.abs().max() <= 15 and uniformity((angle + 15) / 30, 30) < 1.8
    shift = Translate(0.1).draw(DRAWS, generator())["shift"]
    assert uniformity((shift[:, 0] + 0.1) / 0.2, 20) < 2 and uniformity((shift[:, 1] + 0.1) / 0.2, 20) < 2


def test_jitter_draws_factors_and_orders() -> None:
    drawn = Jitter(0.2, 0.4, 1.5, 0.1).draw(DRAWS, generator())
    for which, (low, high) in enumerate([(0.8, 1.2), (0.6, 1.4), (0.0, 2.5), (-0.1, 0.1)]):
        factor = drawn["factors"][:, which]
        assert factor.min() >= low - 1e-6 and factor.max() <= high + 1e-6
        assert uniformity((factor - low) / (high - low), 20) < 2
    orders = (drawn["order"] * torch.tensor([64, 16, 4, 1])).sum(1).unique(return_counts=True)[1]
    assert len(orders) == 24 and (orders.double() / DRAWS * 24 - 1).abs().max() < 0.1


def erase_twin(rng: random.Random, scale: tuple[float, float], ratio: tuple[float, float]) -> tuple[int, int]:
    """Random erasing's loop of ten tries, as published, on 32×32: (height, width), or (0, 0)."""
    for _ in range(10):
        area = 1024 * rng.uniform(*scale)
        aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
        height, width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < height < 32 and 0 < width < 32:
            return height, width
    return 0, 0


def test_erase_draws_boxes_like_the_loop_of_tries() -> None:
    operation = Erase(p=1.0)
    boxes = operation.boxes(operation.draw(DRAWS, generator()), (32, 32))
    top, left, height, width = boxes.unbind(1)
    assert (top >= 0).all() and (left >= 0).all() and (top + height <= 32).all() and (left + width <= 32).all()
    rng = random.Random(0)
    twin = torch.tensor([erase_twin(rng, operation.scale, operation.ratio) for _ in range(DRAWS)])
    for ours, theirs in ((height, twin[:, 0]), (width, twin[:, 1]), (height * width, twin.prod(1))):
        edges = torch.quantile(theirs.double(), torch.linspace(0.1, 0.9, 9, dtype=torch.float64))
        for edge in edges:
            assert abs((ours <= edge).double().mean() - (theirs <= edge).double().mean()) < 0.015
    small = (height == 8) & (width == 8)
    assert uniformity((top[small] + 0.5) / 25, 25) < 2.5
    rate = (operation.boxes(Erase(p=0.3).draw(DRAWS, generator()), (32, 32))[:, 2] > 0).double().mean()
    assert abs(rate - 0.3) < 0.01


LINE = (
    "crop(4)|hflip|rotate(15)|translate(0.1)|jitter(0.2,0.2,0.2,0.1)|erase(0.5)|vflip|centre_crop(3)|shift(1,-2)|grey|invert|solarize|posterize"
    "|autocontrast|equalize|sharpness(0.9)|blur(0.3,(0.1,1.5))|cutout(8)|autoaugment|randaugment|trivialaugment|alternating_flip"
)


def test_every_operation_is_in_the_line_above() -> None:
    assert {part.split("(")[0] for part in LINE.split("|")} == set(OPERATIONS)


def test_what_a_sample_sees_depends_neither_on_the_chunk_nor_on_its_neighbours(images: Tensor) -> None:
    augmentation = parse(LINE)
    drawn = augmentation.draw(NUM, 5, 2)
    whole = augmentation.apply(images, drawn)
    for chunk, num in ((1, 30), (7, 150), (64, NUM)):
        parts = [augmentation.apply(images[part], rows(drawn, part)) for part in torch.arange(num).flip(0).split(chunk)]
        assert torch.equal(torch.cat(parts).flip(0), whole[:num])


def test_draws_are_a_function_of_seed_and_epoch() -> None:
    augmentation = parse(LINE)
    for first, second, same in (((1, 0), (1, 0), True), ((1, 0), (1, 1), False), ((1, 0), (2, 0), False)):
        a, b = augmentation.draw(50, *first), augmentation.draw(50, *second)
        assert all(torch.equal(x[k], y[k]) for x, y in zip(a, b, strict=True) for k in x) is same
    twice = parse("hflip|hflip").draw(200, 0, 0)
    assert not torch.equal(twice[0]["flip"], twice[1]["flip"])
