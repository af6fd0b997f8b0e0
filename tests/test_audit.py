"""Each check is set off by a run or config with its fault, and not by one without; clean runs and recipes set off none."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from audit_fixtures import (
    CLEAN,
    clean,
    config,
    copied,
    epochs,
    figure,
    folder_recipe,
    imported,
    model,
    noise_picture,
    pictures,
    predictions,
    set_figure,
    summary,
)
from bantamnet.audit import CHECKS, Audit, audit, full_audit
from bantamnet.audit.claimed import difference_interval, is_share, rounds_to
from bantamnet.audit.images import near_pairs
from bantamnet.audit.model import permuted, same_views
from bantamnet.data.sources import SOURCES
from bantamnet.data.split import Split
from bantamnet.errors import UserError
from bantamnet.runs.directory import RunDirectory, append_line
from bantamnet.runs.lookup import recipe_names
from bantamnet.training.train import train
from conftest import invoke


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean run."""
    path = tmp_path_factory.mktemp("clean") / "run"
    train(clean(), path)
    return path


Make = Callable[[Path, Path], "str | Path | tuple[str, dict[str, Any]]"]


@dataclass(frozen=True)
class Case:
    """A check, what sets it off, what does not although it is near to it, and how the finding is marked."""

    check: str
    severity: str
    read: str
    bad: Make
    good: Make


def recipe(*sets: str) -> Make:
    return lambda base, to: ("quickstart", {"sets": [*CLEAN, *sets]})


def claiming(claims: str) -> Make:
    return recipe("claims={report: a report, " + claims + "}")


def run(*spoils: Any) -> Make:
    return lambda base, to: copied(base, to, *spoils)


def told(claims: dict[str, Any]) -> Make:
    """A run whose config carries claims."""
    return run(config(claims={"report": "a report", **claims}))


def logged_rates(*rates: float) -> Make:
    """A run of a level rate, whose records say otherwise."""
    return run(
        config(optim=[{"name": "sgd", "lr": 0.2}]),
        epochs(lambda lines: [line.update(lr=[lr]) for line, lr in zip(lines, rates, strict=True)]),
    )


def looked(*ways: str) -> Make:
    """A run whose test images were scored in these ways too."""
    return run(lambda run: [append_line(run.evaluations, {"why": "evaluate", "accuracy": 0.9, "tta": tta}) for tta in ways])


def batch_mean(run: RunDirectory, size: int = 32) -> dict[str, Any]:
    stored = run.predictions("test")
    right = (stored["logits"].argmax(1) == stored["targets"]).double()
    return {"accuracy": float(torch.stack([batch.mean() for batch in right.split(size)]).mean())}


def two_seeds(base: Path, to: Path) -> Path:
    path = copied(base, to)
    copied(base, to / "again", config(seed=1)).rename(to / "another")
    return path


def on_pictures(*shared: Any, **options: Any) -> Make:
    return lambda base, to: (folder_recipe(to, pictures(to / "pictures", shared)), options)


def other_light(picture: np.ndarray) -> np.ndarray:
    """Mirrored, of less contrast and other brightness."""
    return np.ascontiguousarray((picture[:, ::-1] * 0.8 + 30).astype(np.uint8))


def reset_statistics(tensors: dict[str, Any], header: dict[str, Any]) -> None:
    for name, tensor in tensors.items():
        if name.endswith("running_mean"):
            tensor.zero_()
        elif name.endswith("running_var"):
            tensor.fill_(1.0)


def slightly_other_statistics(tensors: dict[str, Any], header: dict[str, Any]) -> None:
    for name, tensor in tensors.items():
        if name.endswith("running_var"):
            tensor.mul_(1.02)


