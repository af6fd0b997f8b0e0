"""Figures against scikit-learn; evaluation, prediction and the model file against the run they come from."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, confusion_matrix, log_loss, precision_recall_fscore_support

import bantamnet
from bantamnet.data.sources import load_digits
from bantamnet.errors import UserError
from bantamnet.evaluate.calibration import calibration, fit_temperature
from bantamnet.evaluate.metrics import confusion_matrix as our_confusion
from bantamnet.evaluate.metrics import per_class, score, wilson_interval
from bantamnet.runs.directory import RunDirectory
from bantamnet.runs.tensorfile import read_header, write_tensors
from bantamnet.training import train
from conftest import invoke, tiny


def cases() -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    random = torch.randn(500, 5, generator=generator), torch.randint(0, 5, (500,), generator=generator)
    missing = torch.randn(40, 5, generator=generator), torch.randint(0, 2, (40,), generator=generator)
    one = torch.tensor([[9.0, 0, 0, 0, 0]]).repeat(7, 1), torch.full((7,), 3)
    return [random, missing, one]


@pytest.mark.parametrize("case", range(3), ids=["random", "missing classes", "one class, all wrong"])
def test_figures_are_scikit_learns(case: int) -> None:
    logits, targets = cases()[case]
    predicted, names = logits.argmax(1), tuple("abcde")
    figures = score(logits, targets)
    assert figures["accuracy"] == accuracy_score(targets, predicted) and figures["num"] == len(targets)
    assert figures["nll"] == pytest.approx(log_loss(targets, logits.double().softmax(1), labels=range(5)), rel=1e-9)
    assert (our_confusion(predicted, targets, 5).numpy() == confusion_matrix(targets, predicted, labels=range(5))).all()
    expected = precision_recall_fscore_support(targets, predicted, labels=range(5), zero_division=0)
    for index, row in enumerate(per_class(logits, targets, names)):
        ours = (row["precision"], row["recall"], row["f1"], row["num"])
        assert ours == pytest.approx([column[index] for column in expected]) and row["class"] == names[index]


@pytest.mark.parametrize(("correct", "num"), [(0, 10), (10, 10), (9406, 10_000), (1, 3)])
def test_interval_is_wilsons(correct: int, num: int) -> None:
    expected = binomtest(correct, num).proportion_ci(method="wilson")
    assert wilson_interval(correct, num) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A short run that learns something."""
    config = tiny("epochs=6", "batch_size=50", "device=cpu", "data.augment=''", "optim.lr=0.05")
    return bantamnet.train(config, out=tmp_path_factory.mktemp("evaluate") / "run")


def test_the_run_directory_holds_everything_that_is_promised(run: RunDirectory) -> None:
    names = {str(path.relative_to(run.path)) for path in run.path.rglob("*") if path.is_file()}
    assert names == {
        "config.yaml", "command.txt",
        "metrics.jsonl", "evaluations.jsonl", "summary.json", "best.safetensors", "curves.png", "confusion.png",
        "predictions/val.safetensors", "predictions/test.safetensors",
        "checkpoints/step-130.safetensors", "checkpoints/step-156.safetensors",
    }  # fmt: skip
    summary: dict[str, Any] = run.summary() or {}
    best = max(line["val_accuracy"] for line in run.epochs())
    assert summary["figures"]["val"]["accuracy"] == best == summary["chosen"]["accuracy"]
    assert summary["chosen"]["epoch"] == next(x["epoch"] for x in run.epochs() if x["val_accuracy"] == best)
    assert summary["figures"]["test"]["accuracy"] > 0.3
    assert summary["parameters"] == sum(p.numel() for p in bantamnet.load(run.path).net.parameters())
    looks = [json.loads(line) for line in run.evaluations.read_text().splitlines()]
    assert [look["why"] for look in looks] == ["final"]
    for picture in ("curves.png", "confusion.png"):
        assert min(Image.open(run.path / picture).size) > 400


def test_a_run_stopped_before_its_pictures_gets_them(run: RunDirectory) -> None:
    drawn = {name: (run.path / name).read_bytes() for name in ("curves.png", "confusion.png")}
    (run.path / "confusion.png").unlink()
    bantamnet.resume(run.path)
    assert {name: (run.path / name).read_bytes() for name in drawn} == drawn
    with pytest.raises(UserError, match="is finished"):
        bantamnet.resume(run.path)


