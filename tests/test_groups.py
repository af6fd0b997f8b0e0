"""`train --seeds`: ordinary runs, each as if trained alone; whatever ends the process, the same command goes on."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from bantamnet.configfile import write_yaml
from bantamnet.errors import UserError
from bantamnet.runs.directory import RunDirectory
from bantamnet.runs.group import group_runs, named_runs, write_group
from bantamnet.training import seeds as training
from bantamnet.training.progress import Progress
from bantamnet.training.signals import Stopped
from bantamnet.training.train import Options, train
from conftest import invoke, tiny

SMALL = (
    "model={name: custom, stem: imagenet, stem_width: 4, widths: [4], blocks: [1], dropout: null}",
    "batch_size=400",
    "data.augment=''",
    "device=cpu",
)


def small(*sets: str) -> Any:
    return tiny(*SMALL, *sets)


def write_recipe(folder: Path, *sets: str) -> Path:
    path = folder / "small.yaml"
    tree = small(*sets).dump()
    path.write_text(write_yaml({**tree, "optim": tree["optim"][0]}))
    return path


def logits(run: Path) -> torch.Tensor:
    return RunDirectory(run).predictions("test")["logits"]


def stamps(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def quiet(_: RunDirectory) -> None:
    """No pictures."""


def test_a_group_is_runs_as_trained_alone_and_the_same_command_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, group = str(write_recipe(tmp_path, "ema=null")), tmp_path / "group"
    code, out, _ = invoke(["train", recipe, "--seeds", "2", "--out", str(group), "--json"], monkeypatch, capsys)
    facts = json.loads(out)
    assert code == 0 and json.loads((group / "group.json").read_text()) == {"runs": ["seed-0", "seed-1"]}
    assert [row["seed"] for row in facts["runs"]] == [0, 1] and all((group / f"seed-{s}/curves.png").exists() for s in (0, 1))
    alone = train(small("ema=null", "seed=1"), tmp_path / "alone")
    assert torch.equal(logits(alone.path), logits(group / "seed-1")) and not torch.equal(
        logits(alone.path), logits(group / "seed-0")
    )
    figures = facts["figures"]["test"]
    accuracies = [row["test"] for row in facts["runs"]]
    assert figures["mean"] == pytest.approx(sum(accuracies) / 2) and figures["accuracies"] == pytest.approx(accuracies)
    assert figures["std"] == pytest.approx(abs(accuracies[0] - accuracies[1]) / 2**0.5)

    before = stamps(group)
    code, out, err = invoke(["train", recipe, "--seeds", "3", "--out", str(group)], monkeypatch, capsys)
    assert code == 0 and "seed-0 is finished already" in out and "run 3 of 3" in out
    assert "mean ± standard deviation of 3 seeds; 95% bootstrap interval" in out
    after = stamps(group)
    assert {name: after[name] for name in before if name != "group.json"} == {
        name: stamp for name, stamp in before.items() if name != "group.json"
    }
    code, _, err = invoke(["train", recipe, "--seeds", "3", "--epochs", "5", "--out", str(group)], monkeypatch, capsys)
    assert code == 2 and "was begun with epochs=2, and this would train epochs=5" in err and len(group_runs(group)) == 3

    code, out, _ = invoke(["runs", str(tmp_path)], monkeypatch, capsys)
    assert code == 0 and "group/" in out and "3 finished" in out and "0-2" in out and " ± " in out
    code, out, _ = invoke(["runs", str(tmp_path), "--json", "--sort", "test"], monkeypatch, capsys)
    rows = {row["name"]: row for row in json.loads(out)["runs"]}
    assert set(rows) == {"group/", "alone"} and rows["group/"]["seeds"] == [0, 1, 2] and rows["group/"]["test_std"] > 0
    code, out, _ = invoke(["train", "--resume", str(group), "--json"], monkeypatch, capsys)
    assert code == 0 and len(json.loads(out)["runs"]) == 3
    for verb in (["evaluate", str(group)], ["summary", str(group)], ["train", "--refit", str(group)]):
        code, _, err = invoke(verb, monkeypatch, capsys)
        assert code == 2 and "is a group of runs; name one of them, as in" in err and "seed-0" in err


def test_a_signal_while_a_run_is_scored_for_the_last_time_stops_those_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    group, write = tmp_path / "group", RunDirectory.write_summary

    def hear(run: RunDirectory, summary: dict[str, Any]) -> None:
        write(run, summary)
        os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patched:
        patched.setattr(RunDirectory, "write_summary", hear)
        with pytest.raises(Stopped, match=f"--resume {group}$"):
            training.train_seeds(small(), 2, group, Options(), quiet)
    assert [bool(run.summary()) for run in group_runs(group)] == [True, False]
    training.resume_seeds(group, Options(), quiet)
    assert all(run.summary() for run in group_runs(group))


@pytest.mark.parametrize("again", ["command", "resume"])
def test_a_signal_in_the_second_run_and_the_end_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: str) -> None:
    config, group = small(), tmp_path / "group"
    shown = Progress.epoch
    seen: list[int] = []

    def hear(self: Progress, line: dict[str, Any]) -> None:
        shown(self, line)
        seen.append(line["epoch"])
        if len(seen) == 3:  # the first epoch of the second run
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patched:
        patched.setattr(Progress, "epoch", hear)
        with pytest.raises(Stopped, match=f"--resume {group}$"):
            training.train_seeds(config, 3, group, Options(), quiet)
    assert [bool(run.summary()) for run in group_runs(group)] == [True, False, False] and len(seen) == 3
    first = stamps(group / "seed-0")
    if again == "resume":
        training.resume_seeds(group, Options(), quiet)
    else:
        training.train_seeds(config, 3, group, Options(), quiet)
    assert stamps(group / "seed-0") == first and all(run.summary() for run in group_runs(group))
    assert len(RunDirectory(group / "seed-1").epochs()) == 2
    for seed in (1, 2):
        assert torch.equal(logits(train(small(f"seed={seed}"), tmp_path / f"{seed}").path), logits(group / f"seed-{seed}"))


def test_a_run_killed_while_it_was_made_is_made_again(tmp_path: Path) -> None:
    group = tmp_path / "group"
    write_group(group, named_runs(group, [0, 1]))
    for name in ("checkpoints", "predictions"):
        (group / "seed-0" / name).mkdir(parents=True)
    (group / "seed-0" / "command.txt").write_text("bantamnet train\n")
    training.train_seeds(small("epochs=1"), 2, group, Options(), quiet)
    assert all(run.summary() for run in group_runs(group))


def test_what_is_no_group_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="is no group of runs; choose another --out"):
        training.train_seeds(small(), 2, tmp_path / "mine", Options(), quiet)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]
    write_group(tmp_path / "empty", named_runs(tmp_path / "empty", [0]))
    with pytest.raises(UserError, match="none of its runs has begun"):
        training.resume_seeds(tmp_path / "empty", Options(), quiet)
    for text in ("{", "[]", '{"runs": [1]}', '{"runs": ["../elsewhere"]}'):
        (tmp_path / "empty" / "group.json").write_text(text)
        with pytest.raises(UserError, match="missing or damaged"):
            group_runs(tmp_path / "empty")


def test_seeds_that_diverge_are_told_and_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, group = str(write_recipe(tmp_path, "optim.lr=1e30", "ema=null")), tmp_path / "group"
    code, out, _ = invoke(["train", recipe, "--seeds", "2", "--out", str(group)], monkeypatch, capsys)
    assert code == 3 and out.count("diverged: ") == 2 and "2 diverged and are in no figure" in out
    before = stamps(group)
    code, out, _ = invoke(["train", recipe, "--seeds", "2", "--out", str(group), "--json"], monkeypatch, capsys)
    assert code == 3 and [row["state"] for row in json.loads(out)["runs"]] == ["diverged"] * 2 and stamps(group) == before
    assert json.loads(out)["figures"] == {}


def test_only_one_process_works_on_a_group(tmp_path: Path) -> None:
    def again(run: RunDirectory) -> None:
        with pytest.raises(UserError, match="in use by another process"):
            training.train_seeds(small("epochs=1"), 1, run.path.parent, Options(), quiet)
        seen.append(run.path.name)

    seen: list[str] = []
    training.train_seeds(small("epochs=1"), 1, tmp_path / "group", Options(), again)
    assert seen == ["seed-0"]


def test_seeds_go_with_what_they_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    write_group(tmp_path / "group", named_runs(tmp_path / "group", [0]))
    code, _, err = invoke(["train", "--resume", str(tmp_path / "group"), "--data", str(tmp_path)], monkeypatch, capsys)
    assert code == 2 and "one by one" in err
    for arguments in (["--resume", str(tmp_path), "--seeds", "2"], ["--refit", str(tmp_path), "--seeds", "2"], ["--seeds", "2"]):
        code, _, err = invoke(["train", *arguments], monkeypatch, capsys)
        assert code == 2 and err.startswith("error: ")
    code, _, err = invoke(["train", "quickstart", "--seeds", "0"], monkeypatch, capsys)
    assert code == 2


@pytest.mark.slow
def test_ranks_share_every_run_of_a_group(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path)
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "bantamnet"]
    done = subprocess.run(
        [*run, "train", str(recipe), "--seeds", "3", "--out", str(tmp_path / "group")],
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    summaries = [member.summary() for member in group_runs(tmp_path / "group")]
    assert [summary["ranks"] for summary in summaries if summary] == [2, 2, 2] and done.stdout.count("run 2 of 3") == 1
