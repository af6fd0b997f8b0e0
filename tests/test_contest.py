"""Time budgets against a clock that only the steps move, refits, and mistakes told before data are read."""

import contextlib
import json
import math
import shutil
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bantamnet
from bantamnet.config import RunConfig
from bantamnet.config.ending import parse_duration
from bantamnet.data.sources import find_source
from bantamnet.errors import UserError
from bantamnet.optim.groups import Optimizers
from bantamnet.runs.describe import list_runs
from bantamnet.runs.directory import RunDirectory
from bantamnet.runtime import Ranks
from bantamnet.training import loop, train
from bantamnet.training import setup as preparing
from bantamnet.training.pace import FEWEST_STEPS, Pace, TimeBudget
from bantamnet.training.refit import refit_config
from bantamnet.training.setup import prepare
from bantamnet.training.signals import Stopped
from conftest import invoke, tiny
from same_run import StopAfter

COSINE = "optim={name: sgd, lr: 0.1, momentum: 0.9, schedule: [{name: warmup, epochs: 1}, cosine]}"
NET = "model={name: custom, stem: imagenet, stem_width: 4, widths: [8], blocks: [1], dropout: null}"
SMALL = (NET, COSINE, "epochs=10", "batch_size=50", "data.augment=''", "device=cpu", "precision=fp32", "ema=null")
STEPS_PER_EPOCH = 26  # 1,293 images in batches of 50


class Machine:
    """A machine whose clock stands still but for training steps and scoring, which take as long as it is told."""

    def __init__(self, step_cost: Callable[[float], float], image_cost: float = 0.002) -> None:
        self.now, self.step_cost, self.image_cost = 0.0, step_cost, image_cost
        self.rates: list[tuple[int, float, float]] = []
        """(step, share of the schedule done, rate) of every step made."""

    def read(self) -> float:
        """The time, a moment later."""
        self.now += 1e-6
        return self.now

    def run(self, monkeypatch: pytest.MonkeyPatch, path: Path, config: RunConfig | None = None, stop_after: int = 0) -> Any:
        """Train into `path`, or go on there; the summary, or None where the run was stopped."""
        machine, real_prepare, real_logits, real_step = self, train.prepare, loop.split_logits, Optimizers.step

        def prepare_slow(*args: Any, **keys: Any) -> Any:
            setup, state = real_prepare(*args, **keys)

            class Slow(type(setup.task)):  # type: ignore[misc]
                def __call__(self, net: nn.Module, images: Tensor, targets: Tensor) -> Any:
                    machine.now += machine.step_cost(machine.now)
                    return super().__call__(net, images, targets)

            object.__setattr__(setup, "task", Slow(setup.task.label_smoothing))
            return setup, state

        def slow_logits(net: nn.Module, split: Any, *args: Any, **keys: Any) -> Tensor:
            machine.now += machine.image_cost * len(split)
            return real_logits(net, split, *args, **keys)

        def recording(optimizers: Optimizers, step: int) -> None:
            if optimizers.position:
                share = optimizers.position(step) / (10 * STEPS_PER_EPOCH)
                machine.rates.append((step, share, optimizers.learning_rates(step)[0]))
            real_step(optimizers, step)

        with monkeypatch.context() as patch:
            patch.setattr(time, "perf_counter", machine.read)
            patch.setattr(train, "prepare", prepare_slow)
            patch.setattr(loop, "split_logits", slow_logits)
            patch.setattr(train, "split_logits", slow_logits)
            patch.setattr(Optimizers, "step", recording)
            if stop_after:
                patch.setattr(train, "listen", lambda run: contextlib.nullcontext(StopAfter(run, stop_after)))
                with pytest.raises(Stopped):
                    train.train(config, path) if config else train.resume(path)
                return None
            return (train.train(config, path) if config else train.resume(path)).summary()


