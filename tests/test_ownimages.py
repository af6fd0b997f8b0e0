"""Folders of pictures from files to trained weights: cache, splits, memory maps, balance."""

import json
import os
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

import bantamnet
from bantamnet.config import Data
from bantamnet.data import cache, foldersource
from bantamnet.data.balance import balanced_order, class_weights
from bantamnet.data.foldersource import BadPicturesError, FolderData, FolderSource
from bantamnet.data.listener import Listener
from bantamnet.data.sources import CIFAR10, SOURCES, find_source, load_digits
from bantamnet.data.split import Mapped, Split, canonical
from bantamnet.data.statistics import channel_statistics, normalization
from bantamnet.errors import UserError
from bantamnet.evaluate.scoring import evaluate, load_splits
from bantamnet.runs.lookup import resolve
from bantamnet.runs.tensorfile import read_tensors
from bantamnet.runtime import Ranks, generator
from bantamnet.training.loop import batches, epoch_order
from bantamnet.training.losses import Classification
from bantamnet.training.setup import prepare
from bantamnet.training.signals import Stopped
from bantamnet.training.train import Options
from conftest import invoke, tiny
from same_run import stopping_after

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("BANTAMNET_CACHE", str(folder))
    return folder


class Hearing(Listener):
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.decoded: list[int] = []

    def tell(self, line: str) -> None:
        self.lines.append(line)

    def progress(self, done: int, total: int) -> None:
        self.decoded.append(done)


def write_pictures(root: Path, split: Split, part: str = "") -> None:
    for number in range(len(split)):
        folder = root / part / split.class_names[int(split.labels[number])]
        folder.mkdir(parents=True, exist_ok=True)
        image = split.gather(torch.tensor([number]))[0]
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / f"{number}.png")


@pytest.fixture(scope="module")
def digit_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built-in digits as PNG files in train and test."""
    root = tmp_path_factory.mktemp("digits")
    for part, split in zip(("train", "test"), load_digits(), strict=True):
        write_pictures(root, split, part)
    return root


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Three classes of 10, 20 and 30 noise pictures, 12×12, no parts."""
    rng = np.random.default_rng(0)
    for name, num in (("1", 10), ("2", 20), ("10", 30)):
        (tmp_path / "small" / name).mkdir(parents=True)
        for number in range(num):
            Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)).save(tmp_path / "small" / name / f"{number}.png")
    return tmp_path / "small"


def read(root: Path, **keys: object) -> tuple[FolderData, Hearing]:
    hearing = Hearing()
    return FolderSource(root).read(Data(name=str(root), **keys), hearing), hearing  # type: ignore[arg-type]


def test_a_folder_of_a_known_data_set_is_that_data_set(digit_folder: Path) -> None:
    found, hearing = read(digit_folder)
    for name, split in zip(("train", "test"), load_digits(), strict=True):
        ours = found.splits[name]
        twin = canonical(split.gather(torch.arange(len(split))).numpy(), split.labels.numpy(), split.class_names)
        assert ours.fingerprint == twin.fingerprint and ours.class_names == split.class_names
        everything = torch.arange(len(ours))
        assert torch.equal(ours.gather(everything), split.gather(everything)) and torch.equal(ours.labels, split.labels)
    assert hearing.decoded[0] == 0 and hearing.decoded[-1] == 1797
    assert any("train 1,437 images: 3 156, 0 153" in line for line in hearing.lines)


@pytest.mark.slow
def test_training_on_the_folder_gives_the_same_weights_mapped_or_not(digit_folder: Path, tmp_path: Path) -> None:
    sets = ["data.val.count=144", "epochs=1", "device=cpu", "precision=fp32", "data.augment=crop(4)"]
    own = [f"data.name={digit_folder}", "data.mean=[0.305,0.305,0.305]", "data.std=[0.376,0.376,0.376]", "data.keep=map"]
    runs = [bantamnet.train(tiny(*sets, *more), out=tmp_path / str(number)) for number, more in enumerate(([], own))]
    one, other = (read_tensors(run.best)[0] for run in runs)
    assert all(torch.equal(other[name], tensor) for name, tensor in one.items())
    moved = tmp_path / "moved"
    digit_folder.rename(moved)
    try:
        with pytest.raises(UserError, match="no such folder; --data names"):
            evaluate(tmp_path / "1")
        figures = evaluate(tmp_path / "1", data=str(moved))
    finally:
        moved.rename(digit_folder)
    assert figures["correct"] == evaluate(tmp_path / "0")["correct"] and figures["data"] == str(moved)


