"""The verb `explain`: pictures of where a net looks."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import bantamnet
from bantamnet.data.sources import load_digits
from bantamnet.evaluate.explain import explain
from bantamnet.report.overlay import enlarge, overlay
from bantamnet.runs.directory import RunDirectory
from conftest import invoke, tiny


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    config = tiny("device=cpu", "data.augment=''", "optim.lr=0.05", "batch_size=50")
    return bantamnet.train(config, out=tmp_path_factory.mktemp("explained") / "run")


@pytest.fixture()
def pictures(tmp_path: Path) -> Path:
    """Two folders with a picture of the same name, at a size that is not the net's."""
    for folder, index in (("a", 0), ("b", 1)):
        image = Image.fromarray(load_digits()[1].images[index].permute(1, 2, 0).numpy())
        (tmp_path / "pictures" / folder).mkdir(parents=True)
        image.resize((40, 40)).save(tmp_path / "pictures" / folder / "digit.png")
    return tmp_path / "pictures"


def test_pictures_and_test_images_are_explained(
    run: RunDirectory, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, looks = tmp_path / "out", run.evaluations.read_text()
    code, said, _ = invoke(
        ["explain", str(run.path), str(pictures), "--test", "3, 17", "--out", str(out), "--json"], monkeypatch, capsys
    )
    told = json.loads(said)["explanations"]
    assert code == 0 and [Path(row["file"]).name for row in told] == ["digit.png", "digit-2.png", "test-3.png", "test-17.png"]
    assert sorted(path.name for path in out.iterdir()) == sorted(Path(row["file"]).name for row in told)
    assert all(Image.open(row["file"]).width > 500 for row in told)
    _, test = load_digits()
    by_predict = bantamnet.load(run.path).predict(test.images[[3, 17]])
    assert [(row["class"], row["probability"]) for row in told[2:]] == [(p.label, p.probabilities[0]) for p in by_predict]
    assert [row["true"] for row in told] == [None, None, *(str(int(test.labels[row])) for row in (3, 17))]
    assert all(row["explained"] == row["class"] for row in told)
    assert run.evaluations.read_text() == looks  # no figure is made


def test_a_class_a_stage_and_a_method_can_be_named(
    run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shown = {}
    for words in (["--class", "4"], ["--class", "4", "--stage", "1"], ["--class", "4", "--method", "cam"], ["--class", "5"]):
        code, said, _ = invoke(["explain", str(run.best), "--test", "0", "--json", *words], monkeypatch, capsys)
        (row,) = json.loads(said)["explanations"]
        assert code == 0 and row["explained"] == words[1]
        shown[tuple(words)] = np.asarray(Image.open(row["file"]).convert("RGB")).astype(int)
    plain, first, cam, five = shown.values()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["explained", "explained-2", "explained-3", "explained-4"]
    assert (plain != first).any() and (plain != five).any()
    panel = np.s_[40:-40, plain.shape[1] // 2 :]
    assert np.abs(plain[panel] - cam[panel]).max() <= 3 < np.abs(plain[panel] - first[panel]).max()


def test_overlay_shows_the_heat_over_the_image(run: RunDirectory) -> None:
    classifier, image = bantamnet.load(run.path, device="cpu"), load_digits()[1].images[5]
    heat = explain(classifier.net, image[None], classifier.info.preprocessing)[0]
    laid = overlay(image, heat, 4)
    assert laid.shape == (3, 128, 128) and laid.dtype == torch.uint8
    brightness, grey = laid.double().mean(0), enlarge(image, 4).double().mean(0)
    hot = heat.repeat_interleave(4, 0).repeat_interleave(4, 1)
    assert brightness[hot > 0.9].mean() > brightness[hot < 0.1].mean() + 40
    cold = overlay(image, torch.zeros(32, 32), 4).double().mean(0)
    torch.testing.assert_close(cold, 0.4 * grey, rtol=0, atol=2)
    assert torch.equal(overlay(image, torch.ones(32, 32)), overlay(image, torch.ones(32, 32), 2)[:, ::2, ::2])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "name pictures, folders of them, or test images by number"),
        (["@/nowhere.png"], "no such file or folder"),
        (["--test", "3;4"], "takes numbers from 0, as in --test 3,17"),
        (["--test", "360"], "there are images 0 to 359; got 360"),
        (["--test", "1", "--class", "cat"], "unknown class 'cat' (valid: 0, 1, 2"),
        (["--test", "1", "--stage", "3"], "this net has stages 1 to 2"),
        (["--test", "1", "--stage", "stages.0.0.acts"], "did you mean 'stages.0.0.act'"),
        (["--test", "1", "--method", "lime"], "unknown method 'lime'"),
        (["--test", "1", "--method", "cam", "--stage", "1"], "use --method gradcam"),
        (["--test", "1", "--out", "@"], "holds something already"),
    ],
)
def test_mistakes_are_told_and_leave_nothing(
    words: list[str],
    message: str,
    run: RunDirectory,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    monkeypatch.chdir(tmp_path)
    code, said, error = invoke(
        ["explain", str(run.path), *(word.replace("@", str(tmp_path)) for word in words)], monkeypatch, capsys
    )
    assert code == 2 and message in error and not said
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
