"""Progressive resizing and the freezing of what has come to its end, against the slow way to say the same."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from bantamnet.config import Smaller
from bantamnet.optim.groups import Optimizers
from bantamnet.optim.schedules import LearningRate
from bantamnet.runs.modelfile import load_model
from bantamnet.runtime import Ranks
from bantamnet.training import train
from bantamnet.training.pace import TimeBudget
from bantamnet.training.resizing import Resizing
from bantamnet.training.setup import prepare
from bantamnet.training.signals import Stopped
from conftest import invoke, tiny
from same_run import SETS, assert_same_run, stopping_after

STRETCHES = [Smaller(scale=0.5, until=0.25), Smaller(scale=0.75, until=0.6)]
PLAN = "progressive_resizing=[{scale: 0.5, until: 0.25}, {scale: 0.75, until: 0.6}]"


def test_small_pictures_are_pillows() -> None:
    images = torch.randn(4, 3, 32, 24, generator=torch.Generator().manual_seed(0))
    small = Resizing(STRETCHES).apply(images, 0.3)
    assert small.shape == (4, 3, 24, 18)
    for image, found in zip(images, small, strict=True):
        for channel, wanted in zip(image, found, strict=True):
            pillow = Image.fromarray(channel.numpy()).resize((18, 24), Image.Resampling.BILINEAR)
            assert torch.allclose(wanted, torch.from_numpy(np.array(pillow)), atol=1e-5)
    assert Resizing(STRETCHES).apply(images, 0.6) is images and Resizing().apply(images, 0.0) is images


def test_the_layout_stays() -> None:
    images = torch.randn(4, 3, 32, 32)
    last = images.contiguous(memory_format=torch.channels_last)
    assert Resizing(STRETCHES).apply(last, 0).is_contiguous(memory_format=torch.channels_last)
    assert Resizing(STRETCHES).apply(images, 0).is_contiguous()
    assert torch.equal(Resizing(STRETCHES).apply(last, 0), Resizing(STRETCHES).apply(images, 0))


@pytest.mark.parametrize(("since", "until"), [(0, 1), (0, 0.25), (0.1, 0.5), (0.5, 0.95), (0.7, 0.8), (0.3, 0.3), (1, 1)])
def test_the_cost_of_steps_is_the_mean_of_their_pixels(since: float, until: float) -> None:
    resizing = Resizing(STRETCHES)
    points = np.linspace(since, until, 20_001)[:-1] if until > since else [since]
    assert resizing.cost(since, until) == pytest.approx(np.mean([resizing.scale(point) ** 2 for point in points]), abs=1e-3)


def sizes_seen(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Heights of the pictures of every training step, as they come."""
    seen: list[int] = []
    real = Resizing.apply

    def recording(resizing: Resizing, images: Tensor, progress: float) -> Tensor:
        small = real(resizing, images, progress)
        seen.append(small.shape[2])
        return small

    monkeypatch.setattr(Resizing, "apply", recording)
    return seen


