"""Ours beside the loop that most people write: the same net, optimiser and augmentation, in one process, in turn."""

import copy
import multiprocessing
import statistics
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch

from bantamnet.bench.quiet import refuse_busy, settle
from bantamnet.bench.ratio import alternate, ratio
from bantamnet.bench.standard import Pictures, StandardLoop, refuse_unsupported
from bantamnet.bench.steps import Steps, images_per_second
from bantamnet.bench.train import device_memory
from bantamnet.config import RunConfig
from bantamnet.data.augment import parse
from bantamnet.machine import usable_cores
from bantamnet.memory import keep_freed_memory
from bantamnet.optim.groups import Optimizers
from bantamnet.runs.own import with_files
from bantamnet.runtime import Ranks, environment, number_type, pick_device
from bantamnet.training.setup import Setup, State, prepare

LOOPS = ("ours", "standard", "tuned")


def bench_loop(
    config: RunConfig, data_dir: Path | None, rounds: int = 5, seconds: float = 10.0, even_if_busy: bool = False
) -> dict[str, Any]:
    """Images/s of `ours`, of the `standard` loop (fp32, channels first) and of that `tuned` (bf16 where there is hardware for it,
    channels last), how many times as fast ours is, with its spread, and the peak memory of each. Nothing is written.

    What the standard loop has not, ours leaves out too; `left_out` names it.
    """
    config, left_out = alike(config)
    refuse_unsupported(parse(config.data.augment).operations)
    load = refuse_busy(even_if_busy)
    device = pick_device(config.device)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), max_tasks_per_child=1) as fresh:
        peaks = {name: fresh.submit(peak_of, config, data_dir, name).result() for name in LOOPS}
    setup, state = prepare(config, data_dir, device, Ranks())
    pictures = Pictures(setup.splits["train"], setup.augmentation.operations, setup.preprocessing)
    others = {name: standard(setup, state, pictures, name == "tuned") for name in ("standard", "tuned")}
    warm_up = {"ours": 2, **{name: loop.ready + 1 for name, loop in others.items()}}  # `ready` batches were made meanwhile
    steps: dict[str, Callable[[], int]] = {"ours": Steps(setup, state), **others}

    def measured(name: str) -> Callable[[], float]:
        step = steps[name]

        def measure() -> float:
            keep_freed_memory(name == "ours")  # other loops leave the allocator as it is
            for _ in range(warm_up[name]):
                step()
            rate = images_per_second(step, device, seconds)
            settle(load)
            return rate

        return measure

    images_per_second(steps["ours"], device, seconds / 2)
    rates = alternate({name: measured(name) for name in LOOPS}, rounds)
    return {
        "recipe": config.name,
        "batch_size": config.batch_size,
        "augment": config.data.augment,
        "left_out": left_out,
        "images_per_second": {name: statistics.median(values) for name, values in rates.items()},
        "images_per_second_rounds": rates,
        "ratio": {name: ratio(rates["ours"], rates[name]) for name in LOOPS if name != "ours"},
        "workers": num_workers(),
        "peak_memory_bytes": peaks,
        "load_of_others": load,
        "environment": environment(device, setup.precision),
    }


def alike(config: RunConfig) -> tuple[RunConfig, list[str]]:
    """The config without what the standard loop does not do, and the keys of that."""
    plain = {"sam": None, "ema": None, "swa": None, "clip_norm": None}
    plain_data: dict[str, Any] = {"mix": "", "balance": "none", "hard_examples": []}
    left_out = [key for key, value in plain.items() if getattr(config, key) != value]
    left_out += [f"data.{key}" for key, value in plain_data.items() if getattr(config.data, key) != value]
    return config.model_copy(update={**plain, "data": config.data.model_copy(update=plain_data)}), left_out


def standard(setup: Setup, state: State, pictures: Pictures, tuned: bool) -> StandardLoop:
    """The standard loop, with a copy of the net as it is now."""
    config, net = setup.config, copy.deepcopy(state.net)
    optimizers = Optimizers(config.optim, net, setup.steps_per_epoch, config.epochs)
    dtype = None if number_type(setup.precision) == torch.float32 else torch.bfloat16
    return StandardLoop(net, optimizers, setup.task, pictures, config.batch_size, num_workers(), setup.device, tuned, dtype)


def num_workers() -> int:
    """Workers of a standard loop: one a core."""
    return max(1, int(usable_cores()))


def peak_of(config: RunConfig, data_dir: Path | None, name: str, num_steps: int = 6) -> int:
    """Most bytes held by this process, a fresh one, that takes some steps of one of the loops; its workers are not counted."""
    setup, state = prepare(with_files(config), data_dir, pick_device(config.device), Ranks())
    step: Callable[[], int]
    if name == "ours":
        step = Steps(setup, state)
    else:
        keep_freed_memory(False)
        pictures = Pictures(setup.splits["train"], setup.augmentation.operations, setup.preprocessing)
        step = standard(setup, state, pictures, name == "tuned")
        setup.splits.clear()  # the pictures are the loop's own
    for _ in range(num_steps):
        step()
    return device_memory(setup.device)
