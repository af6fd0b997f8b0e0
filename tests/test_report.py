"""A report: all sections, every figure that of the run, nothing from elsewhere, everything escaped; and in a browser."""

import base64
import io
import json
import re
import shutil
import warnings
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import bantamnet
from bantamnet.data.augment import parse, rows
from bantamnet.data.sources import load_digits
from bantamnet.data.split import hold_out
from bantamnet.errors import UserError
from bantamnet.evaluate.measured import group_facts
from bantamnet.evaluate.metrics import score
from bantamnet.report import pictures
from bantamnet.report.curves import Line, line_chart
from bantamnet.report.markup import Markup, element
from bantamnet.report.matrix import confused_pairs, matrix_drawing
from bantamnet.report.svg import ticks
from bantamnet.report.write import write_report
from bantamnet.runs.directory import RunDirectory, append_line
from bantamnet.runs.group import DIVERGED, write_group
from browser import Browser, browser
from conftest import invoke, tiny

SECTIONS = ["audit", "curves", "classes", "pairs", "mistakes", "calibration", "attention", "samples", "net", "repeat"]
FETCHING = {"src", "href", "data", "poster", "srcset", "action", "formaction", "background", "xlink:href", "manifest"}
WITHOUT_END = {"meta", "link", "img", "br", "col"}


class Page(HTMLParser):
    """Elements with their attributes, words by section; refuses a tag that is left open."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.words: dict[str, str] = {}
        self.style = ""
        self.stack: list[str] = []
        self.section = "head"
        self.feed(text)
        self.close()
        assert not self.stack, f"left open: {self.stack}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = {key: value or "" for key, value in attrs}
        self.elements.append((tag, known))
        if tag == "section":
            self.section = known["id"]
        if tag not in WITHOUT_END:
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {key: value or "" for key, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.stack and self.stack.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        if self.stack and self.stack[-1] == "style":
            self.style += data
        else:
            self.words[self.section] = self.words.get(self.section, "") + data + " "

    def images(self) -> list[np.ndarray]:
        """The pixels (H, W, 3) of every picture, in order."""
        sources = [known["src"] for tag, known in self.elements if tag == "img"]
        return [np.asarray(Image.open(io.BytesIO(base64.b64decode(s.split(",", 1)[1]))).convert("RGB")) for s in sources]


def asks_for(page: Page) -> list[str]:
    """Whatever a browser would fetch: addresses in attributes and in style sheets, and scripts."""
    found = [
        f"{tag} {key}={value[:60]}"
        for tag, known in page.elements
        for key, value in known.items()
        if (key in FETCHING and not value.startswith(("#", "data:"))) or "url(" in value or key.startswith("on")
    ]
    found += [tag for tag, _ in page.elements if tag in ("script", "iframe", "object", "embed")]
    return found + re.findall(r"url\([^)]*\)|@import[^;]*", page.style)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A short run that has learned something and still makes mistakes."""
    config = tiny("epochs=4", "batch_size=50", "device=cpu", "data.augment=crop(4)|rotate(10)", "optim.lr=0.05")
    return bantamnet.train(config, out=tmp_path_factory.mktemp("report") / "run")


@pytest.fixture(scope="module")
def written(run: RunDirectory) -> dict[str, Any]:
    """The report on it."""
    return write_report([run.path])


@pytest.fixture(scope="module")
def page(written: dict[str, Any]) -> Page:
    """The same, parsed."""
    return Page(Path(written["report"]).read_text(encoding="utf-8"))


