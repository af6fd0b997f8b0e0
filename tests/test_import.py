"""Weights trained elsewhere: the imported net says what the original says, code in a pickle is never run, faults are named."""

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

import bantamnet
from bantamnet.data.sources import load_digits
from bantamnet.errors import UserError
from bantamnet.evaluate.scoring import evaluate
from bantamnet.runs.importing import import_weights, read_weights, rewrite
from bantamnet.runs.modelfile import load_model
from bantamnet.runs.tensorfile import read_header
from bantamnet.training.setup import build_net
from conftest import invoke, tiny


class Basic(nn.Module):
    """A block whose attributes are called as in kuangliu/pytorch-cifar and akamaster/pytorch_resnet_cifar10."""

    expansion = 1

    def __init__(self, channels: int, width: int, stride: int, option: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = nn.Sequential()
        self.pad = width // 4 if option == "A" and (stride > 1 or channels != width) else None
        if option == "B" and (stride > 1 or channels != width):
            self.shortcut = nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        kept = self.shortcut(x) if self.pad is None else F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.pad, self.pad))
        return F.relu(out + kept)


class Bottleneck(nn.Module):
    expansion = 4

    def __init__(self, channels: int, width: int, stride: int, option: str) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width)
        self.shortcut = nn.Sequential()
        if stride > 1 or channels != 4 * width:
            self.shortcut = nn.Sequential(nn.Conv2d(channels, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width))

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))
        return F.relu(self.bn3(self.conv3(out)) + self.shortcut(x))


class PreAct(nn.Module):
    """As in preact_resnet.py: without a shortcut of its own a block has no attribute of that name."""

    expansion = 1

    def __init__(self, channels: int, width: int, stride: int, option: str) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        if stride > 1 or channels != width:
            self.shortcut = nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        begun = F.relu(self.bn1(x))
        kept = self.shortcut(begun) if hasattr(self, "shortcut") else x
        return self.conv2(F.relu(self.bn2(self.conv1(begun)))) + kept


class Outside(nn.Module):
    """conv1, bn1 (none where blocks begin with theirs), layer1 …, linear."""

    def __init__(self, block: Any, widths: list[int], blocks: list[int], option: str = "B", num_classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, widths[0], 3, 1, 1, bias=False)
        if block is not PreAct:
            self.bn1 = nn.BatchNorm2d(widths[0])
        channels = widths[0]
        for number, (width, count) in enumerate(zip(widths, blocks, strict=True), 1):
            layers = []
            for index in range(count):
                layers.append(block(channels, width, 2 if number > 1 and index == 0 else 1, option))
                channels = width * block.expansion
            setattr(self, f"layer{number}", nn.Sequential(*layers))
        self.num_layers = len(widths)
        self.linear = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        x = F.relu(self.bn1(x)) if hasattr(self, "bn1") else x
        for number in range(1, self.num_layers + 1):
            x = getattr(self, f"layer{number}")(x)
        return self.linear(F.avg_pool2d(x, x.shape[3]).flatten(1))


def original(
    block: Any = Basic, widths: tuple[int, ...] = (8, 16, 16, 24), blocks: tuple[int, ...] = (2, 2, 2, 2), **more: Any
) -> Any:
    """A net of theirs in evaluation mode, every number of it random, running statistics too."""
    torch.manual_seed(3)
    net = Outside(block, list(widths), list(blocks), **more).eval()
    for name, tensor in net.state_dict().items():
        if tensor.is_floating_point() and tensor.ndim == 1:
            tensor.uniform_(0.5, 1.5) if name.endswith(("weight", "var")) else tensor.normal_(0, 0.3)
    return net


SMALL = ["model.stem_width=8", "model.widths=[8,16,16,24]"]
TWINS: dict[str, tuple[Callable[[], nn.Module], str, list[str], str]] = {
    "resnet18": (original, "resnet18", SMALL, "kuangliu"),
    "resnet50": (
        lambda: original(Bottleneck, blocks=(2, 1, 2, 1)),
        "resnet18",
        [*SMALL, "model.block=bottleneck", "model.blocks=[2,1,2,1]"],
        "kuangliu",
    ),
    "preactresnet18": (lambda: original(PreAct), "preactresnet18", SMALL, "kuangliu, pre-activation"),
    "resnet20": (lambda: original(Basic, (16, 32, 64), (3, 3, 3), option="A"), "resnet20", [], "kuangliu"),
}


