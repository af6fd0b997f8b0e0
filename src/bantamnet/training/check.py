"""Is a recipe worth its hours? Short trainings on scratch copies of its net that answer before the long one begins."""

import copy
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bantamnet.config import Constant, RunConfig, Warmup
from bantamnet.models.resnet import count_parameters
from bantamnet.optim.groups import Optimizers
from bantamnet.runtime import Ranks, autocast, memory_format, pick_device
from bantamnet.training.fits import largest_batch
from bantamnet.training.loop import batches
from bantamnet.training.precheck import check_before_data
from bantamnet.training.setup import Setup, State, prepare
from bantamnet.training.train import scoring_seconds

OVERFIT_IMAGES = 32
OVERFIT_LOSS = 0.05
"""Cross-entropy (nats) below which a batch counts as learned by heart."""
LOWEST, HIGHEST = 1e-5, 10.0
"""Rates of the range test."""
DIVERGED = 3.0
"""The range test ends when the smoothed loss is this many times its lowest."""
FLAT = 0.03
"""A loss that never falls by this share of its start tells nothing of rates."""

Say = Callable[[str], None]


def check(config: RunConfig, data_dir: Path | None = None, quick: bool = False, say: Say = lambda text: None) -> dict[str, Any]:
    """All four checks of a recipe as plain values; nothing is written, and no test image is looked at.

    `quick` takes fewer steps and tries no batch whose step takes long. `say` hears what is being done.
    """
    check_before_data(config)
    setup, state = prepare(config, data_dir, pick_device(config.device), Ranks())
    train = setup.splits["train"]
    say(f"learning one batch of {min(OVERFIT_IMAGES, len(train))} images by heart …")
    overfitted = overfit(setup, state, 150 if quick else 300)
    say("raising the learning rate step by step …")
    rates, step_seconds = range_test(setup, state, 40 if quick else 100)
    say("doubling the batch …")
    batch = largest_batch(
        config, setup.precision, train.size, len(train.class_names), len(train), longest_step=5.0 if quick else 60.0
    )
    return {
        "recipe": config.name,
        "parameters": count_parameters(state.net),
        "device": setup.device.type,
        "precision": setup.precision,
        "passed": overfitted["passed"],
        "overfit": overfitted,
        "lr_range": rates,
        "batch": {"recipe": config.batch_size, **batch},
        "time": estimate(setup, state, step_seconds),
    }


def overfit(setup: Setup, state: State, max_steps: int) -> dict[str, Any]:
    """Whether the net learns one batch of plain images by heart, as any sound net, loss and optimiser do.

    Dropout, augmentation, label smoothing and weight decay are off. The recipe's optimiser takes its own rate and, where that
    fails, a tenth of it, so that a wrong rate is told apart from a broken net.
    """
    train = setup.splits["train"]
    chosen = torch.arange(min(OVERFIT_IMAGES, len(train)))
    layout = memory_format(setup.device, setup.precision)
    images = setup.preprocessing.normalize(train.gather(chosen.to(setup.device)), layout)
    targets = train.labels[chosen.to(setup.device)]
    facts: dict[str, Any] = {"images": len(chosen), "limit": OVERFIT_LOSS, "guessing": math.log(len(train.class_names))}
    for factor in (1.0, 0.1):
        net = _scratch(state)
        for module in net.modules():
            if isinstance(module, nn.modules.dropout._DropoutNd):
                module.p = 0.0
        schedule = [Warmup(name="warmup", steps=10, start=0.1), Constant()]
        groups = [
            g.model_copy(update={"lr": g.lr * factor, "weight_decay": 0.0, "schedule": schedule}) for g in setup.config.optim
        ]
        optimizers = Optimizers(groups, net, 1, max_steps)
        losses: list[float] = []
        while len(losses) < max_steps and not (losses and (losses[-1] < OVERFIT_LOSS or not math.isfinite(losses[-1]))):
            with autocast(setup.device, setup.precision):
                loss = F.cross_entropy(net(images).float(), targets)
            loss.backward()
            optimizers.step(len(losses))
            losses.append(loss.item())
        passed = losses[-1] < OVERFIT_LOSS
        facts |= {"passed": passed, "rate_factor": factor, "first_loss": losses[0], "last_loss": losses[-1], "steps": len(losses)}
        if passed:
            break
    return facts


