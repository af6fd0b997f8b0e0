"""Views against twins made one image at a time; averages on logits that are known; nothing depends on batches or ranks."""

import copy
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor, nn

import bantamnet
from bantamnet.config import RunConfig, Tta
from bantamnet.configfile import validate
from bantamnet.data.preprocess import Preprocessing
from bantamnet.data.sources import load_digits
from bantamnet.data.split import Split
from bantamnet.data.views import BLOCK, WORDS, View, read_views
from bantamnet.errors import UserError
from bantamnet.evaluate import logits as scoring
from bantamnet.evaluate.logits import split_logits
from bantamnet.evaluate.metrics import score
from bantamnet.evaluate.tta import ViewAverage, chosen_tta
from bantamnet.runs.directory import RunDirectory
from bantamnet.runs.lookup import resolve
from bantamnet.runtime import Ranks, generator
from conftest import invoke, tiny

Picture = np.ndarray[Any, Any]
PREPROCESSING = Preprocessing((32, 32), (0.5, 0.4, 0.3), (0.2, 0.3, 0.25))


class Net(nn.Module):
    """A net that answers to what is where, quickly."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 5, stride=3)
        self.linear = nn.Linear(4 * 10 * 10, 5)

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.linear(self.conv(images).relu().flatten(1))
        return out


def noise(num: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (num, 3, 32, 32), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def split_of(images: Tensor) -> Split:
    num = len(images)
    return Split(images, torch.arange(num) % 5, torch.arange(num), tuple("abcde"), "none")


def told(net: nn.Module, images: Tensor, tta: str | Tta | ViewAverage) -> Tensor:
    return split_logits(net, split_of(images), PREPROCESSING, precision="fp32", tta=tta)


def mirror(picture: Picture, _: int) -> Picture:
    return np.asarray(ImageOps.mirror(Image.fromarray(picture)))


def upside_down(picture: Picture, _: int) -> Picture:
    return np.asarray(ImageOps.flip(Image.fromarray(picture)))


def moved(right: int, down: int) -> Callable[[Picture, int], Picture]:
    def view(picture: Picture, _: int) -> Picture:
        wide = np.pad(picture, ((9, 9), (9, 9), (0, 0)), mode="reflect")
        return wide[9 - down : 41 - down, 9 - right : 41 - right]

    return view


def turned(number: int, degrees: float) -> Callable[[Picture, int], Picture]:
    """The rotation that sample `index` gets in view `number`, drawn here for its block alone."""

    def view(picture: Picture, index: int) -> Picture:
        random = generator("augment", "tta", number, index // BLOCK, 0, "Rotate")
        angles = (torch.rand(BLOCK, generator=random, dtype=torch.float64) * 2 - 1) * degrees
        return np.asarray(Image.fromarray(picture).rotate(float(angles[index % BLOCK]), Image.Resampling.NEAREST))

    return view


def plain(picture: Picture, _: int) -> Picture:
    return picture


LINES: list[tuple[str, list[tuple[float, Callable[[Picture, int], Picture]]]]] = [
    ("none", [(1, plain)]),
    ("hflip", [(0.5, plain), (0.5, mirror)]),
    ("identity + 0.5*vflip(1)", [(2 / 3, plain), (1 / 3, upside_down)]),
    (" 3 * none+hflip(p=1) | vflip(1)", [(0.75, plain), (0.25, lambda p, i: upside_down(mirror(p, i), i))]),
    ("shift(3, -2, border=reflect) + 2*shift(-9, 0, border='reflect')", [(1 / 3, moved(3, -2)), (2 / 3, moved(-9, 0))]),
    ("none + rotate(20) + rotate(20)", [(1 / 3, plain), (1 / 3, turned(2, 20)), (1 / 3, turned(3, 20))]),
    (
        "hflip-translate",
        [
            *[(0.25, plain), (0.25, mirror), (0.125, moved(1, 1)), (0.125, moved(-1, -1))],
            *[(0.125, lambda p, i: mirror(moved(1, 1)(p, i), i)), (0.125, lambda p, i: mirror(moved(-1, -1)(p, i), i))],
        ],
    ),
]


@pytest.mark.parametrize(("line", "views"), LINES, ids=[line for line, _ in LINES])
@pytest.mark.parametrize("average", ["logits", "probabilities"])
def test_views_are_those_of_pillow_and_numpy_one_image_at_a_time(
    line: str, views: list[tuple[float, Callable[[Picture, int], Picture]]], average: str
) -> None:
    images, net = noise(BLOCK + 13), Net().eval()
    ours = told(net, images, Tta.model_validate({"views": line, "average": average}))
    for index in [0, 1, 2, 3, BLOCK - 1, BLOCK, BLOCK + 12]:
        total = np.zeros(5)
        for weight, view in views:
            pixels = view(images[index].permute(1, 2, 0).numpy(), index).astype(np.float32) / 255
            normal = (pixels - np.array(PREPROCESSING.mean)) / np.array(PREPROCESSING.std)
            with torch.no_grad():
                said = net(torch.from_numpy(normal.transpose(2, 0, 1)[None].astype(np.float32)))[0].double().numpy()
            total += weight * (np.exp(said) / np.exp(said).sum() if average == "probabilities" else said)
        expected = np.log(total) if average == "probabilities" else total
        np.testing.assert_allclose(ours[index].numpy(), expected, atol=2e-5)


def test_hflip_translate_is_that_of_airbench() -> None:
    """As cifar10-airbench does it on normalised images: pad a pixel by reflection, cut two corners out, mirror each."""
    images, net = noise(40), Net().eval()

    def with_mirror(pixels: Tensor) -> Tensor:
        return (net(pixels) + net(pixels.flip(3))) / 2

    with torch.no_grad():
        pixels = PREPROCESSING.normalize(images)
        padded = F.pad(pixels, (1, 1, 1, 1), mode="reflect")
        corners = [with_mirror(padded[:, :, :32, :32]), with_mirror(padded[:, :, 2:, 2:])]
        expected = with_mirror(pixels) / 2 + sum(corners) / 4
    torch.testing.assert_close(told(net, images, "hflip-translate"), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("tta", ["none", "hflip"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_words_of_old_give_the_old_bits(tta: str, precision: str) -> None:
    """What `none` and `hflip` were before there were lines: the plain mean over stacked views."""
    images, net = noise(30), Net().eval()
    views = [images] if tta == "none" else [images, images.flip(3)]
    layout = torch.contiguous_format if precision == "fp32" else torch.channels_last
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        expected = torch.stack([net(PREPROCESSING.normalize(view, layout)).float() for view in views]).mean(0)
    assert torch.equal(scoring.batch_logits(net, images, PREPROCESSING, tta, precision), expected)


def constructed(answers: list[list[float]]) -> Callable[[Tensor], Tensor]:
    """A net that gives the rows of `answers` to images that begin with 0, 1, 2, …"""
    table = torch.tensor(answers)
    return lambda images: table[images[:, 0, 0, 0].long()]


def numbered(num: int) -> Tensor:
    """Images whose first pixel is 2n and whose last column begins with 2n + 1, which a mirror brings to the front."""
    images = torch.zeros(num, 3, 4, 4, dtype=torch.uint8)
    images[:, 0, 0, 0] = 2 * torch.arange(num)
    images[:, 0, 0, 3] = 2 * torch.arange(num) + 1
    return images


def test_logits_and_probabilities_are_averaged_as_said() -> None:
    # Plain: class 0 by far. Mirror: class 1, less so; in probabilities the two are near each other.
    predict = constructed([[9.0, 0.0, 0.0], [0.0, 3.0, 2.0]])
    images, indices = numbered(1), torch.arange(1)
    logits = ViewAverage(Tta(views="none + 3*hflip(1)")).logits(predict, images, indices)
    torch.testing.assert_close(logits, torch.tensor([[9 / 4, 9 / 4, 6 / 4]]))
    average = ViewAverage(Tta(views="none + 3*hflip(1)", average="probabilities"))
    softmax = torch.tensor([[9.0, 0, 0], [0, 3.0, 2.0]]).double().softmax(1)
    expected = (softmax[:1] + 3 * softmax[1:]) / 4
    torch.testing.assert_close(average.logits(predict, images, indices).double().exp(), expected, atol=1e-7, rtol=1e-5)
    far = constructed([[1000.0, 0.0, 0.0], [1000.0, 0.0, 0.0]])
    answers = average.logits(far, images, indices)
    assert answers.isfinite().all() and score(answers, torch.tensor([1]))["nll"] == pytest.approx(1000)


@pytest.mark.parametrize("average", ["logits", "probabilities"])
@pytest.mark.parametrize("line", ["hflip", "2*hflip(1) + identity", "hflip(1)"])
def test_below_gives_views_to_the_unsure_alone(line: str, average: str) -> None:
    sure, unsure = [4.0, 0.0], [0.1, 0.0]
    answers = [sure, [0.0, 9.0], unsure, [0.0, 3.0], [0.0, 5.0], [9.0, 0.0]]
    seen: list[int] = []
    table = constructed(answers)

    def predict(images: Tensor) -> Tensor:
        seen.extend(images[:, 0, 0, 0].tolist())
        return table(images)

    keys = {"views": line, "average": average}
    images, indices = numbered(3), torch.arange(3)
    chosen = ViewAverage(Tta.model_validate({**keys, "below": 0.9}))
    ours = chosen.logits(predict, images, indices)
    assert seen == [0, 2, 4, 3], "each plain image once, and the mirror of the second"
    every = ViewAverage(Tta.model_validate(keys)).logits(table, images, indices)
    plainly = torch.tensor([answers[0], answers[2], answers[4]])
    plainly = plainly.log_softmax(1) if average == "probabilities" else plainly
    assert torch.equal(ours[[0, 2]], plainly[[0, 2]]) and torch.equal(ours[1], every[1])
    figures = chosen.figures()
    assert (figures["passes_per_image"], figures["images_with_views"], figures["tta_below"]) == (4 / 3, 1, 0.9)
    seen.clear()
    nobody = ViewAverage(Tta.model_validate({**keys, "below": 0.5}))
    assert torch.equal(nobody.logits(predict, images, indices), plainly) and seen == [0, 2, 4]
    assert nobody.figures()["images_with_views"] == 0 and nobody.figures()["equal_views"] == []


def test_views_that_are_the_same_are_told() -> None:
    """System D's views, of which its padded and centre-cropped one is the image itself."""
    system_d = "none + hflip(1) + centre_crop(4) + blur(1, 1) + vflip(1)"
    images, net = noise(700), Net()
    average = ViewAverage(Tta(views=system_d))
    told(net, images, average)
    assert average.figures() == {
        "tta": system_d, "views": 5, "passes_per_image": 5.0,
        "tta_average": "logits", "tta_below": None, "images_with_views": 700, "equal_views": [[1, 3]],
    }  # fmt: skip
    same = ViewAverage(
        Tta(views="hflip(1) + none + 2*hflip(1) + shift(0, 0) + hflip(1)|vflip(1)|vflip(1) + rotate(9) + rotate(9)")
    )
    told(net, images, same)
    assert same.figures()["equal_views"] == [[1, 3], [2, 4], [1, 5]], "random views of the same words differ"
    # Every image is its own mirror, but for the changed one.
    symmetric = torch.cat([images, images.flip(3)], 3)[:, :, :, 16:48].contiguous()
    for changed, equal in ((None, [[1, 2]]), (0, []), (-1, [])):
        almost = symmetric.clone()
        if changed is not None:
            almost[changed, 0, 0, 0] ^= 1
        average = ViewAverage(Tta(views="hflip"))
        told(net, almost, average)
        assert average.figures()["equal_views"] == equal


