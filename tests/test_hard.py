"""Hard example mining against a plain list of the last losses."""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from bantamnet.config import HardExamples
from bantamnet.runs.directory import RunDirectory
from bantamnet.runtime import Ranks, generator
from bantamnet.training import loop, train
from bantamnet.training.hard import HardMemory, passes
from bantamnet.training.signals import Stopped
from conftest import invoke, tiny
from same_run import SETS, assert_same_run, stopping_after

CPU = torch.device("cpu")
PLAN = "data.hard_examples=[{share: 0.6, since: 0.3}, {share: 0.25, since: 0.6}]"


def test_later_epochs_take_the_images_with_the_largest_last_losses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three epochs: all images, then the hardest 60%, then the hardest quarter, by losses noted down one by one."""
    noted: dict[int, float] = {}
    taken: list[list[int]] = []
    wanted: list[set[int]] = []
    observe, batches = HardMemory.observe, loop.batches

    def noting(memory: HardMemory, samples: Tensor, logits: Tensor, labels: Tensor, step: int) -> None:
        for sample in samples.tolist():
            noted[sample] = -math.inf
        for sample, row, label in zip(samples.tolist(), logits.detach(), labels.tolist(), strict=True):
            noted[sample] = max(noted[sample], float(-F.log_softmax(row.float(), 0)[label]))
        taken[-1] += samples.tolist()
        observe(memory, samples, logits, labels, step)

    def beginning(*arguments: object) -> object:
        ranked = sorted(noted, key=lambda sample: -noted[sample])
        wanted.append(set(ranked[: round(len(ranked) * {1: 0.6, 2: 0.25}.get(len(taken), 1.0))]))
        taken.append([])
        return batches(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(HardMemory, "observe", noting)
    monkeypatch.setattr(loop, "batches", beginning)
    train.train(tiny(*SETS, PLAN, "precision=fp32"), tmp_path / "run")
    num = len(taken[0])
    assert len(set(taken[0])) == num and all(len(epoch) == num for epoch in taken)
    for epoch, hardest in zip(taken[1:], wanted[1:], strict=True):
        assert set(epoch) == hardest
    lines = RunDirectory(tmp_path / "run").epochs()
    assert ["train_share" in line for line in lines] == [False, True, True]
    assert lines[2]["train_share"] == pytest.approx(0.25, abs=0.001)


def test_passes_take_every_image_as_often() -> None:
    chosen = torch.tensor([3, 5, 8, 13])
    order = passes(chosen, 10, generator("passes"))
    assert len(order) == 10
    assert sorted(order[:4].tolist()) == sorted(order[4:8].tolist()) == chosen.tolist()
    assert len(set(order[8:].tolist())) == 2 and not torch.equal(order[:4], order[4:8])


def test_an_image_that_comes_twice_counts_by_its_larger_loss() -> None:
    memory = HardMemory([], 3, CPU)
    logits = torch.tensor([[0.0, 0.0], [3.0, 0.0], [-3.0, 0.0]])
    for order in ([0, 1, 2], [2, 1, 0]):
        memory.observe(torch.tensor([1, 1, 1]), logits[order], torch.tensor([0, 0, 0]), 4)
        assert memory.losses[1].item() == pytest.approx(math.log(1 + math.exp(3)))
    assert memory.losses[[0, 2]].tolist() == [math.inf, math.inf] and memory.seen.tolist() == [-1, 4, -1]


def test_ranks_agree_on_what_the_last_of_them_saw() -> None:
    memories = [HardMemory([HardExamples(share=0.5, since=0.1)], 4, CPU) for _ in range(2)]
    for memory, losses, seen in zip(
        memories, ([9.0, 1, 5, math.inf], [2.0, 7, 4, math.inf]), ([3, 8, 6, -1], [4, 7, 5, -1]), strict=True
    ):
        memory.losses, memory.seen = torch.tensor(losses), torch.tensor(seen)
    theirs = [[memory.losses for memory in memories], [memory.seen for memory in memories]]

    class Two(Ranks):
        def gather(self, tensor: Tensor, lengths: list[int] | None = None) -> list[Tensor]:
            return theirs[tensor.dtype == torch.int64]

    for rank, memory in enumerate(memories):
        memory.begin_epoch(0.2, Two(rank, 2))
        assert memory.losses.tolist() == [2, 1, 5, math.inf] and memory.seen.tolist() == [4, 8, 6, -1]
        assert memory.chosen is not None and memory.chosen.tolist() == [3, 2]


def test_of_an_image_that_two_ranks_saw_at_once_the_larger_loss_counts() -> None:
    class Two(Ranks):
        def gather(self, tensor: Tensor, lengths: list[int] | None = None) -> list[Tensor]:
            other = torch.tensor([4, 4]) if tensor.dtype == torch.int64 else torch.tensor([2.0, 9.0])
            return [tensor, other] if self.main else [other, tensor]

    for rank in range(2):
        memory = HardMemory([], 2, CPU)
        memory.losses, memory.seen = torch.tensor([6.0, 1.0]), torch.tensor([4, 4])
        memory.merge(Two(rank, 2))
        assert memory.losses.tolist() == [6, 9] and memory.seen.tolist() == [4, 4]


@pytest.mark.parametrize("steps", [10, 17])
def test_a_run_stopped_in_the_middle_ends_as_one_that_was_not(
    steps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of the epoch of the hardest 60%, and of the last one."""
    whole = train.train(tiny(*SETS, PLAN), tmp_path / "whole").path
    with stopping_after(monkeypatch, steps), pytest.raises(Stopped):
        train.train(tiny(*SETS, PLAN), tmp_path / "run")
    train.resume(tmp_path / "run")
    assert_same_run(whole, tmp_path / "run")


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        ((PLAN, "data.mix=mixup(0.2)"), "mix: mixup(0.2) does not go with"),
        ((PLAN, "data.balance=sampler"), "balance: sampler does not go with"),
        (("data.hard_examples=[{share: 0.5, since: 0.6}, {share: 0.4, since: 0.3}]",), "each stretch must begin later"),
        (("data.hard_examples=[{share: 1.5, since: 0.6}]",), "share"),
    ],
)
def test_wrong_plans_are_told(
    sets: tuple[str, ...], words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [word for value in sets for word in ("--set", value)]
    code, _, err = invoke(["train", "quickstart", *arguments], monkeypatch, capsys)
    assert code == 2 and words in " ".join(err.split())