def test_predictions_and_model_agree_with_the_summary(run: RunDirectory) -> None:
    _, test = load_digits()
    stored = run.predictions("test")
    assert torch.equal(stored["ids"], test.ids) and torch.equal(stored["targets"], test.labels)
    assert score(stored["logits"], stored["targets"])["correct"] == (run.summary() or {})["figures"]["test"]["correct"]
    classifier = bantamnet.load(run.best, device="cpu")
    torch.testing.assert_close(classifier.logits(test.images), stored["logits"], rtol=0, atol=1e-5)
    header = read_header(run.best)
    assert header["weights_digest"] == classifier.digest == (run.summary() or {})["weights_digest"]
    assert [figure["split"] for figure in header["figures"]] == ["val", "test"]
    assert all(figure["digest"] == header["weights_digest"] for figure in header["figures"])
    assert header["class_names"] == list("0123456789") and header["repeat"]["config"] == run.config().dump()


def test_evaluate_says_how_the_checkpoint_was_chosen_and_records_the_look(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = run.evaluations.read_text()
    code, out, _ = invoke(["evaluate", str(run.path), "--json"], monkeypatch, capsys)
    figures = json.loads(out)
    stored: dict[str, Any] = (run.summary() or {})["figures"]["test"]
    assert code == 0 and figures["correct"] == stored["correct"] and figures["nll"] == pytest.approx(stored["nll"], abs=1e-6)
    assert "highest validation accuracy" in figures["chosen"] and figures["label"] == "clean" and len(figures["per_class"]) == 10
    added = run.evaluations.read_text().removeprefix(before).splitlines()
    assert len(added) == 1 and json.loads(added[0])["why"] == "evaluate"
    code, out, _ = invoke(["evaluate", str(run.best), "--split", "val", "--tta", "hflip"], monkeypatch, capsys)
    assert code == 0 and "digits val:" in out and "95% interval" in out and "precision" in out
    assert run.evaluations.read_text().removeprefix(before).splitlines() == added
    run.evaluations.write_text(run.evaluations.read_text() + '{"cut": ')
    code, _, _ = invoke(["evaluate", str(run.best)], monkeypatch, capsys)
    assert code == 0 and len(run.evaluations.read_text().removeprefix(before).splitlines()) == 3


def test_hflip_averages_the_logits_of_an_image_and_its_mirror(run: RunDirectory) -> None:
    classifier = bantamnet.load(run.path, precision="fp32")
    images = load_digits()[1].images[:9]
    both = (classifier.logits(images) + classifier.logits(images.flip(3))) / 2
    torch.testing.assert_close(classifier.logits(images, tta="hflip"), both)


def test_predict_files_folders_arrays_and_csv(
    run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, test = load_digits()
    for index in range(6):
        Image.fromarray(test.images[index].permute(1, 2, 0).numpy()).save(tmp_path / f"{index}.png")
    classifier = bantamnet.load(run.path)
    from_arrays = classifier.predict(test.images[:6], top=3)
    assert classifier.predict(test.images[:6].permute(0, 2, 3, 1).numpy(), top=3) == from_arrays
    assert classifier.predict([tmp_path / f"{index}.png" for index in range(6)], top=3) == from_arrays
    logits = classifier.logits(test.images[:6])
    assert [p.label for p in from_arrays] == [str(int(n)) for n in logits.argmax(1)]
    assert from_arrays[0].probabilities[0] == pytest.approx(float(logits[0].softmax(0).max()))
    table = tmp_path / "out.csv"
    code, out, _ = invoke(
        ["predict", str(run.path), str(tmp_path), "--top", "3", "--csv", str(table), "--json"], monkeypatch, capsys
    )
    told = json.loads(out)["predictions"]
    assert code == 0 and len(told) == 18 and [row["class"] for row in told[:3]] == list(from_arrays[0].classes)
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["path"], int(row["rank"]), row["class"]) for row in rows] == [(r["path"], r["rank"], r["class"]) for r in told]
    with pytest.raises(UserError, match="uint8"):
        classifier.predict(np.zeros((2, 3, 32, 32), np.float32))