PICTURE = noise_picture(1)
RUNS = "runs: 3, accuracy: 90.5"
CASES = [
    Case(
        "rate-rises", "warning", "config",
        recipe("optim.schedule=[{name: cosine, epochs: 20, every: epoch}]", "epochs=30"),
        recipe("optim.schedule=[{name: cosine, epochs: 10}, {name: cosine, epochs: 20}]", "epochs=30"),
    ),
    Case(
        "rate-rises", "warning", "run",
        logged_rates(0.2, 0.02, 0.02, 0.2),
        logged_rates(0.2, 0.02, 0.02, 0.02),
    ),
    Case(
        "rate-minimum", "warning", "config",
        recipe("optim.schedule=[{name: warmup, epochs: 5}, {name: cosine, epochs: 50, every: epoch}]", "epochs=50"),
        recipe("optim.schedule=[{name: warmup, epochs: 5}, {name: cosine, every: epoch}]", "epochs=50"),
    ),
    Case(
        "rate-minimum", "warning", "config",
        recipe("optim.schedule=[{name: multistep, at: [20, 40]}]", "epochs=40"),
        recipe("optim.schedule=[{name: multistep, at: [20, 39]}]", "epochs=40"),
    ),
    Case(
        "rate-minimum", "warning", "config",
        recipe("optim.schedule=[{name: warmup, epochs: 5}, cosine]", "epochs=5"),
        recipe("optim.schedule=[{name: linear, steps: 205}]", "epochs=5"),
    ),
    Case(
        "rate-minimum", "note", "run",
        run(summary(lambda facts: facts.update(stopped_early={"epoch": 3}))),
        run(summary(lambda facts: facts.update(stopped_early={"epoch": 3})), config(optim=[{"name": "sgd", "lr": 0.2}])),
    ),
    Case(
        "test-selection", "error", "config",
        recipe("data.val.source=test", "select=best-test"),
        recipe("data.val.source=none", "select=last"),
    ),
    Case(
        "test-selection", "error", "config",
        recipe("data.val.source=test", "select=last", "optim.schedule=plateau"),
        recipe("select=last", "optim.schedule=plateau"),
    ),
    Case("test-selection", "note", "config", recipe("data.val.source=test", "select=last"), recipe("select=last")),
    Case(
        "test-selection", "note", "run",
        looked("hflip", "2*none + hflip(1)"),
        looked("hflip", "hflip", "hflip", "none"),
    ),
    Case(
        "augmented-validation", "error", "config",
        recipe("data.val.augment=true", "data.augment=hflip"),
        recipe("data.val.augment=true"),
    ),
    Case(
        "augmented-validation", "warning", "config",
        recipe("data.val.augment=true", "data.augment=hflip", "select=last"),
        recipe("data.augment=hflip"),
    ),
    Case(
        "warm-start", "error", "config",
        lambda base, to: copied(base, to, config(init=str(imported(to)))),
        run(),
    ),
    Case(
        "warm-start", "warning", "config",
        lambda base, to: copied(base, to, config(init=str(base / "best.safetensors"))),
        run(),
    ),
    Case(
        "warm-start", "error", "run",
        run(epochs(lambda lines: lines[0].update(train_accuracy=0.95))),
        run(epochs(lambda lines: lines[1].update(train_accuracy=0.95))),
    ),
    Case("warm-start", "error", "claim", claiming(f"{RUNS}, initial_weights: an earlier net"), run()),
    Case(
        "warm-start", "error", "claim",
        claiming(RUNS + ", milestones: {test: {1: 99}}"),
        told({"milestones": {"test": {1: 50}}}),
    ),
    Case("single-seed", "note", "run", run(), two_seeds),
    Case("single-seed", "note", "claim", claiming("runs: 1"), claiming(RUNS)),
    Case("single-seed", "warning", "claim", claiming("runs: 1, runs_told: many"), claiming(f"{RUNS}, runs_told: many")),
    Case(
        "impossible-accuracy", "error", "claim",
        claiming("accuracy: 86.968, num: 10000"),
        told({"accuracy": 94.06, "num": 5000}),
    ),
    Case(
        "impossible-accuracy", "error", "run",
        run(set_figure("test", lambda run: {"accuracy": round(figure(run, "test")["accuracy"], 2) + 0.0003})),
        run(),
    ),
    Case("impossible-accuracy", "error", "run", run(epochs(lambda lines: lines[2].update(val_accuracy=0.5001))), run()),
    Case(
        "batch-mean", "error", "run",
        run(set_figure("test", batch_mean)),
        run(set_figure("test", lambda run: batch_mean(run, 90))),
    ),
    Case("batch-mean", "error", "claim", claiming(f"{RUNS}, mean_of: batches"), told({"mean_of": "images"})),
    Case(
        "figure-source", "error", "model",
        run(model(lambda tensors, _: tensors["head.bias"].add_(1), sign=False)),
        run(model(lambda tensors, _: tensors["head.bias"].add_(1))),
    ),
    Case("figure-source", "error", "run", run(summary(lambda facts: facts["figures"]["test"].update(digest="0" * 64))), run()),
    Case("figure-source", "error", "run", run(summary(lambda facts: facts["figures"]["val"].update(correct=100))), run()),
    Case("figure-source", "error", "run", run(predictions("test", lambda _, about: about.update(digest="0" * 64))), run()),
    Case("figure-source", "error", "run", run(summary(lambda facts: facts["chosen"].update(epoch=1))), run()),
    Case(
        "figure-source", "error", "claim",
        claiming("accuracy: 92.89, logged: [92.67]"),
        told({"accuracy": 92.67, "logged": [92.67]}),
    ),
    Case(
        "figure-source", "error", "claim",
        claiming("best_epoch: 214, inference: {epoch: 200}"),
        told({"best_epoch": 200, "inference": {"epoch": 200}}),
    ),
    Case(
        "figure-source", "error", "claim",
        claiming("tta: hflip, tta_measured: false"),
        told({"tta": "hflip", "tta_measured": True}),
    ),
    Case(
        "noise", "warning", "claim",
        claiming("ablations: [{varies: depth, accuracy: 90.1, against: 90.5, num: 10000}]"),
        claiming("ablations: [{varies: depth, accuracy: 90.1, against: 91.5, num: 10000}]"),
    ),
    Case(
        "confounded-ablation", "warning", "claim",
        claiming("ablations: [{varies: depth, also: [augmentation]}]"),
        claiming("ablations: [{varies: depth}]"),
    ),
    Case(
        "description", "warning", "claim",
        claiming("told: {optim.0.lr: ['0.1', '0.02']}"),
        claiming("told: {optim.0.lr: ['0.02']}"),
    ),
    Case("description", "warning", "claim", claiming("told: {optim.0.momentum: ['0.9']}"), claiming("told: {seed: ['0']}")),
    Case("parameters", "error", "config", recipe("budget=20000"), recipe("budget=20282")),
    Case("parameters", "error", "claim", claiming("parameters: 20000"), claiming("parameters: 20282")),
    Case(
        "parameters", "error", "claim",
        claiming("parameters_told: [20.2 k]"),
        claiming("parameters_told: [20.3 k, '20,282', 0.02M]"),
    ),
    Case(
        "parameters", "error", "claim",
        claiming("fewer_parameters: [{than: resnet8, percent: 26}]"),
        claiming("fewer_parameters: [{than: resnet8, percent: 74}]"),
    ),
    Case("parameters", "error", "run", run(summary(lambda facts: facts.update(parameters=78_186))), run()),
    Case("parameters", "error", "model", run(model(lambda _, header: header.update(parameters=1))), run()),
    Case(
        "normalisation", "error", "model",
        run(model(lambda _, header: header["preprocessing"].update(std=[0.5, 0.5, 0.5]))),
        run(),
    ),
    Case(
        "normalisation", "error", "claim",
        claiming("inference: {std: [0.3, 0.3, 0.3]}"),
        claiming("inference: {std: [0.376, 0.376, 0.376]}"),
    ),
    Case("normalisation", "error", "claim", claiming("inference: {normalization: another}"), claiming("inference: {epoch: 3}")),
    Case("label-order", "error", "model", run(model(lambda _, header: header["class_names"].reverse())), run()),
    Case(
        "label-order", "error", "run",
        run(predictions("test", lambda tensors, _: tensors.update(logits=tensors["logits"].roll(1, dims=1)))),
        run(predictions("test", lambda tensors, _: tensors["logits"].neg_())),
    ),
    Case("equal-views", "warning", "config", recipe("tta=none + shift(0,0) + hflip(1)"), recipe("tta=none + hflip(1)")),
    Case("equal-views", "warning", "claim", claiming("tta: hflip(1) + vflip(1) + hflip(1)"), claiming("tta: hflip-translate")),
    Case(
        "equal-views", "warning", "run",
        run(summary(lambda facts: facts["figures"]["test"].update(tta="none + grey(1)", equal_views=[[1, 2]]))),
        run(summary(lambda facts: facts["figures"]["test"].update(tta="none + grey(1)", equal_views=[]))),
    ),
    Case(
        "replay", "error", "run",
        run(predictions("val", lambda tensors, _: tensors.update(logits=tensors["logits"].flip(0)))),
        run(),
    ),
    Case("replay", "error", "run", run(predictions("val", lambda tensors, _: tensors["targets"].add_(1).remainder_(10))), run()),
    Case("batchnorm", "warning", "model", run(model(reset_statistics)), run(model(slightly_other_statistics))),
    Case("duplicates", "error", "data", on_pictures((PICTURE, PICTURE)), on_pictures((PICTURE, noise_picture(2)))),
    Case(
        "near-duplicates", "warning", "data",
        on_pictures((PICTURE, other_light(PICTURE)), near_duplicates=True),
        on_pictures((PICTURE, noise_picture(2)), near_duplicates=True),
    ),
]  # fmt: skip


