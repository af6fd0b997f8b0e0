"""Every corruption in every severity equals its slow twin, and has the statistics that its definition implies."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import poisson
from torch import Tensor

from bantamnet.data.corruptions.table import BENCHMARK, CORRUPTIONS, LEFT_OUT, PIECE, SEVERITIES, corrupt, operation
from bantamnet.errors import UserError
from bantamnet.runtime import generator
from corruption_twins import PUBLISHED, TWINS, arguments_of
from twins import mixed_images

EXACT = {"impulse_noise", "pixelate", "jpeg_compression"}
CASES = [(name, severity) for name in CORRUPTIONS for severity in SEVERITIES]


@pytest.fixture(scope="module")
def images() -> Tensor:
    """uint8 (12, 3, 32, 32): flat, noisy, coarse and smooth ones, and digits."""
    return mixed_images(40)[[0, 1, 2, 3, 4, 7, 12, 17, 22, 25, 28, 33]]


@pytest.fixture(scope="module")
def scenes() -> Tensor:
    """uint8 (200, 3, 32, 32): smooth ones with some texture, spread around mid-grey, as photographs are."""
    rng = np.random.default_rng(5)
    coarse = torch.from_numpy(rng.normal(0, 45, (200, 3, 6, 6)))
    smooth = torch.nn.functional.interpolate(coarse, size=(32, 32), mode="bicubic").numpy()
    common = rng.normal(0, 25, (200, 1, 32, 32))
    return torch.from_numpy((smooth + common + rng.uniform(80, 170, (200, 3, 1, 1))).clip(0, 255).astype(np.uint8))


def test_every_corruption_of_the_benchmark_is_there_or_said_to_be_left_out() -> None:
    published = {
        "gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "snow",
        "frost", "fog", "brightness", "contrast", "elastic_transform", "pixelate", "jpeg_compression",
    }  # fmt: skip
    assert set(BENCHMARK) | set(LEFT_OUT) == published and not set(BENCHMARK) & set(LEFT_OUT)
    assert set(TWINS) == set(PUBLISHED) == set(CORRUPTIONS)
    assert all(len(levels) == len(SEVERITIES) for levels in PUBLISHED.values())


@pytest.mark.parametrize(("name", "severity"), CASES)
def test_it_is_its_twin(name: str, severity: int, images: Tensor) -> None:
    made = operation(name, severity)
    drawn = made.draw(len(images), generator("twin", name, severity))
    ours = made.apply(images, drawn).permute(0, 2, 3, 1).numpy()
    assert ours.dtype == np.uint8
    twins = []
    for number, image in enumerate(images.permute(0, 2, 3, 1).numpy()):
        row = {key: value[number].numpy() for key, value in drawn.items()}
        twins.append(np.floor(TWINS[name](image, row, *arguments_of(name, severity)) + 1e-6))
    difference = np.abs(ours.astype(int) - np.array(twins))
    assert difference.max() <= (0 if name in EXACT else 1)
    assert (difference > 0).mean() < 1e-3, "now and then a value falls on the border of two bytes"


@pytest.mark.parametrize("name", list(CORRUPTIONS))
def test_what_happens_to_an_image_depends_on_seed_severity_and_its_id_alone(name: str) -> None:
    images = mixed_images(PIECE + 10, seed=3)
    ids = [3 * number for number in range(len(images))]
    whole = corrupt(images, ids, name, 4)
    assert torch.equal(whole, corrupt(images, ids, name, 4)) and whole.dtype == torch.uint8 and whole.shape == images.shape
    for rows in ([5], [70, 2], [66, 1, 9]):
        assert torch.equal(corrupt(images[rows], [ids[row] for row in rows], name, 4), whole[rows])
    same = images[7].expand(4, 3, 32, 32)
    by_id, by_seed = corrupt(same, range(4), name, 4), torch.cat([corrupt(same[:1], [1], name, 4, seed) for seed in range(4)])
    chance = bool(operation(name, 4).draw(1, generator("any")))
    for variants in (by_id, by_seed):
        assert len({variant.numpy().tobytes() for variant in variants}) == (4 if chance else 1)


def grey(value: int, num: int = 100) -> Tensor:
    return torch.full((num, 3, 32, 32), value, dtype=torch.uint8)


def unit(name: str, severity: int, value: int) -> Tensor:
    """Bytes of a corrupted grey, and the half that cutting off takes on average."""
    return corrupt(grey(value), range(100), name, severity).double() + 0.5


@pytest.mark.parametrize("severity", SEVERITIES)
def test_noise_has_its_moments(severity: int) -> None:
    num = 100 * 3 * 32 * 32
    scale = [0.04, 0.06, 0.08, 0.09, 0.10][severity - 1] * 255
    found = unit("gaussian_noise", severity, 128)
    assert found.mean().item() == pytest.approx(128, abs=5 * scale / math.sqrt(num) + 0.02)
    assert found.std().item() == pytest.approx(math.hypot(scale, math.sqrt(1 / 12)), rel=0.01)
    kurtosis = ((found - found.mean()) ** 4).mean() / found.var() ** 2
    assert kurtosis.item() == pytest.approx(3, abs=0.08)

    scale = [0.06, 0.1, 0.12, 0.16, 0.2][severity - 1]
    for value in (60, 120):
        assert unit("speckle_noise", severity, value).std().item() == pytest.approx(
            math.hypot(value * scale, math.sqrt(1 / 12)), rel=0.012
        )

    photons = [500, 250, 100, 75, 50][severity - 1]
    counts = poisson(128 / 255 * photons)
    seen = counts.rvs(200_000, random_state=np.random.default_rng(severity))
    stored = np.clip(np.floor(seen / photons * 255 + 1e-6), 0, 255)
    found = unit("shot_noise", severity, 128) - 0.5
    assert found.mean().item() == pytest.approx(stored.mean(), abs=0.25)
    assert found.std().item() == pytest.approx(stored.std(), rel=0.01)
    assert not unit("shot_noise", severity, 0).sub(0.5).any(), "black sends no light"

    amount = [0.01, 0.02, 0.03, 0.05, 0.07][severity - 1]
    found = unit("impulse_noise", severity, 100) - 0.5
    for extreme in (0, 255):
        assert (found == extreme).double().mean().item() == pytest.approx(amount / 2, rel=0.05)
    assert set(found.unique().tolist()) == {0, 100, 255}


MEANS = {
    "gaussian_noise": (8.05, 12.03, 16.00, 17.94, 19.89),
    "shot_noise": (6.16, 8.69, 13.66, 15.70, 19.18),
    "impulse_noise": (1.27, 2.55, 3.85, 6.38, 8.93),
    "defocus_blur": (3.44, 8.30, 11.95, 17.79, 18.82),
    "glass_blur": (19.55, 19.59, 18.85, 26.01, 24.28),
    "motion_blur": (11.84, 15.75, 18.55, 18.51, 20.73),
    "zoom_blur": (13.18, 15.71, 17.59, 19.32, 20.89),
    "snow": (10.90, 24.76, 26.25, 38.68, 54.67),
    "fog": (9.26, 18.29, 23.91, 28.43, 34.88),
    "brightness": (8.86, 18.15, 27.06, 35.45, 49.62),
    "contrast": (9.16, 18.31, 21.97, 25.63, 31.12),
    "elastic_transform": (28.87, 26.86, 24.89, 23.94, 21.10),
    "pixelate": (3.40, 6.72, 8.14, 11.81, 15.63),
    "jpeg_compression": (7.94, 12.04, 13.45, 14.74, 16.18),
    "speckle_noise": (5.94, 9.85, 11.79, 15.61, 19.35),
    "gaussian_blur": (3.33, 11.73, 14.04, 15.53, 17.28),
    "spatter": (1.08, 2.89, 6.95, 2.99, 5.21),
    "saturate": (27.14, 34.98, 16.63, 31.55, 38.39),
}
"""Mean absolute difference from the plain image, in bytes, on `scenes`."""


def differences(name: str, scenes: Tensor) -> list[float]:
    ids = range(len(scenes))
    return [(corrupt(scenes, ids, name, severity).int() - scenes.int()).abs().double().mean().item() for severity in SEVERITIES]


@pytest.mark.parametrize("name", list(CORRUPTIONS))
def test_it_changes_images_as_much_as_it_did(name: str, scenes: Tensor) -> None:
    assert differences(name, scenes) == pytest.approx(MEANS[name], rel=0.02)


NOT_ORDERED = {"glass_blur", "motion_blur", "elastic_transform", "saturate", "spatter"}
"""Their published constants do not grow alike: a wider shear with less bending, a longer line with the same blur, less colour
before more of it, much water before little mud."""


@pytest.mark.parametrize("name", sorted(set(CORRUPTIONS) - NOT_ORDERED))
def test_a_higher_severity_changes_more(name: str, scenes: Tensor) -> None:
    found = differences(name, scenes)
    assert found == sorted(found) and found[4] > 1.25 * found[0]


def test_wrong_names_severities_and_sizes_are_refused_with_the_fix() -> None:
    image = grey(9, 1)
    for name, severity, shown, words in (
        ("gausian_noise", 1, image, "did you mean 'gaussian_noise'"),
        ("frost", 1, image, "--shift cifar10-c"),
        ("fog", 6, image, "give 1 to 5"),
        ("fog", 1, torch.zeros(1, 3, 64, 64, dtype=torch.uint8), "published for 32×32"),
    ):
        with pytest.raises(UserError, match=words):
            corrupt(shown, [0], name, severity)
    assert corrupt(grey(9, 0), [], "fog", 1).shape == (0, 3, 32, 32)