@pytest.mark.parametrize(
    "arguments",
    [
        ["runs", "@", "--json"],
        ["recipes", "--json"],
        ["recipes", "list", "--json"],
        ["recipes", "show", "quickstart", "--json"],
        ["summary", "resnet8", "--json"],
        ["summary", "resnet-variant", "--json"],
        ["summary", "@/run", "--json"],
        ["train", "quickstart", "--epochs", "1", "--out", "@/more", "--json"],
    ],
    ids=" ".join,
)
def test_json_is_one_object_and_nothing_else(
    run: RunDirectory, arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    placed = [argument.replace("@", str(run.path.parent)) for argument in arguments]
    code, out, _ = invoke(placed, monkeypatch, capsys)
    assert code == 0 and isinstance(json.loads(out), dict)


def test_python_face_trains_with_settings_and_says_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = bantamnet.train("quickstart", {"epochs": 1, "optim.lr": 0.01, "model.widths": [8, 8, 8]}, out=tmp_path / "run")
    config = made.config()
    assert config.optim[0].lr == 0.01 and config.model.widths == [8, 8, 8] and made.summary() is not None
    assert capsys.readouterr().out == ""


def test_test_images_that_are_looked_at_are_written_down(tmp_path: Path) -> None:
    config = tiny("data.val.source=test", "select=best-test", "device=cpu")
    made = train.train(config, tmp_path / "run")
    looks = [json.loads(line)["why"] for line in made.evaluations.read_text().splitlines()]
    assert looks == ["after an epoch", "after an epoch", "final"] and (made.summary() or {})["label"] == "as published"
    assert not (made.path / "predictions" / "val.safetensors").exists()


def test_warm_start_takes_the_weights_of_a_model_file(run: RunDirectory, tmp_path: Path) -> None:
    config = run.config()
    sets = {"init": str(run.best), "epochs": 1, "optim": [{**config.optim[0].model_dump(), "lr": 0.0}], "ema": None}
    again = train.train(type(config).model_validate({**config.dump(), **sets}), tmp_path / "warm")
    for (name, ours), theirs in zip(
        bantamnet.load(again.path).net.named_parameters(), bantamnet.load(run.path).net.parameters(), strict=True
    ):
        assert torch.equal(ours, theirs), name


def test_evaluate_tells_calibration_with_a_temperature_from_validation_alone(
    run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(*words: str, path: Path = run.path) -> dict[str, Any]:
        code, out, _ = invoke(["evaluate", str(path), "--json", *words], monkeypatch, capsys)
        assert code == 0
        return dict(json.loads(out)["calibration"])

    val, test = run.predictions("val"), run.predictions("test")
    temperature = fit_temperature(val["logits"], val["targets"])
    assert temperature is not None and temperature != fit_temperature(test["logits"], test["targets"])
    found = told()
    assert found.pop("temperature_from") == "fitted on 144 validation images"
    assert found == pytest.approx(calibration(test["logits"], test["targets"], temperature), rel=1e-5)
    assert "these are the images" in told("--split", "val")["temperature_from"]
    hflip = told("--tta", "hflip")
    assert hflip["temperature"] is None and "have tta none" in hflip["temperature_from"] and "ece_scaled" not in hflip
    alone = tmp_path / "alone.safetensors"
    alone.write_bytes(run.best.read_bytes())
    assert "no validation predictions" in told(path=alone)["temperature_from"]
    code, out, _ = invoke(["evaluate", str(run.path)], monkeypatch, capsys)
    assert code == 0 and f"with temperature {temperature:.3f} (fitted on 144 validation images): ECE" in out
    copied = tmp_path / "copied"
    shutil.copytree(run.path, copied)
    predictions = copied / "predictions" / "val.safetensors"
    write_tensors(predictions, val, {**read_header(predictions), "digest": "0" * 64})
    assert "of other weights" in told(path=copied)["temperature_from"]
    predictions.write_bytes(predictions.read_bytes()[:-9])
    assert "damaged" in told(path=copied)["temperature_from"]
