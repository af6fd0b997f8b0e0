"""Ours beside the loop that most people write: the same net, optimiser and augmentation, in one process, in turn."""

import copy
import statistics
from collections.abc import Callable
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
from bantamnet.runtime import Ranks, environment, pick_device
from bantamnet.training.setup import prepare


def bench_loop(
    config: RunConfig, data_dir: Path | None, rounds: int = 5, seconds: float = 10.0, even_if_busy: bool = False
) -> dict[str, Any]:
    """Images/s of `ours`, of the `standard` loop (fp32, channels first) and of that `tuned` (bf16 where there is hardware for it,
    channels last), and how many times as fast ours is, with its spread. Nothing is written.
    """
    refuse_unsupported(parse(config.data.augment).operations)
    load = refuse_busy(even_if_busy)
    device = pick_device(config.device)
    setup, state = prepare(config, data_dir, device, Ranks())
    pictures = Pictures(setup.splits["train"], setup.augmentation.operations, setup.preprocessing)
    workers = max(1, int(usable_cores()))
    dtype = torch.bfloat16 if setup.precision == "bf16" else None

    def standard(tuned: bool) -> StandardLoop:
        net = copy.deepcopy(state.net)
        optimizers = Optimizers(config.optim, net, setup.steps_per_epoch, config.epochs)
        return StandardLoop(net, optimizers, setup.task, pictures, config.batch_size, workers, device, tuned, dtype)

    loops = {"standard": standard(False), "tuned": standard(True)}
    ours = Steps(setup, state)

    def measured(step: Callable[[], int], warm_up: int, keep: bool) -> Callable[[], float]:
        def measure() -> float:
            keep_freed_memory(keep)  # other loops leave the allocator as it is
            for _ in range(warm_up):
                step()
            rate = images_per_second(step, device, seconds)
            settle()
            return rate

        return measure

    images_per_second(ours, device, seconds / 2)
    others = {name: measured(loop, loop.ready + 1, keep=False) for name, loop in loops.items()}  # `ready` were made meanwhile
    rates = alternate({"ours": measured(ours, 2, keep=True), **others}, rounds)
    return {
        "recipe": config.name,
        "batch_size": config.batch_size,
        "augment": config.data.augment,
        "images_per_second": {name: statistics.median(values) for name, values in rates.items()},
        "images_per_second_rounds": rates,
        "ratio": {name: ratio(rates["ours"], rates[name]) for name in loops},
        "workers": workers,
        "peak_memory_bytes": device_memory(device),
        "load_of_others": load,
        "environment": environment(device, setup.precision),
    }
