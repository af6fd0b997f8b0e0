"""Flips, shifts, colours, blur, cutout and fills equal their Pillow twins; arguments are what they say."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from torch import Tensor

from bantamnet.data.augment import parse, rows
from bantamnet.data.operation import Operation
from bantamnet.data.operations import Blur, Crop, Cutout, Erase, Sharpness, Shift, VFlip
from bantamnet.data.painting import noise
from bantamnet.data.preprocess import Preprocessing
from bantamnet.errors import UserError
from bantamnet.runtime import Ranks
from bantamnet.training.setup import prepare
from conftest import tiny
from twins import assert_within_one, generator, mixed_images, to_pil

NUM = 120
DRAWS = 40_000


@pytest.fixture(scope="module")
def images() -> Tensor:
    return mixed_images(NUM)


def only(line: str, mean: tuple[float, float, float] | None = None) -> Operation:
    return parse(line, mean).operations[0]


def test_vflip_is_pillows_flip(images: Tensor) -> None:
    drawn = VFlip().draw(NUM, generator())
    assert 0.3 < drawn["flip"].double().mean() < 0.7
    twins = [ImageOps.flip(to_pil(i)) if flip else to_pil(i) for i, flip in zip(images, drawn["flip"], strict=True)]
    assert_within_one(VFlip().apply(images, drawn), twins, exact=True)
    assert abs(VFlip(0.05).draw(DRAWS, generator())["flip"].double().mean() - 0.05) < 0.005


SHIFTS = [(0, 0), (3, 0), (-2, 5), (0, -31), (31, 31), (40, -1)]


@pytest.mark.parametrize(("right", "down"), SHIFTS)
def test_shift_with_a_fill_is_pillows_affine(images: Tensor, right: int, down: int) -> None:
    operation = Shift(right, down, fill=(9, 8, 7))
    assert operation.draw(NUM, generator()) == {}
    twins = [
        to_pil(i).transform((32, 32), Image.Transform.AFFINE, (1, 0, -right, 0, 1, -down), fillcolor=(9, 8, 7)) for i in images
    ]
    assert_within_one(operation.apply(images, {}), twins, exact=True)


@pytest.mark.parametrize("size", [(32, 32), (5, 9), (1, 2)])
def test_reflecting_borders_are_numpys(images: Tensor, size: tuple[int, int]) -> None:
    part = images[:, :, : size[0], : size[1]]
    height, width = size
    padded = np.pad(part.numpy(), ((0, 0), (0, 0), (40, 40), (40, 40)), mode="reflect")
    for right, down in SHIFTS:
        expected = padded[:, :, 40 - down : 40 - down + height, 40 - right : 40 - right + width]
        assert np.array_equal(Shift(right, down, border="reflect").apply(part, {}).numpy(), expected)
    operation = Crop(4, border="reflect")
    drawn = operation.draw(NUM, generator())
    cropped = operation.apply(part, drawn).numpy()
    for index, (top, left) in enumerate(drawn["corner"].tolist()):
        assert np.array_equal(cropped[index], padded[index, :, 36 + top : 36 + top + height, 36 + left : 36 + left + width])


COLOUR_TWINS: list[tuple[str, Callable[[Image.Image], Image.Image]]] = [
    ("grey(1)", lambda picture: ImageOps.grayscale(picture).convert("RGB")),
    ("invert(1)", ImageOps.invert),
    *((f"posterize({bits},1)", lambda picture, bits=bits: ImageOps.posterize(picture, bits)) for bits in (1, 4, 8)),
    *((f"solarize({value},1)", lambda picture, value=value: ImageOps.solarize(picture, value)) for value in (0, 100, 255)),
    ("autocontrast(1)", ImageOps.autocontrast),
    ("equalize(1)", ImageOps.equalize),
]


@pytest.mark.parametrize(("line", "twin"), COLOUR_TWINS, ids=[line for line, _ in COLOUR_TWINS])
def test_changes_of_colour_are_pillows(images: Tensor, line: str, twin: Callable[[Image.Image], Image.Image]) -> None:
    operation = only(line)
    assert_within_one(operation.apply(images, operation.draw(NUM, generator())), [twin(to_pil(i)) for i in images], exact=True)


@pytest.mark.parametrize("word", ["grey", "invert", "posterize", "solarize", "autocontrast", "equalize"])
def test_they_happen_to_the_drawn_images_alone(images: Tensor, word: str) -> None:
    sometimes, always = only(f"{word}(p=0.3)"), only(f"{word}(p=1)")
    drawn = sometimes.draw(NUM, generator())
    everywhere = always.apply(images, always.draw(NUM, generator()))
    expected = torch.where(drawn["chosen"][:, None, None, None], everywhere, images)
    assert torch.equal(sometimes.apply(images, drawn), expected)
    assert abs(sometimes.draw(DRAWS, generator())["chosen"].double().mean() - 0.3) < 0.01


def test_sharpness_is_pillows(images: Tensor) -> None:
    operation = Sharpness(1.5)
    drawn = operation.draw(NUM, generator())
    assert drawn["factor"].min() < 0.3 and drawn["factor"].max() > 2.2
    twins = [ImageEnhance.Sharpness(to_pil(i)).enhance(f) for i, f in zip(images, drawn["factor"].tolist(), strict=True)]
    assert_within_one(operation.apply(images, drawn), twins, exact=True)


@pytest.mark.parametrize("radius", [0, 0.05, 0.1, 0.5, 1, 1.5, 2.49, 4, 12, (0.1, 1.5), (0, 6)])
def test_blur_is_pillows_gaussian_blur(images: Tensor, radius: float | tuple[float, float]) -> None:
    operation = only(f"blur(1,{radius})")
    drawn = operation.draw(NUM, generator())
    for part in (images, images[:, :, :3, :7]):
        twins = [to_pil(i).filter(ImageFilter.GaussianBlur(r)) for i, r in zip(part, drawn["radius"].tolist(), strict=True)]
        assert_within_one(operation.apply(part, drawn), twins, exact=True)


def test_blur_keeps_to_its_channel_and_to_the_drawn_images() -> None:
    images = torch.zeros(NUM, 3, 9, 9, dtype=torch.uint8)
    images[:, 1, 4, 4] = 255
    operation = Blur(0.3, (0.5, 1.5))
    drawn = operation.draw(NUM, generator())
    blurred = operation.apply(images, drawn)
    assert not blurred[:, ::2].any()
    changed = (blurred != images).flatten(1).any(1)
    assert torch.equal(changed, drawn["blur"]) and 0 < changed.sum() < NUM
    many = operation.draw(DRAWS, generator())
    assert abs(many["blur"].double().mean() - 0.3) < 0.01
    assert 0.5 <= many["radius"].min() < 0.51 and 1.49 < many["radius"].max() <= 1.5
    assert abs(many["radius"].mean() - 1) < 0.01
    assert (only("blur(1,1)").draw(9, generator())["radius"] == 1).all()


@pytest.mark.parametrize("size", [1, 7, 8, 16, 40])
def test_cutout_is_the_published_loop(images: Tensor, size: int) -> None:
    """Centre on any pixel, half the side each way, cut off at the border (an odd side's odd pixel lies right and below)."""
    operation = Cutout(size, fill=(5, 6, 7))
    drawn = operation.draw(NUM, generator())
    twins = []
    for image, centre in zip(images, (drawn["centre"] * 32).floor().int().tolist(), strict=True):
        top, left = (place - size // 2 for place in centre)
        picture = to_pil(image)
        picture.paste((5, 6, 7), (max(0, left), max(0, top), min(32, left + size), min(32, top + size)))
        twins.append(picture)
    assert_within_one(operation.apply(images, drawn), twins, exact=True)


def test_cutout_draws_every_centre_alike() -> None:
    drawn = Cutout(8, p=0.25).draw(DRAWS, generator())
    assert abs(drawn["cut"].double().mean() - 0.25) < 0.01
    counts = (drawn["centre"] * 8).long().matmul(torch.tensor([8, 1])).bincount(minlength=64)
    assert len(counts) == 64 and (counts / DRAWS * 64 - 1).abs().max() < 0.2
    white = torch.full((NUM, 3, 32, 32), 255, dtype=torch.uint8)
    cut = Cutout(8, p=0.25)
    drawn = cut.draw(NUM, generator())
    assert torch.equal((cut.apply(white, drawn) == 0).flatten(1).any(1), drawn["cut"])


FILLED = ["crop(4{})", "translate(0.2{})", "rotate(30{})", "shift(3,-2{})", "erase(1{})", "cutout(9{})", "randaugment(2,20{})",
          "trivialaugment(31{})", "autoaugment({})"]  # fmt: skip


@pytest.mark.parametrize("form", FILLED)
def test_a_colour_fills_what_a_byte_fills(images: Tensor, form: str) -> None:
    """Channel c of the picture filled with a colour is channel c of the one filled with that channel's byte."""
    comma = "" if form.endswith("({})") else ","
    colours = (10, 200, 90)
    filled = only(form.format(f"{comma}fill={colours}"))
    drawn = filled.draw(NUM, generator())
    coloured = filled.apply(images, drawn)
    if "augment" in form:  # the channels mix: turn and move alone
        drawn["change"] = drawn["change"] % 6
        coloured = filled.apply(images, drawn)
    for channel, byte in enumerate(colours):
        single = only(form.format(f"{comma}fill={byte}")).apply(images, drawn)
        assert torch.equal(coloured[:, channel], single[:, channel])
    assert not torch.equal(coloured, only(form.format("")).apply(images, drawn))


def test_mean_is_what_normalisation_turns_into_zero() -> None:
    mean, std = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
    white = torch.full((NUM, 3, 32, 32), 255, dtype=torch.uint8)
    operation = only("erase(1,fill=mean)", mean)
    drawn = operation.draw(NUM, generator())
    normalised = Preprocessing((32, 32), mean, std).normalize(operation.apply(white, drawn))
    erased = only("erase(1)").apply(white, drawn) == 0
    half_a_byte = 0.5 / 255 / min(std)
    assert erased.any() and normalised[erased].abs().max() <= half_a_byte * 1.001
    assert (normalised[~erased] > 1).all()
    assert parse("crop(4,fill='mean')|erase(fill=mean)|hflip|cutout(4)", (0.5, -3.0, 9.0)).operations[:2] == (
        Crop(4, fill=(128, 0, 255)),
        Erase(fill=(128, 0, 255)),
    )
    with pytest.raises(AssertionError, match="mean"):
        only("erase(1,fill=mean)").apply(white, drawn)


def test_a_run_fills_with_its_own_mean() -> None:
    setup, _ = prepare(tiny("data.augment=erase(fill=mean)", "data.mean=[0.1, 0.2, 0.3]"), None, torch.device("cpu"), Ranks())
    assert setup.augmentation.operations == (Erase(fill=(26, 51, 76)),)


def test_noise_fills_the_same_boxes_and_nothing_else(images: Tensor) -> None:
    plain, noisy = Erase(0.7), Erase(0.7, fill="noise")
    drawn = noisy.draw(NUM, generator())
    without = plain.draw(NUM, generator())
    assert set(drawn) - set(without) == {"seed"} and all(torch.equal(drawn[key], without[key]) for key in without)
    erased = plain.apply(torch.full_like(images, 255), drawn) == 0
    whole = noisy.apply(images, drawn)
    assert torch.equal(whole[~erased], images[~erased])
    assert torch.equal(whole[erased], noise(drawn["seed"], 32, 32)[erased])
    part = torch.arange(3, NUM, 7)
    assert torch.equal(noisy.apply(images[part], rows([drawn], part)[0]), whole[part])


def test_noise_is_uniform_and_independent() -> None:
    seeds = Erase(fill="noise").draw(400, generator())["seed"]
    values = noise(seeds, 32, 32).double()
    counts = values.flatten().long().bincount(minlength=256)
    expected = values.numel() / 256
    assert 0.7 < ((counts - expected) ** 2 / expected).sum() / 255 < 1.3
    centred = values - 127.5
    variance = (256**2 - 1) / 12
    pairs = {
        "across": (centred[..., :-1], centred[..., 1:]), "down": (centred[:, :, :-1], centred[:, :, 1:]),
        "channels": (centred[:, :2], centred[:, 1:]), "first and last": (centred[:, :1], centred[:, 2:]),
        "samples": (centred[:-1], centred[1:]),
    }  # fmt: skip
    for name, (one, other) in pairs.items():
        assert abs((one * other).mean() / variance) < 4 / one.numel() ** 0.5, name
    neighbours = noise(torch.arange(400), 32, 32).double() - 127.5
    assert abs((neighbours[:-1] * neighbours[1:]).mean() / variance) < 0.005


WRONG = [
    ("crop('4')", "pad: input should be a valid integer"),
    ("crop(4.5)", "pad: input should be a valid integer"),
    ("rotate('15')", "degrees: input should be a valid number"),
    ("hflip(True)", "p: input should be a valid number"),
    ("crop(4,fill=256)", "fill: takes a byte (0 to 255), three of them (red, green, blue), or mean; got 256"),
    ("crop(4,fill=(1,2))", "fill: takes a byte"),
    ("crop(4,fill='7')", "fill: takes a byte"),
    ("rotate(4,fill=meen)", "got 'meen'"),
    ("cutout(8,fill=noise)", "or mean; got 'noise'"),
    ("erase(fill=(1,2,True))", "or mean or noise; got (1, 2, True)"),
    ("blur(0.3,(1.5,0.1))", "radius: takes (low, high), got (1.5, 0.1)"),
    ("blur(1,-1)", "greater than or equal to 0"),
    ("blur(1,'1')", "radius"),
    ("blur(1,1e9)", "less than or equal to 100"),
    ("shift(2000)", "less than or equal to 1024"),
    ("shift(0.5)", "right: input should be a valid integer"),
    ("shift(1,border=wrap)", "border: input should be 'fill' or 'reflect'"),
    ("posterize(9)", "bits: input should be less than or equal to 8"),
    ("randaugment(magnitude=31)", "magnitude is a bin, 0 to 30; got 31"),
    ("autoaugment(bins=9)", "unknown argument 'bins'"),
    ("crop(4+x)", "arguments are plain numbers and words"),
    ("vflp", "did you mean 'vflip'"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "told"), WRONG, ids=[line for line, _ in WRONG])
def test_wrong_arguments_are_told(line: str, told: str) -> None:
    with pytest.raises(UserError) as error:
        parse(line)
    assert told in str(error.value)


def test_whole_numbers_stand_for_floats_and_lists_for_tuples() -> None:
    assert parse("rotate(15)|hflip(1)|blur(1,2)|erase(1,[0.1,0.2],[1,2],[1,2,3])").operations[2:] == (
        Blur(1.0, (2.0, 2.0)),
        Erase(1.0, (0.1, 0.2), (1.0, 2.0), (1, 2, 3)),
    )
    assert parse("erase(fill=noise)").operations == parse("erase(fill='noise')").operations


def test_operations_leave_their_images_alone(images: Tensor) -> None:
    """And give the same type and shape, oblong images too."""
    for line, part in itertools.product(
        [form.format("") for form in FILLED] + ["blur", "vflip", "grey(1)", "sharpness(1)", "equalize(1)"],
        (images, images[:, :, 4:20, 1:30]),
    ):
        operation = only(line)
        before = part.clone()
        after = operation.apply(part, operation.draw(NUM, generator()))
        assert torch.equal(part, before) and after.shape == part.shape and after.dtype == torch.uint8, line
