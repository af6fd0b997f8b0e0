"""Write the figures of README.md between their markers from the files in results/, so that none is typed by hand.

python benchmarks/readme.py            # writes; the tests check that nothing would change
"""

import json
import statistics
from pathlib import Path
from typing import Any

from bantamnet.runs.describe import list_recipes
from bantamnet.runs.lookup import resolve

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results"


def load(name: str) -> dict[str, Any] | None:
    """A results file, or None where it has not been measured yet."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def percents(values: list[float]) -> str:
    """Mean ± standard deviation over seeds, or the one value."""
    if len(values) == 1:
        return f"{100 * values[0]:.2f}% (1 seed)"
    return f"{100 * statistics.mean(values):.2f} ± {100 * statistics.stdev(values):.2f}% ({len(values)} seeds)"


def accuracy_and_speed(measured: dict[str, Any]) -> str:
    """Test accuracy over seeds, and the images/s of the median epoch of runs that had every core."""
    runs = measured["runs"]
    accuracy = percents([run["figures"]["test"]["accuracy"] for run in runs])
    alone = [run for run in runs if run["environment"]["threads"] == run["environment"]["cpu_cores"]]
    speed = statistics.median(line["images_per_second"] for run in alone for line in run["curve"])
    return f"{accuracy}, {speed:,.0f} images/s on {runs[0]['environment']['cpu_cores']} CPU cores"


def recipes_table() -> str:
    """A row a recipe: parameters, epochs, label, published claim, test accuracy where a full run was measured."""
    rows = ["| recipe | data | parameters | class | epochs | label | published | test accuracy here |", "| --- " * 8 + "|"]
    for recipe in list_recipes():
        measured = load(recipe["name"])
        whole = measured and measured["runs"][0]["epochs"] == resolve(recipe["name"]).epochs
        claimed = (recipe["claims"] or {}).get("accuracy")
        cells = [
            f"`{recipe['name']}`",
            recipe["data"],
            f"{recipe['parameters']:,}",
            recipe["weight_class"],
            str(recipe["epochs"]),
            recipe["label"],
            f"{claimed:.2f}%" if claimed else "",
            accuracy_and_speed(measured) if measured and whole else "not yet run in full",
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def milestones_table() -> str:
    """First epochs of the twins beside the published logs."""
    rows = ["| twin | measured on | epoch | published log | here |", "| --- " * 5 + "|"]
    for name, on in (("resnet-variant-as-published", "augmented validation"), ("modified-resnet-as-published", "test")):
        measured, claims = load(name), resolve(name).claims
        assert claims is not None
        for epoch in (1, 10):
            logs = [curve[epoch] for curve in claims.milestones.values() if epoch in curve]
            here = [
                line["val_accuracy"]
                for run in (measured or {"runs": []})["runs"]
                for line in run["curve"]
                if line["epoch"] == epoch
            ]
            published = " / ".join(f"{value:.2f}%" for value in logs)
            rows.append(f"| `{name}` | {on} | {epoch} | {published} | {percents(here) if here else 'not yet'} |")
    return "\n".join(rows)


def speed_text() -> str:
    """The step benchmark in a sentence."""
    step = load("step-resnet-variant")
    if step is None:
        return "Not yet measured."
    whole = load("modified-resnet-as-published")
    peak = max(run.get("peak_memory_mb", 0) for run in whole["runs"]) if whole else None
    memory = f" Training on all 50,000 images of CIFAR-10 held at most {peak:,.0f} MB of memory." if peak else ""
    return (
        f"`resnet-variant`, batch {step['batch_size']}, on {step['environment']['cpu_cores']} cores of an "
        f"{step['environment']['device']} ({step['environment']['precision']}): training with its augmentation runs at "
        f"{step['ratio_median']:.2f} times the images/s of a plain fp32 step of the same net without any (median of "
        f"{len(step['ours_images_per_second'])} alternating pairs, {step['ratio_min']:.2f} to {step['ratio_max']:.2f}; "
        f"`benchmarks/step.py`).{memory}"
    )


def written(text: str) -> str:
    """README text with the parts between markers made anew."""
    for name, part in (("RECIPES", recipes_table()), ("MILESTONES", milestones_table()), ("SPEED", speed_text())):
        begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        before, _, rest = text.partition(begin)
        text = f"{before}{begin}\n{part}\n{end}{rest.partition(end)[2]}"
    return text


if __name__ == "__main__":
    readme = ROOT / "README.md"
    readme.write_text(written(readme.read_text(encoding="utf-8")), encoding="utf-8")
