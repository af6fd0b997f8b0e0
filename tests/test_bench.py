"""What `bench` measures with is what it says; how fast anything is stands in results/, not here."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from bantamnet.bench import quiet, scale
from bantamnet.bench.loop import alike
from bantamnet.bench.ratio import alternate, ratio
from bantamnet.bench.standard import SUPPORTED, Pictures, StandardLoop, refuse_unsupported, transform
from bantamnet.bench.steps import PHASES, Steps, images_per_second
from bantamnet.data.augment import parse
from bantamnet.data.policies import SUB_POLICIES
from bantamnet.errors import UserError
from bantamnet.optim.groups import Optimizers
from bantamnet.runs.lookup import recipe_names, resolve
from bantamnet.runs.modelfile import load_model
from bantamnet.runtime import Ranks
from bantamnet.training.setup import prepare
from conftest import invoke, tiny
from test_loop import CPU, train_recording
from twins import to_pil

QUICK = ["--set", "batch_size=50", "--rounds", "1", "--seconds", "0.1", "--even-if-busy", "--json"]


def picture(seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (3, 12, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def outcomes(line: str, image: Tensor, num: int) -> tuple[set[bytes], set[bytes]]:
    """All that the line made of an image in so many draws: as a Pillow picture, and by the operation itself."""
    random.seed(0)
    operation = parse(line, (0.5, 0.5, 0.5)).operations[0]
    theirs = {np.asarray(transform(operation, to_pil(image))).tobytes() for _ in range(num)}
    drawn = operation.draw_for(num, "augment", 0, 0)
    ours = operation.apply(image.expand(num, -1, -1, -1).clone(), drawn)
    return theirs, {one.permute(1, 2, 0).contiguous().numpy().tobytes() for one in ours}


@pytest.mark.parametrize(
    ("line", "num"),
    [
        ("crop(1)", 300),
        ("crop(1, border=reflect)", 300),
        ("crop(1, fill=(9, 8, 7))", 300),
        ("hflip", 50),
        ("vflip", 50),
        ("alternating_flip", 50),
        ("cutout(6)", 5000),
        ("translate(0.1)", 300),
        ("rotate(0)", 5),
        ("erase(1.0, (0.01, 0.02), (1, 1), fill=5)", 5000),
        ("blur(1.0, (0.7, 0.7))", 5),
        ("jitter(0,0,0,0)", 5),
    ],
)
def test_a_picture_meets_what_the_operation_does_to_images(line: str, num: int) -> None:
    theirs, ours = outcomes(line, picture(), num)
    assert theirs == ours


def test_jitter_and_autoaugment_of_a_picture_vary_as_widely() -> None:
    """Their outcomes are too many to be equal; mean and spread of the pixels' mean over many draws are."""
    for line in ("jitter(0.4,0.4,0.4,0.2)", "autoaugment", "rotate(20)", "erase", "blur"):
        operation = parse(line).operations[0]
        image, num = picture(1), 1500
        random.seed(1)
        theirs = torch.tensor([np.asarray(transform(operation, to_pil(image))).mean() for _ in range(num)])
        ours = operation.apply(image.expand(num, -1, -1, -1).clone(), operation.draw_for(num, "augment", 0, 0))
        means = ours.float().mean((1, 2, 3))
        error = (means.var() / num + theirs.var() / num).sqrt()
        assert abs(means.mean() - theirs.mean()) < 4 * error, line
        assert means.std() == pytest.approx(theirs.std().item(), rel=0.15), line
    assert len(SUB_POLICIES) == 25


def test_every_recipes_augmentation_has_a_picture_form_or_is_refused() -> None:
    for name in recipe_names():
        refuse_unsupported(parse(resolve(name).data.augment).operations)
    with pytest.raises(UserError, match="randaugment has no form"):
        refuse_unsupported(parse("hflip|randaugment").operations)
    assert all(issubclass(type(parse(word).operations[0]), SUPPORTED) for word in ("vflip", "alternating_flip"))


