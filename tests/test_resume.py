"""A run that was stopped, killed or damaged ends exactly as one that was not."""

import signal
import time
from pathlib import Path

import pytest
import torch

import bantamnet
from bantamnet.errors import NonFiniteError, UserError
from bantamnet.runs.directory import RunDirectory
from bantamnet.runs.tensorfile import read_tensors
from bantamnet.runtime import Ranks
from bantamnet.training import checkpoints, train
from bantamnet.training.checkpoints import list_checkpoints
from bantamnet.training.setup import prepare
from bantamnet.training.signals import Stopped
from conftest import tiny
from same_run import SETS, assert_same_run, command, stopping_after, write_recipe

STEPS_PER_EPOCH = 7


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody disturbed."""
    return train.train(tiny(*SETS), tmp_path_factory.mktemp("whole") / "run").path


@pytest.mark.parametrize(
    "stops",
    [(1,), (STEPS_PER_EPOCH,), (STEPS_PER_EPOCH + 1,), (4,), (10, 3), (1, 1, 1, 6, 2)],
    ids=["step 1", "last step of an epoch", "end of an epoch", "mid-epoch", "twice", "five times"],
)
def test_stopped_and_resumed(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stops: tuple[int, ...]) -> None:
    path = tmp_path / "run"
    for number, steps in enumerate(stops):
        with stopping_after(monkeypatch, steps), pytest.raises(Stopped, match=f"bantamnet train --resume {path}"):
            torch.manual_seed(number)  # whatever the process did before must not matter
            train.resume(path) if number else train.train(tiny(*SETS), path)
    train.resume(path)
    assert_same_run(whole, path)


def test_a_checkpoint_every_few_steps_changes_nothing(whole: Path, tmp_path: Path) -> None:
    run = train.train(tiny(*SETS, "checkpoint={every_steps: 3, keep: 4}"), tmp_path / "run")
    assert [path.name for path in list_checkpoints(run.checkpoints)] == [f"step-{n}.safetensors" for n in (14, 15, 18, 21)]
    assert_same_run(whole, run.path)


def test_checkpoints_are_an_interval_apart_but_for_the_last_and_one_of_a_stop(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run"
    with stopping_after(monkeypatch, 2 * STEPS_PER_EPOCH + 2), pytest.raises(Stopped):
        train.train(tiny(*SETS, "checkpoint={min_interval: 1h, keep: 9}"), path)
    stopped = [f"step-{2 * STEPS_PER_EPOCH}.safetensors"]  # it is asked after each step and each epoch
    assert [each.name for each in list_checkpoints(path / "checkpoints")] == stopped
    train.resume(path)
    assert [each.name for each in list_checkpoints(path / "checkpoints")] == [*stopped, "step-21.safetensors"]
    assert_same_run(whole, path)


def test_a_damaged_checkpoint_is_passed_over(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run"
    with stopping_after(monkeypatch, 17), pytest.raises(Stopped):
        train.train(tiny(*SETS), path)
    newest = list_checkpoints(path / "checkpoints")[-1]
    content = bytearray(newest.read_bytes())
    content[-100] ^= 1
    newest.write_bytes(content)
    (path / "checkpoints" / "step-99.safetensors").write_bytes(content[: len(content) // 2])
    train.resume(path)
    assert_same_run(whole, path)
    assert {p.name for p in path.rglob("*.damaged")} == {newest.with_suffix(".damaged").name, "step-99.damaged"}


def test_a_warm_start_is_resumed_without_its_model_file(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start = tmp_path / "start.safetensors"
    start.write_bytes((whole / "best.safetensors").read_bytes())
    sets = (*SETS, f"init={start}")
    undisturbed = train.train(tiny(*sets), tmp_path / "whole").path
    with stopping_after(monkeypatch, 9), pytest.raises(Stopped):
        train.train(tiny(*sets), tmp_path / "run")
    start.unlink()
    train.resume(tmp_path / "run")
    assert_same_run(undisturbed, tmp_path / "run")


def test_nothing_is_drawn_from_the_global_generator(whole: Path, tmp_path: Path) -> None:
    torch.manual_seed(1234)
    torch.rand(77)
    assert_same_run(whole, train.train(tiny(*SETS), tmp_path / "run").path)


def test_a_finished_run_is_not_resumed(whole: Path) -> None:
    with pytest.raises(UserError, match="is finished"):
        train.resume(whole)


def test_a_loss_that_is_not_finite_names_the_step_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    # The rate is sound for the first epoch and enormous afterwards.
    schedule = "[{name: warmup, epochs: 1, start: 1}, {name: multistep, at: [1.0e-9], factor: 1.0e+30}]"
    with pytest.raises(NonFiniteError, match=r"at step (8|9); the last good checkpoint is .*step-7\.safetensors"):
        train.train(tiny(*SETS, f"optim.schedule={schedule}", "precision=fp32"), tmp_path / "run")
    tensors, header = read_tensors(tmp_path / "run" / "checkpoints" / "step-7.safetensors")
    assert header["epochs_done"] == 1 and all(t.isfinite().all() for t in tensors.values() if t.is_floating_point())


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    setup, state = prepare(tiny(*SETS), None, torch.device("cpu"), Ranks())
    assert checkpoints.save_checkpoint(tmp_path, setup, state).exists()
    state.step = 1
    with torch.no_grad():
        state.net.head.bias[3] = torch.nan
    with pytest.raises(NonFiniteError, match="weight is NaN"):
        checkpoints.save_checkpoint(tmp_path, setup, state)
    assert [path.name for path in tmp_path.iterdir()] == ["step-0.safetensors"]


@pytest.mark.parametrize("optim", ["{name: adam, lr: 0.01, schedule: {name: plateau, patience: 0}}", "{name: adamw, lr: 0.01}"])
def test_adam_and_plateau_survive_a_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, optim: str) -> None:
    sets = (*SETS, f"optim={optim}", "ema=null")
    whole = train.train(tiny(*sets), tmp_path / "whole").path
    with stopping_after(monkeypatch, 10), pytest.raises(Stopped):
        train.train(tiny(*sets), tmp_path / "run")
    assert bantamnet.load(tmp_path / "run").info.chosen.startswith("epoch 1 of 3")
    train.resume(tmp_path / "run")
    assert_same_run(whole, tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_finishes_the_step_and_saves(whole: Path, tmp_path: Path, signum: signal.Signals) -> None:
    path = tmp_path / "run"
    process = command("train", str(write_recipe(tmp_path)), "--out", str(path))
    while not list_checkpoints(path / "checkpoints"):
        assert process.poll() is None
        time.sleep(0.002)
    process.send_signal(signum)
    output, _ = process.communicate()
    assert process.returncode == 128 + signum, output
    assert f"go on with: bantamnet train --resume {path}" in output and "Traceback" not in output
    again = command("train", "--resume", str(path))
    output, _ = again.communicate()
    assert again.returncode == 0, output
    assert_same_run(whole, path)
    recorded = (RunDirectory(path).summary() or {})["command"]
    assert recorded == f"bantamnet train {tmp_path / 'tiny.yaml'} --out {path}"
