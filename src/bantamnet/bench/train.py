"""How fast a recipe trains on this machine, where a step's time goes, and what share of the machine that is."""

import statistics
from pathlib import Path
from typing import Any

import torch

from bantamnet.bench.doctor import matrix_rate
from bantamnet.bench.quiet import refuse_busy
from bantamnet.bench.steps import Steps, images_per_second
from bantamnet.config import RunConfig
from bantamnet.errors import UserError
from bantamnet.machine import peak_memory
from bantamnet.models.summary import summarize
from bantamnet.runtime import Ranks, environment, number_type, pick_device
from bantamnet.training.setup import Setup, prepare

FORWARD_AND_BACKWARD = 6
"""Floating-point operations of a training step by multiply-add of a forward pass: one times two forward, twice that backward."""


def bench_train(
    config: RunConfig, data_dir: Path | None, rounds: int = 5, seconds: float = 5.0, even_if_busy: bool = False
) -> dict[str, Any]:
    """Images/s in `rounds` of so many seconds, the share of each phase of a step, GFLOP/s beside the measured matrix rate.

    GFLOP/s count the net's convolutions and linear layers alone. Nothing is written.
    """
    load = refuse_busy(even_if_busy)
    device = pick_device(config.device)
    setup, state = prepare(config, data_dir, device, Ranks())
    macs = summarize(state.net, setup.preprocessing.size).macs
    steps = Steps(setup, state)
    images_per_second(steps, device, seconds / 2)
    steps.seconds = dict.fromkeys(steps.seconds, 0.0)
    rates, peaks = [], []
    for _ in range(rounds):
        peaks.append(matrix_peak(setup, seconds / 10))
        rates.append(images_per_second(steps, device, seconds))
    for _ in range(2 * setup.steps_per_chunk):  # whole chunks, as augmentation comes a chunk at a time
        steps.split()
    whole = sum(steps.seconds.values())
    rate, peak = statistics.median(rates), statistics.median(peaks)
    flops = FORWARD_AND_BACKWARD * macs * rate
    return {
        "recipe": config.name,
        "batch_size": config.batch_size,
        "augment": config.data.augment,
        "images_per_second": rate,
        "images_per_second_rounds": rates,
        "compile_seconds": steps.compile_seconds,
        "step_seconds": config.batch_size / rate,
        "phases": {phase: took / whole for phase, took in steps.seconds.items()},
        "macs": macs,
        "gflops": flops / 1e9,
        "matrix_gflops": peak / 1e9,
        "matrix_share": flops / peak,
        "peak_memory_bytes": device_memory(device),
        "load_of_others": load,
        "environment": environment(device, setup.precision),
    }


def matrix_peak(setup: Setup, seconds: float) -> float:
    """Operations a second of a matrix product in the precision that is trained in, measured now."""
    kind = number_type(setup.precision)
    return matrix_rate(setup.device, kind, 2048 if setup.device.type == "cpu" else 8192, seconds)


def device_memory(device: torch.device) -> int:
    """Most bytes held so far: of the GPU's memory, or of this process."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else peak_memory()


def profile(config: RunConfig, data_dir: Path | None, folder: Path) -> dict[str, Any]:
    """Write `trace.json` (for chrome://tracing or Perfetto) and `operations.txt` of some training steps into a new folder."""
    if folder.exists():
        raise UserError(f"--profile: {folder} exists already; choose another name")
    device = pick_device(config.device)
    setup, state = prepare(config, data_dir, device, Ranks())
    steps = Steps(setup, state)
    for _ in range(2):
        steps()
    kinds = [torch.profiler.ProfilerActivity.CPU]
    if device.type == "cuda":
        kinds.append(torch.profiler.ProfilerActivity.CUDA)
    num_steps = 2 * setup.steps_per_chunk
    with torch.profiler.profile(activities=kinds) as profiler:
        for _ in range(num_steps):
            steps()
    folder.mkdir(parents=True)
    profiler.export_chrome_trace(str(folder / "trace.json"))
    by = "self_cuda_time_total" if device.type == "cuda" else "self_cpu_time_total"
    averages = profiler.key_averages()
    (folder / "operations.txt").write_text(averages.table(sort_by=by, row_limit=40, max_name_column_width=60), encoding="utf-8")
    attribute = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    spent = {entry.key: float(getattr(entry, attribute)) for entry in averages}
    whole = sum(spent.values()) or 1.0
    top = sorted(spent.items(), key=lambda item: -item[1])[:15]
    return {
        "recipe": config.name,
        "steps": num_steps,
        "trace": str(folder / "trace.json"),
        "operations": [{"operation": key, "share": took / whole, "seconds": took / 1e6} for key, took in top],
    }
