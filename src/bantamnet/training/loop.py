"""The training loop."""

import dataclasses
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from bantamnet.data.augment import chunk_size, rows
from bantamnet.data.balance import balanced_order
from bantamnet.data.mixing import Mixing
from bantamnet.errors import NonFiniteError
from bantamnet.evaluate.logits import split_logits
from bantamnet.evaluate.metrics import score
from bantamnet.evaluate.scoring import record_test_look
from bantamnet.runs.directory import RunDirectory, append_line
from bantamnet.runtime import generator, memory_format
from bantamnet.training.averaging import average_epoch
from bantamnet.training.checkpoints import save_checkpoint
from bantamnet.training.hard import passes
from bantamnet.training.keeping import keep_best, write_model
from bantamnet.training.progress import Progress
from bantamnet.training.setup import Setup, State
from bantamnet.training.signals import Stop
from bantamnet.training.step import gradients
from bantamnet.training.tracking import Track


def fit(setup: Setup, state: State, net: nn.Module, run: RunDirectory, progress: Progress, stop: Stop, track: Track) -> None:
    """Train from where `state` stands to the end of its pace; raises `NonFiniteError`, or `Stopped` after saving.

    `net` is the state's as steps call it: perhaps compiled.
    """
    config, device, ranks, pace = setup.config, setup.device, setup.ranks, state.pace
    check_every = 1 if device.type == "cpu" else 50
    can_freeze = ranks.size == 1 and not (config.sam or config.clip_norm) and config.compile == "none"
    clock = Clock(state, device)
    unchecked: list[Tensor] = []
    saved_at = time.perf_counter()

    def checkpoint() -> None:
        nonlocal saved_at
        check_finite(unchecked, state.step)
        clock.update()
        save_checkpoint(run.checkpoints, setup, state)
        saved_at = time.perf_counter()

    while state.epochs_done < pace.num_epochs(setup.steps_per_epoch) and not state.early_stop.over:
        epoch = state.epochs_done
        first_step = state.step - epoch * setup.steps_per_epoch
        began, num_images = time.perf_counter(), 0
        if state.hard and first_step == 0:
            state.hard.begin_epoch(pace.progress(state.step), ranks)
        chosen_images = state.hard.chosen if state.hard else None
        for images, targets, share, samples in batches(setup, epoch, first_step, chosen_images):
            if state.step >= pace.steps:
                break
            if can_freeze:
                state.optimizers.freeze_over(state.step)
            position = pace.progress(state.step)
            loss, logits = gradients(setup, net, setup.resizing.apply(images, position), targets, share)
            state.optimizers.step(state.step)
            if state.hard:
                state.hard.observe(samples, logits, targets, state.step)
            if state.ema:
                state.ema.update(state.net, state.step)
            state.step += 1
            with torch.no_grad():
                labels = targets if targets.ndim == 1 else targets.argmax(1)
                correct = (logits.argmax(1) == labels).sum()
                state.totals += torch.stack([loss.double() * len(targets), correct, torch.full_like(correct, len(targets))])
            unchecked.append(loss.detach())
            if len(unchecked) >= check_every:
                check_finite(unchecked, state.step)
            num_images += len(targets) * ranks.size
            progress.advance(len(targets) * ranks.size * setup.resizing.cost(position, position))
            if pace.look(state.step, clock.read):
                end = state.end(setup.steps_per_epoch)
                progress.change(progress.done + setup.work(state.point, end), end.epochs)
            every = config.checkpoint.every_steps
            if stop.requested(ranks) or (every and state.step % every == 0):
                checkpoint()
                stop.leave()

        clock.read()  # a GPU may be behind
        train_seconds = time.perf_counter() - began
        pace.pause(state.step, clock.read)
        learning_rates = state.optimizers.learning_rates(state.step - 1)
        average_epoch(setup, state, epoch, unmixed(setup, epoch), progress)
        figures, val_logits = validate(setup, state, epoch, progress)
        if figures and ranks.main and config.data.val.source == "test":
            record_test_look(run, {**figures, "epoch": epoch + 1, "precision": setup.precision}, "after an epoch")
        if figures:
            check_finite([torch.tensor(figures["nll"])], state.step)
            state.optimizers.observe(state.step, figures["nll"])
            state.early_stop.observe(figures["accuracy"])
        chosen = keep_best(setup, state, epoch, figures, val_logits)
        line = epoch_line(setup, state, epoch, learning_rates, figures)
        state.totals.zero_()
        state.epochs_done = epoch + 1
        clock.update()
        line |= {"train_seconds": train_seconds, "images_per_second": num_images / train_seconds, "seconds": state.seconds}
        if ranks.main:
            append_line(run.metrics, line)
            track(line)
        recent = time.perf_counter() - saved_at < config.checkpoint.min_interval and ranks.size == 1  # clocks of ranks differ
        over = state.early_stop.over or state.epochs_done >= pace.num_epochs(setup.steps_per_epoch)
        if stop.requested(ranks) or over or not recent:
            checkpoint()
        if chosen and ranks.main:
            write_model(setup, state, run, [])
        pace.go_on(clock.read)
        progress.epoch(line)
        stop.leave()
    clock.update()


class Batch(NamedTuple):
    """What one rank trains on in a step."""

    images: Tensor
    targets: Tensor
    share: float
    """Factor on the loss, 1 where batches divide evenly by the ranks."""
    samples: Tensor
    """int64: which training images these are."""


