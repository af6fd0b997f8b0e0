"""What single parts of the fast path are worth: training images/s of a recipe as it is, and without each of them, in turn.

python benchmarks/parts.py speed94 --data-dir FOLDER > results/parts-speed94.json
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median

from bantamnet.bench.quiet import refuse_busy
from bantamnet.bench.ratio import alternate, ratio
from bantamnet.bench.steps import Steps, images_per_second
from bantamnet.memory import keep_freed_memory
from bantamnet.runs.lookup import resolve
from bantamnet.runtime import Ranks, command_line, environment, pick_device, pick_precision
from bantamnet.training.setup import prepare


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--even-if-busy", action="store_true")
    given = parser.parse_args()
    load, device = refuse_busy(given.even_if_busy), pick_device("auto")

    def way(*sets: str, keep: bool = True, frozen: bool = False, progress: float = 1.0) -> Callable[[], float]:
        setup, state = prepare(resolve(given.recipe, sets), given.data_dir, device, Ranks())
        steps = Steps(setup, state, progress)
        if frozen:
            for parameter in state.optimizers.parameters[0].values():
                parameter.requires_grad_(False)

        def measure() -> float:
            keep_freed_memory(keep)
            steps(), steps()
            return images_per_second(steps, device, given.seconds)

        return measure

    ways = {
        "as it is": way(),
        "memory given back after each step": way(keep=False),
        "the first group frozen": way(frozen=True),
        "at the size the run begins with": way(progress=0.0),
        "GELU": way("model.activation=gelu"),
        "batches of 500": way("batch_size=500"),
        "batches of 2,000": way("batch_size=2000"),
    }
    rates = alternate(ways, given.rounds)
    json.dump(
        {
            "what": f"training images/s of {given.recipe} at full size, as it is and with one thing changed, in alternation",
            "command": f"python benchmarks/{command_line()}",
            "images_per_second": {name: median(values) for name, values in rates.items()},
            "images_per_second_rounds": rates,
            "ratio_to_as_it_is": {name: ratio(values, rates["as it is"]) for name, values in rates.items()},
            "load_of_others": load,
            "environment": environment(device, pick_precision("auto", device)),
        },
        sys.stdout,
        indent=1,
    )


if __name__ == "__main__":
    main()