def range_test(setup: Setup, state: State, num_steps: int) -> tuple[dict[str, Any], float]:
    """(the learning-rate range test, seconds of a training step with its augmentation).

    The rate rises exponentially over real training steps, and the loss tells which rates train (Smith 2015, arXiv 1506.01186).
    Where groups have rates of their own, these keep their proportions, and the largest one is reported.
    """
    net = _scratch(state)
    largest = max(group.lr for group in setup.config.optim)
    proportions = [group.lr / largest if largest else 1.0 for group in setup.config.optim]
    optimizers = Optimizers([g.model_copy(update={"schedule": [Constant()]}) for g in setup.config.optim], net, 1, num_steps)
    rates, losses, seconds = [], [], []
    stream, smoothed, lowest = _endless(setup), 0.0, math.inf
    for step in range(num_steps):
        rate = LOWEST * (HIGHEST / LOWEST) ** (step / max(1, num_steps - 1))
        began = time.perf_counter()
        images, targets = next(stream)
        with autocast(setup.device, setup.precision):
            loss, _ = setup.task(net, images, targets)
        loss.backward()
        for schedule, proportion in zip(optimizers.rates, proportions, strict=True):
            schedule.base = rate * proportion
        optimizers.step(step)
        value = loss.item()
        seconds.append(time.perf_counter() - began)
        if not math.isfinite(value):
            break
        rates.append(rate)
        losses.append(value)
        smoothed = 0.8 * smoothed + 0.2 * value
        unbiased = smoothed / (1 - 0.8 ** (step + 1))
        lowest = min(lowest, unbiased)
        if step >= 5 and unbiased > DIVERGED * lowest:
            break
    return {"recipe_rate": largest, **read_range(rates, losses, largest)}, _step_seconds(seconds, setup)


def read_range(rates: list[float], losses: list[float], recipe_rate: float) -> dict[str, Any]:
    """What a range test says of rates, and of the recipe's.

    The good range goes from `low`, where a third of the loss's fall is done, to `high`, where the loss is lowest; `suggestion` is
    where it falls fastest between them. The recipe's rate is `inside`, `below` or `above` the range, or `unknown` where the loss
    never fell. The loss is smoothed evenly to both sides (Gaussian, a fortieth of the steps wide), so no rate is blamed late.
    """
    if not losses:  # not even the first was finite
        return {"rates": [], "losses": [], "smoothed": [], "low": None, "high": None, "suggestion": None, "verdict": "unknown"}
    logs, raw = np.log10(rates), np.array(losses)
    width = max(1.5, len(raw) / 40)
    steps = np.arange(len(raw))
    weights = np.exp(-0.5 * ((steps[:, None] - steps[None, :]) / width) ** 2)
    smooth = (weights @ raw) / weights.sum(axis=1)
    bottom = int(smooth.argmin())
    fall = smooth[: bottom + 1].max() - smooth[bottom]
    facts = {"rates": rates, "losses": losses, "smoothed": smooth.tolist()}
    if bottom < 2 or fall < FLAT * smooth[0]:
        return {**facts, "low": None, "high": None, "suggestion": None, "verdict": "unknown"}
    top = int(smooth[: bottom + 1].argmax())
    low = next(i for i in range(bottom, top - 1, -1) if smooth[top] - smooth[i] <= fall / 3)
    slopes = np.gradient(smooth[: bottom + 1], logs[: bottom + 1])
    steepest = low + int(slopes[low:].argmin())
    bounds = float(rates[low]), float(rates[bottom])
    verdict = "below" if recipe_rate < bounds[0] else "above" if recipe_rate > bounds[1] else "inside"
    return {**facts, "low": bounds[0], "high": bounds[1], "suggestion": float(rates[steepest]), "verdict": verdict}


def estimate(setup: Setup, state: State, step_seconds: float) -> dict[str, Any]:
    """Seconds of the whole run from a measured step: training, validation after each epoch, the last scoring."""
    config, image_seconds = setup.config, scoring_seconds(setup, state)
    num_epochs = state.pace.num_epochs(setup.steps_per_epoch)
    training = state.pace.steps * setup.resizing.cost(0, 1) * step_seconds
    validation = num_epochs * image_seconds * len(setup.splits.get("val", ()))
    return {
        "step_seconds": step_seconds,
        "images_per_second": config.batch_size / step_seconds,
        "scored_images_per_second": 1 / image_seconds,
        "steps": None if config.time_budget else state.pace.steps,
        "training_seconds": training,
        "validation_seconds": validation,
        "epoch_seconds": setup.steps_per_epoch * step_seconds + image_seconds * len(setup.splits.get("val", ())),
        "total_seconds": config.time_budget or training + validation + image_seconds * len(setup.splits["test"]),
    }


def _scratch(state: State) -> nn.Module:
    return copy.deepcopy(state.net).train()


def _endless(setup: Setup) -> Iterator[tuple[Tensor, Tensor]]:
    epoch = 0
    while True:
        for batch in batches(setup, epoch):
            yield batch.images, batch.targets
        epoch += 1


def _step_seconds(seconds: list[float], setup: Setup) -> float:
    """A typical step and its share of a chunk's augmentation, which the first step of a chunk waits for."""
    within = [index % setup.steps_per_epoch % setup.steps_per_chunk for index in range(len(seconds))]
    waiting = [s for s, place in zip(seconds, within, strict=True) if place == 0]
    plain = [s for s, place in zip(seconds, within, strict=True) if place]
    if not plain:
        return float(np.median(waiting))
    return float(np.median(plain) + max(0.0, np.median(waiting) - np.median(plain)) / setup.steps_per_chunk)
