"""The verb `submit`: contests' files in every published layout, hostile ones, and what a submission may not be."""

import csv
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import bantamnet
from bantamnet.data.cifar import CIFAR10
from bantamnet.data.contest import read_unlabelled
from bantamnet.data.preprocess import Preprocessing
from bantamnet.errors import UserError
from bantamnet.models.build import build
from bantamnet.runs.lookup import resolve
from bantamnet.runs.modelfile import ModelInfo, save_model
from conftest import invoke

Run = Callable[..., tuple[int, str, str]]
NUM = 30


def save_small(path: Path, names: tuple[str, ...] = CIFAR10.class_names, data: str = "cifar10", bias: float = 0.0) -> Path:
    """A model file of a very small net for CIFAR-10 that gives many classes."""
    config = resolve("resnet8-tiny", ["model={name: custom, stem_width: 4, widths: [4, 4], blocks: [1, 1]}"])
    torch.manual_seed(3)
    net = build(config.model, len(names)).eval()
    preprocessing = Preprocessing((32, 32), (0.49, 0.48, 0.45), (0.25, 0.24, 0.26))
    with torch.no_grad():
        net.head.weight.mul_(200)
        net.head.bias.add_(bias - net(preprocessing.normalize(torch.from_numpy(pixels()).permute(0, 3, 1, 2))).mean(0))
    dumped = config.dump()
    dumped["data"]["name"] = data
    info = ModelInfo(names, preprocessing, "epoch 1 of 1", "clean", dumped, "", [])
    save_model(path, config.model, net.state_dict(), info)
    return path


def pixels(num: int = NUM, seed: int = 0) -> np.ndarray:
    """uint8 (num, 32, 32, 3): coarse patches, so that images differ in more than noise."""
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (num, 4, 4, 3), dtype=np.uint8).repeat(8, 1).repeat(8, 2)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_small(tmp_path_factory.mktemp("submit") / "net.safetensors")


@pytest.mark.parametrize(("name", "words"), [("img_{}", ["img_0.png is 0, img_11.png is 11"]), ("{}", ["the pictures' names"])])
def test_ids_follow_the_numbers_in_names(model: Path, tmp_path: Path, name: str, words: list[str]) -> None:
    (tmp_path / "test").mkdir()
    for number in range(12):
        grey = Image.fromarray(np.full((32, 32, 3), number, np.uint8))
        grey.save(tmp_path / "test" / f"{name.format(number)}.png")
    found = read_unlabelled(tmp_path / "test", Preprocessing((32, 32), (0.5,) * 3, (0.5,) * 3))
    assert found.ids.tolist() == found.images[:, 0, 0, 0].tolist() and sorted(found.ids.tolist()) == list(range(12))
    assert all(word in found.ids_from for word in words)
    (tmp_path / "test" / f"{10**22}.png").write_bytes((tmp_path / "test" / f"{name.format(3)}.png").read_bytes())
    with pytest.raises(UserError, match=r"too large|named by number"):
        read_unlabelled(tmp_path / "test", Preprocessing((32, 32), (0.5,) * 3, (0.5,) * 3))