def test_every_section_is_there_and_nothing_is_fetched(run: RunDirectory, written: dict[str, Any], page: Page) -> None:
    assert written["report"] == str(run.path / "report.html") and written["markdown"] == str(run.path / "report.md")
    assert [known["id"] for tag, known in page.elements if tag == "section"] == SECTIONS
    links = [known["href"] for tag, known in page.elements if tag == "a"]
    assert links == [f"#{name}" for name in SECTIONS]
    assert asks_for(page) == []
    policy = next(known["content"] for tag, known in page.elements if known.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy
    assert Path(written["report"]).stat().st_size < 5_000_000
    assert "prefers-color-scheme: dark" in page.style and "@media print" in page.style


def test_what_would_be_fetched_is_noticed() -> None:
    for bad in ('<img src="x.png">', '<p style="background:url(a.png)">x</p>', "<script>1</script>", '<a href="http://a">a</a>'):
        assert asks_for(Page(bad))
    assert asks_for(Page("<style>@import 'a.css';</style>"))
    assert not asks_for(Page('<a href="#net">a</a><img src="data:image/png;base64,AA">'))


def test_the_first_screen_answers_the_five_questions(run: RunDirectory, written: dict[str, Any], page: Page) -> None:
    summary: dict[str, Any] = run.summary() or {}
    test, head = summary["figures"]["test"], " ".join(page.words["head"].split())
    accuracy, low, high = (f"{100 * share:.2f}%" for share in (test["accuracy"], *test["accuracy_95"]))
    for told in (accuracy, f"{low} to {high}", f"{summary['parameters']:,} parameters", f"{test['correct']:,} of 360"):
        assert told in written["claims"][0] and told.split(" parameters")[0] in head
    for told in ("clean", "audit:", "fly", "seed 0", "digits", "training images", "Guessing one of 10 classes gives 10.0%"):
        assert told in head, told
    assert f"{summary['macs'] / 1e6:.2f} M" in head or f"{summary['macs'] / 1e6:.1f} M" in head


def test_figures_are_the_runs(run: RunDirectory, page: Page) -> None:
    stored = run.predictions("test")
    predicted, targets = stored["logits"].argmax(1).numpy(), stored["targets"].numpy()
    matrix = np.zeros((10, 10), int)
    for true, said in zip(targets, predicted, strict=True):
        matrix[true, said] += 1
    words = page.words["classes"]
    for true in range(10):
        for said in range(10):
            share = 100 * matrix[true, said] / matrix[true].sum()
            assert f"{true} taken for {said}: {matrix[true, said]} of {matrix[true].sum()} ({share:.1f}%)" in words
    recall = [matrix[label, label] / matrix[label].sum() for label in range(10)]
    assert all(f"{100 * value:.2f}%" in words for value in recall)
    lines = run.epochs()
    for line in lines:
        assert f"validation, epoch {line['epoch']}: {line['val_loss']:.4g}" in page.words["curves"]
        assert f"rate, epoch {line['epoch']}: {line['lr'][0]:.4g}" in page.words["curves"]
    assert run.command() in page.words["repeat"] and (run.summary() or {})["weights_digest"] in page.words["repeat"]
    assert "stages.1.0.shortcut.0" in page.words["net"] and f"{(run.summary() or {})['macs']:,}" in page.words["net"]


def test_pictures_are_the_images_that_are_meant(run: RunDirectory, page: Page) -> None:
    """The worst mistake and the augmented samples, pixel for pixel, found by a slow twin."""
    stored = run.predictions("test")
    chances = stored["logits"].double().softmax(1)
    wrong = [i for i in range(360) if int(chances[i].argmax()) != int(stored["targets"][i])]
    worst = max(wrong, key=lambda i: float(chances[i].max()))
    train, test = load_digits()
    pictures = [picture.tobytes() for picture in page.images()]
    assert test.images[worst].permute(1, 2, 0).numpy().tobytes() in pictures
    right = f"right: {100 * float(chances[worst, stored['targets'][worst]]):.1f}%"
    assert right in page.words["mistakes"]
    config = run.config()
    learned, _ = hold_out(train, 144, 0)
    augmentation = parse(config.data.augment, config.data.mean)
    first = torch.tensor([int((learned.labels == 0).nonzero()[0])])
    for epoch in range(4):
        drawn = augmentation.draw(len(learned), config.seed, epoch)
        seen = augmentation.apply(learned.gather(first), rows(drawn, first))[0]
        assert seen.permute(1, 2, 0).numpy().tobytes() in pictures, "what the net saw in training"


def test_confused_pairs_are_those_of_counting() -> None:
    matrix = torch.tensor([[5, 0, 2], [7, 1, 0], [2, 0, 9]])
    found = [(pair.true, pair.said, pair.num, pair.of) for pair in confused_pairs(matrix)]
    assert found == [(1, 0, 7, 8), (0, 2, 2, 7), (2, 0, 2, 11)]
    assert confused_pairs(torch.eye(3, dtype=torch.int64)) == []


def test_a_matrix_of_many_classes_stays_small() -> None:
    names = [f"a class of the number {number}" for number in range(100)]
    assert len(matrix_drawing(torch.full((100, 100), 12345), names)) < 3_500_000


def test_ticks_are_round_and_inside() -> None:
    for low, high in ((0, 1), (0.93, 0.941), (1, 300), (3e-6, 0.1), (71.2, 88.8), (5, 5)):
        found = ticks(low, high)
        assert 1 <= len(found) <= 6 and all(low - 1e-9 <= value <= high + 1e-9 for value in found), (low, high, found)
        steps = np.diff(found)
        assert np.allclose(steps, steps[:1]) if len(found) > 1 else low == high


def test_a_long_legend_lies_above_the_drawing() -> None:
    lines = [Line(f"a name of some length {number}", f"line{number}", [1, 2], [0.0, 1.0]) for number in range(1, 7)]
    drawn = line_chart("title", "epoch", "loss", lines)
    top = min(float(y) for y in re.findall(r'y1="([\d.]+)" y2="\1" class="grid"', drawn))
    names = [float(y) for y in re.findall(r'y="(-?[\d.]+)" class="tick">a name', drawn)]
    low, high = map(float, re.findall(r'viewBox="0 (-?\d+) \d+ (\d+)"', drawn)[0])
    assert len(names) == 6 and max(names) < top and min(names) - 10 >= low and low + high == 250


def test_markup_escapes_whatever_is_no_markup() -> None:
    assert element("p", "<b>&", element("i", '"'), title='"<') == '<p title="&quot;&lt;">&lt;b&gt;&amp;<i>&quot;</i></p>'
    assert element("p", ["a", None, [Markup("<br/>")]]) == "<p>a<br/></p>"


NASTY = ["<script>alert(1)</script>", "a|b`c`", "\"'><img src=x onerror=alert(2)>", "$style ${head}", "[x](javascript:1)"]


def nasty_run(run: RunDirectory, folder: Path) -> Path:
    """The same run with names that would be markup if they were not escaped."""
    from bantamnet.runs.tensorfile import read_tensors, write_tensors

    shutil.copytree(run.path, folder)
    weights, header = read_tensors(folder / "best.safetensors")
    header["class_names"] = [*NASTY, *(f"<i>{number}" for number in range(5))]
    write_tensors(folder / "best.safetensors", weights, header)
    summary = json.loads((folder / "summary.json").read_text())
    summary["name"] = "<b>bold</b>"
    summary["environment"]["device"] = "CPU <made> & sold"
    (folder / "summary.json").write_text(json.dumps(summary))
    (folder / "command.txt").write_text("bantamnet train '</pre><script>alert(3)</script>' ```\n")
    return folder


def test_names_that_look_like_markup_are_shown_and_do_nothing(run: RunDirectory, tmp_path: Path) -> None:
    done = write_report([nasty_run(run, tmp_path / "<u>run")])
    text = Path(done["report"]).read_text(encoding="utf-8")
    page = Page(text)
    assert asks_for(page) == [] and not [tag for tag, _ in page.elements if tag in ("b", "i", "u", "script")]
    for name in NASTY[:1] + NASTY[3:]:
        assert name in page.words["classes"], name
    assert "</pre><script>alert(3)</script>" in page.words["repeat"] and "CPU <made> & sold" in page.words["head"]
    marked = Path(done["markdown"]).read_text(encoding="utf-8")
    outside = re.sub(r"(`{3,})\n.*?\n\1", "", marked, flags=re.DOTALL)
    assert not re.search(r"(?<!\\)<", outside), "a tag in Markdown"
    tables = [line for line in outside.splitlines() if line.startswith("| ")]
    columns = [len(re.findall(r"(?<!\\)\|", line)) for line in tables]
    assert len(tables) > 30 and set(columns) <= {3, 4, 5, 6}, "a bar in a name makes no column"


def test_markdown_tells_the_same(run: RunDirectory, written: dict[str, Any]) -> None:
    text = Path(written["markdown"]).read_text(encoding="utf-8")
    assert f"```\n{written['claims'][0]}\n```" in text and f"```\n{run.command()}\n```" in text
    for title in ("The audit's findings", "Training", "Class by class", "The net", "To repeat it"):
        assert f"\n## {title}\n" in text


def test_without_the_data_the_rest_stands(run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CIFAR-10 is not here, and nothing is downloaded; then images that are others than the run's."""
    folder = tmp_path / "run"
    shutil.copytree(run.path, folder)
    config = (folder / "config.yaml").read_text().replace("name: digits", "name: cifar10", 1)
    (folder / "config.yaml").write_text(config)
    done = write_report([folder], data_dir=tmp_path)
    page = Page(Path(done["report"]).read_text(encoding="utf-8"))
    assert "cifar10 is not in the data folder" in done["why_no_images"]
    assert [known["id"] for tag, known in page.elements if tag == "section"] == SECTIONS and not page.images()
    for section in ("pairs", "mistakes", "attention", "samples"):
        assert "No images are shown here: cifar10 is not in the data folder" in page.words[section]
    assert "ECE" in page.words["calibration"] and "taken for" in page.words["classes"]

    other = tmp_path / "other"
    shutil.copytree(run.path, other)
    summary = json.loads((other / "summary.json").read_text())
    summary["data"]["test"]["fingerprint"] = "0" * 64
    (other / "summary.json").write_text(json.dumps(summary))
    done = write_report([other])
    assert "not those of the run" in done["why_no_images"] and not Page(Path(done["report"]).read_text()).images()


def test_temperature_comes_from_validation_images_alone(run: RunDirectory, page: Page) -> None:
    """Against a coarse search over T; test logits play no part in it."""
    val = run.predictions("val")

    def nll(temperature: float) -> float:
        return float(torch.nn.functional.cross_entropy(val["logits"].double() / temperature, val["targets"]))

    best = min((0.01 * number for number in range(5, 1000)), key=nll)
    told = re.search(r"T = (\d+\.\d+)", page.words["calibration"])
    assert told and float(told[1]) == pytest.approx(best, abs=0.011)
    assert "fitted on 144 validation images" in page.words["calibration"]


def test_the_verb_says_where_it_is(
    run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "it.html"
    code, told, _ = invoke(["report", str(run.path), "--out", str(out), "--json"], monkeypatch, capsys)
    facts = json.loads(told)
    assert code == 0 and facts["report"] == str(out) and out.is_file() and out.with_suffix(".md").is_file()
    code, told, _ = invoke(["report", str(run.path)], monkeypatch, capsys)
    assert code == 0 and facts["claims"][0] in told and str(run.path / "report.html") in told
    for arguments, said in (
        ([str(tmp_path)], "is no run directory"),
        ([str(run.path), "--out", str(tmp_path / "a.txt")], "should end in .html"),
    ):
        code, _, errors = invoke(["report", *arguments], monkeypatch, capsys)
        assert code == 2 and said in errors
    (tmp_path / "half").mkdir()
    shutil.copy(run.path / "config.yaml", tmp_path / "half" / "config.yaml")
    with pytest.raises(UserError, match="has no finished run yet"):
        write_report([tmp_path / "half"])
    with pytest.raises(UserError, match="named twice"):
        write_report([run.path, run.path])


def another_seed(run: RunDirectory, folder: Path, seed: int, mistakes: int, *keys: tuple[str, str]) -> Path:
    """A copy of the run with another seed, whose first `mistakes` test images are wrong and all others right."""
    shutil.copytree(run.path, folder)
    config = (folder / "config.yaml").read_text().replace("\nseed: 0\n", f"\nseed: {seed}\n")
    for old, new in keys:
        assert old in config
        config = config.replace(old, new)
    (folder / "config.yaml").write_text(config)
    copy, stored = RunDirectory(folder), run.predictions("test")
    said = stored["targets"].clone()
    said[:mistakes] = (said[:mistakes] + 1) % 10
    logits = torch.nn.functional.one_hot(said, 10).float() * 5
    copy.write_predictions("test", logits, stored["targets"], stored["ids"], {"fingerprint": "of the digits"})
    summary: dict[str, Any] = run.summary() or {}
    summary["seed"] = seed
    summary["figures"]["test"] |= score(logits, stored["targets"])
    copy.write_summary(summary)
    return folder


def test_a_group_of_seeds_tells_mean_spread_and_interval(run: RunDirectory, tmp_path: Path) -> None:
    write_group(tmp_path / "group", [RunDirectory(tmp_path / "group" / f"seed-{seed}") for seed in range(4)])
    for seed, mistakes in ((0, 36), (1, 18), (2, 27)):
        another_seed(run, tmp_path / "group" / f"seed-{seed}", seed, mistakes)
    done = write_report([tmp_path / "group"])
    assert done["report"] == str(tmp_path / "group" / "report.html")
    page = Page(Path(done["report"]).read_text(encoding="utf-8"))
    assert [known["id"] for tag, known in page.elements if tag == "section"] == [SECTIONS[0], "seeds", *SECTIONS[1:]]
    # 90%, 95% and 92.5%: mean 92.5, standard deviation 2.5 points
    assert "92.50 ± 2.50% test accuracy (mean ± standard deviation of 3 seeds" in done["claims"][0]
    assert "92.50 ± 2.50%" in page.words["head"] and "90.00% (seed 0), 95.00% (seed 1), 92.50% (seed 2)" in page.words["head"]
    low, high = map(float, re.findall(r"95% interval of the mean (\d+\.\d+)% to (\d+\.\d+)%", done["claims"][0])[0])
    assert 84 < low < 88 and 97 < high < 100
    assert "Not counted: seed-3 (not begun)" in page.words["seeds"]
    half = re.search(r"± (\d+\.\d+) points, from 3 seeds", page.words["head"])
    assert half and float(half[1]) == pytest.approx((high - low) / 2, abs=0.011)


def test_one_finished_seed_does_not_hide_the_others(run: RunDirectory, tmp_path: Path) -> None:
    group = tmp_path / "group"
    write_group(group, [RunDirectory(group / f"seed-{seed}") for seed in range(2)])
    another_seed(run, group / "seed-0", 0, 36)
    (group / "seed-1").mkdir()
    (group / "seed-1" / DIVERGED).write_text("{}")
    done = write_report([group])
    assert "Not counted: seed-1 (diverged)." in Page(Path(done["report"]).read_text(encoding="utf-8")).words["head"]
    assert "> Not counted: seed-1 (diverged)." in Path(done["markdown"]).read_text(encoding="utf-8")


def test_a_damaged_seed_is_not_counted(run: RunDirectory, tmp_path: Path) -> None:
    write_group(tmp_path, [RunDirectory(tmp_path / f"seed-{seed}") for seed in range(2)])
    for seed in range(2):
        another_seed(run, tmp_path / f"seed-{seed}", seed, 36)
    (tmp_path / "seed-1" / "summary.json").write_text('{"cut')
    assert group_facts(tmp_path)["figures"]["test"]["missing"] == ["seed-1 (damaged)"]


def test_a_group_names_its_views_and_counts_every_look(run: RunDirectory, tmp_path: Path) -> None:
    group = tmp_path / "group"
    write_group(group, [RunDirectory(group / f"seed-{seed}") for seed in range(2)])
    for seed in range(2):
        copy = RunDirectory(another_seed(run, group / f"seed-{seed}", seed, 36))
        summary: dict[str, Any] = copy.summary() or {}
        summary["figures"]["test"] |= {"tta": "hflip", "tta_below": 0.7}
        copy.write_summary(summary)
        append_line(copy.evaluations, {"why": "evaluate", "accuracy": 0.5, "tta": "none", "fingerprint": "of other images"})
    done = write_report([group])
    assert "test-time augmentation hflip of images under 0.7)" in done["claims"][0]
    marked, page = Path(done["markdown"]).read_text(encoding="utf-8"), Path(done["report"]).read_text(encoding="utf-8")
    for text in (marked, page):
        assert "Test images were looked at 2 times with the nets of 2 seeds" in text and "(seed 0)" in text


def test_nobodys_file_is_overwritten(run: RunDirectory, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(UserError, match=r"README.md exists and was not written by"):
        write_report([run.path], out=tmp_path / "README.html")
    assert (tmp_path / "README.md").read_text() == "mine" and not (tmp_path / "README.html").exists()
    for _ in range(2):  # its own may be
        write_report([run.path], out=tmp_path / "page.html")


def test_names_of_classes_are_no_formulas(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["$100_$200", r"cash_$\foo$", "猫", *map(str, range(7))]
    monkeypatch.setattr(pictures, "read_header", lambda path: {"class_names": names})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pictures.draw(run)


def test_several_are_compared_with_significance_in_words(run: RunDirectory, tmp_path: Path) -> None:
    one = another_seed(run, tmp_path / "one", 0, 36)
    two = another_seed(run, tmp_path / "two", 1, 12, ("\nepochs: 4\n", "\nepochs: 5\n"))
    near = another_seed(run, tmp_path / "near<", 2, 35)
    done = write_report([one, two, near], out=tmp_path / "comparison.html")
    page = Page(Path(done["report"]).read_text(encoding="utf-8"))
    assert asks_for(page) == [] and not page.images()
    assert [known["id"] for tag, known in page.elements if tag == "section"] == [
        "comparison", "differences", "curves", "classes", "audit", "repeat"
    ]  # fmt: skip
    words = page.words["comparison"]
    assert "two is better than one: 6.67 points" in words and "two is better than near<: 6.39 points" in words
    assert "Whether one or near< is better cannot be decided" in words, "they differ in one image"
    assert "McNemar" in words and "two ◂ highest" in words
    assert re.search(r"epochs\s+4\s+5\s+4", page.words["differences"])
    assert all(name in page.words["audit"] for name in ("one:", "two:", "near<:"))
    marked = Path(done["markdown"]).read_text(encoding="utf-8")
    assert "## What differs" in marked and "near\\<" in marked


def test_figures_of_other_images_are_not_compared(run: RunDirectory, tmp_path: Path) -> None:
    one, other = another_seed(run, tmp_path / "one", 0, 36), another_seed(run, tmp_path / "other", 1, 3)
    stored = RunDirectory(other).predictions("test")
    RunDirectory(other).write_predictions(
        "test", *(stored[name] for name in ("logits", "targets", "ids")), {"fingerprint": "others"}
    )
    page = Page(Path(write_report([one, other], out=tmp_path / "it.html")["report"]).read_text(encoding="utf-8"))
    assert "other test images than one: other" in page.words["comparison"]
    assert "is better than" not in page.words["comparison"] + page.words["head"]


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("chromium")) as page:
        yield page


# Words in one drawing that lie over each other by more than a pixel or two; slanted ones are left out.
OVERLAPS = """[...document.querySelectorAll('svg')].flatMap(svg => {
  const words = [...svg.querySelectorAll('text:not([transform^="rotate(-45"])')];
  const boxes = words.map(t => [t.textContent, t.getBoundingClientRect()]);
  return boxes.flatMap(([a, p], i) => boxes.slice(i + 1).filter(([b, q]) =>
    Math.min(p.right, q.right) - Math.max(p.left, q.left) > 2 && Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top) > 4)
    .map(([b]) => svg.getAttribute('aria-label') + ': ' + a + ' / ' + b));
})"""
# Words that stick out of their drawing.
OUTSIDE = """[...document.querySelectorAll('svg')].flatMap(svg => {
  const frame = svg.getBoundingClientRect();
  return [...svg.querySelectorAll('text')].filter(t => { const b = t.getBoundingClientRect();
    return b.left < frame.left - 1 || b.right > frame.right + 1 || b.top < frame.top - 1 || b.bottom > frame.bottom + 1; })
    .map(t => svg.getAttribute('aria-label') + ': ' + t.textContent);
})"""
CONTRAST = """(() => { const light = c => { const v = c.match(/[\\d.]+/g).slice(0, 3).map(x => { x /= 255;
    return x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4; }); return 0.2126 * v[0] + 0.7152 * v[1] + 0.0722 * v[2]; };
  const behind = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
    if (!c.startsWith('rgba(0, 0, 0, 0')) return c; } return 'rgb(255, 255, 255)'; };
  return [...document.querySelectorAll(
    'p, td, th, h1, h2, h3, a, pre, .badge, figcaption span, text.tick, text.name')].map(e => {
    const s = getComputedStyle(e), a = light(e.tagName == 'text' ? s.fill : s.color), b = light(behind(e));
    return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), e.className.baseVal ?? e.className, e.textContent]; })
    .filter(([ratio]) => ratio < 4.5).map(String).slice(0, 5); })()"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_a_browser_shows_it(chromium: Browser, written: dict[str, Any], width: int, scheme: str) -> None:
    path = Path(written["report"])
    chromium.open(path, width, scheme=scheme)
    assert [url for url in chromium.requests() if not url.startswith("data:")] == [path.resolve().as_uri()]
    assert chromium.complaints() == []
    assert chromium.value("[...document.querySelectorAll('section')].map(s => s.id)") == SECTIONS
    assert chromium.value("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
    assert chromium.value("document.images.length") > 50
    assert chromium.value("document.documentElement.scrollWidth") == width, "nothing sticks out sideways"
    assert chromium.value(OVERLAPS) == [] and chromium.value(OUTSIDE) == []
    assert chromium.value(CONTRAST) == []
    smallest = "Math.min(...[...document.querySelectorAll('svg text')].map(t => t.getBoundingClientRect().height))"
    assert chromium.value(smallest) > 9, "letters of a drawing can be read"
    dark = chromium.value("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", dark)[:3])) < 200) == (scheme == "dark")


def test_the_first_screen_is_one_screen(chromium: Browser, written: dict[str, Any]) -> None:
    chromium.open(Path(written["report"]), 1280, 900)
    assert chromium.value("document.querySelector('header').getBoundingClientRect().bottom") < 900


@pytest.mark.parametrize("width", [1280, 390])
def test_a_browser_shows_a_comparison(chromium: Browser, run: RunDirectory, tmp_path: Path, width: int) -> None:
    paths = [another_seed(run, tmp_path / f"a-rather-long-name-{seed}", seed, 12 * seed) for seed in range(5)]
    chromium.open(Path(write_report(paths, out=tmp_path / "it.html")["report"]), width)
    assert chromium.complaints() == [] and chromium.value("document.documentElement.scrollWidth") == width
    assert chromium.value(OVERLAPS) == [] and chromium.value(OUTSIDE) == [] and chromium.value(CONTRAST) == []


def test_it_prints(chromium: Browser, written: dict[str, Any]) -> None:
    chromium.open(Path(written["report"]), scheme="dark")
    printed = chromium.pdf()
    assert printed.startswith(b"%PDF") and 3 <= len(re.findall(rb"/Type\s*/Page\b", printed)) <= 12
    chromium.send("Emulation.setEmulatedMedia", media="print")
    assert chromium.value("getComputedStyle(document.querySelector('section')).backgroundColor") == "rgb(255, 255, 255)"
    assert chromium.value("getComputedStyle(document.body).color") == "rgb(0, 0, 0)", "dark on white, whatever the screen"
    chromium.send("Emulation.setEmulatedMedia", media="")


def test_a_browser_runs_nothing_that_names_say(chromium: Browser, run: RunDirectory, tmp_path: Path) -> None:
    done = write_report([nasty_run(run, tmp_path / "run")])
    chromium.open(Path(done["report"]))
    assert chromium.complaints() == [] and chromium.value("document.scripts.length") == 0
    assert not any(event["method"] == "Page.javascriptDialogOpening" for event in chromium.events)
    assert len([url for url in chromium.requests() if not url.startswith("data:")]) == 1