LOOKING = ("replay", "batchnorm", "duplicates", "near-duplicates")
"""Checks that look at images."""


def made(case: Case, make: Make, base: Path, to: Path) -> Audit:
    subject = make(base, to)
    name, options = subject if isinstance(subject, tuple) else (subject, {})
    return full_audit(name, use_data=case.check in LOOKING, **options)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.check}-{case.read}")
def test_a_check_is_set_off_by_its_fault_alone(case: Case, base: Path, tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "good").mkdir()
    bad, good = made(case, case.bad, base, tmp_path / "bad"), made(case, case.good, base, tmp_path / "good")
    marks = {(finding.check, finding.severity, finding.read) for finding in bad.findings}
    assert (case.check, case.severity, case.read) in marks, bad
    assert case.check not in {finding.check for finding in good.findings}, good
    assert case.check in good.passed or case.read in ("claim", "config"), good.unchecked


def test_every_check_has_its_cases() -> None:
    assert {case.check for case in CASES} | {"unverified-export"} == set(CHECKS)


def test_a_clean_run_of_one_seed_gives_just_that_note(base: Path) -> None:
    found = full_audit(base)
    assert [(one.check, one.severity, one.read) for one in found.findings] == [("single-seed", "note", "run")]
    assert {one.check for one in found.unchecked} == {
        "noise", "confounded-ablation", "description", "unverified-export", "near-duplicates"
    }  # fmt: skip
    assert audit(base) == found.findings
    model_file = full_audit(base / "best.safetensors")
    assert model_file.kind == "model file" and not model_file.findings
    assert {"figure-source", "impossible-accuracy", "batchnorm", "normalisation", "label-order"} <= set(model_file.passed)


