"""`compare` on run directories whose predictions are known."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bantamnet.errors import UserError
from bantamnet.evaluate import groups, paired
from bantamnet.evaluate.measured import measured
from bantamnet.report.compare import compare
from bantamnet.runs.directory import RunDirectory
from bantamnet.runs.group import named_runs, write_group
from conftest import invoke, tiny

IMAGES = 500


def say(path: Path, correct: Tensor, *sets: str, shuffle: int | None = None, **changes: Any) -> RunDirectory:
    """A finished run that has the images in `correct` right; `shuffle` seeds the order in which it wrote them."""
    config = tiny(*sets)
    run = RunDirectory.create(path, config)
    num = len(correct)
    targets = torch.arange(num) % 10
    logits = torch.nn.functional.one_hot(torch.where(correct, targets, (targets + 1) % 10), 10).float()
    order = torch.arange(num) if shuffle is None else torch.randperm(num, generator=torch.Generator().manual_seed(shuffle))
    header = {"fingerprint": changes.get("fingerprint", "a" * 64), "tta": "none"}
    if changes.get("finished", True):
        for split in ("val", "test"):
            run.write_predictions(
                split, logits[order], targets[order] if "targets" not in changes else changes["targets"], order, header
            )
        figures = {split: {"accuracy": correct.double().mean().item(), "tta": "none"} for split in ("val", "test")}
        label, digest = changes.get("label", config.label), changes.get("digest", str(path))
        facts = {"name": config.name, "label": label, "figures": figures, "parameters": 1234, "weights_digest": digest}
        run.write_summary({**facts, "chosen": {"by": config.select}, "seconds": 1.0, "epochs": 2})
    return run


def draw(accuracy: float, seed: int, num: int = IMAGES) -> Tensor:
    return torch.rand(num, generator=torch.Generator().manual_seed(seed)) < accuracy


def group(path: Path, accuracies: list[float], *sets: str, seed: int = 0, **changes: Any) -> Path:
    """Runs that have exactly these shares of the images right."""
    write_group(path, named_runs(path, range(len(accuracies))))
    for number, accuracy in enumerate(accuracies):
        chosen = torch.randperm(IMAGES, generator=torch.Generator().manual_seed(100 * seed + number))
        correct = torch.zeros(IMAGES, dtype=torch.bool)
        correct[chosen[: round(accuracy * IMAGES)]] = True
        say(path / f"seed-{number}", correct, *sets, f"seed={number}", **changes)
    return path


def test_two_runs_are_paired_by_the_ids_of_their_images(tmp_path: Path) -> None:
    one = draw(0.8, 0)
    two = one | (draw(0.3, 1) & draw(0.5, 2))
    say(tmp_path / "a", one), say(tmp_path / "b", two, shuffle=3)
    facts = compare([tmp_path / "a", tmp_path / "b"])
    (verdict,) = facts["comparisons"]
    slow = paired.mcnemar(one, two)
    assert (verdict["test"], verdict["unit"], verdict["p"]) == ("mcnemar", "images", slow.p)
    assert verdict["difference"] == pytest.approx((two.sum() - one.sum()).item() / IMAGES) and verdict["found"] == "second better"
    assert verdict["sentence"].startswith("b is better than a: ")
    assert "these two trained models apart, not their recipes" in facts["notes"][0]
    assert facts["subjects"][0]["interval_over"] == "images" and facts["num_images"] == IMAGES


def test_groups_are_compared_over_seeds(tmp_path: Path) -> None:
    a, b = group(tmp_path / "a", [0.80, 0.81, 0.82]), group(tmp_path / "b", [0.85, 0.87, 0.86], "epochs=3", seed=1)
    facts = compare([a, b])
    (verdict,) = facts["comparisons"]
    assert (verdict["test"], verdict["unit"]) == ("welch", "seeds") and verdict["found"] == "second better"
    assert verdict["p"] == groups.welch([0.80, 0.81, 0.82], [0.85, 0.87, 0.86]).p and verdict["difference"] == pytest.approx(0.05)
    assert facts["subjects"][1]["mean"] == pytest.approx(0.86) and facts["subjects"][1]["std"] == pytest.approx(0.01)
    assert facts["subjects"][1]["interval_over"] == "seeds and images" and "recipes apart" in facts["notes"][0]


def test_a_run_against_a_group_cannot_be_decided(tmp_path: Path) -> None:
    say(tmp_path / "a", draw(0.8, 0))
    (verdict,) = compare([tmp_path / "a", group(tmp_path / "b", [0.84, 0.9, 0.93], "epochs=3")])["comparisons"]
    assert (
        verdict["found"] == "cannot be decided" and verdict["needed"] and "1 against 3 seeds are too few" in verdict["sentence"]
    )


def test_the_same_nets_scored_otherwise_are_compared_net_by_net(tmp_path: Path) -> None:
    """Seeds differ by far more than the two ways of scoring: over the groups nothing is seen, in pairs it is."""
    accuracies = [0.70, 0.75, 0.80, 0.85]
    a, b = tmp_path / "a", tmp_path / "b"
    group(a, accuracies, digest="w"), group(b, [0.712, 0.764, 0.81, 0.862], "tta=hflip", seed=1, digest="w")
    facts = compare([a, b])
    (verdict,) = facts["comparisons"]
    assert (
        verdict["test"] == "paired t" and verdict["found"] == "second better" and any("net by net" in n for n in facts["notes"])
    )
    assert groups.welch(accuracies, [0.712, 0.764, 0.81, 0.862]).p > 0.5


def test_all_pairs_of_three_and_holm(tmp_path: Path) -> None:
    paths = [
        group(tmp_path / name, [a, a + 0.01, a + 0.02], f"epochs={i + 1}", seed=i)
        for i, (name, a) in enumerate(zip("abc", (0.8, 0.83, 0.9), strict=True))
    ]
    facts = compare(paths)
    pairs = {(c["first"], c["second"]): c for c in facts["comparisons"]}
    assert set(pairs) == {("a", "b"), ("a", "c"), ("b", "c")} and all(c["comparisons"] == 3 for c in pairs.values())
    assert [c["p_adjusted"] for c in facts["comparisons"]] == groups.holm([c["p"] for c in facts["comparisons"]])
    assert pairs["a", "c"]["p"] < pairs["a", "c"]["p_adjusted"] and "Holm" in " ".join(facts["notes"])


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    right = draw(0.8, 0)
    say(tmp_path / "a", right)
    say(tmp_path / "other", right, fingerprint="b" * 64)
    say(tmp_path / "fewer", right[:100])
    say(tmp_path / "labels", right, targets=torch.zeros(IMAGES, dtype=torch.int64))
    say(tmp_path / "begun", right, finished=False)
    (tmp_path / "empty").mkdir()
    for name, message in {
        "other": "different images",
        "fewer": "different images",
        "labels": "different images",
        "begun": "no finished run yet .*train --resume",
        "empty": "no run directory",
        "nowhere": "no run directory",
        "a": "named twice",
    }.items():
        with pytest.raises(UserError, match=message):
            compare([tmp_path / "a", tmp_path / name])
    with pytest.raises(UserError, match="two or more"):
        compare([tmp_path / "a"])
    (tmp_path / "a" / "predictions" / "val.safetensors").unlink()
    with pytest.raises(UserError, match=r"no predictions of val images \(it has: test\)"):
        measured(tmp_path / "a", "val")


def test_groups_that_are_none_are_refused_and_missing_runs_are_told(tmp_path: Path) -> None:
    mixed = group(tmp_path / "mixed", [0.8, 0.81])
    say(mixed / "seed-2", draw(0.8, 0), "seed=2", "epochs=7")
    write_group(mixed, named_runs(mixed, [2]))
    with pytest.raises(UserError, match="epochs=7"):
        measured(mixed)
    twice = group(tmp_path / "twice", [0.8])
    say(twice / "seed-1", draw(0.8, 0), "seed=0")
    write_group(twice, named_runs(twice, [1]))
    with pytest.raises(UserError, match="same seed"):
        measured(twice)
    short = group(tmp_path / "short", [0.8, 0.81])
    say(short / "seed-2", draw(0.8, 0), "seed=2", finished=False)
    write_group(short, named_runs(short, [2, 3]))
    other = group(tmp_path / "other", [0.8, 0.82, 0.83], "epochs=3", label="as published")
    notes = compare([short, other])["notes"]
    assert "short: not counted are seed-2 (unfinished), seed-3 (not begun)" in notes
    assert any("other is labelled as published" in note for note in notes)
    assert any(
        "these images chose its epoch" in note
        for note in compare([short, group(tmp_path / "third", [0.8, 0.82, 0.83], "epochs=4")], "val")["notes"]
    )


def test_people_get_a_table_and_sentences(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = group(tmp_path / "a", [0.80, 0.81, 0.82]), group(tmp_path / "b", [0.85, 0.87, 0.86], "epochs=3", seed=1)
    code, out, _ = invoke(["compare", str(a), str(b)], monkeypatch, capsys)
    assert code == 0 and "81.00 ± 1.00%" in out and "86.00 ± 1.00%" in out and "1,234" in out
    assert (
        "b is better than a: 5.00 points (95% interval 2.73 to 7.27); a difference this large would come up by chance in" in out
    )
    code, out, _ = invoke(["compare", str(a), str(b), "--json"], monkeypatch, capsys)
    assert json.loads(out)["comparisons"][0]["found"] == "second better"
    code, _, err = invoke(["compare", str(a), str(b), "--split", "train"], monkeypatch, capsys)
    assert code == 2 and "unknown split 'train'" in err