def assert_whole_schedule(machine: Machine, steps: int, biggest_jump: float) -> None:
    """Every step was made once, progress never jumped or went back, and the rate ended where the schedule ends."""
    assert [step for step, _, _ in machine.rates] == list(range(steps))
    shares = [share for _, share, _ in machine.rates] + [1.0]
    moves = [b - a for a, b in pairwise(shares)]
    assert shares[0] == 0 and min(moves) > 0 and max(moves) <= biggest_jump, max(moves)
    assert max(rate for _, _, rate in machine.rates) == pytest.approx(0.1, rel=0.05)
    assert machine.rates[-1][2] < 0.1 * 0.03


SPEEDS: dict[str, Callable[[float], float]] = {
    "steady": lambda now: 1.0,
    "half as fast from the middle": lambda now: 1.0 if now < 33 else 2.0,
    "twice as fast from the middle": lambda now: 1.0 if now < 33 else 0.5,
    "half as fast near the end": lambda now: 1.0 if now < 53 else 2.0,
    "to and fro": lambda now: 1.0 if now % 20 < 10 else 2.0,
}


@pytest.mark.parametrize("speed", SPEEDS)
def test_a_budget_is_kept_and_the_schedule_ends(speed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The clock stands at a few seconds when training begins: what is measured before is no part of the budget.
    machine = Machine(SPEEDS[speed])
    summary = machine.run(monkeypatch, tmp_path / "run", tiny(*SMALL, "time_budget=1m"))
    facts = summary["time_budget"]
    assert 53 <= facts["spent_seconds"] <= 61 and facts["budget_seconds"] == 60
    assert facts["steps"] == summary["steps"] and facts["schedule_done"] == 1 and not facts["repeatable"]
    assert_whole_schedule(machine, facts["steps"], biggest_jump=4 / facts["steps"])
    if speed == "steady":
        assert facts["planned_steps"] == pytest.approx(facts["steps"], abs=3)
    elif "from the middle" in speed:
        assert abs(facts["planned_steps"] - facts["steps"]) > 10
    assert summary["epochs"] == -(-facts["steps"] // STEPS_PER_EPOCH) == len(RunDirectory(tmp_path / "run").epochs())


def test_progress_follows_the_clock_when_the_speed_changes() -> None:
    now = [0.0]
    pace = TimeBudget(1000, 50, 4, Ranks())
    pace.begin(0, 0.0, 1.0, lambda num: (0.005, 10_000, 0))
    step = 0
    while step < pace.steps:
        now[0] += 1.0 if now[0] < 400 else 2.0
        step += 1
        before = pace.progress(step)
        pace.look(step, lambda: now[0])
        assert pace.progress(step) == before, "a new plan moves nothing"
        if step < pace.steps:
            assert pace.progress(step) == pytest.approx(now[0] / 925, abs=0.06)
    assert pace.progress(step) == 1 and 850 < now[0] <= 980


def test_scoring_has_its_time_kept_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """144 validation and 360 test images at 0.1 s are 50 of the 75 seconds; validation images are scored once."""
    machine = Machine(lambda now: 1.0, image_cost=0.1)
    facts = machine.run(monkeypatch, tmp_path / "run", tiny(*SMALL, "time_budget=75"))["time_budget"]
    assert facts["steps"] < STEPS_PER_EPOCH and 16 <= facts["steps"] <= 24
    assert facts["spent_seconds"] == pytest.approx(facts["steps"] + 50.4, abs=0.01) and facts["spent_seconds"] <= 75
    assert_whole_schedule(machine, facts["steps"], 2 / facts["steps"])


def test_scoring_is_measured_again_on_the_way() -> None:
    """It was measured at half of what it really costs; a third of the way the truth is seen, and the steps become fewer."""
    now, asked = [0.0], []

    def measure(num: int) -> tuple[float, int, int]:
        asked.append(num)
        now[0] += 0.02 * num if now[0] else 0
        return (0.02 if now[0] else 0.01), 10_000, 0

    pace = TimeBudget(1000, 50, 4, Ranks())
    pace.begin(0, 0.0, 1.0, measure)
    assert pace.steps == pytest.approx(980 - 110, abs=1)
    step = 0
    while step < pace.steps:
        now[0] += 1
        step += 1
        pace.look(step, lambda: now[0])
    assert asked == [500, 500, 500, 500] and now[0] + 200 <= 1000
    assert step == pytest.approx(980 - 220 - 30, abs=15)


def test_a_budget_shorter_than_an_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(lambda now: 4.5)
    summary = machine.run(monkeypatch, tmp_path / "run", tiny(*SMALL, "time_budget=120"))
    run = RunDirectory(tmp_path / "run")
    assert 24 <= summary["steps"] <= 25 and summary["epochs"] == 1 and summary["chosen"]["step"] == summary["steps"]
    assert [line["step"] for line in run.epochs()] == [summary["steps"]]
    assert summary["figures"]["val"]["accuracy"] == run.epochs()[0]["val_accuracy"]
    assert summary["label"] == "clean" and summary["time_budget"]["epochs"] == summary["steps"] / STEPS_PER_EPOCH
    assert list_runs(tmp_path, "name", ["name"])[0]["epochs"] == "1/1"
    (run.path / "summary.json").unlink()  # then no one knows yet how many there will be
    assert list_runs(tmp_path, "name", ["name"])[0]["epochs"] == "1/?"
    (run.path / "summary.json").write_text('{"cut')
    (row,) = list_runs(tmp_path, "name", ["name"])
    assert row["state"] == "damaged" and row["test"] is None
    for name, epochs in (("b", "30/30"), ("c", "200/200"), ("a", "5/5")):
        shutil.copytree(run.path, tmp_path / name)
        written = {**summary, "epochs": int(epochs.partition("/")[0])}
        RunDirectory(tmp_path / name).write_summary(written)
        (tmp_path / name / "metrics.jsonl").write_text('{"epoch": 1, "seconds": 1.0}\n' * written["epochs"])
    assert [row["epochs"] for row in list_runs(tmp_path, "epochs", ["epochs"])] == ["1/?", "5/5", "30/30", "200/200"]


def test_a_stall_ends_the_run_with_the_schedule_at_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(lambda now: 1.0 if now < 30 or now > 200 else 300.0)
    facts = machine.run(monkeypatch, tmp_path / "run", tiny(*SMALL, "time_budget=60"))["time_budget"]
    steps = facts["steps"]
    assert facts["spent_seconds"] > 300 and steps < 35, "nothing can bring the time back"
    assert machine.rates[-1][0] == steps - 1 and facts["schedule_done"] == 1


def test_a_resumed_budget_counts_what_was_spent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny(*SMALL, "time_budget=60")
    stops = (18, 20)  # in the first epoch and in the second
    machine = Machine(lambda now: 1.0)
    machine.run(monkeypatch, tmp_path / "run", config, stop_after=stops[0])
    first = list(machine.rates)
    machine.run(monkeypatch, tmp_path / "run", stop_after=stops[1])
    machine.now += 10_000  # between two commands
    summary = machine.run(monkeypatch, tmp_path / "run")
    facts = summary["time_budget"]
    assert machine.rates[: len(first)] == first
    assert 55 <= facts["spent_seconds"] <= 60 and 52 <= facts["steps"] <= 58
    assert_whole_schedule(machine, facts["steps"], 2 / facts["steps"])


@pytest.mark.parametrize("steps_before_the_stop", [17, STEPS_PER_EPOCH], ids=["mid-epoch", "last step of an epoch"])
def test_a_stop_at_the_planned_end_still_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps_before_the_stop: int
) -> None:
    machine = Machine(lambda now: 1.0)
    config = tiny(*SMALL, f"max_steps={steps_before_the_stop}")
    machine.run(monkeypatch, tmp_path / "run", config, stop_after=steps_before_the_stop)
    summary = machine.run(monkeypatch, tmp_path / "run")
    assert summary["steps"] == steps_before_the_stop and len(RunDirectory(tmp_path / "run").epochs()) == 1
    assert_whole_schedule(machine, steps_before_the_stop, 1.01 / steps_before_the_stop)


def test_a_budget_run_is_repeated_exactly_by_its_pace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny(*SMALL, "time_budget=45", "select=last")
    first = Machine(lambda now: 1.0 if now < 25 else 0.7).run(monkeypatch, tmp_path / "first", config)
    pace = json.loads((tmp_path / "first" / "summary.json").read_text())["time_budget"]["pace"]
    assert len(pace) > 5
    again = train.train(tiny(*SMALL, f"pace={json.dumps(pace)}", "select=last"), tmp_path / "again").summary()
    assert again and again["weights_digest"] == first["weights_digest"] and again["figures"] == first["figures"]
    assert again["time_budget"] is None
    other = train.train(tiny(*SMALL, f"max_steps={first['steps']}", "select=last"), tmp_path / "other").summary()
    assert other and other["steps"] == first["steps"] and other["weights_digest"] != first["weights_digest"]


def test_a_budget_that_leaves_no_time_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"time_budget: 11 s is too short here.*give at least (\d+)s") as refused:
        Machine(lambda now: 1.0).run(monkeypatch, tmp_path / "run", tiny(*SMALL, "time_budget=11"))
    assert not (tmp_path / "run").exists()
    enough = str(refused.value).split("give at least ")[1].split("s")[0]
    facts = Machine(lambda now: 1.0).run(monkeypatch, tmp_path / "run", tiny(*SMALL, f"time_budget={enough}"))["time_budget"]
    assert facts["steps"] >= FEWEST_STEPS - 1