@pytest.mark.parametrize("twin", TWINS)
def test_an_imported_net_says_what_the_original_says(twin: str, tmp_path: Path) -> None:
    make, name, sets, naming = TWINS[twin]
    net = make()
    state = {"net": {f"module.{key}": value for key, value in net.state_dict().items()}, "acc": 93.02, "epoch": 199}
    torch.save(state, tmp_path / "ckpt.pth")
    out = tmp_path / "model.safetensors"
    facts = import_weights(tmp_path / "ckpt.pth", name, out, sets=sets, classes="cifar10")
    images = torch.randint(0, 256, (5, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)))
    with torch.no_grad():
        expected = net((images / 255 - mean) / std)
    said = bantamnet.load(out, "cpu", "fp32").logits(images)
    assert expected.std() > 0.1 and (said - expected).abs().max() < 1e-5 * max(1, expected.abs().max())
    assert facts["naming"] == naming and facts["says"] == {"acc": 93.02, "epoch": 199}
    assert facts["parameters"] == sum(p.numel() for p in net.parameters()) and facts["tensors"] == len(net.state_dict())


def test_the_whole_resnet18_and_plain_state_dicts(tmp_path: Path) -> None:
    """All 11,173,962 parameters of the original widths; the state dict as it is, and as safetensors."""
    net = original(widths=(64, 128, 256, 512))
    torch.save(net.state_dict(), tmp_path / "plain.pth")
    safetensors.torch.save_file(net.state_dict(), tmp_path / "plain.safetensors")
    facts = import_weights(tmp_path / "plain.pth", "resnet18", tmp_path / "one.safetensors")
    other = import_weights(tmp_path / "plain.safetensors", "resnet18", tmp_path / "two.safetensors")
    assert facts["parameters"] == 11_173_962 and facts["digest"] == other["digest"] and facts["says"] == {}


def test_evaluate_predict_summary_and_training_take_an_imported_net(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    net = original()
    torch.save({"net": net.state_dict(), "acc": torch.tensor(12.5)}, "ckpt.pth")
    words = ["import", "ckpt.pth", "--as", "resnet18", "--out", "mine.safetensors", "--classes", "digits"]
    sets = [part for assignment in SMALL for part in ("--set", assignment)]
    code, out, err = invoke([*words, *sets, "--mean", "0.1", "0.2", "0.3", "--std", "0.4", "0.5", "0.6"], monkeypatch, capsys)
    assert code == 0, err
    for told in (
        "mean 0.1 0.2 0.3, std 0.4 0.5 0.6 (as given",
        "10 of digits",
        "acc 12.5 (by the file",
        "imported",
        "bantamnet evaluate mine",
    ):
        assert told in out, out
    code, out, err = invoke(["evaluate", "mine.safetensors", "--json"], monkeypatch, capsys)
    assert code == 0, err
    figures = json.loads(out)
    test = load_digits()[1]
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6)))
    with torch.no_grad():
        correct = int((net((test.images / 255 - mean) / std).argmax(1) == test.labels).sum())
    assert (figures["correct"], figures["num"], figures["label"]) == (correct, 360, "imported")
    assert "not known" in figures["chosen"] and figures["precision"] == "fp32"
    code, out, err = invoke(
        ["evaluate", "mine.safetensors", "--tta", "hflip", "--tta-average", "probabilities"], monkeypatch, capsys
    )
    assert code == 0 and "label: imported" in out, err
    code, out, err = invoke(["evaluate", "mine.safetensors", "--split", "val"], monkeypatch, capsys)
    assert code == 2 and "has no 'val' images; it has train, test" in err
    code, out, err = invoke(
        ["predict", "mine.safetensors", str(Path(__file__).parent.parent / "examples/digits")], monkeypatch, capsys
    )
    assert code == 0 and "7.png" in out, err
    code, out, err = invoke(["summary", "mine.safetensors", "--json"], monkeypatch, capsys)
    assert code == 0 and json.loads(out)["params"] == sum(p.numel() for p in net.parameters())
    header = read_header(Path("mine.safetensors"))
    assert (
        header["figures"] == []
        and "optim" not in header["repeat"]["config"]
        and "bantamnet import" in header["repeat"]["command"]
    )
    config = tiny("model={name: resnet18}", *SMALL, "budget=null", "init=mine.safetensors")
    assert torch.equal(build_net(config, 10, True).state_dict()["head.weight"], net.linear.weight)
    code, out, err = invoke([*words, *sets], monkeypatch, capsys)
    assert code == 2 and "mine.safetensors exists already" in err