def test_the_standard_loop_trains_as_ours_does(tmp_path: Path) -> None:
    """Without augmentation and with every image in one batch, one step of either moves the weights to the same place."""
    sets = ["data.augment=''", "batch_size=1293", "epochs=1", "ema=null", "model.dropout=null", "precision=fp32", "device=cpu"]
    setup, state = prepare(tiny(*sets), None, CPU, Ranks())
    net = prepare(tiny(*sets), None, CPU, Ranks())[1].net
    pictures = Pictures(setup.splits["train"], (), setup.preprocessing)
    optimizers = Optimizers(setup.config.optim, net, setup.steps_per_epoch, 1)
    loop = StandardLoop(net, optimizers, setup.task, pictures, 1293, 0, CPU, False, None)
    assert loop() == 1293
    Steps(setup, state)()
    for name, ours in state.net.state_dict().items():
        assert torch.allclose(ours.float(), net.state_dict()[name].float(), rtol=1e-3, atol=1e-4), name


def test_steps_are_those_of_fit(tmp_path: Path) -> None:
    sets = ["epochs=1", "model.dropout=null", "precision=fp32", "device=cpu"]
    setup, state = prepare(tiny(*sets), None, CPU, Ranks())
    fitted, fitted_state = prepare(tiny(*sets), None, CPU, Ranks())
    num_steps = len(train_recording(fitted, fitted_state, tmp_path / "run"))
    steps = Steps(setup, state)
    for number in range(num_steps):
        assert (steps.split if number % 2 else steps)() == 200
    for name, ours in state.net.state_dict().items():
        assert torch.equal(ours, fitted_state.net.state_dict()[name]), name
    assert set(steps.seconds) == set(PHASES) and all(took > 0 for took in steps.seconds.values())


def test_rates_count_images_and_rounds_alternate(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(100))
    monkeypatch.setattr("bantamnet.bench.steps.time.perf_counter", lambda: float(next(now)))
    assert (
        images_per_second(lambda: 7, CPU, seconds=0.0, at_least=3) == 21 / 2
    )  # the clock is read again after three steps, and at the end
    seen: list[str] = []
    rates = alternate({"a": lambda: seen.append("a") or 6.0, "b": lambda: seen.append("b") or 3.0}, 3)  # type: ignore[func-returns-value]
    assert seen == ["a", "b", "b", "a", "a", "b"]
    assert ratio(rates["a"], [3.0, 2.0, 1.0]) == {"median": 3.0, "min": 2.0, "max": 6.0, "rounds": [2.0, 3.0, 6.0]}


def test_a_busy_machine_is_refused_unless_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(quiet, "usable_cores", lambda: 2.0)
    monkeypatch.setattr(quiet, "busy_cores", lambda seconds: 1.2)
    code, out, err = invoke(["bench", "train", "quickstart"], monkeypatch, capsys)
    assert code == 2 and not out and "keep 1.2 of 2 cores busy" in err and "--even-if-busy" in err
    assert quiet.refuse_busy(even_if_busy=True) == 1.2
    monkeypatch.setattr(quiet, "busy_cores", lambda seconds: 0.1)
    assert quiet.refuse_busy(even_if_busy=False) == 0.1


@pytest.mark.slow
def test_the_verbs_measure_and_leave_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, _ = invoke(["bench", "train", "quickstart", *QUICK], monkeypatch, capsys)
    facts = json.loads(out)
    assert code == 0 and facts["images_per_second"] > 0 and sum(facts["phases"].values()) == pytest.approx(1)
    flops = 6 * facts["macs"] * facts["images_per_second"]
    assert facts["gflops"] == pytest.approx(flops / 1e9) and facts["matrix_share"] == pytest.approx(
        facts["gflops"] / facts["matrix_gflops"]
    )
    code, out, _ = invoke(["bench", "loop", "quickstart", *QUICK], monkeypatch, capsys)
    facts = json.loads(out)
    assert code == 0 and set(facts["ratio"]) == {"standard", "tuned"}
    assert set(facts["peak_memory_bytes"]) == {"ours", "standard", "tuned"} and min(facts["peak_memory_bytes"].values()) > 1e8
    code, out, _ = invoke(["bench", "scale", "quickstart", "--ranks", "2", *QUICK], monkeypatch, capsys)
    rows = {(row["ranks"], row["data"]): row for row in json.loads(out)["rows"]}
    assert code == 0 and set(rows) == {(1, 1), (2, 1), (1, 2), (1, 4)} and rows[1, 1]["ratio"] == 1
    assert not list(tmp_path.iterdir())
    code, out, _ = invoke(["bench", "train", "quickstart", "--profile", "found", *QUICK], monkeypatch, capsys)
    facts = json.loads(out)
    assert code == 0 and json.loads(Path(facts["trace"]).read_text())["traceEvents"]
    assert "convolution" in Path("found/operations.txt").read_text() and 0 < facts["operations"][0]["share"] < 1