@dataclass(frozen=True)
class Threads(Ranks):
    """Ranks that are threads of this process."""

    barrier: threading.Barrier = field(default_factory=lambda: threading.Barrier(1))
    shared: dict[int, Tensor] = field(default_factory=dict)

    def all(self, tensor: Tensor) -> list[Tensor]:
        self.shared[self.rank] = tensor
        self.barrier.wait(20)
        parts = [self.shared[rank].clone() for rank in range(self.size)]
        self.barrier.wait(20)
        return parts

    def sum(self, tensor: Tensor) -> Tensor:
        return torch.stack(self.all(tensor)).sum(0)

    def gather(self, tensor: Tensor, lengths: list[int]) -> list[Tensor]:
        return self.all(tensor)


RANDOM = "none + 2*hflip(0.5)|rotate(30) + erase(0.7)|jitter(0.3, 0.3) + centre_crop(2) + crop(4)"


@pytest.mark.parametrize("keys", [{}, {"below": 0.35}, {"average": "probabilities"}], ids=str)
def test_batches_ranks_and_number_of_images_change_nothing(keys: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    images, net = noise(BLOCK + 100, seed=3), Net()
    tta = Tta.model_validate({"views": RANDOM, **keys})
    average = ViewAverage(tta)
    alone, figures = told(net, images, average), average.figures()
    assert figures["equal_views"] == [[1, 4]] and 0 < figures["images_with_views"] <= len(images)
    assert (figures["images_with_views"] < len(images)) == ("below" in keys)
    torch.testing.assert_close(told(net, images[:77], tta), alone[:77], atol=1e-5, rtol=0)
    monkeypatch.setattr(scoring, "BATCH", 37)
    small = ViewAverage(tta)
    torch.testing.assert_close(told(net, images, small), alone, atol=1e-5, rtol=0)
    assert small.figures() == figures
    together = Threads(barrier=threading.Barrier(3))
    ranks = [Threads(rank, 3, together.barrier, together.shared) for rank in range(3)]
    answers: dict[int, tuple[Tensor, dict[str, Any]]] = {}

    def work(rank: Threads) -> None:
        mine = ViewAverage(tta)
        arguments: dict[str, Any] = {"precision": "fp32", "tta": mine, "ranks": rank}
        answers[rank.rank] = split_logits(copy.deepcopy(net), split_of(images), PREPROCESSING, **arguments), mine.figures()

    threads = [threading.Thread(target=work, args=(rank,)) for rank in ranks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for rank in range(3):
        torch.testing.assert_close(answers[rank][0], alone, atol=1e-5, rtol=0)
        assert answers[rank][1] == figures


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("below", [None, 0.35])
def test_cuda_sees_the_same_views(below: float | None) -> None:
    split, net, device = split_of(noise(600, seed=3)), Net(), torch.device("cuda")
    answers = []
    for where in (torch.device("cpu"), device):
        average = ViewAverage(Tta(views=f"{RANDOM} + shift(1, 1)", below=below))
        placed = copy.deepcopy(net).to(where)
        said = split_logits(placed, split.to(where), PREPROCESSING, precision="fp32", tta=average)
        answers.append((said.cpu(), average.figures()["equal_views"]))
    assert (answers[0][0] - answers[1][0]).abs().median() < 1e-3 and answers[0][1] == answers[1][1]


def test_random_views_differ_by_number_and_sample() -> None:
    image = noise(1).expand(2 * BLOCK, -1, -1, -1)
    first, second = read_views("rotate(90) + rotate(90)")
    indices = torch.arange(2 * BLOCK)
    ones, others = first.apply(image, indices), second.apply(image, indices)
    assert len(ones.flatten(1).unique(dim=0)) > BLOCK and not torch.equal(ones, others)
    assert not torch.equal(ones[:BLOCK], ones[BLOCK:])
    backwards = indices.flip(0)
    assert torch.equal(first.apply(image, backwards), ones.flip(0))
    assert first.apply(image[:0], indices[:0]).shape == (0, 3, 32, 32)


# (line, words that the message must hold)
WRONG: list[tuple[str, list[str]]] = [
    ("", ["no views", "none, hflip, hflip-translate", "none + hflip(1)"]),
    ("  ", ["no views"]),
    ("flip", ["unknown value 'flip'", "did you mean 'hflip'", "hflip-translate, none"]),
    ("hflip-translat", ["did you mean 'hflip-translate'"]),
    ("none + ", ["view 2 of 'none + '", "is empty", "write none"]),
    ("+ none", ["view 1", "is empty"]),
    ("0.5*", ["view 1", "is empty"]),
    ("none + hflp(1)", ["view 2", "unknown operation 'hflp'", "did you mean 'hflip'"]),
    ("none + centre_crop", ["view 2", "centre_crop: pad: field required"]),
    ("none + shift(1, 1, border='black')", ["view 2", "border", "'reflect'"]),
    ("none + crop(4, fill=mean)", ["view 2", "fill=mean is for training", "fill=(125,123,114)"]),
    ("none + rotate(5)|centre_crp(4)", ["did you mean 'centre_crop'"]),
    ("none + hflip(", ["view 2", "cannot read 'hflip('"]),
    ("none - hflip(1)", ["view 1", "cannot read 'none - hflip(1)'"]),
    ("none + 0*hflip(1)", ["view 2", "the weight 0 must be above 0", "leave out"]),
    ("none + -1*hflip(1)", ["view 2", "the weight -1 must be above 0"]),
    ("none + nan*hflip(1)", ["view 2", "the weight nan must be above 0 and finite"]),
    ("none + inf*hflip(1)", ["view 2", "the weight inf must be above 0 and finite"]),
    ("none + hflip(1)*2", ["view 2", "'hflip(1)' is no weight", "write it first, as in 0.5*hflip(1)"]),
    ("none + hflip", ["view 2", "hflip alone flips half", "write hflip(1)", "hflip(0.5)"]),
    ("vflip", ["view 1", "vflip alone flips half", "write vflip(1)"]),
]


@pytest.mark.parametrize(("line", "words"), WRONG, ids=[line or "empty" for line, _ in WRONG])
def test_wrong_lines(line: str, words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        read_views(line)
    for word in words:
        assert word in str(caught.value)


def test_words_are_lines_and_weights_are_as_written() -> None:
    for line in WORDS.values():
        assert read_views(line)
    views = read_views("identity + .25*shift(-1, 2)|hflip(1) + 1e-3*crop(4, fill=9)")
    assert [(view.number, view.weight, view.augmentation.line) for view in views] == [
        (1, 1.0, ""), (2, 0.25, "shift(-1, 2)|hflip(1)"), (3, 0.001, "crop(4, fill=9)"),
    ]  # fmt: skip
    assert isinstance(views[0], View) and views[0].plain and not views[1].plain


# (sets, words that the message must hold)
WRONG_KEYS: list[tuple[list[str], list[str]]] = [
    (["tta=flip"], ["tta: unknown value 'flip'", "did you mean 'hflip'"]),
    (["tta.views=none + 0*hflip(1)"], ["tta.views: view 2", "above 0"]),
    (["tta.below=0.5"], ["tta: below: 0.5", "name views: hflip"]),
    (["tta=hflip", "tta.below=0"], ["tta.below: input should be greater than 0"]),
    (["tta=hflip", "tta.below=1.5"], ["tta.below: input should be less than or equal to 1"]),
    (["tta=hflip", "tta.average=logit"], ["tta.average: unknown value 'logit'", "did you mean 'logits'", "probabilities"]),
    (["tta.veiws=hflip"], ["tta: unknown key 'veiws'", "did you mean 'views'", "below"]),
    (["tta=[hflip]"], ["tta: takes keys and values"]),
]


@pytest.mark.parametrize(("sets", "words"), WRONG_KEYS, ids=[" ".join(sets) for sets, _ in WRONG_KEYS])
def test_wrong_keys(sets: list[str], words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        resolve("quickstart", sets)
    for word in words:
        assert word in str(caught.value)


def test_the_short_form_is_a_section_whose_other_keys_may_be_set() -> None:
    assert resolve("quickstart").tta == Tta()
    config = resolve("quickstart", ["tta=hflip-translate", "tta.below=0.8"])
    assert config.tta == Tta(views="hflip-translate", below=0.8)
    old = {key: value for key, value in config.dump().items() if key != "tta"}
    assert validate(config.dump()) == config and validate(old).tta == Tta()


def test_what_is_asked_is_a_line_or_the_runs_own() -> None:
    config = resolve("quickstart", ["tta=hflip", "tta.below=0.8"]).dump()
    old = {key: value for key, value in config.items() if key != "tta"}
    assert chosen_tta("none", config).tta == Tta()
    assert chosen_tta("hflip-translate", config).tta == Tta(views="hflip-translate")
    assert chosen_tta("recipe", config).tta == Tta(views="hflip", below=0.8)
    assert chosen_tta("recipe", config, average="probabilities").tta == Tta(views="hflip", below=0.8, average="probabilities")
    assert chosen_tta("hflip", config, below=0.3).tta == Tta(views="hflip", below=0.3)
    assert chosen_tta("recipe", old).tta == Tta()
    assert chosen_tta(Tta(views="hflip"), config).tta == Tta(views="hflip")


def test_a_picture_given_to_python_has_the_views_of_its_place(run: RunDirectory) -> None:
    classifier = bantamnet.load(run.path, device="cpu", precision="fp32")
    images, tta = noise(scoring.BATCH + 60), "rotate(40) + none"
    expected = split_logits(classifier.net, split_of(images), classifier.info.preprocessing, precision="fp32", tta=tta)
    torch.testing.assert_close(classifier.logits(images, tta=tta), expected, atol=1e-4, rtol=0)
    assert (classifier.logits(images[-1:], tta=tta) - expected[-1:]).abs().max() > 1e-2, "at another place, another angle"


OWN = {"views": "none + 2*hflip(1) + centre_crop(2)", "average": "probabilities", "below": 0.4}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A short run with views of its own."""
    config = tiny("epochs=4", "batch_size=50", "device=cpu", "precision=fp32", "optim.lr=0.1", "data.augment=''", "ema=null")
    config = RunConfig.model_validate({**config.dump(), "tta": OWN})
    return bantamnet.train(config, out=tmp_path_factory.mktemp("tta") / "run")


def test_a_run_scores_its_last_figures_with_its_views(run: RunDirectory) -> None:
    summary: dict[str, Any] = run.summary() or {}
    test, stored = summary["figures"]["test"], run.predictions("test")
    assert (test["tta"], test["views"], test["tta_average"], test["tta_below"]) == (OWN["views"], 3, "probabilities", 0.4)
    assert test["equal_views"] == [[1, 3]] and 0 < test["images_with_views"] < test["num"]
    # The plain view was made already; the one that equals it is made again.
    assert test["passes_per_image"] == pytest.approx(1 + 2 * test["images_with_views"] / test["num"])
    assert score(stored["logits"], stored["targets"])["correct"] == test["correct"]
    classifier = bantamnet.load(run.path, device="cpu", precision="fp32")
    images = load_digits()[1].images
    torch.testing.assert_close(classifier.logits(images, tta="recipe"), stored["logits"], rtol=0, atol=1e-5)
    torch.testing.assert_close(stored["logits"].exp().sum(1), torch.ones(len(images)))
    straight = classifier.logits(images)
    unsure = straight.softmax(1).amax(1) < 0.4
    mixed = (2 * straight.softmax(1) + 2 * classifier.logits(images.flip(3)).softmax(1)) / 4
    expected = torch.where(unsure[:, None], mixed, straight.softmax(1))
    torch.testing.assert_close(stored["logits"].exp(), expected, rtol=0, atol=1e-5)
    # Epochs are scored without views.
    assert run.epochs()[summary["chosen"]["epoch"] - 1]["val_accuracy"] == summary["chosen"]["accuracy"]
    looks = [json.loads(line) for line in run.evaluations.read_text().splitlines()]
    assert (looks[0]["tta"], looks[0]["tta_average"], looks[0]["tta_below"]) == (OWN["views"], "probabilities", 0.4)


def test_evaluate_and_predict_take_views(
    run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = run.evaluations.read_text()
    test = (run.summary() or {})["figures"]["test"]
    code, out, err = invoke(["evaluate", str(run.path), "--tta", "recipe", "--json"], monkeypatch, capsys)
    figures = json.loads(out)
    same = ("correct", "tta", "views", "passes_per_image", "tta_average", "tta_below", "images_with_views", "equal_views")
    assert code == 0 and {key: figures[key] for key in same} == {key: test[key] for key in same}
    assert "warning" in err and "view 3 is view 1 on every image" in err
    code, out, err = invoke(["evaluate", str(run.path), "--json"], monkeypatch, capsys)
    figures = json.loads(out)
    assert (figures["tta"], figures["views"], figures["passes_per_image"]) == ("none", 1, 1.0) and "equal_views" not in figures
    assert code == 0 and not err
    options = ["--tta", "hflip", "--tta-average", "probabilities", "--tta-below", "0.8"]
    code, out, err = invoke(["evaluate", str(run.path), *options], monkeypatch, capsys)
    assert code == 0 and not err and "tta hflip (2 views, mean of probabilities, 1." in out and "images under 0.8)" in out
    looks = [json.loads(line) for line in run.evaluations.read_text().removeprefix(before).splitlines()]
    assert [look.get("tta_below") for look in looks] == [0.4, None, 0.8] and looks[1]["tta"] == "none"
    _, split = load_digits()
    for index in range(6):
        Image.fromarray(split.images[index].permute(1, 2, 0).numpy()).save(tmp_path / f"{index}.png")
    line = "rotate(40) + centre_crop(1) + none"
    code, out, err = invoke(["predict", str(run.path), str(tmp_path), "--tta", line, "--json"], monkeypatch, capsys)
    said = json.loads(out)
    assert code == 0 and said["passes_per_image"] == 3.0 and "view 3 is view 2" in err
    python = bantamnet.load(run.path).predict(split.images[:6], tta=line)
    assert [row["class"] for row in said["predictions"]] == [prediction.label for prediction in python]
    assert [row["probability"] for row in said["predictions"]] == pytest.approx([p.probabilities[0] for p in python], abs=1e-5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--tta", "none + hflp(1)"], ["tta: view 2", "did you mean 'hflip'"]),
        (["--tta", "hflip", "--tta-average", "probs"], ["tta.average: unknown value 'probs'", "did you mean 'probabilities'"]),
        (["--tta", "hflip", "--tta-below", "2"], ["tta.below: input should be less than or equal to 1"]),
        (["--tta-below", "0.5"], ["below: 0.5 picks the images", "name views: hflip"]),
    ],
    ids=str,
)
def test_wrong_options(
    run: RunDirectory, options: list[str], words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = run.evaluations.read_text()
    for verb in (["evaluate", str(run.path)], ["predict", str(run.path), "examples/digits"]):
        code, out, err = invoke([*verb, *options], monkeypatch, capsys)
        assert code == 2 and not out and "Traceback" not in err
        for word in words:
            assert word in err, err
    assert run.evaluations.read_text() == before