def test_every_check_passes_finds_or_says_why_not(base: Path, tmp_path: Path) -> None:
    unfinished = copied(base, tmp_path, lambda run: (run.path / "summary.json").unlink())
    for subject in (base, base / "best.safetensors", unfinished, imported(tmp_path), "quickstart"):
        found = full_audit(subject, use_data=False)
        assert {*found.passed, *(one.check for one in found.findings), *(one.check for one in found.unchecked)} == set(CHECKS)
        assert not {*found.passed} & ({one.check for one in found.findings} | {one.check for one in found.unchecked})
        assert all(one.why for one in found.unchecked)
    why = {one.check: one.why for one in full_audit(unfinished, use_data=False).unchecked}
    assert why["single-seed"] == "the run is unfinished: it has no summary.json"
    assert why["duplicates"] == why["replay"] == "images were not to be looked at"


def test_a_damaged_model_file_is_told_and_leaves_its_checks_unmade(base: Path, tmp_path: Path) -> None:
    def damage(run: RunDirectory) -> None:
        content = bytearray(run.best.read_bytes())
        content[-5] ^= 255
        run.best.write_bytes(content)

    why = {one.check: one.why for one in full_audit(copied(base, tmp_path, damage), use_data=False).unchecked}
    assert "its checksum does not hold" in why["figure-source"] and "its checksum does not hold" in why["parameters"]


def test_images_that_are_not_here_are_not_fetched(tmp_path: Path) -> None:
    found = full_audit("resnet8-tiny", data_dir=tmp_path)
    assert "the images of cifar10 are not here (bantamnet fetch cifar10, or --data-dir)" in {one.why for one in found.unchecked}
    assert not found.findings and not any(tmp_path.iterdir())


