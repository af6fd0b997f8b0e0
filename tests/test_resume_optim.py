"""Muon, Lookahead, SAM, averages and early stopping: a run that was stopped ends exactly as one that was not."""

from pathlib import Path

import pytest

import bantamnet
from bantamnet.configfile import read_yaml, write_yaml
from bantamnet.runs.directory import RunDirectory
from bantamnet.runs.tensorfile import read_tensors, write_tensors
from bantamnet.training import train
from bantamnet.training.checkpoints import list_checkpoints
from bantamnet.training.signals import Stopped
from conftest import tiny
from same_run import SETS, assert_same_run, stopping_after

STEPS_PER_EPOCH = 7
MUON = "[{name: muon, match: '@convs', lr: 0.02, lookahead: {k: 4}}, {name: sgd, lr: 0.1, momentum: 0.9, lookahead: {k: 6}}]"
EARLY = ("epochs=9", "early_stop={patience: 2, min_delta: 0.9}")


@pytest.mark.parametrize(
    "sets",
    [
        (f"optim={MUON}", "ema=null", "swa={start: 0.34}", "select=last"),
        ("sam={rho: 0.1}", "clip_norm=1.0", "ema={decay: 0.9, buffers: average, warmup: false}"),
        ("sam={rho: 1.0, adaptive: true}", *EARLY, "optim.lookahead={k: 4}", "optim.schedule=one-cycle"),
    ],
    ids=["muon, lookahead, swa", "sam, ema", "asam, early stop"],
)
def test_all_that_training_remembers_survives_two_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sets: tuple[str, ...]
) -> None:
    """In the middle of Lookahead's steps, between SWA's first and second epoch, while early stopping counts."""
    whole = train.train(tiny(*SETS, *sets), tmp_path / "whole").path
    for number, steps in enumerate((10, 7)):
        with stopping_after(monkeypatch, steps), pytest.raises(Stopped):
            train.resume(tmp_path / "run") if number else train.train(tiny(*SETS, *sets), tmp_path / "run")
    assert list_checkpoints(tmp_path / "run" / "checkpoints")[-1].stem == "step-15"
    train.resume(tmp_path / "run")
    assert_same_run(whole, tmp_path / "run")


def test_a_run_asked_to_stop_where_it_ends_early_goes_no_further(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sets = (*SETS, *EARLY, "select=last")
    whole = train.train(tiny(*sets), tmp_path / "whole")
    with stopping_after(monkeypatch, 3 * (STEPS_PER_EPOCH + 1)), pytest.raises(Stopped):
        train.train(tiny(*sets), tmp_path / "run")
    train.resume(tmp_path / "run")
    assert_same_run(whole.path, tmp_path / "run")
    for run in (whole, RunDirectory(tmp_path / "run")):
        summary = run.summary() or {}
        assert summary["steps"] == 3 * STEPS_PER_EPOCH and summary["chosen"]["epoch"] == 3
        early = summary["stopped_early"]
        assert (early["epoch"], early["of"], early["schedule_done"]) == (3, 9, pytest.approx(1 / 3))
        assert "had not risen for 2 epochs; the learning rate had gone 33% of its schedule" in early["note"]
        assert [line.get("stopped_early", False) for line in run.epochs()] == [False, False, True]
        assert bantamnet.load(run.path).info.chosen == "epoch 3 of 9: last epoch; stopped early after epoch 3"


def test_a_checkpoint_of_before_a_key_came_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then `ema` was a number, and neither run nor checkpoint knew of SWA, SAM and Lookahead."""
    whole = train.train(tiny(*SETS), tmp_path / "whole").path
    run = RunDirectory(tmp_path / "run")
    with stopping_after(monkeypatch, 9), pytest.raises(Stopped):
        train.train(tiny(*SETS), run.path)
    newest = list_checkpoints(run.checkpoints)[-1]
    tensors, header = read_tensors(newest)
    tree = read_yaml(run.path / "config.yaml")
    for keys in (header["identity"], tree):
        keys["ema"] = keys["ema"]["decay"]
        for key in ("sam", "swa", "early_stop", "clip_norm"):
            assert keys.pop(key) is None
        assert keys["optim"][0].pop("lookahead") is None
    write_tensors(newest, tensors, {key: value for key, value in header.items() if key not in ("num_averaged", "early_stop")})
    (run.path / "config.yaml").write_text(write_yaml(tree))
    train.resume(run.path)
    assert_same_run(whole, run.path)
