"""The training loop against plain PyTorch, and its batches."""

import copy
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from rich.console import Console
from torch import Tensor, nn

from bantamnet.data import augment
from bantamnet.models.resnet import ResNet
from bantamnet.runs.directory import RunDirectory
from bantamnet.runs.lookup import resolve
from bantamnet.runtime import Ranks
from bantamnet.training import loop, train
from bantamnet.training.progress import Progress
from bantamnet.training.setup import Setup, State, prepare
from bantamnet.training.signals import Stop
from conftest import tiny

CPU = torch.device("cpu")


def train_recording(setup: Setup, state: State, folder: Path) -> list[tuple[Tensor, Tensor]]:
    """Run the real loop; the batches it trained on."""
    seen: list[tuple[Tensor, Tensor]] = []
    task = setup.task

    class Recording(type(task)):  # type: ignore[misc]
        def __call__(self, net: nn.Module, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
            seen.append((images.clone(), targets.clone()))
            return super().__call__(net, images, targets)

    object.__setattr__(setup, "task", Recording(task.label_smoothing))
    run = RunDirectory.create(folder, setup.config)
    progress = Progress(Console(quiet=True))
    progress.begin(0, 1, setup.config.epochs)
    loop.fit(setup, state, state.net.train(), run, progress, Stop(folder), lambda line: None)
    return seen


SETS_OF_STEPS = [
    ["batch_size=1000"],
    ["batch_size=600", "drop_last=true"],
    ["batch_size=5000"],
    ["batch_size=20", "time_budget=6", "progressive_resizing=[{scale: 0.5, until: 0.5}]"],
]


@pytest.mark.parametrize("sets", SETS_OF_STEPS)
def test_progress_ends_where_it_said(tmp_path: Path, sets: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """1,293 training and 144 validation images, in batches that do not divide them."""
    bars: list[Progress] = []
    begin = Progress.begin

    def begun(bar: Progress, *about: Any) -> None:
        bars.append(bar)
        begin(bar, *about)

    monkeypatch.setattr(Progress, "begin", begun)
    train.train(tiny(*sets, "device=cpu"), tmp_path / "run")
    (bar,) = bars
    assert bar.done == pytest.approx(bar.total, rel=0.01 if "time_budget" in str(sets) else 1e-6) and bar.total > 1000


def plain_loop(net: ResNet, batches: list[tuple[Tensor, Tensor]]) -> None:
    """System B's training as anybody would write it."""
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, weight_decay=1e-4, foreach=False)
    net.train()
    for images, targets in batches:
        optimizer.zero_grad()
        F.cross_entropy(net(images), targets).backward()
        optimizer.step()


@pytest.mark.slow
def test_twenty_steps_of_modified_resnet_as_published_equal_a_plain_loop(tmp_path: Path) -> None:
    sets = ["data.name=digits", "batch_size=36", "epochs=1", "precision=fp32", "device=cpu"]
    sets += ["data.val.source=train", "data.val.count=720"]
    setup, state = prepare(resolve("modified-resnet-as-published", sets), None, CPU, Ranks())
    twin = copy.deepcopy(state.net)
    start = copy.deepcopy(state.net.state_dict())
    batches = train_recording(setup, state, tmp_path / "run")
    assert len(batches) == 20 and {len(targets) for _, targets in batches} == {36, 33}
    plain_loop(twin, batches)
    for name, ours in state.net.state_dict().items():
        theirs = twin.state_dict()[name]
        assert (ours - theirs).abs().max() <= 1e-5, name
    moved = max((state.net.state_dict()[n] - start[n]).abs().max() for n in start if n.endswith("weight"))
    assert moved > 1e-3


def test_an_epoch_sees_every_image_once_in_an_order_of_seed_and_epoch() -> None:
    setup, _ = prepare(tiny("data.augment=''"), None, CPU, Ranks())
    train = setup.splits["train"]
    plain = setup.preprocessing.normalize(train.images)
    first, again, second = (torch.cat([i for i, *_ in loop.batches(setup, epoch)]) for epoch in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, second)
    for epoch in (first, second):
        assert torch.equal(epoch.flatten(1).sum(1).sort().values, plain.flatten(1).sum(1).sort().values)


def test_batches_do_not_depend_on_chunk_or_starting_point(monkeypatch: pytest.MonkeyPatch) -> None:
    setup, _ = prepare(tiny("batch_size=100"), None, CPU, Ranks())
    whole = list(loop.batches(setup, 1))
    for chunk in (1, 99, 100, 250, 10_000):
        monkeypatch.setitem(augment.CHUNK, "cpu", chunk)
        for first_step in (0, 1, 7):
            rest = list(loop.batches(setup, 1, first_step))
            assert len(rest) == len(whole) - first_step
            for (images, targets, *_), (old_images, old_targets, *_) in zip(rest, whole[first_step:], strict=True):
                assert torch.equal(images, old_images) and torch.equal(targets, old_targets)


def test_ranks_share_every_batch_between_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ranks, "copy_main_", lambda *_: None)  # there is no process group here
    alone, _ = prepare(tiny("batch_size=100"), None, CPU, Ranks())
    shares = [prepare(tiny("batch_size=100"), None, CPU, Ranks(rank, 3))[0] for rank in range(3)]
    for (images, _, share, _), *parts in zip(loop.batches(alone, 0), *(loop.batches(s, 0) for s in shares), strict=True):
        assert share == 1 and sum(part[2] for part in parts) == pytest.approx(3)
        together = torch.cat([part[0] for part in parts])
        assert torch.equal(together.flatten(1).sum(1).sort().values, images.flatten(1).sum(1).sort().values)


@pytest.mark.slow
def test_two_ranks_train_one_run(tmp_path: Path) -> None:
    """Started by torchrun: one run directory, every image once an epoch, every validation image once."""
    recipe = tmp_path / "two.yaml"
    recipe.write_text(json.dumps(tiny("batch_size=101", "precision=fp32", "device=cpu").dump()))
    arguments = ["--nproc-per-node", "2", "-m", "bantamnet", "train", str(recipe), "--out", str(tmp_path / "run"), "--json"]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment)
    assert done.returncode == 0, done.stderr
    summary, run = json.loads(done.stdout), RunDirectory(tmp_path / "run")
    assert summary["ranks"] == 2 and summary["steps"] == 26
    assert [line["val_num"] for line in run.epochs()] == [144, 144]
    assert all((line["train_accuracy"] * 1293) == pytest.approx(round(line["train_accuracy"] * 1293)) for line in run.epochs())