def test_every_step_has_the_size_of_its_place_in_the_schedule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = sizes_seen(monkeypatch)
    summary = train.train(tiny(PLAN, "epochs=4", "device=cpu"), tmp_path / "run").summary() or {}
    full = seen[-1]
    wanted = [full // 2 if i / 28 < 0.25 else round(0.75 * full) if i / 28 < 0.6 else full for i in range(28)]
    assert seen[-28:] == wanted and summary["steps"] == 28, "after those whose speed is measured"


def test_a_stopped_run_goes_on_at_the_same_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = train.train(tiny(*SETS, PLAN), tmp_path / "whole").path
    with stopping_after(monkeypatch, 9), pytest.raises(Stopped):
        train.train(tiny(*SETS, PLAN), tmp_path / "run")
    train.resume(tmp_path / "run")
    assert_same_run(whole, tmp_path / "run")


def test_a_time_budget_knows_that_small_pictures_are_cheap() -> None:
    """Steps of 1 s at full size: planned at the start, the number of steps never has to be corrected by much."""
    resizing, now, step = Resizing(STRETCHES), [0.0], 0
    pace = TimeBudget(1000, 50, 4, Ranks(), resizing.cost)
    pace.begin(0, 0.0, 1.0, lambda num: (0.005, 10_000, 0))
    planned = pace.steps
    assert planned == pytest.approx(925 / resizing.cost(0, 1), rel=0.01)
    while step < pace.steps:
        now[0] += resizing.scale(pace.progress(step)) ** 2
        step += 1
        pace.look(step, lambda: now[0])
        assert pace.steps == pytest.approx(planned, rel=0.02)
    assert pace.progress(step) == 1 and 880 < now[0] <= 930


def test_what_small_pictures_cost_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """A net whose steps take 1 s at full size, 0.8 and 0.6 s at the smaller ones: by pixels they would be 0.56 and 0.25."""
    setup, state = prepare(tiny(PLAN, "device=cpu"), None, torch.device("cpu"), Ranks())
    full, now = setup.preprocessing.size[0], [0.0]
    before = {name: tensor.clone() for name, tensor in state.net.state_dict().items()}

    def slow(setup: Any, net: Any, images: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
        now[0] += {full: 1.0, round(0.75 * full): 0.8, full // 2: 0.6}[images.shape[2]]
        return torch.zeros(()), torch.zeros(1)

    monkeypatch.setattr(train, "gradients", slow)
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    assert train.measure(setup, state) == pytest.approx(1.0)
    assert setup.resizing.costs == pytest.approx({1.0: 1.0, 0.75: 0.8, 0.5: 0.6})
    assert setup.resizing.cost(0, 1) == pytest.approx(0.25 * 0.6 + 0.35 * 0.8 + 0.4)
    assert all(torch.equal(tensor, before[name]) for name, tensor in state.net.state_dict().items())


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("[{scale: 1.5, until: 0.5}]", "scale"),
        ("[{scale: 0.5, until: 0.6}, {scale: 0.75, until: 0.6}]", "each stretch must end later"),
        ("[{size: 24, until: 0.6}]", "size"),
    ],
)
def test_wrong_plans_are_told(
    value: str, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = invoke(["train", "quickstart", "--set", f"progressive_resizing={value}"], monkeypatch, capsys)
    assert code == 2 and words in err


@pytest.mark.parametrize(
    ("schedule", "over"),
    [
        ("{name: linear, epochs: 1}", True),
        ("{name: trapezoid, epochs: 1, end: 0}", True),
        ("{name: linear, epochs: 1, end: 0.1}", False),
        ("{name: trapezoid, cooldown: 0, epochs: 1}", False),
        ("{name: cosine, epochs: 1}", False),
    ],
)
def test_a_rate_is_over_when_it_is_zero_for_good(schedule: str, over: bool) -> None:
    """A cosine of few epochs climbs again."""
    group = tiny(f"optim={{name: sgd, lr: 0.1, schedule: {schedule}}}").optim[0]
    rate = LearningRate(group, 10, 2)
    assert [rate.over(step) for step in (0, 9)] == [False, False]
    assert rate.over(10) == over == all(rate.at(step) < 1e-12 for step in range(10, 40))


def test_a_rate_that_falls_by_epochs_is_over_when_the_last_of_them_is() -> None:
    schedule = "[{name: warmup, epochs: 0.5}, {name: linear, epochs: 2, every: epoch}]"
    rate = LearningRate(tiny(f"optim={{name: sgd, lr: 0.1, schedule: {schedule}}}").optim[0], 10, 4)
    for step in range(40):
        assert rate.over(step) == all(rate.at(later) < 1e-12 for later in range(step, 60)), step
    assert rate.at(27) > 0.01 and rate.over(30)


LINEAR = "schedule: {name: linear, epochs: 1}"
BIASES = f"{{match: '@norm-bias', name: sgd, lr: 0.1, momentum: 0.9, {LINEAR}}}"
STEM = f"{{match: stem.0.weight, name: muon, lr: 0.1, normalize_weights: true, scale: none, {LINEAR}}}"


@pytest.mark.parametrize(("early", "first_frozen", "tolerance"), [(BIASES, 7, 0.0), (STEM, 8, 1e-4)], ids=["sgd", "muon"])
def test_freezing_changes_nothing_but_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, early: str, first_frozen: int, tolerance: float
) -> None:
    """A group that ends after the first of three epochs, beside the same without freezing.

    Muon scales its weights once more without moving them; scaled again, as without freezing, they change by their rounding, and
    AdamW makes more of it.
    """
    sets = (f"optim=[{early}, {{name: adamw, lr: 0.001, lookahead: {{k: 3}}}}]", *SETS)
    trained: list[int] = []
    real = Optimizers.step

    def counting(optimizers: Optimizers, step: int) -> None:
        trained.append(sum(p.requires_grad for group in optimizers.parameters for p in group.values()))
        real(optimizers, step)

    monkeypatch.setattr(Optimizers, "step", counting)
    frozen = train.train(tiny(*sets), tmp_path / "frozen").path
    assert trained[first_frozen - 1] > trained[first_frozen] > 0 and len(set(trained)) == 2
    trained.clear()

    def never(*_: Any) -> None:
        """As if there were no freezing."""

    monkeypatch.setattr(Optimizers, "freeze_over", never)
    plain = train.train(tiny(*sets), tmp_path / "plain").path
    assert len(set(trained)) == 1
    nets = [load_model(run / "best.safetensors")[0].state_dict() for run in (frozen, plain)]
    for name, weight in nets[0].items():
        assert torch.allclose(weight, nets[1][name], rtol=tolerance, atol=tolerance), name
