"""The verb `data`: its figures against plain counting, its contact sheet, and wrong use of folders."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bantamnet.data.facts import duplicates, inspect
from bantamnet.data.listener import Listener
from bantamnet.data.sources import load_digits
from bantamnet.data.split import Split, canonical
from bantamnet.report.contact import COLUMNS, GAP, contact_sheet
from bantamnet.runs.lookup import resolve_data
from conftest import invoke


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BANTAMNET_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder `pictures`: 12 of class a and 4 of b in train, 3 of each in test, two duplicates, shapes of two kinds."""
    rng = np.random.default_rng(0)
    for part, name, num in (("train", "a", 12), ("train", "b", 4), ("test", "a", 3), ("test", "b", 3)):
        folder = tmp_path / "pictures" / part / name
        folder.mkdir(parents=True)
        for number in range(num):
            shape = (20, 40, 3) if number % 3 else (33, 32, 3)
            Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(folder / f"{number}.png")
    pictures = tmp_path / "pictures"
    (pictures / "test" / "a" / "0.png").write_bytes((pictures / "train" / "a" / "5.png").read_bytes())
    (pictures / "train" / "b" / "0.png").write_bytes((pictures / "train" / "a" / "6.png").read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_verb_tells_counts_sizes_fingerprints_and_duplicates(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = invoke(["data", "pictures", "--json"], monkeypatch, capsys)
    assert code == 0, err
    facts = json.loads(out)
    assert {name: split["per_class"] for name, split in facts["splits"].items()} == {"train": [12, 4], "test": [3, 3]}
    assert facts["imbalance"] == 3 and facts["size"] == [32, 32]
    sizes = Counter(Image.open(path).size[::-1] for path in place.rglob("pictures/*/*/*.png"))
    assert facts["original_sizes"]["commonest"] == [20, 40] and facts["original_sizes"]["commonest_share"] == sizes[20, 40] / 22
    assert facts["original_sizes"]["min"] == [20, 32] and facts["original_sizes"]["max"] == [33, 40]
    found = facts["duplicates"]
    assert found["inside"] == {"train": 1, "test": 0} and found["conflicting"] == 1
    assert found["across"] == [{"splits": ["train", "test"], "num": 1}]
    assert {frozenset(group) for group in found["examples"]} == {
        frozenset({"train/a/5.png", "test/a/0.png"}),
        frozenset({"train/a/6.png", "train/b/0.png"}),
    }
    facts_again, splits = inspect(resolve_data("./pictures"), None, Listener())
    assert facts_again["splits"]["train"]["fingerprint"] == facts["splits"]["train"]["fingerprint"]
    pixels = splits["train"].gather(torch.arange(16)).double() / 255
    np.testing.assert_allclose(facts["mean"], pixels.mean((0, 2, 3)), rtol=1e-9)
    np.testing.assert_allclose(facts["std"], pixels.std((0, 2, 3), correction=0), rtol=1e-9)
    code, out, _ = invoke(["data", "./pictures"], monkeypatch, capsys)
    assert code == 0 and "imbalance    3.00" in out and "train/a/6.png = train/b/0.png" in out
    assert facts["contact_sheet"] == "pictures-contact.png" and "pictures-contact-2.png" in out
    for sheet in (place / "pictures-contact.png", place / "pictures-contact-2.png"):
        assert Image.open(sheet).format == "PNG"


def test_duplicates_are_those_of_a_plain_comparison() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 2, (120, 3, 1, 2), dtype=np.uint8)
    first = canonical(images[:80], rng.integers(0, 2, 80), ("a", "b"))
    second = canonical(images[80:], rng.integers(0, 2, 40), ("a", "b"))
    found = duplicates({"train": first, "test": second})

    def contents(split: Split) -> list[bytes]:
        return [image.numpy().tobytes() for image in split.gather(torch.arange(len(split)))]

    train, test = contents(first), contents(second)
    assert found["inside"] == {"train": 80 - len(set(train)), "test": 40 - len(set(test))}
    assert found["across"][0]["num"] == sum(image in set(train) for image in test)
    labels: dict[bytes, set[int]] = {}
    for split, said in ((first, train), (second, test)):
        for image, label in zip(said, split.labels.tolist(), strict=True):
            labels.setdefault(image, set()).add(label)
    assert found["conflicting"] == sum(len(known) > 1 for known in labels.values()) > 0


def test_the_contact_sheet_shows_images_of_each_class_in_its_row() -> None:
    train, _ = load_digits()
    figure = contact_sheet(train, "digits $5")
    (axes,) = figure.axes
    canvas = np.asarray(axes.images[0].get_array())
    assert canvas.shape == (10 * (32 + GAP) + GAP, COLUMNS * (32 + GAP) + GAP, 3)
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == [f"{name}  {int((train.labels == index).sum()):,}" for index, name in enumerate(train.class_names)]
    for row in range(10):
        own = {image.numpy().tobytes() for image in train.gather((train.labels == row).nonzero()[:, 0])}
        top = GAP + row * (32 + GAP)
        shown = [canvas[top : top + 32, GAP + c * (32 + GAP) :][:, :32].transpose(2, 0, 1).tobytes() for c in range(COLUMNS)]
        assert len(set(shown)) == COLUMNS and set(shown) <= own


def test_many_classes_and_few_images_fit_on_a_sheet() -> None:
    labels = np.arange(50)
    split = canonical(np.random.default_rng(0).integers(0, 256, (50, 3, 9, 8), dtype=np.uint8), labels, tuple(map(str, labels)))
    figure = contact_sheet(split, "many")
    assert len(figure.axes[0].get_yticklabels()) == 40 and "10 further classes not shown" in figure.axes[0].get_title()


# (arguments, words that the message must hold)
WRONG: list[tuple[str, list[str]]] = [
    ("data nothing", ["data.name: unknown data set 'nothing'", "digits", "./pictures"]),
    ("data ./nothing", ["nothing: no such folder", "cifar10"]),
    ("data digits --size 64", ["data: size is for folders of pictures", "digits has its own"]),
    ("data pictures --size 4", ["data.size: input should be greater than or equal to 8"]),
    ("data pictures --resize crp", ["data.resize: unknown value 'crp'", "did you mean 'crop'"]),
    ("data pictures --out taken.png", ["taken.png exists already"]),
    ("data pictures --out gone/sheet.png", ["--out: cannot write gone/sheet.png"]),
    ("data flat", ["flat: no pictures in class folders"]),
    ("data lone", ["one class alone (a)"]),
    ("data strange", ["train has no pictures of 1 classes: test/c"]),
    ("data broken", ["1 of 5 pictures cannot be read", "\n  b/x.png: the file is empty", "--skip-bad"]),
    ("train quickstart --data ./gone", ["gone: no such folder"]),
    ("train quickstart --data gone", ["unknown data set 'gone'"]),
    ("train quickstart --data broken", ["b/x.png: the file is empty"]),
    ("train quickstart --data tiny --set data.test.share=0.01", ["data.test.share: 0.01 of 4 pictures"]),
    ("train quickstart --data tiny --set data.val.count=3 --json", ["data.val.count: 3 of 3 training images"]),
    ("train quickstart --data tiny --set data.val.count=2 --json", ["no training images are left of 1 classes"]),
    ("train quickstart --data pictures --set data.balance=sample", ["data.balance: unknown value 'sample'", "'sampler'"]),
    ("train quickstart --data pictures --set data.keep=disk", ["data.keep: unknown value 'disk'", "memory"]),
    ("train quickstart --set data.test.share=1", ["data.test.share: input should be less than 1"]),
    ("train quickstart --set data.test.shre=1", ["data.test: unknown key 'shre'", "did you mean 'share'"]),
]


@pytest.fixture(scope="module")
def wrong_place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wrong")
    files = ["flat/x.png", "lone/a/x.png", "strange/train/a/x.png", "strange/train/b/x.png", "strange/test/c/x.png", "taken.png"]
    files += [f"{name}/{c}/{n}.png" for name in ("pictures", "broken", "tiny") for c in "ab" for n in range(2)]
    for number, name in enumerate(files):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 9), (number, 3, 200)).save(folder / name)
    (folder / "broken" / "b" / "x.png").touch()
    return folder


@pytest.mark.parametrize(("arguments", "words"), WRONG, ids=[arguments for arguments, _ in WRONG])
def test_wrong_use_of_folders(
    wrong_place: Path, arguments: str, words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(wrong_place)
    before = sorted(str(path) for path in wrong_place.rglob("*"))
    code, out, err = invoke(arguments.split(), monkeypatch, capsys)
    assert code == 2 and not out, (out, err)
    assert sorted(str(path) for path in wrong_place.rglob("*")) == before
    for word in words:
        assert word in err, err