@pytest.mark.slow
@pytest.mark.cifar10
def test_cifar10_as_a_folder_has_its_fingerprint_and_gives_the_same_weights(cifar_dir: Path, tmp_path: Path) -> None:
    known = SOURCES["cifar10"].load(cifar_dir)
    for part, split in zip(("train", "test"), known, strict=True):
        write_pictures(tmp_path / "png", split, part)
    found, _ = read(tmp_path / "png")
    assert [found.splits[part].fingerprint for part in ("train", "test")] == [split.fingerprint for split in known]
    assert found.splits["train"].class_names == CIFAR10.class_names
    net = "model={name: custom, stem_width: 8, widths: [8], blocks: [1]}"
    sets = ["max_steps=30", "data.val.source=none", "select=last", "precision=fp32", "device=cpu", net]
    configs = [resolve("resnet8-tiny", [*sets, *more]) for more in ([], [f"data.name={tmp_path / 'png'}"])]
    options = Options(data_dir=cifar_dir)
    runs = [bantamnet.train(config, out=tmp_path / str(number), options=options) for number, config in enumerate(configs)]
    one, other = (read_tensors(run.best)[0] for run in runs)
    assert all(torch.equal(other[name], tensor) for name, tensor in one.items())
    assert runs[1].config().data.mean == (0.4914, 0.4822, 0.4465) and runs[1].config().data.std == (0.2470, 0.2435, 0.2616)


def test_without_parts_test_images_are_drawn_by_class_and_told(small: Path) -> None:
    found, hearing = read(small)
    train, test = found.splits["train"], found.splits["test"]
    assert train.class_names == ("1", "2", "10")
    assert train.labels.bincount().tolist() == [8, 16, 24] and test.labels.bincount().tolist() == [2, 4, 6]
    assert not set(train.ids.tolist()) & set(test.ids.tolist())
    assert any("12 pictures are drawn as test images" in line for line in hearing.lines)
    again = read(small)[0].splits["test"]
    other = read(small, test={"split_seed": 1})[0].splits["test"]
    assert again.fingerprint == test.fingerprint != other.fingerprint
    for name, split in found.splits.items():
        for row, number in enumerate(found.origins[name]):
            picture = np.asarray(Image.open(small / found.listing.files[number].path).resize((32, 32), Image.Resampling.BICUBIC))
            assert np.array_equal(split.gather(torch.tensor([row]))[0].permute(1, 2, 0).numpy(), picture)
        assert (found.original_sizes[name] == 12).all()


def test_a_part_without_a_readable_picture_is_refused(small: Path, tmp_path: Path) -> None:
    for part in ("train", "test"):
        shutil.copytree(small, tmp_path / "parts" / part)
    for path in (tmp_path / "parts" / "test").rglob("*.png"):
        path.write_bytes(b"no picture")
    with pytest.raises(UserError, match="none of the pictures in test can be read"):
        read(tmp_path / "parts", skip_bad=True)


def test_copies_among_training_and_test_images_are_told(small: Path) -> None:
    assert not any("training images too" in line for line in read(small)[1].lines)
    for path in list(small.rglob("*.png")):
        shutil.copy(path, path.with_name(f"{path.stem} copy.png"))
    found, hearing = read(small)
    (told,) = [line for line in hearing.lines if "training images too" in line]
    seen = {image.numpy().tobytes() for image in found.splits["train"].gather(torch.arange(96))}
    copies = sum(image.numpy().tobytes() in seen for image in found.splits["test"].gather(torch.arange(24)))
    assert f"{copies} of 24 test images are training images too" in told and copies > 10


def test_a_link_to_nowhere_does_not_empty_the_cache(small: Path) -> None:
    (small / "1" / "lost.png").symlink_to(small / "nowhere.png")
    decoded = [read(small, skip_bad=True)[1].decoded for _ in range(2)]
    assert decoded[0] and not decoded[1]


