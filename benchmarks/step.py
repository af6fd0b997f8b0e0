"""Images/s of a recipe's training step with its augmentation, beside a plain fp32 eager step of the same net without any.

The two alternate in one process, so that whatever else the machine does falls on both; the ratio of each pair counts.

    python benchmarks/step.py resnet-variant --data-dir FOLDER > results/step-resnet-variant.json
"""

import argparse
import copy
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F

from bantamnet.bench.steps import Steps
from bantamnet.runs.lookup import resolve
from bantamnet.runtime import Ranks, environment, pick_device
from bantamnet.training.setup import Setup, State, prepare


def plain_steps(setup: Setup, state: State) -> Callable[[], int]:
    """A plain step in fp32, channels first, on one batch that is ready."""
    net = copy.deepcopy(state.net).to(memory_format=torch.contiguous_format).train()
    optimizer = torch.optim.SGD(net.parameters(), 0.1, 0.9, weight_decay=5e-4)
    num = setup.config.batch_size
    images = setup.preprocessing.normalize(setup.splits["train"].images[:num]).to(setup.device)
    targets = setup.splits["train"].labels[:num]

    def step() -> int:
        optimizer.zero_grad()
        loss = F.cross_entropy(net(images), targets)
        loss.backward()
        optimizer.step()
        return len(targets)

    return step


def timed(step: Callable[[], int], num_steps: int) -> float:
    """Images a second over so many steps."""
    began, num_images = time.perf_counter(), 0
    for _ in range(num_steps):
        num_images += step()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return num_images / (time.perf_counter() - began)


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--pairs", type=int, default=6)
    parser.add_argument("--steps", type=int, default=8, help="steps of ours in a pair; two chunks of augmentation at batch 128")
    given = parser.parse_args()
    setup, state = prepare(resolve(given.recipe), given.data_dir, pick_device("auto"), Ranks())
    load = os.getloadavg()[0]
    ours, plain = Steps(setup, state), plain_steps(setup, state)
    timed(ours, 4), timed(plain, 1)
    rates = [(timed(ours, given.steps), timed(plain, max(2, given.steps // 3))) for _ in range(given.pairs)]
    ratios = [one / other for one, other in rates]
    json.dump(
        {
            "what": f"training images/s of {given.recipe} with its augmentation, and of a plain fp32 eager step without",
            "command": f"python benchmarks/step.py {given.recipe}",
            "batch_size": setup.config.batch_size,
            "augment": setup.config.data.augment,
            "ours_images_per_second": [round(one, 1) for one, _ in rates],
            "plain_images_per_second": [round(other, 1) for _, other in rates],
            "ratio_median": round(statistics.median(ratios), 3),
            "ratio_min": round(min(ratios), 3),
            "ratio_max": round(max(ratios), 3),
            "load_before": load,
            "environment": environment(setup.device, setup.precision),
        },
        sys.stdout,
        indent=2,
    )
    print()


if __name__ == "__main__":
    main()