@pytest.fixture
def submit(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """`submit` of what is pickled, written as bytes, or at a path; to `submission.csv` in the test's folder."""

    def run(test: Any, *words: str, rows: int | None = NUM, net: Path = model) -> tuple[int, str, str]:
        path = test if isinstance(test, Path) else tmp_path / "cifar_test_nolabel.pkl"
        if not isinstance(test, Path):
            path.write_bytes(test if isinstance(test, bytes) else pickle.dumps(test))
        asked = [] if rows is None else ["--rows", str(rows)]
        monkeypatch.chdir(tmp_path)
        return invoke(["submit", str(net), "--test", str(path), *asked, "--device", "cpu", *words], monkeypatch, capsys)

    return run


def written(tmp_path: Path) -> list[tuple[int, int]]:
    with (tmp_path / "submission.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["ID", "Labels"]
    return [(int(row), int(label)) for row, label in rows[1:]]


def expected(model: Path, images: np.ndarray, tta: str = "none") -> list[int]:
    names = CIFAR10.class_names
    return [names.index(said.label) for said in bantamnet.load(model, "cpu").predict(images, tta=tta)]


def test_both_contests_layouts_at_their_full_size(submit: Run, model: Path, tmp_path: Path) -> None:
    images = pixels(10_000)
    ids = np.random.default_rng(1).permutation(10_000)
    labels = expected(model, images)
    assert len(set(labels)) > 5
    wanted = sorted(zip(ids.tolist(), labels, strict=True))
    rows = images.transpose(0, 3, 1, 2).reshape(10_000, 3072)
    files = {
        "2025": pickle.dumps({b"data": images, b"ids": ids}),
        "2025, protocol 5": pickle.dumps({b"data": images, b"ids": ids.astype(np.int32)}, protocol=5),
        "2024": pickle.dumps({b"data": rows, b"ids": ids.tolist()}, protocol=2),
        "2024, protocol 5": pickle.dumps({b"data": np.ascontiguousarray(rows), b"ids": ids}, protocol=5),
    }
    for name, raw in files.items():
        code, out, error = submit(raw, "--json", rows=None)
        assert code == 0, (name, error)
        told = json.loads(out)
        assert written(tmp_path) == wanted, name
        assert told["rows"] == 10_000 and told["ids"] == "the file's" and told["labels_of"] == "cifar10"
        assert [row["num"] for row in told["labels"]] == [labels.count(label) for label in range(10)]
        (tmp_path / "submission.csv").unlink()


@pytest.mark.parametrize("tta", ["none", "hflip"])
def test_arrays_folders_and_files_without_ids(submit: Run, model: Path, tmp_path: Path, tta: str) -> None:
    images = pixels()
    labels = expected(model, images, tta)
    np.save(tmp_path / "images.npy", images)
    np.save(tmp_path / "planar.npy", images.transpose(0, 3, 1, 2))
    (tmp_path / "named").mkdir()
    for index, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / "named" / f"{index}.png")  # by name, 10 comes before 2
    for test in ({b"data": images}, tmp_path / "images.npy", tmp_path / "planar.npy", tmp_path / "named"):
        code, out, _ = submit(test, "--tta", tta)
        assert code == 0 and f"{NUM} rows" in out and "the official ones of cifar10" in out
        assert written(tmp_path) == list(enumerate(labels))
        (tmp_path / "submission.csv").unlink()
    for index in range(NUM):
        (tmp_path / "named" / f"{index}.png").rename(tmp_path / "named" / f"picture {index:02}.png")
    code, out, _ = submit(tmp_path / "named", "--tta", tta)
    assert code == 0 and "in the order of the pictures' names" in out and written(tmp_path) == list(enumerate(labels))
    (tmp_path / "named" / "picture 07.png").rename(tmp_path / "named" / "7.png")
    code, _, error = submit(tmp_path / "named", "--out", "other.csv")
    assert code == 2 and "picture 00.png is not; name all of them by id, or none" in error


class Touches:
    """When it is unpickled as Python does, a file appears."""

    def __init__(self, call: object, *arguments: object) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> object:
        return self.call, self.arguments


def hostile(canary: Path) -> dict[str, tuple[Any, str]]:
    """What may not become a submission, and what is said of it."""
    images, ids = pixels(), np.arange(NUM)
    return {
        "runs a command": ({b"data": images, b"ids": Touches(os.system, f"touch {canary}")}, "nothing in it was run"),
        "runs code": ({b"data": Touches(eval, f"open({str(canary)!r}, 'w')"), b"ids": ids}, "nothing in it was run"),
        "short": ({b"data": images[:-1], b"ids": ids[:-1]}, "holds 29 images, and 30 are asked for"),
        "long": ({b"data": pixels(NUM + 1), b"ids": np.arange(NUM + 1)}, "holds 31 images, and 30 are asked for"),
        "cut": (pickle.dumps({b"data": images, b"ids": ids})[:-400], "nothing in it was run"),
        "fewer ids": ({b"data": images, b"ids": ids[:-1]}, "29 ids for 30 images"),
        "double ids": ({b"data": images, b"ids": np.where(ids == 7, 3, ids)}, "id 3 is there 2 times"),
        "ids below 0": ({b"data": images, b"ids": ids - 1}, "`ids` should be whole numbers from 0"),
        "ids are text": ({b"data": images, b"ids": [str(one) for one in ids]}, "`ids` should be whole numbers from 0"),
        "ids are fractions": ({b"data": images, b"ids": ids / 2}, "nothing in it was run"),
        "ids are yes or no": ({b"data": images, b"ids": [True] * NUM}, "`ids` should be whole numbers from 0"),
        "ids in rows": ({b"data": images, b"ids": ids[:, None]}, "`ids` should be whole numbers from 0"),
        "no ids": ({b"data": images, b"ids": None}, "`ids` should be whole numbers from 0"),
        "fractions": ({b"data": images / 255, b"ids": ids}, "an array of another kind than bytes or whole numbers"),
        "whole numbers": ({b"data": images.astype(np.int64), b"ids": ids}, "pixels should be uint8, 0 to 255, got int64"),
        "divided": ({b"data": images // 255, b"ids": ids}, "were they divided"),
        "another shape": ({b"data": images[..., :1], b"ids": ids}, "`data` should be (N, 32, 32, 3) or rows (N, 3072)"),
        "short rows": ({b"data": images.reshape(NUM, -1)[:, :-3], b"ids": ids}, "`data` should be"),
        "another size": ({b"data": images[:, :16, :16], b"ids": ids}, "images must be uint8 (N, 3, 32, 32)"),
        "one image": ({b"data": images[0], b"ids": ids[:1]}, "`data` should be"),
        "no images": ({b"data": images[:0], b"ids": ids[:0]}, "holds no images"),
        "a list": ({b"data": images[:1].tolist(), b"ids": ids[:1]}, "`data` should be an array, got list"),
        "no data": ({b"ids": ids, b"labels": [1]}, "has no `data`, but ids, labels"),
        "no dictionary": ([images, ids], "no dictionary"),
        "nothing": (b"", "nothing in it was run"),
    }  # fmt: skip


@pytest.mark.parametrize("name", hostile(Path()))
def test_hostile_files_are_refused_and_nothing_is_written(submit: Run, tmp_path: Path, name: str) -> None:
    canary = tmp_path / "canary"
    test, message = hostile(canary)[name]
    code, out, error = submit(test)
    assert code == 2 and message in error and not out
    assert [path.name for path in tmp_path.iterdir()] == ["cifar_test_nolabel.pkl"]


def test_the_attack_works_where_nobody_guards(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(hostile(tmp_path / "canary")["runs a command"][0]))
    assert (tmp_path / "canary").exists()


def test_hostile_arrays(submit: Run, tmp_path: Path) -> None:
    path, canary = tmp_path / "images.npy", tmp_path / "canary"
    np.save(path, np.array([Touches(os.system, f"touch {canary}")], dtype=object), allow_pickle=True)
    for spoil, message in (
        (lambda: None, "not an .npy file that can be read"),
        (lambda: path.write_bytes(pickle.dumps(Touches(os.system, f"touch {canary}"))), "not an .npy file that can be read"),
        (lambda: np.save(path, pixels() / np.float32(255)), "got float32"),
        (lambda: np.save(path, np.full((NUM, 32, 32, 3), np.nan)), "got float64"),
        (lambda: np.savez(path.with_suffix(""), pixels()) or path.with_suffix(".npz").rename(path), "not an .npy file"),
        (lambda: np.save(path, pixels()) or path.write_bytes(path.read_bytes()[:-9]), "not an .npy file that can be read"),
        (lambda: path.write_bytes(path.read_bytes().replace(b"(30, 32, 32, 3)", b"(9999999999, 3)")), "not an .npy file that"),
    ):
        spoil()
        code, _, error = submit(path)
        assert code == 2 and message in error, (message, error)
    assert [one.name for one in tmp_path.iterdir()] == ["images.npy"]


def test_labels_are_the_official_ones_or_none(submit: Run, tmp_path: Path) -> None:
    images = {b"data": pixels()}
    names = CIFAR10.class_names
    swapped = (names[1], names[0], *names[2:])
    for data in ("cifar10", "/pictures"):  # a folder whose classes are CIFAR-10's by name is meant to be CIFAR-10
        code, _, error = submit(images, net=save_small(tmp_path / "swapped.safetensors", swapped, data))
        assert code == 2 and "label 0 is 'automobile' to the model and 'airplane' in cifar10" in error and "2 of 10" in error
    own = save_small(tmp_path / "own.safetensors", ("b", "a", "c"), "/pictures")
    code, _, error = submit(images, "--classes", "cifar10", net=own)
    assert code == 2 and "the model has 3 classes, and cifar10 has 10" in error
    code, _, error = submit(images, "--classes", "cifar", net=own)
    assert code == 2 and "unknown data set 'cifar'; did you mean 'cifar10'" in error
    assert not (tmp_path / "submission.csv").exists()
    code, out, _ = submit(images, net=own)
    assert code == 0 and "places in the model's own list of classes" in out and len(written(tmp_path)) == NUM
    (tmp_path / "submission.csv").unlink()
    code, out, _ = submit(images, net=save_small(tmp_path / "folder.safetensors", names, "/pictures"))
    assert code == 0 and "the official ones of cifar10" in out


def test_nothing_is_overwritten_and_nothing_is_left_half_done(
    submit: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = {b"data": pixels()}
    (tmp_path / "submission.csv").write_text("mine")
    code, _, error = submit(images)
    assert code == 2 and "submission.csv exists already" in error and (tmp_path / "submission.csv").read_text() == "mine"
    (tmp_path / "submission.csv").unlink()
    code, _, error = submit(images, "--out", "nowhere/submission.csv")
    assert code == 2 and "nowhere is no folder" in error
    code, _, error = submit(images, rows=None)
    assert code == 2 and "holds 30 images, and 10,000 are asked for" in error
    code, _, error = submit(tmp_path / "missing.pkl")
    assert code == 2 and "no such file or folder" in error
    code, _, error = submit(images, net=save_small(tmp_path / "broken.safetensors", bias=float("nan")))
    assert code == 2 and "answers to 30 images are no numbers" in error

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    code, _, error = submit(images)
    assert code == 2 and "No space left" in error
    monkeypatch.undo()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken.safetensors", "cifar_test_nolabel.pkl"]
