"""Sources, splits, preprocessing."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits as sklearn_digits

from bantamnet.data.cifar import CIFARS
from bantamnet.data.preprocess import Preprocessing
from bantamnet.data.sources import SOURCES, default_data_dir, find_source, load_digits
from bantamnet.data.split import canonical, hold_out
from bantamnet.errors import UserError
from small_cifar import SmallCifar


def test_digits_are_the_real_ones() -> None:
    train, test = load_digits()
    assert (len(train), len(test)) == (1437, 360)
    ours = {(bytes(i), int(n)) for s in (train, test) for i, n in zip(s.images[:, 0, ::4, ::4].numpy(), s.labels, strict=True)}
    theirs = sklearn_digits()
    shown = np.rint(theirs.images * 255 / 16).astype(np.uint8)
    assert ours == {(bytes(i), int(n)) for i, n in zip(shown, theirs.target, strict=True)} and len(ours) > 1790
    image = train.images[3]
    enlarged = image[0, ::4, ::4].repeat_interleave(4, 0).repeat_interleave(4, 1)
    assert torch.equal(image[0], image[2]) and torch.equal(image[0], enlarged)


def test_known_statistics_are_those_of_the_pixels() -> None:
    train, _ = load_digits()
    pixels = train.images[:, 0].double() / 255
    source = find_source("digits")
    assert abs(pixels.mean() - source.mean[0]) < 2e-3 and abs(pixels.std() - source.std[0]) < 2e-3


def test_canonical_order_is_the_same_for_any_mirror() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (60, 3, 4, 4), dtype=np.uint8)
    labels = rng.integers(0, 3, 60)
    one = canonical(images, labels, ("a", "b", "c"))
    shuffle = rng.permutation(60)
    other = canonical(images[shuffle], labels[shuffle], ("a", "b", "c"))
    assert torch.equal(one.images, other.images) and torch.equal(one.labels, other.labels)
    sums = sorted(hashlib.sha256(bytes([n]) + i.tobytes()).digest() for i, n in zip(images, labels, strict=True))
    assert one.fingerprint == other.fingerprint == hashlib.sha256(b"".join(sums)).hexdigest()
    images[5, 0, 0, 0] ^= 1
    assert canonical(images, labels, ("a", "b", "c")).fingerprint != one.fingerprint


def test_hold_out_is_stratified_seeded_and_complete() -> None:
    train, _ = load_digits()
    rest, held = hold_out(train, 144, 0)
    assert sorted(rest.ids.tolist() + held.ids.tolist()) == sorted(train.ids.tolist()) and len(held) == 144
    exact = train.labels.bincount().double() * 144 / len(train)
    assert ((held.labels.bincount() - exact).abs() < 1).all()
    assert torch.equal(hold_out(train, 144, 0)[1].ids, held.ids) and not torch.equal(hold_out(train, 144, 1)[1].ids, held.ids)
    where = {int(i): n for n, i in enumerate(train.ids)}
    picked = torch.tensor([where[int(i)] for i in held.ids])
    assert torch.equal(held.images, train.images[picked]) and held.fingerprint != train.fingerprint


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_the_binary_layout_is_read_and_checked(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = SmallCifar(name)
    small.write_binary(tmp_path / "cifar-binary")
    with pytest.raises(UserError, match=f"these are not {name}'s train images"):
        SOURCES[name].load(tmp_path)
    monkeypatch.setitem(CIFARS, name, small.known())
    for folder in (tmp_path, tmp_path / "cifar-binary"):
        train, test = SOURCES[name].load(folder)
        ours = {(bytes(i.numpy()), int(n)) for i, n in zip(train.images, train.labels, strict=True)}
        assert ours == {(bytes(i), int(n)) for i, n in zip(*small.parts["train"], strict=True)} and len(test) == small.NUM["test"]


@pytest.mark.cifar10
def test_real_cifar10_has_its_fingerprints_and_statistics(cifar_dir: Path) -> None:
    train, test = SOURCES["cifar10"].load(cifar_dir)
    assert (len(train), len(test)) == (50_000, 10_000)
    assert train.labels.bincount().tolist() == [5000] * 10 and test.labels.bincount().tolist() == [1000] * 10
    pixels = train.images.double() / 255
    for channel, (mean, std) in enumerate(
        zip((0.49139968, 0.48215841, 0.44653091), (0.24703223, 0.24348513, 0.26158784), strict=True)
    ):
        assert abs(pixels[:, channel].mean() - mean) < 1e-7 and abs(pixels[:, channel].std(correction=0) - std) < 1e-7
    source = find_source("cifar10")
    assert source.mean == (0.4914, 0.4822, 0.4465) and source.std == (0.2470, 0.2435, 0.2616)


def test_the_data_folder_is_the_variable_else_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BANTAMNET_DATA", str(tmp_path))
    assert default_data_dir() == tmp_path
    monkeypatch.delenv("BANTAMNET_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert default_data_dir() == tmp_path / "cache" / "bantamnet" / "data"


def test_normalize_is_the_formula_in_both_layouts() -> None:
    preprocessing = Preprocessing((5, 6), (0.1, 0.5, 0.9), (0.2, 0.3, 0.4))
    images = torch.randint(0, 256, (4, 3, 5, 6), dtype=torch.uint8)
    expected = (images.double() / 255 - torch.tensor([0.1, 0.5, 0.9]).view(1, 3, 1, 1)) / torch.tensor([0.2, 0.3, 0.4]).view(
        1, 3, 1, 1
    )
    before = images.clone()
    for layout in (torch.contiguous_format, torch.channels_last):
        ours = preprocessing.normalize(images, layout)
        assert ours.dtype == torch.float32 and ours.is_contiguous(memory_format=layout)
        torch.testing.assert_close(ours.double(), expected, rtol=1e-6, atol=2e-6)
    assert torch.equal(images, before)
    assert Preprocessing.from_dict(preprocessing.as_dict()) == preprocessing


def test_pictures_are_read_upright_in_rgb_at_the_input_size(tmp_path: Path) -> None:
    preprocessing = Preprocessing((32, 32), (0, 0, 0), (1, 1, 1))
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:16] = (200, 30, 60)
    exact, turned, wide = tmp_path / "a.png", tmp_path / "b.jpg", tmp_path / "c.png"
    Image.fromarray(pixels).save(exact)
    assert torch.equal(preprocessing.read_image(exact).permute(1, 2, 0), torch.from_numpy(pixels))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.ascontiguousarray(np.rot90(pixels, 1))).save(turned, exif=exif, quality=100)
    assert (preprocessing.read_image(turned).permute(1, 2, 0).int() - torch.from_numpy(pixels).int()).abs().float().mean() < 8
    Image.fromarray(np.full((64, 200), 77, np.uint8)).save(wide)
    assert (preprocessing.read_image(wide) == 77).all()
