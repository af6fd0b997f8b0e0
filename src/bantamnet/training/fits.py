"""The largest batch that fits: real training steps of doubling batches, in a process of their own.

That process may take so much memory and no more: past it an allocation fails there, or the process is ended there, and
neither the run that asks nor the machine suffers.
"""

import contextlib
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from bantamnet.config import RunConfig
from bantamnet.configfile import validate
from bantamnet.errors import UserError
from bantamnet.machine import free_memory, peak_memory
from bantamnet.optim.groups import Optimizers
from bantamnet.runs.own import with_files
from bantamnet.runtime import autocast, memory_format, pick_device
from bantamnet.training.losses import Classification
from bantamnet.training.setup import build_net

SHARE = 0.5
"""Share of the free memory that may be taken on a CPU; other programs want some too."""
FIRST = 16


def largest_batch(
    config: RunConfig, precision: str, size: tuple[int, int], num_classes: int, most: int, longest_step: float
) -> dict[str, Any]:
    """Train on batches of 16, 32, 64, … images; which fitted, what each took, and what stopped the doubling.

    The doubling stops before a batch above `most` images or a step above `longest_step` seconds, and on a CPU before half of
    the free memory is taken. `tried` lists `{batch, seconds, memory_bytes}` of each that fitted; `stopped_by` is `memory`,
    `time` or `images`.
    """
    device = pick_device(config.device)
    allowed = int(SHARE * free_memory()) if device.type == "cpu" else None
    asked = {
        "config": config.dump(),
        "precision": precision,
        "size": size,
        "num_classes": num_classes,
        "most": most,
        "longest_step": longest_step,
        "allowed": allowed,
    }
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    child = subprocess.run(
        [sys.executable, "-m", "bantamnet.training.fits"],
        input=json.dumps(asked),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [json.loads(line) for line in child.stdout.splitlines() if line.startswith("{")]
    tried = [line for line in lines if "batch" in line]
    if not tried and child.returncode > 0:
        told = child.stderr.strip().splitlines()[-1:] or ["no word of why"]
        raise UserError(f"not even a batch of {FIRST} images could be trained on: {told[0]}")
    # A child that was ended before it could say why had asked for more memory than there is.
    stopped_by = next((line["stopped_by"] for line in lines if "stopped_by" in line), "memory")
    return {
        "largest": tried[-1]["batch"] if tried else 0,
        "stopped_by": stopped_by,
        "allowed_bytes": allowed,
        "longest_step": longest_step,
        "tried": tried,
    }


def main() -> None:
    """The child: reads what is asked on stdin, and writes a JSON line for each batch that fitted and one for what stopped it."""
    asked = json.load(sys.stdin)
    config = with_files(validate(asked["config"]))
    device = pick_device(config.device)
    with contextlib.suppress(OSError):  # if memory does run out, this is the process to end
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="utf-8")
    layout = memory_format(device, asked["precision"])
    net = build_net(config, asked["num_classes"], with_init=False).to(device, memory_format=layout).train()  # type: ignore[call-overload]
    optimizers = Optimizers(config.optim, net, 1, 1)
    task = Classification(config.label_smoothing)
    before, allowed = peak_memory(), asked["allowed"]
    if allowed:
        _limit_memory(allowed)
    batch, stopped_by = min(FIRST, asked["most"]), "images"
    while batch <= asked["most"]:
        try:
            for number in range(2):  # the first one makes the optimiser's state
                began = time.perf_counter()
                images = torch.randn(batch, 3, *asked["size"], device=device).contiguous(memory_format=layout)
                targets = torch.arange(batch, device=device) % asked["num_classes"]
                with autocast(device, asked["precision"]):
                    loss, _ = task(net, images, targets)
                loss.backward()
                optimizers.step(number)
                loss.item()
        except (RuntimeError, MemoryError):  # torch.OutOfMemoryError is a RuntimeError, and so is what the CPU's allocator raises
            stopped_by = "memory"
            break
        seconds = time.perf_counter() - began
        taken = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else peak_memory() - before
        print(json.dumps({"batch": batch, "seconds": seconds, "memory_bytes": taken}), flush=True)
        batch *= 2
        if allowed and 2 * taken > allowed:
            stopped_by = "memory"
            break
        if 2 * seconds > asked["longest_step"]:
            stopped_by = "time"
            break
    print(json.dumps({"stopped_by": stopped_by}), flush=True)


def _limit_memory(allowed: int) -> None:
    """Let this process take so many bytes more than now (Linux; elsewhere the estimate from what was taken must do)."""
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        now = 1024 * int(next(line for line in lines if line.startswith("VmData")).split()[1])
        resource.setrlimit(resource.RLIMIT_DATA, (now + allowed, resource.getrlimit(resource.RLIMIT_DATA)[1]))


if __name__ == "__main__":
    main()
