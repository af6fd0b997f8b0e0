"""TensorBoard's event files against metrics.jsonl, whatever stopped the run; skipped where TensorBoard is not installed."""

import builtins
from pathlib import Path
from typing import Any

import pytest

from bantamnet.errors import UserError
from bantamnet.runs.directory import RunDirectory
from bantamnet.training import checkpoints, loop, train
from bantamnet.training.signals import Stopped
from bantamnet.training.tracking import tracking
from conftest import tiny
from same_run import assert_same_run, stopping_after

SETS = ("epochs=3", "device=cpu", "track=tensorboard")


def scalars(run: Path) -> dict[str, list[tuple[int, float]]]:
    """(step, value) of each tag, as TensorBoard would show them."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = accumulator.EventAccumulator(str(run / "tensorboard"))
    found.Reload()
    return {tag: [(event.step, event.value) for event in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def assert_tracked(run: Path) -> None:
    """Every number of metrics.jsonl once, and nothing else."""
    lines, shown = RunDirectory(run).epochs(), scalars(run)
    tags = {"loss/train": "train_loss", "loss/val": "val_loss", "accuracy/train": "train_accuracy"}
    tags |= {"accuracy/val": "val_accuracy", "speed/images per second": "images_per_second"}
    assert shown.keys() == {*tags, "lr/group 0"} and len(lines) == 3
    for tag, name in tags.items():
        assert shown[tag] == [(line["step"], pytest.approx(line[name], rel=1e-6)) for line in lines], tag
    assert shown["lr/group 0"] == [(line["step"], pytest.approx(line["lr"][0], rel=1e-6)) for line in lines]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("tensorboard")
    return train.train(tiny(*SETS), tmp_path_factory.mktemp("tracked") / "run").path


def test_tensorboard_shows_metrics_and_changes_none(whole: Path, tmp_path: Path) -> None:
    assert_tracked(whole)
    plain = train.train(tiny(*SETS[:2]), tmp_path / "plain").path
    assert not (plain / "tensorboard").exists()
    assert_same_run(plain, whole)


def test_a_resumed_run_shows_every_step_once(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run"
    for number, steps in enumerate((4, 10, 1)):
        with stopping_after(monkeypatch, steps), pytest.raises(Stopped):
            train.resume(path) if number else train.train(tiny(*SETS), path)
    train.resume(path)
    assert_tracked(path)
    assert_same_run(whole, path)


def test_an_epoch_that_no_checkpoint_stands_behind_is_shown_once(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped between the line of an epoch and its checkpoint, the run makes that epoch again."""
    path, calls = tmp_path / "run", []

    def save(*arguments: Any) -> Path:
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return checkpoints.save_checkpoint(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(loop, "save_checkpoint", save)
        with pytest.raises(KeyboardInterrupt):
            train.train(tiny(*SETS), path)
    assert len(RunDirectory(path).epochs()) == 2 == len(scalars(path)["loss/train"])
    train.resume(path)
    assert_tracked(path)
    assert_same_run(whole, path)


def test_what_is_missing_is_told_before_data_are_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *arguments: Any) -> Any:
        if name.startswith(("tensorboard", "torch.utils.tensorboard")):
            raise ImportError(name)
        return real(name, *arguments)

    def load(*_: object) -> None:
        raise AssertionError("data were loaded")

    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.setattr(train, "prepare", load)
    with pytest.raises(UserError, match=r"pip install 'bantamnet\[tensorboard\]'"):
        train.train(tiny(*SETS), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(UserError, match="track"):
        tiny("track=wandb")


def test_a_line_is_on_disk_when_it_has_been_taken(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    with tracking("tensorboard", RunDirectory(tmp_path)) as track:
        for step in (7, 14):
            track({"epoch": step // 7, "step": step, "lr": [0.1, 0.2], "train_loss": 1 / step})
            assert [at for at, _ in scalars(tmp_path)["loss/train"]] == [7, 14][: step // 7]
    assert scalars(tmp_path).keys() == {"loss/train", "lr/group 0", "lr/group 1"}
