"""A user's own code: registered by a line, kept with the run, never read from a model file, as good as what is shipped."""

import copy
import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import bantamnet
from bantamnet.config import OwnGroup
from bantamnet.configfile import apply_set, read_yaml
from bantamnet.data.operations import Operation, Parameters
from bantamnet.data.sources import find_source, load_digits
from bantamnet.errors import UserError
from bantamnet.evaluate.scoring import evaluate
from bantamnet.models.build import build_to_count
from bantamnet.models.resnet import ResNet, count_parameters
from bantamnet.models.summary import summarize
from bantamnet.optim.own import load_state, make_own, save_state
from bantamnet.runs import own
from bantamnet.runs.lookup import resolve
from bantamnet.runs.modelfile import load_model
from bantamnet.runs.tensorfile import read_tensors, write_tensors
from bantamnet.training import train
from bantamnet.training.refit import refit_config
from bantamnet.training.signals import Stopped
from conftest import invoke, tiny
from same_run import assert_same_run, stopping_after

EXAMPLES = Path(__file__).parent.parent / "examples"

SMALL = """
import numpy as np, torch
from torch import nn
import bantamnet
from bantamnet.data.operations import Operation
from bantamnet.data.split import canonical

@bantamnet.register("model", "mynet")
class Net(nn.Module):
    def __init__(self, num_classes, width=4, rate=0.2):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, width, 3, 2), nn.BatchNorm2d(width), nn.ReLU(), nn.Dropout(rate))
        self.scale = nn.Parameter(torch.ones(width))
        self.head = nn.Linear(width, num_classes)
    def forward(self, images):
        return self.head(self.body(images).mean((2, 3)) * self.scale)

@bantamnet.register("operation", "shade")
class Shade(Operation):
    most: int = 40
    def draw(self, num, generator):
        return {"by": torch.randint(0, self.most + 1, (num, 1, 1, 1), generator=generator)}
    def apply(self, images, parameters):
        return (images.int() - parameters["by"]).clamp(0, 255).byte()

@bantamnet.register("optimizer", "odd")
class Odd(torch.optim.Optimizer):
    # Remembers in every way there is: float64, integers, tuples, values of a group and of its own.
    def __init__(self, params, lr, betas=(0.9, 0.99)):
        super().__init__(params, {"lr": lr, "betas": betas, "scale": 1.0})
        self.calls = 0
    @torch.no_grad()
    def step(self):
        self.calls += 1
        for group in self.param_groups:
            group["scale"] *= 0.999
            for p in group["params"]:
                state = self.state[p]
                state.setdefault("mean", torch.zeros_like(p, dtype=torch.float64))
                state.setdefault("signs", torch.zeros_like(p, dtype=torch.int8))
                state["last"] = (state.get("last", (0, None))[0] + 1, p.grad.abs().max().item())
                state["mean"].lerp_(p.grad.double(), 1 - group["betas"][0])
                state["signs"] = p.grad.sign().char()
                rate = group["lr"] * group["scale"] / (1 + self.calls % 3 + state["last"][0] % 2)
                p.sub_((state["mean"] + 0.01 * state["signs"]).float(), alpha=rate)

@bantamnet.register("data", "dots")
def dots():
    return draw(160, 0), draw(40, 1)

def draw(num, seed):
    rng = np.random.default_rng(seed)
    labels = np.arange(num) % 2
    images = rng.integers(0, 120, (num, 3, 12, 12)) + 80 * labels[:, None, None, None]
    return canonical(images.astype(np.uint8), labels, ("dark", "bright"))
"""
RECIPE = """
name: mine
use: [mine.py]
budget: 500
data: {name: dots, val: {source: train, count: 40}, augment: hflip|shade(20)}
model: {name: mynet, args: {width: 6}}
optim: {name: odd, lr: 0.05, args: {betas: [0.8, 0.9]}, schedule: cosine}
epochs: 3
batch_size: 32
ema: 0.9
device: cpu
"""


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test registers is forgotten after it, as in another process."""
    tables = [table for table, _ in own.KINDS.values()]
    before = [dict(table) for table in tables]
    monkeypatch.setattr(own, "_PLACES", {})
    monkeypatch.setattr(own, "_CONTENTS", {})
    yield
    for table, entries in zip(tables, before, strict=True):
        table.clear()
        table.update(entries)


def forget() -> None:
    """As if a new process had begun."""
    own._forget({}, "")
    own._CONTENTS.clear()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with a file of one's own and a recipe that uses it."""
    (tmp_path / "mine.py").write_text(SMALL)
    (tmp_path / "mine.yaml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_example_trains_and_is_what_it_says(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = invoke(["train", str(EXAMPLES / "own.yaml"), "--epochs", "4", "--out", "run", "--json"], monkeypatch, capsys)
    assert code == 0, err
    summary = json.loads(out)
    assert summary["figures"]["test"]["accuracy"] > 0.9 and summary["data"]["test"]["num"] == 200
    kept = (tmp_path / "run/own/own.py").read_bytes()
    assert kept == (EXAMPLES / "own.py").read_bytes()
    config = read_yaml(tmp_path / "run/config.yaml")
    assert config["use"] == [{"file": str(EXAMPLES / "own.py"), "sha256": own.hashlib.sha256(kept).hexdigest()}]
    for line in (EXAMPLES / "own.py").read_text().splitlines():
        if line.strip().startswith("bantamnet train quickstart"):
            words = shlex.split(line)[1:]
            words = [str(EXAMPLES / "own.py") if word == "examples/own.py" else word for word in words]
            forget()
            assert resolve("quickstart", words[5::2], [Path(words[3])]).use[0].sha256 == config["use"][0]["sha256"]


def test_the_examples_optimiser_is_lion_as_in_the_paper() -> None:
    own.use_file(EXAMPLES / "own.py")
    group = OwnGroup(name="signs", lr=0.1, weight_decay=0.3, args={"beta1": 0.8, "beta2": 0.95})
    start = torch.randn(7, 5, generator=torch.Generator().manual_seed(0))
    weight = nn.Parameter(start.clone())
    lion = make_own(group, [{"params": [weight], "weight_decay": 0.3}])
    slow, momentum = start.double().numpy().copy(), np.zeros((7, 5))
    for step in range(6):
        gradient = np.random.default_rng(step).normal(size=(7, 5)).astype(np.float32)
        weight.grad = torch.from_numpy(gradient)
        lion.step()
        slow = slow - 0.1 * (np.sign(0.8 * momentum + 0.2 * gradient) + 0.3 * slow)
        momentum = 0.95 * momentum + 0.05 * gradient
    assert np.abs(weight.detach().numpy() - slow).max() < 1e-5


def test_every_verb_knows_what_a_run_was_trained_with(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = invoke(["train", "mine.yaml", "--out", "run", "--json"], monkeypatch, capsys)
    assert code == 0, err
    trained = json.loads(out)
    figures = trained["figures"]["test"]
    Image.fromarray(np.full((12, 12, 3), 30, np.uint8)).save("dark.png")
    for model, more in (("run", []), ("run/best.safetensors", ["--use", "mine.py"])):
        forget()
        code, out, err = invoke(["evaluate", model, "--json", *more], monkeypatch, capsys)
        assert code == 0, err
        assert json.loads(out)["correct"] == figures["correct"] and json.loads(out)["digest"] == trained["weights_digest"]
        forget()
        code, out, err = invoke(["predict", model, "dark.png", "--json", *more], monkeypatch, capsys)
        assert code == 0 and json.loads(out)["predictions"][0]["class"] in ("dark", "bright"), err
        forget()
        code, out, err = invoke(["summary", model, "--json", *more], monkeypatch, capsys)
        assert code == 0, err
        assert (json.loads(out)["params"], json.loads(out)["net"]) == (trained["parameters"], "mynet")
    forget()
    code, out, err = invoke(
        ["summary", "mynet", "--use", "mine.py", "--set", "model.args.width=8", "--json"], monkeypatch, capsys
    )
    rows = json.loads(out)["layers"]
    assert code == 0 and json.loads(out)["params"] == 8 * 27 + 8 + 16 + 8 + 8 * 10 + 10 == sum(row["params"] for row in rows)
    forget()
    code, out, err = invoke(["recipes", "show", "mine.yaml", "--json"], monkeypatch, capsys)
    shown = json.loads(out)
    assert code == 0 and shown["model"] == {"name": "mynet", "args": {"width": 6}} and len(shown["use"][0]["sha256"]) == 64
    code, out, err = invoke(["runs", ".", "--json"], monkeypatch, capsys)
    assert code == 0 and json.loads(out)["runs"][0]["parameters"] == trained["parameters"]


def test_a_model_file_runs_no_code(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.py").write_text(SMALL + "\nfrom pathlib import Path\nPath('canary').touch()\n")
    bantamnet.train("mine.yaml", {"epochs": 1}, out="run")
    assert Path("canary").exists()
    for arguments in (["evaluate"], ["predict", "mine.yaml"], ["summary"]):
        Path("canary").unlink(missing_ok=True)
        forget()
        code, out, err = invoke([arguments[0], "run/best.safetensors", *arguments[1:]], monkeypatch, capsys)
        assert code == 2 and not out and not Path("canary").exists()
        assert arguments[0] == "predict" or ("needs the net 'mynet'" in err and "mine.py (sha256 " in err and "--use" in err)


def test_a_stopped_run_goes_on_bit_for_bit(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = resolve("mine.yaml")
    whole = train.train(config, place / "whole").path
    for number, steps in enumerate((2, 3, 5)):
        forget()
        with stopping_after(monkeypatch, steps), pytest.raises(Stopped):
            torch.manual_seed(number)
            bantamnet.resume("parts") if number else bantamnet.train("mine.yaml", out="parts")
    forget()
    bantamnet.resume("parts")
    assert_same_run(whole, place / "parts")


def test_a_refit_takes_the_runs_own_copy(place: Path) -> None:
    bantamnet.train("mine.yaml", {"epochs": 1}, out="run")
    forget()
    Path("mine.py").write_text("raise SystemExit('changed since')")
    refit = bantamnet.train(refit_config(Path("run")), out="refit")
    assert refit.config().use[0].sha256 == own.hashlib.sha256((place / "refit/own/mine.py").read_bytes()).hexdigest()
    assert (place / "refit/own/mine.py").read_text() == SMALL and (refit.summary() or {})["label"] == "final"


def test_own_parts_equal_shipped_ones_bit_for_bit(tmp_path: Path) -> None:
    """The same net, operation, optimiser and data under other names give the same weights."""
    shipped = tiny("epochs=1", "device=cpu", "data.augment=hflip(0.3)", "optim.nesterov=false")
    arch = shipped.model

    @bantamnet.register("model", "twin")
    class Twin(ResNet):
        def __init__(self, num_classes: int) -> None:
            super().__init__(arch, num_classes)

    class HFlip(Operation):
        p: float = 0.5

        def draw(self, num: int, generator: torch.Generator) -> Parameters:
            return {"flip": torch.rand(num, generator=generator) < self.p}

        def apply(self, images: torch.Tensor, parameters: Parameters) -> torch.Tensor:
            return torch.where(parameters["flip"][:, None, None, None], images.flip(3), images)

    bantamnet.register("operation", "mirror")(HFlip)

    @bantamnet.register("optimizer", "plain")
    class Plain(torch.optim.SGD):
        pass

    bantamnet.register("data", "figures", mean=shipped.data.mean, std=shipped.data.std)(lambda data_dir: load_digits(data_dir))
    tree = shipped.dump()
    group = tree["optim"][0]
    mine: dict[str, Any] = copy.deepcopy(tree)
    mine["data"] |= {"name": "figures", "augment": "mirror(0.3)"}
    mine["model"] = {"name": "twin", "args": {}}
    kept = {key: group[key] for key in ("match", "lr", "weight_decay", "schedule")}
    mine["optim"] = [{**kept, "name": "plain", "args": {"momentum": group["momentum"]}}]
    (tmp_path / "mine.yaml").write_text(json.dumps(mine))
    runs = [
        bantamnet.train(config, out=tmp_path / f"run{i}")
        for i, config in enumerate((shipped, resolve(str(tmp_path / "mine.yaml"))))
    ]
    one, other = (run.summary() or {} for run in runs)
    assert one["weights_digest"] == other["weights_digest"] and one["figures"]["test"]["nll"] == other["figures"]["test"]["nll"]


def test_changed_files_are_told(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with stopping_after(monkeypatch, 2), pytest.raises(Stopped):
        bantamnet.train("mine.yaml", out="run")
    copied = Path("run/own/mine.py")
    forget()
    Path("mine.py").write_text(SMALL.replace("width=4", "width=5") + "raise SystemExit('not this one')")
    code, out, err = invoke(["train", "--resume", "run"], monkeypatch, capsys)
    assert code == 0 and "mine.py has changed since the run began; the run goes on with its copy" in (out + err).replace(
        "\n", " "
    )
    forget()
    copied.write_text(SMALL.replace("width=4", "width=5"))
    for verb in (["evaluate", "run"], ["summary", "run"]):
        code, out, err = invoke(verb, monkeypatch, capsys)
        assert code == 2 and "run/own/mine.py has changed since the run began" in err
    copied.unlink()
    Path("mine.py").write_text(SMALL)
    assert evaluate(Path("run"))["num"] == 40  # without its copy a run takes the file, if it is still the same
    forget()
    Path("mine.py").write_text(SMALL + "\n# a comment\n")
    with pytest.raises(UserError, match=r"mine\.py has changed: its sha256"):
        bantamnet.load("run")
    own.use_file(Path("mine.py"))
    with pytest.warns(UserWarning, match="was trained with mine.py .* which differs"):
        load_model(Path("run/best.safetensors"))
    complete = resolve("mine.yaml").dump()
    complete["use"][0]["sha256"] = "0" * 64
    Path("exact.yaml").write_text(json.dumps(complete))
    forget()
    with pytest.raises(UserError, match="000000000000… was expected"):
        resolve("exact.yaml")


def test_a_net_that_changed_its_shape_is_told(place: Path) -> None:
    bantamnet.train("mine.yaml", {"epochs": 1}, out="run")
    forget()
    Path("other.py").write_text(SMALL.replace("nn.Linear(width, num_classes)", "nn.Linear(width, num_classes, bias=False)"))
    own.use_file(Path("other.py"))
    with pytest.warns(UserWarning), pytest.raises(UserError, match=r"another than the one in the file: head\.bias differ"):
        bantamnet.load("run/best.safetensors")


HEAD = "import bantamnet, torch\nfrom torch import nn\n"
NET = HEAD + "@bantamnet.register('model', 'n')\nclass N(nn.Module):\n"
INIT = (
    "    def __init__(self, num_classes, width=3):\n        super().__init__()\n        self.head = nn.Linear(3, num_classes)\n"
)
GOOD = NET + INIT + "    def forward(self, x):\n        return self.head(x.mean((2, 3)))\n"
OPERATION = (
    HEAD + "from bantamnet.data.operations import Operation\n@bantamnet.register('operation', 'o')\nclass O(Operation):\n"
    "    def draw(self, num, generator):\n        return {'r': torch.rand(num, generator=generator)}\n"
    "    def apply(self, images, parameters):\n        return images.clone()\n"
)
OPTIMIZER = (
    HEAD + "@bantamnet.register('optimizer', 'o')\nclass O(torch.optim.Optimizer):\n    def __init__(self, params, lr, a=1):\n"
    "        super().__init__(params, {'lr': lr})\n    def step(self):\n        pass\n"
)
DATA = (
    HEAD + "import numpy as np\nfrom bantamnet.data.split import canonical\n@bantamnet.register('data', 'd')\ndef d():\n"
    "    s = canonical(np.arange(8 * 192, dtype=np.int64).astype(np.uint8).reshape(8, 3, 8, 8), np.arange(8) % 2, ('a', 'b'))\n"
    "    return s, s\n"
)
NORMED = GOOD.replace("nn.Linear(3, num_classes)", "nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, num_classes))")
USE_N, USE_OP, USE_O = "model.name=n", "data.augment=o", "optim.name=o"
# (content of mine.py, settings, words that the message must hold)
WRONG: list[tuple[str, str, list[str]]] = [
    ("import bantamnet\nx = 1 / 0\n", "", ["mine.py fails: ZeroDivisionError: division by zero", "mine.py, line 2)"]),
    ("def f(:\n", "", ["SyntaxError", "mine.py, line 1)"]),
    ("import nowhere_to_be_found\n", "", ["ModuleNotFoundError: No module named 'nowhere_to_be_found'", "line 1)"]),
    ("raise SystemExit(0)\n", "", ["SystemExit: 0", "line 1)"]),
    ("x = 1\n", "", ["registers nothing", "@bantamnet.register"]),
    (HEAD + "@bantamnet.register('modle', 'n')\nclass N: pass\n", "", ["unknown kind 'modle'; did you mean 'model'?"]),
    (HEAD + "@bantamnet.register('model', 'n')\nclass N: pass\n", "", ["mine.py, line 3", "'n'", "torch.nn.Module", "N'>"]),
    (HEAD + "@bantamnet.register('model', 'n')\nclass N(nn.Module):\n  def __init__(self): pass\n", "", ["number of classes"]),
    (HEAD + "bantamnet.register('model', 'n', width=3)(nn.Linear)\n", "", ["takes no width; give arguments in the config"]),
    (NET.replace("'n'", "'resnet20'") + INIT, "", ["'resnet20' is taken"]),
    (NET.replace("'n'", "'wrn-16-3'") + INIT, "", ["'wrn-16-3'", "choose another"]),
    (NET.replace("'n'", "'custom-n'") + INIT, "", ["'custom-n'", "choose another"]),
    (NET.replace("'n'", "'a b'") + INIT, "", ["'a b' is no name"]),
    (GOOD + GOOD, "", ["mine.py, line 12", "'n' is taken"]),
    (HEAD + "bantamnet.register('operation', 'crop')(object)\n", "", ["'crop' is taken by an operation"]),
    (HEAD + "bantamnet.register('operation', 'a-b')(object)\n", "", ["stands in a line"]),
    (HEAD + "bantamnet.register('operation', 'o')(object)\n", "", ["bantamnet.data.operations.Operation", "object"]),
    (OPERATION.replace("def apply", "def aply"), "", ["O lacks apply"]),
    (HEAD + "bantamnet.register('optimizer', 'adam')(torch.optim.Adam)\n", "", ["'adam' is taken by an optimiser"]),
    (HEAD + "bantamnet.register('optimizer', 'o')(nn.Linear)\n", "", ["torch.optim.Optimizer"]),
    (HEAD + "bantamnet.register('optimizer', 'o')(torch.optim.LBFGS)\n", "", ["needs a closure"]),
    (OPTIMIZER.replace("lr, a", "rate, a"), "", ["must take lr"]),
    (HEAD + "bantamnet.register('data', 'digits')(print)\n", "", ["'digits' is taken by a data set"]),
    (HEAD + "bantamnet.register('data', 'd', mena=0)(print)\n", "", ["unknown fact 'mena'; did you mean 'mean'?"]),
    (HEAD + "bantamnet.register('data', 'd')(3)\n", "", ["a function that returns (train, test), got 3"]),
    (HEAD + "bantamnet.register('data', 'd')(lambda a, b: 0)\n", "", ["takes nothing, or the data folder"]),
    (GOOD, "model.name=m", ["unknown net 'm'", "resnet20", " n,"]),
    (GOOD, "model={name: m, args: {}}", ["model.name: unknown net 'm'", "--use FILE.py"]),
    (GOOD, "model={name: resnet20, args: {}}", ["model: unknown key 'args'"]),
    (GOOD, "model={name: n, width: 3}", ["model: unknown key 'width'", "valid: args, name"]),
    (GOOD, "model={name: n, args: 3}", ["model.args", "got 3"]),
    (GOOD, "model={name: n, args: {widht: 3}}", ["model.args: n: unknown argument 'widht'; did you mean 'width'?"]),
    (GOOD.replace("width=3", "width"), USE_N, ["model.args: n: missing a required argument: 'width'"]),
    (GOOD.replace("nn.Linear(3,", "nn.Linear(-3,"), USE_N, ["n cannot be built: RuntimeError", "mine.py, line 7)"]),
    (GOOD.replace("nn.Linear(3,", "nn.LazyLinear("), USE_N, ["lazy layers"]),
    (GOOD.replace("nn.Linear(3, num_classes)", "nn.Identity()"), USE_N, ["no parameters"]),
    (GOOD.replace("x.mean((2, 3))", "x"), USE_N, ["n fails on images (2, 3, 32, 32): RuntimeError", "mine.py, line 9)"]),
    (GOOD.replace("num_classes)\n", "7)\n"), USE_N, ["logits (2, 10), got torch.float32 (2, 7)"]),
    (GOOD.replace("x.mean((2, 3))", "x.mean((2, 3)).squeeze()"), USE_N, ["1 image into", "(1, 10), got torch.float32 (10,)"]),
    (NORMED, f"{USE_N};batch_size=76", ["batch of one image is left, which n cannot be", "Expected more", "or drop_last=true"]),
    (NORMED, f"{USE_N};batch_size=1", ["batch of one image is left, which n cannot be", "; choose another batch_size"]),
    (GOOD.replace("nn.Linear(3,", "nn.Linear(99999,"), USE_N, ["over the budget", "costliest layers: head 1,000,000. M"]),
    (GOOD, f"{USE_N};optim.name=loin", ["unknown name 'loin'", "sgd"]),
    (OPTIMIZER, "optim.name=oo", ["optim.name: unknown optimiser 'oo'; did you mean 'o'?", "sgd"]),
    (OPTIMIZER, f"{USE_O};optim.nesterov=true", ["optim: unknown key 'nesterov'"]),
    (OPTIMIZER, f"{USE_O};optim.schedule=cosin", ["optim.schedule: unknown name 'cosin'"]),
    (OPTIMIZER, f"{USE_O};optim.lr=-1", ["optim.lr: input should be greater than or equal to 0"]),
    (OPTIMIZER, f"{USE_O};optim.args={{b: 1}};optim.weight_decay=0", ["optim.args: o: unknown argument 'b'"]),
    (OPTIMIZER, f"{USE_O};optim.args={{lr: 1}};optim.weight_decay=0", ["lr is a key of its own: optim.lr"]),
    (OPTIMIZER, USE_O, ["optim.weight_decay: o takes no weight_decay"]),
    (OPTIMIZER.replace("pass", "1 / 0"), f"{USE_O};optim.weight_decay=0", ["o cannot step: Zero", "mine.py, line 8)"]),
    (OPTIMIZER.replace("pass", "self.state['x'] = {'y': object()}"), f"{USE_O};optim.weight_decay=0", ["keeps a object"]),
    (OPERATION, "data.augment=o(1)", ["takes at most 0 arguments"]),
    (OPERATION.replace("num, generator=generator", "num"), USE_OP, ["O: draw must draw from the generator"]),
    (OPERATION.replace("rand(num,", "rand(2,"), USE_OP, ["row for each of the 4 samples"]),
    (OPERATION.replace("images.clone()", "images.float()"), USE_OP, ["(4, 3, 32, 32) into the same, got torch.float32"]),
    (OPERATION.replace("images.clone()", "images.zero_()"), USE_OP, ["leave the images it is given as they are"]),
    (OPERATION.replace("images.clone()", "images.roll(1, 0)"), USE_OP, ["whatever images stand beside it"]),
    (OPERATION.replace("images.clone()", "images.nope"), USE_OP, ["AttributeError", "mine.py, line 9)"]),
    (DATA.replace("return s, s", "return s"), "data.name=d", ["must return (train, test)"]),
    (DATA.replace("return s, s", "1 / 0"), "data.name=d", ["d cannot be loaded: ZeroDivisionError", "mine.py, line 8)"]),
    (DATA.replace("('a', 'b')", "('a',)"), "data.name=d", ["labels must lie in 0 … 0, for 1 classes"]),
    (DATA.replace("reshape(8, 3, 8, 8)", "reshape(8, 1, 8, 24)"), "data.name=d", ["got torch.uint8 (8, 1, 8, 24)"]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "sets", "words"), WRONG, ids=[words[0][:40] + f" {n}" for n, (_, _, words) in enumerate(WRONG)]
)
def test_what_is_wrong_is_told(
    content: str, sets: str, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(content)
    given = [part for assignment in sets.split(";") if assignment for part in ("--set", assignment)]
    given += ["--set", "data.val.count=2"] if "data.name=d" in sets else []
    tables = [list(table) for table, _ in own.KINDS.values()]
    modules = {name for name in sys.modules if name.startswith("bantamnet_own")}
    code, out, err = invoke(["train", "quickstart", "--use", "mine.py", *given, "--out", "run"], monkeypatch, capsys)
    assert code == 2 and not out and not Path("run").exists() and "Traceback" not in err
    for word in words:
        assert word in err, err
    if not sets:  # a file that failed leaves nothing behind
        assert [list(table) for table, _ in own.KINDS.values()] == tables
        assert {name for name in sys.modules if name.startswith("bantamnet_own")} == modules


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("train quickstart --use gone.py", ["use: cannot read gone.py: No such file"]),
        ("train quickstart --use .", ["use: cannot read ."]),
        ("train quickstart --set use=3", ["use", "got 3"]),
        ("train quickstart --set use=[{file:3}]", ["use"]),
        ("evaluate mine.yaml --use gone.py", ["cannot read gone.py"]),
        ("train quickstart --use mine.py --use sub/mine.py", ["two files are called mine.py"]),
    ],
)
def test_wrong_files(
    arguments: str, words: list[str], place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "sub").mkdir()
    (place / "sub/mine.py").write_text(GOOD)
    code, out, err = invoke(arguments.split(), monkeypatch, capsys)
    assert code == 2 and not out and all(word in err for word in words), err


def test_a_file_is_run_once_and_a_prompt_may_say_it_again(place: Path) -> None:
    assert own.use_file(Path("mine.py")) == own.use_file(place / "mine.py")
    namespace = {"__name__": "imported_by_hand", "__file__": "mine.py"}
    exec(compile(SMALL, str(place / "mine.py"), "exec"), namespace)  # the same lines of the same file: no clash
    with pytest.raises(UserError, match="'mynet' is taken"):
        exec(compile("\n" + SMALL, "elsewhere.py", "exec"), {"__name__": "elsewhere"})
    for width in (3, 4):  # a notebook's cell, changed and run again
        cell = GOOD.replace("width=3", f"width={width}")
        exec(compile(cell, f"<cell {width}>", "exec"), {"__name__": "__main__"})
    assert own.OWN_MODELS["n"].__init__.__defaults__ == (4,)


def test_registered_in_python_then_trained_and_built(tmp_path: Path) -> None:
    exec(compile(SMALL, "<cell>", "exec"), {"__name__": "__main__"})
    net = bantamnet.build("mynet", {"model.args": {"width": 8}}, num_classes=3)
    assert net(torch.zeros(1, 3, 12, 12)).shape == (1, 3)
    run = bantamnet.train("quickstart", {"model.name": "mynet", "epochs": 1, "device": "cpu"}, out=tmp_path / "run")
    assert run.config().use == [] and not (tmp_path / "run/own").exists()
    assert bantamnet.load(run.path).info.config["model"] == {"name": "mynet", "args": {}}
    forget()
    with pytest.raises(UserError, match=r"needs the net 'mynet', .* registered by code that was in no file"):
        bantamnet.load(run.path)


def test_names_change_kinds_by_set(place: Path) -> None:
    own.use_file(Path("mine.py"))
    own.use_file(EXAMPLES / "own.py")
    mine = resolve("quickstart", ["optim.name=signs", "model.name=mynet"])
    assert mine.optim[0].model_dump()["args"] == {} and mine.optim[0].lr == 0.1 and mine.optim[0].weight_decay == 5e-4
    back = resolve("mine.yaml", ["optim.name=adam", "model.name=resnet8"])
    assert back.optim[0].name == "adam" and back.optim[0].lr == 0.05 and back.model == resolve("resnet8-tiny").model
    assert apply_set({"optim": {"name": "sdg", "momentum": 0.9}}, "optim.name=sgd")["optim"]["momentum"] == 0.9
    groups = "optim=[{match: '@norm-bias', name: signs, lr: 1}, {name: sgd, lr: 2, momentum: 0.5}]"
    assert [g.name for g in resolve("quickstart", [groups]).optim] == ["signs", "sgd"]


def test_measured_facts_of_a_source(place: Path) -> None:
    own.use_file(Path("mine.py"))
    source = find_source("dots")
    images = source.load(None)[0].images.double() / 255
    assert source.class_names == ("dark", "bright") and source.size == (12, 12)
    assert source.mean == pytest.approx(images.mean((0, 2, 3)).tolist(), abs=6e-5)
    assert source.std == pytest.approx(images.std((0, 2, 3), correction=0).tolist(), abs=6e-5)
    assert resolve("mine.yaml").data.mean == source.mean


def test_odd_nets_are_counted_and_kept(tmp_path: Path) -> None:
    """Tied weights, parameters outside layers, thin strided convolutions, layers that return several things."""

    @bantamnet.register("model", "tied")
    class Tied(nn.Module):
        def __init__(self, num_classes: int) -> None:
            super().__init__()
            self.one = nn.Conv2d(3, 3, 1, stride=2)
            self.two = self.one
            self.memory = nn.GRU(3, 4, batch_first=True)
            self.head = nn.Linear(4, num_classes)
            self.head.bias = nn.Parameter(torch.zeros(num_classes))
            self.shift = nn.Parameter(torch.zeros(4))
            self.rates = [rate.item() for rate in torch.linspace(0, 1, 3)]

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            rows = self.two(self.one(images)).flatten(2).transpose(1, 2)
            return self.head(self.memory(rows)[0][:, -1] + self.shift)

    config = tiny("epochs=1", "device=cpu", "model={name: tied, args: {}}")
    state = torch.get_rng_state()
    net = build_to_count(config.model, 10)
    assert torch.equal(torch.get_rng_state(), state)
    summary = summarize(net, (32, 32))
    assert sum(layer.params for layer in summary.layers) == summary.params == count_parameters(net) == 12 + 108 + 50 + 4
    run = bantamnet.train(config, out=tmp_path / "run")
    weights = read_tensors(run.best)[0]
    assert torch.equal(weights["one.weight"], weights["two.weight"]) and type(net.one).__name__ == "ThinStrided"
    images = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    assert torch.equal(bantamnet.load(run.path).logits(images), bantamnet.load(run.best).logits(images))


def test_views_of_one_tensor_are_written_apart(tmp_path: Path) -> None:
    whole = torch.arange(6.0)
    write_tensors(tmp_path / "file", {"a": whole, "b": whole, "c": whole[:3]}, {})
    assert torch.equal(read_tensors(tmp_path / "file")[0]["c"], whole[:3])


def test_all_that_an_optimiser_remembers_comes_back(place: Path) -> None:
    own.use_file(Path("mine.py"))
    weights = [nn.Parameter(torch.randn(3, 2)), nn.Parameter(torch.randn(2))]
    group = OwnGroup(name="odd", lr=0.1)
    first = make_own(group, [{"params": weights, "weight_decay": 0.0}])
    for _ in range(4):
        for weight in weights:
            weight.grad = torch.randn_like(weight)
        first.step()
    tensors, rest = save_state("odd", first)
    second = make_own(group, [{"params": weights, "weight_decay": 0.0}])
    load_state(second, tensors, json.loads(json.dumps(rest)))
    assert second.calls == 4 and 1 > second.param_groups[0]["scale"] == first.param_groups[0]["scale"]
    assert second.param_groups[0]["betas"] == (0.9, 0.99)
    for weight in weights:
        assert second.state[weight]["mean"].dtype == torch.float64 and second.state[weight]["signs"].dtype == torch.int8
        assert torch.equal(second.state[weight]["mean"], first.state[weight]["mean"])
        assert second.state[weight]["last"] == first.state[weight]["last"]

    @bantamnet.register("optimizer", "wrapper")
    class Wrapper(torch.optim.Optimizer):
        def __init__(self, params: Any, lr: float) -> None:
            super().__init__(params, {"lr": lr})
            self.inner = torch.optim.SGD(self.param_groups, lr)

        def step(self) -> None:  # type: ignore[override]
            self.inner.step()

    with pytest.raises(UserError, match=r"keeps another optimiser .inner.; give it a state_dict"):
        save_state("wrapper", make_own(OwnGroup(name="wrapper", lr=0.1), [{"params": weights, "weight_decay": 0.0}]))


def test_importing_and_naming_the_face_loads_no_pytorch() -> None:
    program = "import sys, bantamnet; bantamnet.register; assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
