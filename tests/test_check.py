"""`bantamnet check`: learned batches, read curves, batches that fit, and times that add up."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from bantamnet.optim.groups import Optimizers
from bantamnet.report.range_plot import range_plot
from bantamnet.runtime import Ranks
from bantamnet.training import check, fits
from bantamnet.training.setup import Setup, State, prepare
from conftest import invoke, tiny

NET = "model={name: custom, stem: imagenet, stem_width: 4, widths: [8], blocks: [1], dropout: [0.5]}"
SMALL = (NET, "batch_size=50", "data.augment=crop(4)", "device=cpu", "precision=fp32", "optim.lr=0.1")


def prepared(*sets: str) -> tuple[Setup, State]:
    return prepare(tiny(*SMALL, *sets), None, torch.device("cpu"), Ranks())


def curve(rate: float, bottom: float = 0.3) -> float:
    """Flat at 2.3 up to 0.001, straight down (in log rate) to 1.0 at `bottom`, then up steeply."""
    if rate <= 1e-3:
        return 2.3
    if rate <= bottom:
        return 2.3 - 1.3 * math.log(rate / 1e-3) / math.log(bottom / 1e-3)
    return 1.0 + 8 * math.log10(rate / bottom)


RATES = [10 ** (-5 + 6 * step / 99) for step in range(100)]


@pytest.mark.parametrize(("rate", "verdict"), [(0.1, "inside"), (0.02, "inside"), (1e-3, "below"), (1.0, "above")])
def test_a_curve_is_read_as_drawn(rate: float, verdict: str) -> None:
    generator = torch.Generator().manual_seed(0)
    losses = [curve(r) + 0.05 * torch.randn(1, generator=generator).item() for r in RATES]
    facts = check.read_range(RATES, losses, rate)
    assert facts["verdict"] == verdict
    # A third of the way down from 0.001 to 0.3, on a log axis, is 0.0067.
    assert 0.003 < facts["low"] < 0.012 and 0.1 < facts["high"] < 0.4
    assert facts["low"] <= facts["suggestion"] <= facts["high"]
    assert len(facts["smoothed"]) == 100


def test_a_loss_that_never_falls_says_nothing() -> None:
    flat = [2.3 + 0.01 * (-1) ** step for step in range(100)]
    rising = [2.3 + 0.05 * step for step in range(100)]
    for losses in (flat, rising):
        facts = check.read_range(RATES, losses, 0.1)
        assert facts["verdict"] == "unknown" and facts["low"] is facts["high"] is facts["suggestion"] is None
    assert check.read_range(RATES[:1], [2.3], 0.1)["verdict"] == "unknown"
    nothing = check.read_range([], [], 0.1)  # not even the first loss was finite
    assert nothing["verdict"] == "unknown" and range_plot({"recipe_rate": 0.1, **nothing}, "a net").axes[0].get_title()


def test_the_range_test_takes_the_rates_it_says_and_keeps_proportions(monkeypatch: pytest.MonkeyPatch) -> None:
    two = "optim=[{match: '@norm-bias', name: sgd, lr: 0.02}, {name: sgd, lr: 0.2, momentum: 0.9}]"
    setup, state = prepared(two)
    before = {name: tensor.clone() for name, tensor in state.net.state_dict().items()}
    taken: list[list[float]] = []
    real = Optimizers.step

    def recording(optimizers: Optimizers, step: int) -> None:
        real(optimizers, step)
        taken.append([optimizer.param_groups[0]["lr"] for optimizer in optimizers.optimizers])

    monkeypatch.setattr(Optimizers, "step", recording)
    facts, seconds = check.range_test(setup, state, 25)
    assert facts["recipe_rate"] == 0.2 and seconds > 0 and len(facts["rates"]) <= 25
    for index, (rate, (small, large)) in enumerate(zip(facts["rates"], taken, strict=False)):
        assert rate == pytest.approx(1e-5 * 10 ** (6 * index / 24))
        assert large == pytest.approx(rate) and small == pytest.approx(rate / 10)
    assert all(torch.equal(tensor, before[name]) for name, tensor in state.net.state_dict().items()), "a scratch copy is trained"


def test_the_range_test_stops_where_the_loss_is_not_finite() -> None:
    setup, state = prepared("optim={name: sgd, lr: 1.0, momentum: 0.99}")
    task = setup.task

    class Exploding(type(task)):  # type: ignore[misc]
        calls = 0

        def __call__(self, *args: Any) -> Any:
            Exploding.calls += 1
            loss, logits = super().__call__(*args)
            return (loss * math.inf if Exploding.calls == 9 else loss), logits

    object.__setattr__(setup, "task", Exploding())
    facts, _ = check.range_test(setup, state, 30)
    assert len(facts["losses"]) == 8 and all(map(math.isfinite, facts["losses"]))
    Exploding.calls = 8  # from the first one on
    facts, seconds = check.range_test(setup, state, 30)
    assert facts["losses"] == [] and facts["verdict"] == "unknown" and facts["low"] is None and seconds > 0


def test_a_sound_recipe_learns_a_batch_by_heart() -> None:
    # Each of these would keep the loss up, or make it depend on chance.
    setup, state = prepared("label_smoothing=0.2", "optim.weight_decay=0.5", "model.dropout=[0.9]")
    facts = check.overfit(setup, state, 300)
    assert facts["passed"] and facts["last_loss"] < 0.05 < facts["first_loss"] and facts["images"] == 32
    assert facts["guessing"] == pytest.approx(math.log(10)) and facts["first_loss"] == pytest.approx(math.log(10), abs=1)
    assert facts["steps"] < 300 and facts["rate_factor"] == 1
    torch.manual_seed(99)
    assert check.overfit(setup, state, 300) == facts
    assert any(isinstance(m, torch.nn.Dropout) and m.p == 0.9 for m in state.net.modules()), "the recipe's net is left alone"


def test_what_cannot_be_learned_fails() -> None:
    setup, state = prepared("optim.lr=0")
    facts = check.overfit(setup, state, 20)
    assert not facts["passed"] and facts["steps"] == 20 and facts["rate_factor"] == 0.1
    setup, state = prepared()
    setup.splits["train"].images.zero_()  # the same picture under ten labels
    facts = check.overfit(setup, state, 60)
    assert not facts["passed"] and facts["last_loss"] > 1


def test_a_rate_that_is_too_high_is_told_apart_from_a_broken_net(monkeypatch: pytest.MonkeyPatch) -> None:
    setup, state = prepared("optim.lr=1")
    real = Optimizers.learning_rates

    def breaking(optimizers: Optimizers, step: int) -> list[float]:
        rates = real(optimizers, step)
        return [rate * 1e6 if rate > 0.2 else rate for rate in rates]

    monkeypatch.setattr(Optimizers, "learning_rates", breaking)
    facts = check.overfit(setup, state, 300)
    assert facts["passed"] and facts["rate_factor"] == 0.1


def test_a_step_and_its_share_of_the_augmentation() -> None:
    setup, _ = prepared()  # 512 images a chunk: every tenth step of 50 waits for the augmentation
    assert setup.steps_per_chunk == 10 and setup.steps_per_epoch == 26
    seconds = [1.0 + 5.0 * (step % 26 % 10 == 0) for step in range(60)]
    assert check._step_seconds(seconds, setup) == pytest.approx(1.5)
    assert check._step_seconds([6.0], setup) == 6.0


def test_times_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "scoring_seconds", lambda setup, state: 0.01)
    facts = check.estimate(*prepared("epochs=3"), 0.5)
    assert facts["training_seconds"] == 3 * 26 * 0.5 and facts["validation_seconds"] == pytest.approx(3 * 1.44)
    assert facts["total_seconds"] == pytest.approx(39 + 4.32 + 3.6) and facts["epoch_seconds"] == pytest.approx(13 + 1.44)
    assert facts["images_per_second"] == 100 and facts["scored_images_per_second"] == pytest.approx(100)
    assert check.estimate(*prepared("time_budget=77"), 0.5)["total_seconds"] == 77
    assert check.estimate(*prepared("max_steps=10"), 0.5)["training_seconds"] == 5


def fit(most: int = 1000, longest_step: float = 60.0, *sets: str) -> dict[str, Any]:
    return fits.largest_batch(tiny(*SMALL, *sets), "fp32", (32, 32), 10, most, longest_step)


def test_batches_double_up_to_the_number_of_images() -> None:
    facts = fit(most=70)
    assert [row["batch"] for row in facts["tried"]] == [16, 32, 64] and facts["largest"] == 64
    assert facts["stopped_by"] == "images" and all(row["seconds"] > 0 for row in facts["tried"])


def test_batches_stop_where_a_step_takes_long() -> None:
    facts = fit(longest_step=1e-6)
    assert facts["largest"] == 16 and facts["stopped_by"] == "time"


def test_batches_stop_within_the_memory_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    allowed = 150 * 2**20
    monkeypatch.setattr(fits, "free_memory", lambda: 2 * allowed)
    wide = "model={name: custom, stem_width: 16, widths: [32], blocks: [2], dropout: null}"
    facts = fit(100_000, 60.0, wide)
    assert facts["stopped_by"] == "memory" and 16 <= facts["largest"] < 1024
    memory = [row["memory_bytes"] for row in facts["tried"]]
    assert memory == sorted(memory) and memory[0] > 0 and memory[-1] <= allowed == facts["allowed_bytes"]


def test_a_batch_that_needs_more_than_allowed_fails_in_its_own_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fits, "free_memory", lambda: 2 * 8 * 2**20)
    monkeypatch.setattr(fits, "FIRST", 16)
    facts = fit(100_000, 60.0, "model={name: custom, stem_width: 64, widths: [64, 128], blocks: [2, 2], dropout: null}")
    assert facts == {"largest": 0, "stopped_by": "memory", "allowed_bytes": 8 * 2**20, "longest_step": 60.0, "tried": []}


def test_on_the_command_line_only_the_plot_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    small = {"tried": [{"batch": 16, "seconds": 0.1, "memory_bytes": 2**20}], "largest": 16, "stopped_by": "memory"}
    monkeypatch.setattr(check, "largest_batch", lambda *_, **__: {**small, "allowed_bytes": 2**30, "longest_step": 5.0})
    sets = [part for each in SMALL for part in ("--set", each)]
    code, out, err = invoke(["check", "quickstart", *sets, "--quick", "--json", "--out", "plots"], monkeypatch, capsys)
    facts = json.loads(out)
    assert code == 0 and facts["passed"] and "by heart" in err, err
    assert facts["lr_range"]["plot"] == "plots/quickstart-lr-range.png" and facts["batch"]["recipe"] == 50
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == ["plots", "plots/quickstart-lr-range.png"]
    with Image.open(tmp_path / "plots" / "quickstart-lr-range.png") as picture:
        assert picture.size == (1040, 585) and len(picture.convert("RGB").getcolors(10**6) or []) > 100
    code, out, _ = invoke(["check", "quickstart", *sets, "--set", "optim.lr=0", "--quick", "--out", "plots"], monkeypatch, capsys)
    assert code == 1 and "fail" in out and "one batch" in out and "quickstart-lr-range-2.png" in out
    assert "twice that would take more than the 1.0 GB allowed" in out and "batch_size lower" in out and "images/s" in out


def test_mistakes_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    for arguments, word in ((["qickstart"], "quickstart"), (["quickstart", "--set", "data.val.count=9999"], "held out")):
        code, _, err = invoke(["check", *arguments], monkeypatch, capsys)
        assert code == 2 and word in err and not list(tmp_path.iterdir())
