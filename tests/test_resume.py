"""A run that was stopped, killed or damaged ends exactly as one that was not."""

import contextlib
import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import bantamnet
from bantamnet.errors import UserError
from bantamnet.runs.directory import RunDirectory
from bantamnet.runs.tensorfile import read_tensors
from bantamnet.runtime import Ranks
from bantamnet.training import checkpoints, train
from bantamnet.training.checkpoints import NonFiniteError, list_checkpoints
from bantamnet.training.setup import prepare
from bantamnet.training.signals import Stop, Stopped
from conftest import tiny

TIMES = {"seconds", "train_seconds", "images_per_second"}
SETS = ("epochs=3", "device=cpu")
STEPS_PER_EPOCH = 7


def assert_same_run(one: Path, other: Path) -> None:
    """Every tensor of the last checkpoint, every metric and every prediction, with tolerance 0."""
    first, second = RunDirectory(one), RunDirectory(other)
    lines = [[{k: v for k, v in line.items() if k not in TIMES} for line in run.epochs()] for run in (first, second)]
    assert lines[0] == lines[1] and len(lines[0]) == 3
    states = [read_tensors(list_checkpoints(run.checkpoints)[-1]) for run in (first, second)]
    assert states[0][0].keys() == states[1][0].keys()
    for name, tensor in states[0][0].items():
        assert torch.equal(tensor, states[1][0][name]), name
    headers = [{k: v for k, v in header.items() if k != "seconds"} for _, header in states]
    assert headers[0] == headers[1]
    for split in ("val", "test"):
        for name, tensor in first.predictions(split).items():
            assert torch.equal(tensor, second.predictions(split)[name])
    summaries = [run.summary() or {} for run in (first, second)]
    assert summaries[0]["weights_digest"] == summaries[1]["weights_digest"]
    assert summaries[0]["figures"] == summaries[1]["figures"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody disturbed."""
    return train.train(tiny(*SETS), tmp_path_factory.mktemp("whole") / "run").path


class StopAfter(Stop):
    """A signal that comes after so many steps."""

    def __init__(self, run: Path, steps: int) -> None:
        super().__init__(run)
        self.steps = steps

    def requested(self, ranks: Ranks) -> bool:
        self.steps -= 1
        self.signum = signal.SIGTERM if self.steps == 0 else self.signum
        return super().requested(ranks)


@contextlib.contextmanager
def stopping_after(monkeypatch: pytest.MonkeyPatch, steps: int) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setattr(train, "listen", lambda run: contextlib.nullcontext(StopAfter(run, steps)))
        yield


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


def test_other_images_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run"
    with stopping_after(monkeypatch, 2), pytest.raises(Stopped):
        train.train(tiny(*SETS), path)
    config = path / "config.yaml"
    config.write_text(config.read_text().replace("split_seed: 0", "split_seed: 1"))
    with pytest.raises(UserError, match="other images"):
        train.resume(path)


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


def command(*arguments: str) -> subprocess.Popen[str]:
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen([sys.executable, "-m", "bantamnet", *arguments], **pipes)


def write_recipe(folder: Path, *sets: str) -> Path:
    path = folder / "tiny.yaml"
    path.write_text(json.dumps(tiny(*SETS, *sets).dump()))
    return path


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


@pytest.mark.slow
def test_killed_at_ten_random_moments(whole: Path, tmp_path: Path) -> None:
    """kill −9, each time a few steps further on, sometimes in the middle of writing a checkpoint."""
    path = tmp_path / "run"
    recipe = write_recipe(tmp_path, "checkpoint={every_steps: 1, keep: 2}")
    rng = random.Random(0)
    kills = 0
    while kills < 10:
        begun = (path / "config.yaml").exists()
        process = command("train", "--resume", str(path)) if begun else command("train", str(recipe), "--out", str(path))
        before = newest_step(path)
        wanted = before + rng.choice([1, 1, 2, 3])
        while newest_step(path) < wanted and process.poll() is None:
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.05))
        process.kill()
        output, _ = process.communicate()
        assert process.returncode == -signal.SIGKILL, output
        kills += 1
        assert newest_step(path) < 3 * STEPS_PER_EPOCH, "finished too early to be killed ten times"
    process = command("train", "--resume", str(path))
    output, _ = process.communicate()
    assert process.returncode == 0, output
    assert_same_run(whole, path)
    assert not list(path.rglob(".*.tmp"))


def newest_step(path: Path) -> int:
    saved = list_checkpoints(path / "checkpoints")
    return int(saved[-1].stem[5:]) if saved else 0