def test_no_test_image_is_looked_at_by_the_net(base: Path, tmp_path: Path) -> None:
    path = copied(base, tmp_path)
    before = {file: file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}
    full_audit(path, near_duplicates=True)
    assert {file: file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()} == before


def test_an_exported_or_quantised_file_without_a_record_is_an_error(base: Path, tmp_path: Path) -> None:
    def export(run: RunDirectory) -> None:
        (run.path / "best.onnx").write_bytes(b"not looked into")

    def halve(tensors: dict[str, Any], header: dict[str, Any]) -> None:
        tensors["head.weight"] = tensors["head.weight"].half()

    for number, spoil in enumerate((export, model(halve))):
        found = full_audit(copied(base, tmp_path / str(number), spoil), use_data=False)
        (finding,) = [one for one in found.findings if one.check == "unverified-export"]
        assert finding.severity == "error" and ("best.onnx" if number == 0 else "float16") in finding.evidence

    def mask(tensors: dict[str, Any], header: dict[str, Any]) -> None:
        tensors["mask"], tensors["scale"] = torch.ones(3, dtype=torch.bool), torch.ones(1, dtype=torch.float64)

    for subject in (base, copied(base, tmp_path / "masked", model(mask))):
        why = {one.check: one.why for one in full_audit(subject, use_data=False).unchecked}
        assert why["unverified-export"] == "it has no quantised or exported file"