def test_a_plain_pace_is_the_step_itself() -> None:
    setup, state = prepare(tiny(*SMALL), None, torch.device("cpu"), Ranks())
    assert type(state.pace) is Pace and state.pace.steps == setup.num_steps == 10 * STEPS_PER_EPOCH
    assert state.optimizers.position is None and state.pace.state() is None
    _, shrunk = prepare(tiny(*SMALL, f"max_steps={STEPS_PER_EPOCH}"), None, torch.device("cpu"), Ranks())
    for step in range(STEPS_PER_EPOCH):
        assert shrunk.optimizers.learning_rates(step) == pytest.approx(state.optimizers.learning_rates(10 * step))


def test_durations() -> None:
    known = {"90s": 90, "20m": 1200, "1h30m": 5400, "1:30:00": 5400, "20:00": 1200, "0:45": 45, "1.5h": 5400, "2min": 120, "7": 7}
    assert {text: parse_duration(text) for text in known} == known
    assert tiny("time_budget='1:30:00'").time_budget == tiny("time_budget=1:30:00").time_budget == 5400
    for text in ("", "soon", "1:3", "m", "-5s", "5s3m"):
        with pytest.raises(ValueError, match="90s, 20m, 1h30m or 1:30:00"):
            parse_duration(text)


@pytest.fixture(scope="module")
def validated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four epochs, of which validation chose the third."""
    real = loop.validate

    def validate(setup: Any, state: Any, epoch: int, progress: Any) -> Any:
        figures, logits = real(setup, state, epoch, progress)
        return {**figures, "accuracy": (0.1, 0.2, 0.9, 0.3)[epoch]}, logits

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "validate", validate)
        return train.train(tiny(*SMALL, "epochs=4", "optim.lr=0.3"), tmp_path_factory.mktemp("validated") / "run").path


def test_a_refit_trains_on_everything_for_as_long_as_validation_chose(validated: Path, tmp_path: Path) -> None:
    summary = RunDirectory(validated).summary() or {}
    config = refit_config(validated, seed=3)
    chosen = summary["chosen"]["epoch"]
    assert chosen == 3
    assert (config.epochs, config.seed, config.select, config.data.val.source, config.label) == (
        chosen,
        3,
        "last",
        "none",
        "final",
    )
    assert config.optim == RunDirectory(validated).config().optim and refit_config(validated).seed == 0
    again = train.train(config, tmp_path / "refit").summary() or {}
    steps = 29 * chosen  # 1,437 images in batches of 50; 1,293 were 26
    assert again["steps"] == steps and again["epochs"] == chosen and again["data"]["train"]["num"] == 1437
    assert again["label"] == "final" and set(again["figures"]) == {"test"}
    origin = again["refit_of"]
    assert origin["run"] == str(validated) and origin["weights_digest"] == summary["weights_digest"]
    assert (origin["epoch"], origin["epochs"], origin["step"], origin["seed"]) == (chosen, 4, 26 * chosen, 0)
    assert (origin["val_accuracy"], origin["val_num"]) == (summary["figures"]["val"]["accuracy"], 144)
    assert RunDirectory(tmp_path / "refit").config().refit_of == config.refit_of
    # The schedule that follows the epochs ends with them.
    last = RunDirectory(tmp_path / "refit").epochs()[-1]
    share = (steps - 1 - 29) / (steps - 29)
    assert last["lr"][0] == pytest.approx(0.15 * (1 + math.cos(math.pi * share)))


def test_refit_on_the_command_line(
    validated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = invoke(["train", "--refit", str(validated), "--seed", "1"], monkeypatch, capsys)
    assert code == 0, err
    assert (tmp_path / "runs" / "quickstart-refit" / "best.safetensors").exists()
    assert "validation images, now trained on too" in out and "refit  of" in out and "label  final" in out
    for extra in (["quickstart"], ["--epochs", "3"], ["--set", "ema=0.9"], ["--time-budget", "3m"], ["--resume", str(validated)]):
        code, _, err = invoke(["train", "--refit", str(validated), *extra], monkeypatch, capsys)
        assert code == 2 and "--refit" in err


def test_a_budget_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "small.yaml"
    recipe.write_text(json.dumps(tiny(*SMALL).dump()))
    out = tmp_path / "run"
    code, told, err = invoke(["train", str(recipe), "--time-budget", "5s", "--out", str(out)], monkeypatch, capsys)
    facts = (RunDirectory(out).summary() or {})["time_budget"]
    assert code == 0, err
    assert facts["budget_seconds"] == 5 and facts["schedule_done"] == 1
    assert "time budget 0:05" in told and f"of 5 s; {facts['steps']:,} steps" in told and "a second run would differ" in told
    assert "a time budget of 5 s set the number of steps" in bantamnet.load(out).info.chosen
    code, _, err = invoke(["train", str(recipe), "--time-budget", "soon"], monkeypatch, capsys)
    assert code == 2 and "1h30m" in err


def test_a_refit_of_a_run_that_was_to_stop_early_can_be_read_back(tmp_path: Path) -> None:
    run = train.train(tiny(*SMALL, "early_stop.patience=1", "epochs=1"), tmp_path / "run")
    again = train.train(refit_config(run.path), tmp_path / "refit")
    assert again.config().early_stop is None and (again.summary() or {})["label"] == "final"


def test_a_refit_has_nothing_to_add_where_validation_images_have_a_folder(tmp_path: Path) -> None:
    for part in ("train", "val", "test"):
        for name in ("a", "b"):
            (tmp_path / "set" / part / name).mkdir(parents=True)
            (tmp_path / "set" / part / name / "x.png").touch()
    RunDirectory.create(tmp_path / "run", tiny(*SMALL, f"data.name={tmp_path / 'set'}"))
    with pytest.raises(UserError, match=r"val/ of its own.*move them into train/"):
        refit_config(tmp_path / "run")


def test_a_budgets_facts_are_those_of_the_steps_that_were_made(tmp_path: Path) -> None:
    """Validation accuracy does not rise at this rate, so the run ends early, with most of its budget left."""
    sets = ("time_budget=60", "early_stop.patience=1", "optim.lr=1e-9")
    summary = train.train(tiny(*SMALL, *sets), tmp_path / "run").summary() or {}
    facts = summary["time_budget"]
    assert summary["stopped_early"] and facts["steps"] == summary["steps"] and facts["epochs"] == facts["steps"] / 26
    assert facts["schedule_done"] == pytest.approx(summary["stopped_early"]["schedule_done"]) and facts["schedule_done"] < 0.9


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        (["select=last"], "validation chose no epoch"),
        (["data.val.source=none", "select=last"], "trained on all images already"),
        (["data.val.source=test", "select=best-test"], "test images chose"),
        (["data.val.augment=true"], "augmented images chose"),
        (["optim.schedule=plateau"], "plateau.*optim.schedule=cosine"),
        (["max_steps=9"], "ended by time or steps.*data.val.source=none"),
        ([], "unfinished; go on with it first: bantamnet train --resume"),
    ],
)
def test_runs_that_cannot_be_refitted(tmp_path: Path, sets: list[str], words: str) -> None:
    RunDirectory.create(tmp_path / "run", tiny(*SMALL, *sets))
    with pytest.raises(UserError, match=words):
        refit_config(tmp_path / "run")


EARLY = [
    (["data.val.count=1437"], "data.val.count: 1437 of 1437 training images cannot be held out; give 1 to 1436"),
    (["drop_last=true", "batch_size=1294"], "batch_size: 1294 is more than the 1293 training images"),
    (["optim=[{name: sgd, lr: 0.1}, {match: 'head.*', name: sgd, lr: 1}]"], "optim.1.match: 'head.*' leaves it no parameter"),
    (["optim.match=stem.*"], "no group matches"),
    (["init=gone.safetensors"], "gone.safetensors"),
    (["init=@model", "model={name: resnet8}"], "is another net than resnet8"),
    (["model.widths=[9000]", "budget=fly"], "over the budget"),
    (
        ["model={name: airbench94}", "budget=light", "progressive_resizing=[{scale: 0.25, until: 0.5}]"],
        "pictures of 8 × 8 are too small for airbench94; make the scale 0.25 of progressive_resizing larger",
    ),
]


@pytest.mark.parametrize(("sets", "words"), EARLY)
def test_mistakes_are_told_before_data_are_read(
    validated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sets: list[str], words: str
) -> None:
    def read(*_: Any) -> None:
        raise AssertionError("data are read")

    monkeypatch.setattr(preparing, "load_parts", read)
    sets = [each.replace("@model", str(validated / "best.safetensors")) for each in sets]
    with pytest.raises(UserError) as told:
        train.train(tiny(*SMALL, *sets), tmp_path / "run")
    assert words in str(told.value)
    with pytest.raises(AssertionError, match="data are read"):
        train.train(tiny(*SMALL, "data.val.count=1436"), tmp_path / "run")


def test_known_sizes_are_those_of_the_data(cifar_dir: Path) -> None:
    for name in ("digits", "cifar10"):
        source = find_source(name)
        assert len(source.load(cifar_dir)[0]) == source.num_train


@pytest.mark.parametrize(
    "key",
    ["epochs", "seed", "optim.lr", "ema", "checkpoint.keep", "data.val.count", "optim.schedule.0.epochs", "max_steps", "budget"],
)
@pytest.mark.parametrize("value", ["true", "false"])
def test_true_and_false_are_no_numbers(key: str, value: str) -> None:
    with pytest.raises(UserError, match=rf"{key}.*'{value}'"):
        tiny(*SMALL, f"{key}={value}")


def test_true_and_false_stay_words_for_switches() -> None:
    config = tiny("optim.nesterov=true", "drop_last=true", "optim.decay_norm_bias=false", "data.val.augment=false")
    assert config.optim[0].nesterov is True and config.drop_last is True
    with pytest.raises(UserError, match=r"model\.widths\.1: .*'true'"):
        tiny("model.widths=[8, true]")