def test_own_val_is_used_and_source_decides(small: Path, tmp_path: Path) -> None:
    for part in ("train", "val"):
        (tmp_path / "parts" / part).mkdir(parents=True)
        for folder in small.iterdir():
            (tmp_path / "parts" / part / folder.name).symlink_to(folder)

    def splits(*sets: str) -> dict[str, Split]:
        config = resolve("modified-resnet", [f"data.name={tmp_path / 'parts'}", "optim.schedule=constant", *sets])
        assert config.data.val.count is None and config.data.mean is None, "nothing of another data set's stays"
        return load_splits(config, None)

    assert {name: len(split) for name, split in splits().items()} == {"train": 48, "test": 12, "val": 60}
    assert set(splits("data.val.source=none", "select=last")) == {"train", "test"}
    assert len(splits("data.val.source=test", "select=last")["val"]) == 12


def test_a_tenth_is_held_out_where_no_count_is_given(small: Path) -> None:
    splits = load_splits(resolve("resnet8-tiny", [f"data.name={small}"]), None)
    assert {name: len(split) for name, split in splits.items()} == {"train": 43, "val": 5, "test": 12}


def test_all_damaged_files_are_listed_exactly_then_skipped_and_counted(digit_folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "damaged"
    damaged = {}
    for number, path in enumerate(sorted(digit_folder.glob("train/*/*.png"))):
        target = root / path.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        content = path.read_bytes()
        if number % 100 == 7:
            damaged[str(target.relative_to(root))] = number
            kinds = [b"", content[: len(content) // 2], b"not a picture", content.replace(b"IDAT", b"IDOT"), bytes(len(content))]
            content = kinds[len(damaged) % len(kinds)]
        target.write_bytes(content)
    assert len(damaged) == 15
    with pytest.raises(BadPicturesError) as error:
        read(root)
    assert {path for path, _ in error.value.bad} == set(damaged) and len(error.value.bad) == 15
    assert "15 of 1,437 pictures cannot be read" in str(error.value) and "--skip-bad" in str(error.value)
    for path in damaged:
        assert f"\n  {path}: " in str(error.value)
    found, hearing = read(root, skip_bad=True)
    assert sum(len(split) for split in found.splits.values()) == 1437 - 15 and not hearing.decoded
    assert any("skipped 15 of 1,437 pictures" in line for line in hearing.lines)


def test_a_class_that_loses_all_its_pictures_is_refused(small: Path) -> None:
    for path in (small / "1").iterdir():
        path.write_bytes(b"")
    with pytest.raises(UserError, match=r"no training images are left of 1 classes \(1\)"):
        load_splits(resolve("resnet8-tiny", [f"data.name={small}", "data.skip_bad=true"]), None)


def test_pictures_are_decoded_once_until_they_change(small: Path, own_cache: Path) -> None:
    assert read(small)[1].decoded[-1] == 60
    first, hearing = read(small)
    assert not hearing.decoded
    (place,) = own_cache.iterdir()
    assert {path.suffix for path in place.iterdir()} == {".npz", ".pixels"}
    assert read(small, size=16)[1].decoded and len(list(own_cache.iterdir())) == 2
    Image.new("RGB", (12, 12), "red").save(small / "2" / "0.png")
    changed, hearing = read(small)
    assert hearing.decoded[-1] == 60 and changed.splits["train"].fingerprint != first.splits["train"].fingerprint
    assert len(list(place.iterdir())) == 2, "the old pixels are gone"
    os.utime(small / "2" / "1.png", ns=(0, 12345))
    assert read(small)[1].decoded, "of the same size, but written at another time"


@pytest.mark.parametrize("harm", ["cut pixels", "flip pixel", "no pixels", "cut index", "flip index", "empty index"])
def test_a_damaged_cache_is_made_anew(harm: str, small: Path, own_cache: Path) -> None:
    before = read(small)[0].splits["train"]
    (place,) = own_cache.iterdir()
    (path,) = place.glob("*.pixels" if "pixel" in harm else "*.npz")
    content = bytearray(path.read_bytes())
    if harm == "no pixels":
        path.unlink()
    else:
        content[len(content) // 2] ^= 1
        path.write_bytes({"flip": bytes(content), "cut": bytes(content[:-100]), "empt": b""}[harm[:4].strip()])
    after, hearing = read(small)
    assert hearing.decoded[-1] == 60 and "is damaged" in hearing.lines[0]
    assert after.splits["train"].fingerprint == before.fingerprint
    everything = torch.arange(len(before))
    assert torch.equal(after.splits["train"].gather(everything), before.gather(everything))


@pytest.mark.parametrize("trouble", [PermissionError(13, "Permission denied"), OSError(5, "Input/output error"), MemoryError()])
def test_a_picture_that_could_not_be_read_once_is_tried_again(
    trouble: Exception, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.read_bytes

    def failing(path: Path) -> bytes:
        if path.name == "1.png":
            raise trouble
        return real(path)

    (small / "2" / "0.png").write_bytes(b"no picture")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", failing)
        with pytest.raises(UserError, match="4 of 60 pictures cannot be read"):
            read(small)
    with pytest.raises(UserError, match="1 of 60 pictures cannot be read"):
        read(small)
    hearing = Hearing()
    with pytest.raises(UserError, match="1 of 60"):
        FolderSource(small).read(Data(name=str(small)), hearing)
    assert not hearing.decoded, "what is damaged stays so until the file changes"


def test_an_unwritable_cache_says_where_to_put_it(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("BANTAMNET_CACHE", str(tmp_path / "file" / "below"))
    with pytest.raises(UserError, match="BANTAMNET_CACHE"):
        read(small)


def test_an_interrupted_decoding_leaves_nothing_half_done(small: Path, own_cache: Path) -> None:
    class Interrupting(Listener):
        def progress(self, done: int, total: int) -> None:
            if done == 30:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        FolderSource(small).read(Data(name=str(small)), Interrupting())
    (place,) = own_cache.iterdir()
    assert [path.name for path in place.iterdir()] == []
    assert read(small)[1].decoded[-1] == 60


def test_of_several_that_start_at_once_one_decodes(small: Path) -> None:
    heard: list[Hearing] = []
    prints: list[str] = []

    def one() -> None:
        found, hearing = read(small)
        heard.append(hearing)
        prints.append(found.splits["train"].fingerprint)

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(bool(hearing.decoded) for hearing in heard) == 1 and len(set(prints)) == 1 and len(prints) == 4


def test_mapped_images_stay_in_the_file_through_every_split(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_memory = load_splits(resolve("resnet8-tiny", [f"data.name={small}"]), None)
    monkeypatch.setattr(foldersource, "memory_limit", lambda: 60 * 3 * 32 * 32 - 1)
    mapped = load_splits(resolve("resnet8-tiny", [f"data.name={small}"]), None)
    for name, split in mapped.items():
        assert isinstance(split.images, Mapped) and isinstance(in_memory[name].images, Tensor)
        assert split.images.file.data_ptr() == mapped["train"].images.file.data_ptr()  # type: ignore[union-attr]
        assert split.fingerprint == in_memory[name].fingerprint and split.size == (32, 32)
        picked = torch.randperm(len(split))[:7]
        moved = split.to(CPU)
        assert torch.equal(moved.gather(picked), in_memory[name].gather(picked)) and moved.gather(picked).is_contiguous()
    monkeypatch.setattr(foldersource, "memory_limit", lambda: 60 * 3 * 32 * 32)
    assert isinstance(load_splits(resolve("resnet8-tiny", [f"data.name={small}"]), None)["train"].images, Tensor)


def anonymous_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_an_epoch_of_mapped_images_holds_few_of_them(tmp_path: Path) -> None:
    """100 MB of pixels pass through in pieces of 1 MB: anonymous memory does not grow with the set."""
    pixels = np.memmap(tmp_path / "pixels", np.uint8, mode="w+", shape=(512, 3, 256, 256))
    mapped = Mapped(torch.from_numpy(np.memmap(tmp_path / "pixels", np.uint8, mode="c", shape=pixels.shape)), torch.arange(512))
    split = Split(mapped, torch.zeros(512, dtype=torch.int64), torch.arange(512), ("a",), "")
    split.gather(torch.arange(6))
    before, most = anonymous_bytes(), 0
    for _ in range(2):
        for indices in torch.randperm(512).split(6):
            split.subset(torch.arange(500))
            total = int(split.gather(indices).sum())
            most = max(most, anonymous_bytes())
            assert total == 0
    assert most - before < 20 * 2**20


def test_statistics_are_those_of_the_pixels_whatever_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.random.default_rng(3).integers(0, 256, (50, 3, 9, 7), dtype=np.uint8)
    images[:, 1] = 200
    split = canonical(images, np.zeros(50, np.int64), ("a",))
    pixels = images.astype(np.float64) / 255
    mean, std = channel_statistics(split)
    np.testing.assert_allclose(mean, pixels.mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(std, pixels.std((0, 2, 3)), rtol=1e-12, atol=1e-12)
    assert normalization(split)[1][1] == 1e-4, "never zero"
    monkeypatch.setattr("bantamnet.data.statistics.PIXELS_AT_ONCE", 100)
    assert channel_statistics(split) == (mean, std)
    source = find_source("digits")
    assert all(abs(a - (b or 0)) < 2e-3 for a, b in zip(normalization(load_digits()[0])[0], source.mean or (), strict=True))


def test_more_than_256_classes_have_records_of_their_own() -> None:
    images = np.zeros((2, 3, 2, 2), np.uint8)
    names = tuple(str(n) for n in range(300))
    assert canonical(images, np.array([0, 256]), names).fingerprint != canonical(images, np.array([0, 0]), names).fingerprint


def test_the_sampler_draws_classes_equally_and_everything_before_anything_twice() -> None:
    labels = torch.tensor([0] * 70 + [1] * 25 + [2] * 5)[torch.randperm(100)]
    order = balanced_order(labels, 3, generator("x", 0))
    assert torch.equal(order, balanced_order(labels, 3, generator("x", 0)))
    assert not torch.equal(order, balanced_order(labels, 3, generator("x", 1)))
    drawn = labels[order].bincount(minlength=3)
    assert len(order) == 100 and sorted(drawn.tolist()) == [33, 33, 34]
    for label in range(3):
        seen = order.bincount(minlength=100)[labels == label]
        assert seen.max() - seen.min() <= 1 and seen.sum() == drawn[label]
    mixed = labels[order]
    assert (mixed[1:] != mixed[:-1]).sum() > 40, "not class by class"


def test_weighed_loss_is_pytorchs_sum_over_the_number_of_images() -> None:
    split = Split(torch.zeros(100, 3, 2, 2), torch.tensor([0] * 70 + [1] * 25 + [2] * 5), torch.arange(100), ("a", "b", "c"), "")
    weights = class_weights(split)
    torch.testing.assert_close(weights, torch.tensor([100 / 210, 100 / 75, 100 / 15]))
    assert float(weights[split.labels].mean()) == pytest.approx(1)
    logits, targets = torch.randn(12, 3), torch.randint(0, 3, (12,))
    loss, _ = Classification(0.0, weights)(torch.nn.Identity(), logits, targets)
    each = F.cross_entropy(logits, targets, reduction="none")
    torch.testing.assert_close(loss, (each * weights[targets]).mean())
    halves = [Classification(0.1, weights)(torch.nn.Identity(), logits[s], targets[s])[0] for s in (slice(6), slice(6, 12))]
    torch.testing.assert_close(Classification(0.1, weights)(torch.nn.Identity(), logits, targets)[0], sum(halves) / 2)
    shares = F.one_hot(targets, 3).float()
    torch.testing.assert_close(Classification(0.1, weights)(torch.nn.Identity(), logits, shares)[0], sum(halves) / 2)


def test_balance_reaches_the_loop_and_a_repeated_image_is_augmented_anew(small: Path) -> None:
    sets = [f"data.name={small}", "data.balance=sampler", "batch_size=16", "data.augment=crop(4)", "data.val.count=6"]
    setup, _ = prepare(tiny(*sets), None, CPU, Ranks())
    order, _ = epoch_order(setup, 0)
    repeated = int(order.bincount().argmax())
    assert int(order.bincount()[repeated]) >= 2
    seen = torch.cat([images for images, *_ in batches(setup, 0)])
    targets = torch.cat([targets for _, targets, *_ in batches(setup, 0)])
    assert torch.equal(targets, setup.splits["train"].labels[order]) and targets.bincount().tolist() == [14, 14, 14]
    first, second = (order == repeated).nonzero()[:2, 0].tolist()
    assert not torch.equal(seen[first], seen[second])
    later = torch.cat([images for images, *_ in batches(setup, 0, first_step=1)])
    assert torch.equal(later, seen[16:]), "a resumed epoch sees the same"
    weighed, _ = prepare(tiny(f"data.name={small}", "data.balance=loss", "data.val.count=6"), None, CPU, Ranks())
    assert weighed.task.class_weights is not None and weighed.task.class_weights.argmax() == 0


def test_pictures_of_64_pixels_train_with_the_imagenet_stem(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The whole way by the command, from files to a prediction for one of them; a folder with a name that needs quoting."""
    folder = small.rename(tmp_path / "my 'odd': #pictures")
    (folder / "broken").mkdir()
    (folder / "1" / "broken.png").write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    more = ["--set", "data.size=64", "--set", "model.stem=imagenet", "--set", "data.keep=map", "--set", "data.resize=pad"]
    train = ["train", "resnet8-tiny", "--data", folder.name, *more, "--epochs", "1", "--device", "cpu", "--out", "run", "--json"]
    train += ["--set", "budget=bantam"]
    code, out, err = invoke(train, monkeypatch, capsys)
    assert code == 2 and "1/broken.png: its content is none of BMP" in err and not out and not (tmp_path / "run").exists()
    code, out, err = invoke([*train, "--skip-bad"], monkeypatch, capsys)
    assert code == 0, err
    assert "skipped 1 of 61 pictures" in err and "ignored 1 class folders without pictures: broken" in err
    assert "3, of 7 to 22 training images (data.balance: none)" in err
    summary = json.loads(out)
    assert summary["data"]["test"]["num"] == 12 and summary["parameters"] == 79_651
    code, out, err = invoke(["predict", "run", str(folder / "2" / "3.png"), "--json"], monkeypatch, capsys)
    assert code == 0 and json.loads(out)["predictions"][0]["class"] in ("1", "2", "10")
    model = bantamnet.load("run")
    assert model.info.preprocessing.size == (64, 64) and model.info.preprocessing.resize == "pad"
    config = bantamnet.load("run").info.config
    assert config["data"]["name"] == str(folder) and len(config["data"]["mean"]) == 3 and config["data"]["skip_bad"]
    code, out, err = invoke(["evaluate", "run", "--json"], monkeypatch, capsys)
    assert code == 0 and json.loads(out)["fingerprint"] == summary["data"]["test"]["fingerprint"]


def test_one_picture_in_every_form_has_the_same_top_1(tmp_path: Path) -> None:
    from test_pictures import STORED, grey_files

    run = bantamnet.train(tiny("epochs=1", "device=cpu"), out=tmp_path / "run")
    model = bantamnet.load(run.path)
    rng = np.random.default_rng(1)
    forms = list(grey_files(tmp_path).values())
    picture = np.asarray(Image.open(forms[0]).convert("RGB"))
    for orientation, stored in STORED.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        forms.append(tmp_path / f"{orientation}.png")
        Image.fromarray(np.ascontiguousarray(stored(picture))).save(forms[-1], exif=exif)
    predictions = model.predict(forms, top=10)
    assert all(prediction == predictions[0] for prediction in predictions), "all ten probabilities, not the first class alone"
    Image.fromarray(rng.integers(0, 256, (32, 32), dtype=np.uint8)).save(tmp_path / "other.png")
    assert model.predict([tmp_path / "other.png"], top=10)[0] != predictions[0]


def test_known_data_sets_keep_their_size() -> None:
    with pytest.raises(UserError, match=r"size is for folders of pictures; digits has its own"):
        resolve("quickstart", ["data.size=64"])


def test_an_unknown_name_or_missing_folder_is_told_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        resolve("quickstart", [f"data.name={tmp_path}/gone"])
    with pytest.raises(UserError, match=r"unknown data set 'digit'; did you mean 'digits'.*a path to a folder"):
        resolve("quickstart", ["data.name=digit"])


def test_memory_limit_is_a_share_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = cache.memory_limit()
    assert 2**20 < alone < 2**50
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert cache.memory_limit() == alone // 2
    assert replace(FolderSource(Path()), about="x").size == (32, 32)


def test_a_stopped_run_goes_on_though_its_folder_has_moved(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sets = [f"data.name={small}", "data.balance=sampler", "data.keep=map", "batch_size=16", "data.val.count=6", "device=cpu"]
    whole = bantamnet.train(tiny(*sets), out=tmp_path / "whole")
    with stopping_after(monkeypatch, 4), pytest.raises(Stopped):
        bantamnet.train(tiny(*sets), out=tmp_path / "stopped")
    moved = small.rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="no such folder; --data names"):
        bantamnet.resume(tmp_path / "stopped")
    original = (moved / "1" / "0.png").read_bytes()
    Image.new("RGB", (12, 12)).save(moved / "1" / "0.png")
    with pytest.raises(UserError, match="other images"):
        bantamnet.resume(tmp_path / "stopped", Options(data=str(moved)))
    (moved / "1" / "0.png").write_bytes(original)
    resumed = bantamnet.resume(tmp_path / "stopped", Options(data=str(moved)))
    one, other = (read_tensors(run.best)[0] for run in (whole, resumed))
    assert all(torch.equal(other[name], tensor) for name, tensor in one.items())