@pytest.mark.parametrize("num", [7, 360, 5000, 10_000])
def test_a_percentage_is_a_share_if_some_count_gives_it(num: int) -> None:
    """Against every count there is, rounded and cut off, to three digits."""
    for digits in (1, 2, 3):
        unit = 10**digits
        given = {round(100 * k / num * unit) for k in range(num + 1)} | {100 * k * unit // num for k in range(num + 1)}
        for value in (*range(86 * unit, 87 * unit, max(1, unit // 100)), 86_968 * unit // 1000):
            assert is_share(value / unit, num) or value not in given
            near = min(abs(100 * k / num - value / unit) for k in range(num + 1))
            assert is_share(value / unit, num) == (near < 10.0 ** -len(str(value / unit).partition(".")[2].rstrip("0")) - 1e-9)
    assert not is_share(86.968, 10_000) and is_share(94.06, 5000) and is_share(93.93, 10_000)


def test_counts_round_as_they_are_quoted() -> None:
    quotes = ["4,754,218", "4.75 M", "4.8M", "5 M", "4754k", "4.754 million", "4.75 M parameters"]
    assert all(rounds_to(4_754_218, quote) for quote in quotes)
    assert not any(rounds_to(4_754_218, quote) for quote in ("4.74 M", "4.7 M", "4755k", "many", "1.2.3 M"))


def test_the_interval_of_a_difference_holds_what_chance_makes() -> None:
    """Simulated: two samples of the same share differ by more than the half width in one of twenty cases."""
    rng = np.random.default_rng(0)
    first, second = rng.binomial(2000, 0.9, 20_000) / 2000, rng.binomial(2000, 0.9, 20_000) / 2000
    assert (abs(first - second) > difference_interval(0.9, 0.9, 2000)).mean() == pytest.approx(0.05, abs=0.01)


def test_near_duplicates_are_those_of_a_plain_comparison_of_all_pairs() -> None:
    """Against Pearson's correlation of each channel's deviations, pair by pair."""
    rng = np.random.default_rng(4)
    train = np.stack([noise_picture(number) for number in range(40)])
    test = np.stack([*(noise_picture(100 + number) for number in range(8)), *(other_light(train[n]) for n in (3, 17)), train[5]])
    noise = rng.normal(0, 1, (10, 32, 32, 3)) * np.arange(4, 24, 2).reshape(10, 1, 1, 1)
    spoilt = (train[30:40] + noise).clip(0, 255)
    test = np.concatenate([test, spoilt.astype(np.uint8), np.full((1, 32, 32, 3), 90, np.uint8)])

    def split(pictures: np.ndarray) -> Split:
        images = torch.from_numpy(pictures.transpose(0, 3, 1, 2).copy())
        return Split(images, torch.zeros(len(images), dtype=torch.int64), torch.arange(len(images)), ("a",), "")

    def correlation(first: np.ndarray, second: np.ndarray) -> float:
        first, second = (one - one.mean((0, 1)) for one in (first.astype(float), second.astype(float)))
        scale = math.sqrt((first**2).sum() * (second**2).sum())
        return float((first * second).sum() / scale) if scale else 0.0

    wanted = {}
    for row, picture in enumerate(test):
        best = max((max(correlation(picture, other), correlation(picture, other[:, ::-1])), n) for n, other in enumerate(train))
        if best[0] >= 0.95:
            wanted[row] = best[1]
    assert {3, 17, 5} < set(wanted.values()) and 6 < len(wanted) < 13, "some of the noisy ones on either side"
    assert {row: number for number, row in near_pairs(split(train), split(test))} == wanted


def test_looks_at_shifted_and_other_images_hide_no_finding(base: Path, tmp_path: Path) -> None:
    shifted = {"why": "shift", "mean_accuracy": 0.4, "tta": "none"}
    others = [{"why": "evaluate", "accuracy": 0.2, "tta": tta, "fingerprint": "other"} for tta in ("a", "b", "c")]
    looks = run(lambda run: [append_line(run.evaluations, line) for line in (shifted, *others)])
    data = {**RunDirectory(base).config().dump()["data"], "val": {"source": "test"}}
    watched = copied(base, tmp_path / "watched", config(select="last", data=data))
    for number, subject in enumerate((base, watched)):
        found = full_audit(looks(subject, tmp_path / str(number)), use_data=False)
        assert "test-selection" not in {one.check for one in found.unchecked}
        assert [one.severity for one in found.findings if one.check == "test-selection"] == ["note"] * number
    empty = copied(watched, tmp_path / "empty", lambda run: run.evaluations.write_text(""))
    assert "test-selection" in {one.check for one in full_audit(empty, use_data=False).findings}


def test_a_damaged_summary_leaves_what_reads_it_unmade(base: Path, tmp_path: Path) -> None:
    found = full_audit(copied(base, tmp_path, lambda run: (run.path / "summary.json").write_text('{"cut')), use_data=False)
    assert "cannot be read" in {one.check: one.why for one in found.unchecked}["test-selection"] and len(found.passed) > 3


def test_damaged_data_leave_checks_of_images_unmade(tmp_path: Path) -> None:
    (tmp_path / "cifar-10-binary.tar.gz").write_bytes(b"not an archive")
    found = full_audit("resnet8-tiny", tmp_path)
    assert "damaged" in {one.check: one.why for one in found.unchecked}["duplicates"] and len(found.passed) > 5


def test_another_order_of_classes_is_told_from_a_bad_net() -> None:
    targets = torch.arange(300) % 3
    moved = torch.tensor([1, 2, 0])
    order = permuted(moved[targets], targets, 3)
    assert order is not None and order.tolist() == [1, 2, 0]
    assert permuted(targets, targets, 3) is None
    assert permuted(torch.randint(0, 3, (300,), generator=torch.Generator().manual_seed(0)), targets, 3) is None
    assert permuted(torch.zeros(300, dtype=torch.int64), targets, 3) is None
    coins = torch.Generator().manual_seed(0)
    guesses = [permuted(torch.randint(0, 2, (20,), generator=coins), torch.arange(20) % 2, 2) for _ in range(500)]
    assert sum(order is not None for order in guesses) <= 5, "a coin that is tossed is no other order"


def test_the_same_views_are_found_by_what_they_do() -> None:
    assert same_views("none + hflip(1) + shift(0,0) + hflip(1)|hflip(1) + hflip(1)") == [(1, 3), (1, 4), (2, 5)]
    assert same_views("hflip-translate") == []
    assert same_views("none + autocontrast") == same_views("none + solarize(210,1)") == []
    assert same_views("shift(40,0) + shift(50,0)") == [(1, 2)] and same_views("shift(40,0) + shift(50,0)", (64, 64)) == []


def test_the_command_tells_findings_and_ends_with_their_code(
    base: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, out, _ = invoke(["audit", "dreamfire-as-published"], monkeypatch, capsys)
    assert code == 1 and "warning rate-minimum, in the config" in out and "45 of its 50 epochs" in out and "\n    → " in out
    code, out, _ = invoke(["audit", str(base), "--json"], monkeypatch, capsys)
    told = json.loads(out)
    assert code == 0 and told["counts"] == {"error": 0, "warning": 0, "note": 1} and told["findings"][0]["check"] == "single-seed"
    assert {"check": "noise", "why": "there are no `claims:`"} in told["unchecked"] and "rate-rises" in told["passed"]
    for wrong, words in (
        (["nothing.yaml"], "no such file"),
        (["resnet8"], "is a net"),
        ([str(tmp_path)], "no run directory"),
        ([str(base), "--set", "seed=1"], "--set"),
    ):
        code, _, error = invoke(["audit", *wrong], monkeypatch, capsys)
        assert code == 2 and words in error


def test_a_subject_must_be_there() -> None:
    with pytest.raises(UserError, match="unknown name 'resnet-varian'"):
        audit("resnet-varian")


DOC = (Path(__file__).parents[1] / "docs" / "audit.md").read_text(encoding="utf-8")
PUBLISHED = {
    "resnet-variant-as-published": (
        "augmented-validation error config", "confounded-ablation warning claim", "figure-source error claim",
        "normalisation error claim", "rate-rises warning config", "single-seed note claim",
    ),
    "modified-resnet-as-published": ("figure-source error claim", "single-seed note claim", "test-selection error config"),
    "improved-resnet-as-published": ("impossible-accuracy error claim", "single-seed note claim", "test-selection note config"),
    "resnet-small-initial-as-published": ("single-seed note claim", "test-selection error config", "warm-start error claim"),
    "resnet-small-as-published": (
        "description warning claim", "description warning claim", "equal-views warning claim", "figure-source error claim",
        "normalisation error claim", "parameters error claim", "single-seed note claim", "test-selection error config",
        "warm-start error claim",
    ),
    "dreamfire-as-published": (
        "batch-mean error claim", "description warning claim", "description warning claim", "figure-source error claim",
        "parameters error claim", "rate-minimum warning config", "single-seed warning claim", "test-selection error config",
    ),
}  # fmt: skip


def rows_of(block: str) -> list[list[str]]:
    """The cells of a table of the page, without quotes."""
    text = DOC.split(f"<!-- {block} -->")[1].split(f"<!-- /{block} -->")[0]
    return [[cell.strip().strip("`") for cell in line.strip("|").split(" | ")] for line in text.strip().splitlines()[2:]]


def found_in(name: str) -> tuple[str, ...]:
    return tuple(sorted(f"{one.check} {one.severity} {one.read}" for one in audit(name)))


@pytest.mark.parametrize("name", recipe_names())
def test_a_published_recipe_gives_exactly_its_faults_and_a_clean_one_none(name: str) -> None:
    assert found_in(name) == PUBLISHED.get(name, ())
    assert name.endswith("-as-published") == (name in PUBLISHED)


def test_the_page_tells_what_the_audit_finds() -> None:
    faults: dict[str, list[str]] = {}
    for recipe_name, fault, check, severity, read in rows_of("FAULTS"):
        assert fault
        faults.setdefault(recipe_name, []).append(f"{check} {severity} {read}")
    assert {recipe_name: tuple(sorted(told)) for recipe_name, told in faults.items()} == {
        name: found_in(name) for name in recipe_names() if name.endswith("-as-published")
    }


def test_the_page_tells_every_check_and_where_it_reads() -> None:
    rows = rows_of("CHECKS")
    assert [row[0] for row in rows] == list(CHECKS)
    exports = {("unverified-export", "model"), ("unverified-export", "run")}
    assert {(row[0], read) for row in rows for read in row[2].split(", ")} == {
        (case.check, case.read) for case in CASES
    } | exports


@pytest.mark.slow
@pytest.mark.cifar10
def test_near_duplicates_of_cifar10_have_equal_labels(cifar_dir: Path) -> None:
    train, test = SOURCES["cifar10"].load(cifar_dir)
    pairs = near_pairs(train, test)
    assert len(pairs) == pytest.approx(94, abs=2)
    assert all(train.labels[first] == test.labels[second] for first, second in pairs)


@pytest.mark.cifar10
def test_clean_recipes_are_clean_with_their_images_too(cifar_dir: Path) -> None:
    found = full_audit("resnet8-tiny", data_dir=cifar_dir)
    assert not found.findings and "duplicates" in found.passed
