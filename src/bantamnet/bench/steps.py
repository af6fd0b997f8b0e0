"""Training steps as `fit` takes them, one at a time, so that they can be timed."""

import time
from collections.abc import Callable, Iterator

import torch

from bantamnet.training.compiling import step_net
from bantamnet.training.loop import Batch, batches
from bantamnet.training.setup import Setup, State
from bantamnet.training.step import gradients

PHASES = ("data", "forward and backward", "optimiser")


class Steps:
    """Takes steps of a recipe for ever, epoch after epoch, with pictures of the size that they have after a share of the schedule
    (`progress`: the end, so full size). `seconds` adds up what each phase took where `split` is asked for."""

    def __init__(self, setup: Setup, state: State, progress: float = 1.0) -> None:
        self.setup, self.state, self.progress = setup, state, progress
        self.net, self.compile_seconds = step_net(setup, state)
        self.stream = self._endless()
        self.seconds = dict.fromkeys(PHASES, 0.0)

    def _endless(self) -> Iterator[Batch]:
        epoch = 0
        while True:
            yield from batches(self.setup, epoch)
            epoch += 1

    def __call__(self) -> int:
        """One step; the images of all ranks in it."""
        self._train(next(self.stream))
        return self.setup.config.batch_size

    def split(self) -> int:
        """One step, its phases timed; waiting for the device after each makes it a little slower."""
        marks = [self._now()]
        batch = next(self.stream)
        marks.append(self._now())
        self._train(batch, lambda: marks.append(self._now()))
        marks.append(self._now())
        for phase, began, ended in zip(PHASES, marks, marks[1:], strict=False):
            self.seconds[phase] += ended - began
        return self.setup.config.batch_size

    def _train(self, batch: Batch, between: Callable[[], object] = lambda: None) -> None:
        state = self.state
        targets = batch.targets
        images = self.setup.resizing.apply(batch.images, self.progress)
        loss, logits = gradients(self.setup, self.net, images, targets, batch.share)
        between()
        state.optimizers.step(state.step)
        if state.ema:
            state.ema.update(state.net, state.step)
        state.step += 1
        labels = targets if targets.ndim == 1 else targets.argmax(1)
        correct = (logits.argmax(1) == labels).sum()
        state.totals += torch.stack([loss.detach().double() * len(targets), correct, torch.full_like(correct, len(targets))])
        if self.setup.device.type == "cpu":
            loss.isfinite().item()  # on a CPU the loop looks at every loss

    def _now(self) -> float:
        wait(self.setup.device)
        return time.perf_counter()


def wait(device: torch.device) -> None:
    """Until the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def images_per_second(step: Callable[[], int], device: torch.device, seconds: float, at_least: int = 3) -> float:
    """Of steps taken for so long, and so many of them."""
    wait(device)
    began, num_images, num_steps = time.perf_counter(), 0, 0
    while num_steps < at_least or time.perf_counter() - began < seconds:
        num_images += step()
        num_steps += 1
    wait(device)
    return num_images / (time.perf_counter() - began)