def test_what_is_assumed_of_the_pixels_is_told(tmp_path: Path, monkeypatch: Any, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(original(Basic, (16, 32, 64), (3, 3, 3), option="A").state_dict(), "w.pth")
    code, out, err = invoke(["import", "w.pth", "--as", "resnet20", "--out", "a.safetensors"], monkeypatch, capsys)
    assert code == 0, err
    assert "mean 0.4914 0.4822 0.4465, std 0.2023 0.1994 0.201 (assumed, as in kuangliu/pytorch-cifar" in out
    digits = import_weights(Path("w.pth"), "resnet20", Path("b.safetensors"), classes="digits", std=(1, 1, 1))
    assert (
        digits["mean"] == [0.305] * 3
        and digits["std"] == [1, 1, 1]
        and digits["preprocessing"] == "mean assumed, those of digits"
    )


class Canary:
    """A pickle that would touch a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch '{self.path}'",)


@pytest.mark.parametrize("where", ["value", "whole", "old format", "bare pickle"])
def test_a_pickle_that_runs_code_is_refused_unread(where: str, tmp_path: Path) -> None:
    canary, file = tmp_path / "canary", tmp_path / "ckpt.pth"
    state = original().state_dict()
    content: Any = Canary(canary) if where == "whole" else {"net": state, "acc": Canary(canary)}
    if where == "bare pickle":
        file.write_bytes(pickle.dumps({"acc": Canary(canary)}, protocol=2))
    else:
        torch.save(content, file, _use_new_zipfile_serialization=where != "old format")
    with pytest.raises(
        UserError,
        match=r"ckpt\.pth is refused, unread: .* asks for (posix|nt)\.system,.* run any code.* save the state dict alone",
    ):
        import_weights(file, "resnet18", tmp_path / "model.safetensors", sets=SMALL)
    assert not canary.exists() and not (tmp_path / "model.safetensors").exists()
    if where == "bare pickle":  # the canary sings where pickles are trusted
        pickle.loads(file.read_bytes())
        assert canary.exists()


def test_a_whole_pickled_net_is_refused(tmp_path: Path) -> None:
    torch.save(original(), tmp_path / "net.pth")
    with pytest.raises(UserError, match="save the state dict alone"):
        read_weights(tmp_path / "net.pth")


def changed(state: dict[str, Tensor], change: str) -> dict[str, Any]:
    if change == "missing":
        return {name: value for name, value in state.items() if name not in ("layer2.1.conv2.weight", "bn1.running_var")}
    if change == "left over":
        return {**state, "layer2.1.conv9.weight": torch.zeros(3), "extra.bias": torch.zeros(1)}
    if change == "shape":
        return {**state, "linear.weight": torch.zeros(100, 24), "linear.bias": torch.zeros(100)}
    if change == "double":
        return {**state, "fc.bias": torch.zeros(10)}
    if change == "nan":
        return {**state, "layer1.0.bn1.bias": torch.full((8,), float("nan"))}
    if change == "odd":
        return {**state, "acc": "93"}
    return {}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("missing", ["missing: stages.1.1.residual.3.weight", "missing: stem.1.running_var", "--map"]),
        ("left over", ["left over: layer2.1.conv9.weight (as stages.1.conv9.weight)", "left over: extra.bias"]),
        ("shape", ["linear.weight is (100, 24) in the file, (10, 24) in the net", "linear.bias is (100,)", "with 10 classes"]),
        ("double", ["linear.bias and fc.bias both become head.bias"]),
        ("nan", ["stages.0.0.residual.1.bias hold NaN"]),
        ("odd", ["expected a state dict", "'acc' is a str"]),
        ("empty", ["expected a state dict"]),
    ],
)
def test_what_does_not_fit_is_named(change: str, words: list[str], tmp_path: Path) -> None:
    torch.save(changed(original().state_dict(), change), tmp_path / "w.pth")
    with pytest.raises(UserError) as told:
        import_weights(tmp_path / "w.pth", "resnet18", tmp_path / "model.safetensors", sets=SMALL)
    assert not (tmp_path / "model.safetensors").exists()
    for word in words:
        assert word.replace("stages.1.conv9", "stages.1.1.conv9") in str(told.value)


def test_a_net_of_another_order_does_not_fit(tmp_path: Path) -> None:
    torch.save(original(PreAct).state_dict(), tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"missing: stem\.1\.weight"):
        import_weights(tmp_path / "w.pth", "resnet18", tmp_path / "model.safetensors", sets=SMALL)


def test_old_files_without_batch_counts_fit(tmp_path: Path) -> None:
    state = {name: value for name, value in original().state_dict().items() if not name.endswith("num_batches_tracked")}
    torch.save({"state_dict": state, "best_prec1": 91.7}, tmp_path / "w.th")
    facts = import_weights(tmp_path / "w.th", "resnet18", tmp_path / "model.safetensors", sets=SMALL)
    assert facts["says"] == {"best_prec1": 91.7}


def test_a_map_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    net = bantamnet.build("resnet8", num_classes=10)
    renamed = {name.replace("stages.", "s").replace("head", "out"): tensor for name, tensor in net.state_dict().items()}
    torch.save({**renamed, "teacher.w": torch.zeros(2)}, "w.pt")
    Path("map.yaml").write_text(r"{'^s(\d)': 'stages.\1', '^out\.': 'head.', '^teacher': null}")
    words = ["import", "w.pt", "--as", "resnet8", "--out", "m.safetensors"]
    code, out, err = invoke([*words, "--map", "map.yaml"], monkeypatch, capsys)
    assert code == 0 and "named as by map.yaml" in out and "left out, as the map says: teacher.w" in out, err
    weights = load_model(Path("m.safetensors"))[0].state_dict()
    assert all(torch.equal(weights[name], tensor) for name, tensor in net.state_dict().items())
    words[-1] = "n.safetensors"
    wrong = {
        "{'^s(': x}": "no regular expression",
        "{a: 3}": "takes a replacement, or null",
        r"{'^s(\d)': '\7'}": "no replacement for it",
    }
    for content, message in wrong.items():
        Path("map.yaml").write_text(content)
        code, out, err = invoke([*words, "--map", "map.yaml"], monkeypatch, capsys)
        assert code == 2 and message in err and not Path("n.safetensors").exists(), err


def test_rules_apply_in_order() -> None:
    assert rewrite("a.b", [("^a", "b"), (r"b\.", "c")]) == "cb" and rewrite("a.b", [("b$", None)]) is None


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ("import gone.pth --as resnet18 --out m", "cannot read gone.pth"),
        ("import text.pth --as resnet18 --out m", "not a file of weights"),
        ("import text.safetensors --as resnet18 --out m", "not a file of weights"),
        ("import text.pth --as resnet19 --out m", "unknown name 'resnet19'"),
        ("import text.pth --as resnet18 --out m --classes cifar", "unknown data set 'cifar'"),
        ("import text.pth --as resnet18 --out m --std 1 1 0", "those of std above 0"),
        ("import text.pth --as resnet18 --out text.pth", "text.pth exists already"),
        ("import text.pth --as resnet18 --out m --map gone.yaml", "not a file of weights"),
        ("import text.pth --as resnet18 --out m --set epochs=3", "only model.… keys"),
    ],
)
def test_wrong_imports(
    arguments: str, word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("text.pth", "text.safetensors"):
        Path(name).write_text("hello, no weights here")
    code, out, err = invoke(arguments.split(), monkeypatch, capsys)
    assert code == 2 and word in err and not out and "Traceback" not in err and not Path("m").exists(), err


def test_classes_of_a_folder_of_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for number in range(10):
        Path(f"pictures/class{number}").mkdir(parents=True)
        for index in range(5):
            Image.new("RGB", (32, 32), (25 * number, 40 * index, 0)).save(f"pictures/class{number}/{index}.png")
    torch.save(bantamnet.build("resnet8").state_dict(), "w.pth")
    with pytest.raises(UserError, match="a folder needs both"):
        import_weights(Path("w.pth"), "resnet8", Path("m.safetensors"), classes="./pictures", mean=(0.5, 0.5, 0.5))
    facts = import_weights(Path("w.pth"), "resnet8", Path("m.safetensors"), classes="./pictures", mean=[0.5] * 3, std=[0.2] * 3)
    assert facts["naming"] == "bantamnet" and facts["preprocessing"] == "as given"
    figures = evaluate(Path("m.safetensors"))
    assert figures["num"] == 10 and figures["per_class"][3]["class"] == "class3" and figures["label"] == "imported"
    command = (
        "import w.pth --as resnet8 --out n.safetensors --classes ./pictures --size 48 --resize pad --mean 0.5 0.5 0.5 --std 1 1 1"
    )
    code, _, err = invoke(command.split(), monkeypatch, capsys)
    info = load_model(Path("n.safetensors"))[1]
    assert code == 0 and (info.preprocessing.size, info.preprocessing.resize) == ((48, 48), "pad"), err
    assert evaluate(Path("n.safetensors"))["num"] == 10