def batches(setup: Setup, epoch: int, first_step: int = 0, only: Tensor | None = None) -> Iterator[Batch]:
    """This rank's part of each step of an epoch, from `first_step` on, with normalised images; `only`: see `epoch_order`.

    Targets are int64 (N,), or where batches are mixed float32 (N, classes). What a sample sees is drawn for the whole epoch
    at once, so it depends on the seed and the epoch alone.
    """
    config, split, device, ranks = setup.config, setup.splits["train"], setup.device, setup.ranks
    order, draws = (each.to(device) for each in epoch_order(setup, epoch, only))  # once an epoch: a copy waits for the GPU
    drawn = setup.augmentation.draw(len(split), config.seed, epoch, device=device)
    whole = torch.arange(len(order), device=device).split(config.batch_size)[: setup.steps_per_epoch]
    mixed = setup.mixing.draw([len(step) for step in whole], config.seed, epoch) if setup.mixing else None
    layout = memory_format(device, setup.precision)
    chunk = chunk_size(device, split.size)
    for start in range(first_step, len(whole), setup.steps_per_chunk):
        steps = whole[start : start + setup.steps_per_chunk]
        # A partner may be another rank's sample, so every rank makes the whole batch where batches are mixed.
        loaded = steps if mixed else [ranks.shard(step) for step in steps]
        places = torch.cat(loaded)
        indices, taken = order[places], draws[places]
        pieces = zip(indices.split(chunk), taken.split(chunk), strict=True)
        augmented = [setup.augmentation.apply(split.gather(part), rows(drawn, draw)) for part, draw in pieces]
        images, targets = setup.preprocessing.normalize(torch.cat(augmented), layout), split.labels[indices]
        if mixed:
            chosen = range(start, start + len(steps))
            images, targets = setup.mixing.apply(images, targets, len(split.class_names), mixed, chosen)
        sizes = [len(part) for part in loaded]
        for step, *parts in zip(steps, images.split(sizes), targets.split(sizes), indices.split(sizes), strict=True):
            mine, wanted, samples = (ranks.shard(part) for part in parts) if mixed else parts
            yield Batch(mine, wanted, len(mine) * ranks.size / len(step), samples)


def epoch_order(setup: Setup, epoch: int, only: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """(sample, augmentation draw) of each place of an epoch, int64 on the CPU; of all samples, or of these again and again.

    A draw belongs to its sample, so that its place does not matter; one that comes several times takes its place's instead.
    """
    split, random = setup.splits["train"], generator(setup.config.seed, "order", epoch)
    if setup.config.data.balance == "sampler":
        return balanced_order(split.labels.cpu(), len(split.class_names), random), torch.arange(len(split))
    if only is not None:
        return passes(only, len(split), random), torch.arange(len(split))
    order = torch.randperm(len(split), generator=random)
    return order, order


def unmixed(setup: Setup, epoch: int) -> Iterator[Tensor]:
    """This rank's images of each step of an epoch, augmented but not mixed with each other: no scored image is a mixture."""
    for batch in batches(dataclasses.replace(setup, mixing=Mixing()), epoch):
        yield batch.images


def validate(setup: Setup, state: State, epoch: int, progress: Progress) -> tuple[dict[str, Any] | None, Tensor | None]:
    """(figures on the validation images or None where there are none, the logits of plain ones)."""
    if "val" not in setup.splits:
        return None, None
    split, augmentation = setup.splits["val"], setup.augmentation
    transform = None
    if setup.config.data.val.augment:
        drawn = augmentation.draw(len(split), setup.config.seed, epoch, "val", device=setup.device)

        def transform(images: Tensor, indices: Tensor) -> Tensor:
            return augmentation.apply(images, rows(drawn, indices.to(images.device)))

    logits = split_logits(
        state.scored_net,
        split,
        setup.preprocessing,
        precision=setup.precision,
        ranks=setup.ranks,
        transform=transform,
        advance=lambda num: progress.advance_scoring(num * setup.ranks.size),
    )
    # Ranks score other batches than the one process that scores at the end, and may round differently.
    return score(logits, split.labels), logits if transform is None and setup.ranks.size == 1 else None


def epoch_line(
    setup: Setup, state: State, epoch: int, learning_rates: list[float], figures: dict[str, Any] | None
) -> dict[str, Any]:
    """What metrics.jsonl keeps of an epoch, except for times; training figures are those seen on the way."""
    loss_sum, correct, seen = setup.ranks.sum(state.totals.clone()).tolist()
    line: dict[str, Any] = {
        "epoch": epoch + 1,
        "step": state.step,
        "lr": learning_rates,
        "train_loss": loss_sum / seen,
        "train_accuracy": correct / seen,
    }
    if figures:
        line |= {"val_loss": figures["nll"], "val_accuracy": figures["accuracy"], "val_num": figures["num"]}
    if state.hard and state.hard.chosen is not None:
        line["train_share"] = len(state.hard.chosen) / len(setup.splits["train"])
    if state.early_stop.over and epoch + 1 < state.pace.num_epochs(setup.steps_per_epoch):
        line["stopped_early"] = True
    return line


def check_finite(losses: list[Tensor], step: int) -> None:
    """Raise `NonFiniteError` naming the first bad one of the last losses; `step` steps have been made. Empties the list."""
    finite = torch.stack([loss.float() for loss in losses]).isfinite() if losses else torch.ones(1, dtype=torch.bool)
    first_bad = step - len(losses) + 1 + int(finite.int().argmin())
    all_finite = bool(finite.all())
    losses.clear()
    if not all_finite:
        raise NonFiniteError(f"the loss is NaN or infinite at step {first_bad}")


class Clock:
    """Adds the wall time since it was made to `state.seconds`."""

    def __init__(self, state: State, device: torch.device) -> None:
        self.state, self.device = state, device
        self.before, self.began = state.seconds, time.perf_counter()

    def update(self) -> None:
        """Bring the state's seconds up to now."""
        self.state.seconds = self.before + time.perf_counter() - self.began

    def read(self) -> float:
        """The state's seconds, brought up to when the device has done all that it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.update()
        return self.state.seconds