def test_settling_waits_for_workers_and_not_for_other_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quiet, "usable_cores", lambda: 4.0)
    for others, seen in ((1.0, [4.0, 1.7, 1.5]), (3.9, [3.9, 3.2, 3.0])):
        loads = iter(seen)
        monkeypatch.setattr(quiet, "busy_cores", lambda seconds, loads=loads: next(loads))
        quiet.settle(others)
        assert next(loads, None) is None, "settled at the last one"


def test_what_the_standard_loop_has_not_is_left_out_of_ours() -> None:
    config, left_out = alike(tiny("data.mix=cutmix(1.0)", "clip_norm=1", "sam={rho: 0.1}"))
    assert left_out == ["sam", "ema", "clip_norm", "data.mix"]
    assert (config.sam, config.ema, config.clip_norm, config.data.mix) == (None, None, None, "")
    plain, nothing = alike(tiny("ema=null"))
    assert not nothing and plain == tiny("ema=null")


def test_copies_of_the_data_are_the_data_again() -> None:
    split = prepare(tiny(), None, CPU, Ranks())[0].splits["train"]
    twice = scale.repeated(split, 2)
    assert len(twice) == 2 * len(split) and torch.equal(twice.images[len(split) :], split.images)
    assert torch.equal(twice.labels, split.labels.repeat(2)) and scale.repeated(split, 1) is split


def test_too_many_ranks_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, "usable_cores", lambda: 2.0)
    with pytest.raises(UserError, match="3 ranks on 2 cores"):
        scale.bench_scale(tiny("device=cpu"), None, most_ranks=3, even_if_busy=True)


def test_pictures_are_normalised_as_images_are() -> None:
    setup, _ = prepare(tiny(), None, CPU, Ranks())
    pictures = Pictures(setup.splits["train"], (), setup.preprocessing)
    pixels, label = pictures[5]
    wanted = setup.preprocessing.normalize(setup.splits["train"].images[5:6])[0]
    assert torch.allclose(pixels, wanted, atol=1e-5) and label == int(setup.splits["train"].labels[5])
    assert isinstance(Image.fromarray(pictures.images[0]), Image.Image) and len(pictures) == 1293


@pytest.mark.slow
def test_the_gpu_script_goes_on_where_it_stopped_and_leaves_results(tmp_path: Path) -> None:
    root = Path(__file__).parent.parent
    environment = {
        **os.environ,
        "ITEMS": "seeds quickstart 1 optim.lr=-1\nseeds quickstart 2\nseeds quickstart 1 optim.lr=0.05\nloop quickstart",
        "PYTHON": sys.executable,
    }

    def run(seconds: int, status: int = 0) -> str:
        command = ["bash", str(root / "benchmarks" / "gpu.sh"), "--dry-run", str(tmp_path / "out"), str(seconds)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout.splitlines()[-1]

    assert run(10) == "time is up before seeds-quickstart--1" and not list((tmp_path / "out").iterdir())
    # One that fails does not keep the others from being measured.
    assert run(250, status=1) == "== loop-quickstart"
    environment["ITEMS"] = environment["ITEMS"].partition("\n")[2]
    assert run(60) == "everything in the list is measured"
    trained = json.loads((tmp_path / "out" / "seeds-quickstart.json").read_text())
    assert [each["seed"] for each in trained["runs"]] == [0, 1] and all(each["figures"]["test"] for each in trained["runs"])
    other = json.loads((tmp_path / "out" / "seeds-quickstart-0.05.json").read_text())
    assert "optim.lr=0.05" in other["what"] and len(other["runs"]) == 1 and "optim.lr=0.05" in other["runs"][0]["command"]
    assert json.loads((tmp_path / "out" / "loop-quickstart.json").read_text())["ratio"]["standard"]["median"] > 0
    assert load_model(tmp_path / "out" / "seeds-quickstart.safetensors")[1].label == "clean"
