"""Write the figures of README.md and docs/ between their markers from the files in results/, so that none is typed by hand.

python benchmarks/documents.py         # writes; the tests check that nothing would change
"""

import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bantamnet.runs.describe import list_recipes
from bantamnet.runs.lookup import RECIPES, recipe_names, resolve

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


def table(columns: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [columns, ["---"] * len(columns), *rows])


def accuracy_and_speed(measured: dict[str, Any]) -> str:
    """Test accuracy over seeds, and the images/s of runs that had every core."""
    runs = measured["runs"]
    accuracy = percents([run["figures"]["test"]["accuracy"] for run in runs]) + given_time(runs)
    alone = [run for run in runs if has_every_core(run)]
    if not alone:
        return accuracy
    speed = each_precision(alone, training_speed, "images/s")
    return f"{accuracy}, {speed} on {runs[0]['environment']['cpu_cores']} CPU cores"


def given_time(runs: list[dict[str, Any]]) -> str:
    """Epochs and budget of runs that a time budget ended."""
    budget = runs[0].get("time_budget")
    return f" with {budget['epochs']:.1f} epochs in {budget['budget_seconds'] / 3600:g} h" if budget else ""


def training_speed(runs: list[dict[str, Any]]) -> float:
    """Images trained on in a second: in the median epoch, which bears an interruption, or over all where picture sizes change."""
    epochs = [line for run in runs for line in run["curve"]]
    if not resolve(runs[0]["name"]).progressive_resizing:
        return statistics.median(line["images_per_second"] for line in epochs)
    seconds = [line["train_seconds"] for line in epochs]
    return sum(line["images_per_second"] * line["train_seconds"] for line in epochs) / sum(seconds)


def each_precision(runs: list[dict[str, Any]], value: Callable[[list[dict[str, Any]]], float], unit: str) -> str:
    """A number of runs for each precision that they were computed in, and so for each machine."""
    alike: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        alike.setdefault(run["environment"]["precision"], []).append(run)
    return ", ".join(f"{value(some):,.0f} {unit} ({precision})" for precision, some in alike.items())


def in_full(name: str, run: dict[str, Any]) -> bool:
    """Whether a run went through its recipe's epochs, or through its whole schedule in the time it was given."""
    return "figures" in run and (bool(run.get("time_budget")) or run["epochs"] == resolve(name).epochs)


def recipes_table() -> str:
    """A row a recipe: parameters, epochs, label, published claim, test accuracy where a full run was measured."""
    rows = []
    for recipe in list_recipes():
        measured = load(recipe["name"])
        whole = measured and in_full(recipe["name"], measured["runs"][0])
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
        rows.append(cells)
    columns = ["recipe", "data", "parameters", "class", "epochs", "label", "published", "test accuracy here"]
    return table(columns, rows)


def twins() -> list[dict[str, Any]]:
    """Facts of the recipes that repeat a report."""
    return [recipe for recipe in list_recipes() if recipe["claims"]]


def epoch_accuracies(name: str, epoch: int) -> list[float]:
    """Validation accuracy after this epoch of each run of a recipe that came so far."""
    measured = load(name) or {"runs": []}
    return [line["val_accuracy"] for run in measured["runs"] for line in run["curve"] if line["epoch"] == epoch]


def milestones_table() -> str:
    """The twins' curves beside the published logs, up to the first published epoch that no run has reached."""
    rows = []
    for twin in twins():
        published: dict[int, list[str]] = {}
        for curve in twin["claims"]["milestones"].values():
            for epoch, value in curve.items():
                published.setdefault(int(epoch), []).append(f"{value:.2f}%")
        reached = {line["epoch"] for run in (load(twin["name"]) or {"runs": []})["runs"] for line in run["curve"]}
        beyond = next((epoch for epoch in sorted(published) if epoch not in reached), 0)
        on = "augmented validation" if resolve(twin["name"]).data.val.augment else "test"
        for epoch in sorted({*published, *reached}):
            if epoch <= max(beyond, *reached, 1) and (epoch in published or epoch == max(reached)):
                here = epoch_accuracies(twin["name"], epoch)
                cells = [" / ".join(published.get(epoch, [])), percents(here) if here else "not yet"]
                rows.append([f"`{twin['name']}`", on, str(epoch), *cells])
    return table(["twin", "measured on", "epoch", "published log", "here"], rows)


def here(name: str) -> str:
    """What was measured of a recipe so far, in a table's cell."""
    measured = load(name)
    if not measured:
        return "not yet run"
    runs, epochs = measured["runs"], resolve(name).epochs
    if in_full(name, runs[0]):
        return f"{percents([run['figures']['test']['accuracy'] for run in runs])} test"
    done = max(line["epoch"] for run in runs for line in run["curve"])
    return f"{percents(epoch_accuracies(name, done))} after {done} of {epochs} epochs"


def systems_table() -> str:
    """A row a system: what its report says, and what its twin and its clean recipe have come to here."""
    rows = []
    for twin in twins():
        claims, clean = twin["claims"], twin["name"].removesuffix("-as-published")
        reported = f"{claims['accuracy']:.3f}".rstrip("0").rstrip(".") + "%"
        cells = [f"`{clean}`", f"{twin['parameters']:,}", reported, claims["measured_on"], here(twin["name"]), here(clean)]
        rows.append(cells)
    return table(["system", "parameters", "reported", "measured on", "the twin here", "done right here"], rows)


def measured_facts() -> dict[str, Any]:
    """What results/ hold of each recipe, in brief, for `bantamnet recipes --json`."""
    facts = {}
    for name in recipe_names():
        runs = (load(name) or {"runs": []})["runs"]
        if runs:
            done = max(line["epoch"] for run in runs for line in run["curve"])
            whole = in_full(name, runs[0])
            test = [run["figures"]["test"]["accuracy"] for run in runs] if whole else None
            facts[name] = {"epochs": done, "in_full": whole, "seeds": len(runs), "test_accuracies": test}
    return facts


def machine(environment: dict[str, Any]) -> str:
    """Where something was measured."""
    on_cpu = environment["device_type"] == "cpu"
    name = f"{environment['cpu_cores']} cores of an {environment['device']}" if on_cpu else environment["device"]
    return f"{name}, {environment['precision']}"


def has_every_core(run: dict[str, Any]) -> bool:
    """Whether a run's speed is the machine's."""
    return bool(run["environment"]["threads"] == run["environment"]["cpu_cores"])


def has_whole_machine(run: dict[str, Any]) -> bool:
    """Whether a run's time counts: made in one go with every core."""
    return run["wait_seconds"] is not None and has_every_core(run)


def speed_recipes() -> str:
    """Accuracy and time of the recipes for speed, and the share of airbench94's time where seeds of both were trained in turn."""
    rows = []
    base = {run["seed"]: run for run in (load("airbench94") or {"runs": []})["runs"] if has_whole_machine(run)}
    for name in ("airbench94", "speed94", "speed95", "speed96"):
        found = load(name) or {"what": "", "runs": []}
        runs = found["runs"]
        if not runs:
            continue
        timed = [run for run in runs if has_whole_machine(run)]
        in_turn = name != "airbench94" and "in turn" in found["what"]  # as benchmarks/speed.sh says
        pairs = [(run, base[run["seed"]]) for run in timed if in_turn and run["seed"] in base]
        ratios = [
            run["wait_seconds"] / other["wait_seconds"] for run, other in pairs if run["environment"] == other["environment"]
        ]
        spread = f" ({min(ratios):.2f} to {max(ratios):.2f})" if len(ratios) > 1 else ""
        cells = [
            percents([run["figures"]["test"]["accuracy"] for run in runs]) + given_time(runs),
            each_precision(timed, lambda some: statistics.mean(run["wait_seconds"] for run in some), "s")
            if timed
            else "not measured",
            f"{statistics.mean(ratios):.2f}{spread}" if ratios else "",
        ]
        where = "; ".join(dict.fromkeys(machine(run["environment"]) for run in runs))
        rows.append([f"`{name}`", f"{runs[0]['parameters']:,}", *cells, where])
    return table(["recipe", "parameters", "test accuracy", "time", "of airbench94's", "on"], rows) if rows else ""


def loops() -> str:
    """Ours beside the standard loop, as it is and tuned."""
    rows = []
    for path in sorted(RESULTS.glob("loop-*.json")):
        found = json.loads(path.read_text(encoding="utf-8"))
        times = [f"{part['median']:.2f}× ({part['min']:.2f} to {part['max']:.2f})" for part in found["ratio"].values()]
        memory = ", ".join(f"{peak / 1e6:,.0f}" for peak in found["peak_memory_bytes"].values())
        what = f"`{found['recipe']}`, batch {found['batch_size']}"
        rows.append([what, f"{found['images_per_second']['ours']:,.0f}", *times, memory, machine(found["environment"])])
    columns = ["recipe", "our images/s", "× the standard loop's", "× that one's, tuned", "peak MB: ours, standard, tuned", "on"]
    return table(columns, rows) if rows else ""


def shares() -> str:
    """How near steps come to the device's matrix rate."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob("train-*.json"))]
    rows = [
        [
            f"`{part['recipe']}`, batch {part['batch_size']}",
            f"{part['images_per_second']:,.0f}",
            f"{part['gflops']:,.0f}",
            f"{100 * part['matrix_share']:.0f}% of {part['matrix_gflops']:,.0f}",
            machine(part["environment"]),
        ]
        for part in found
    ]
    return table(["training steps of", "images/s", "GFLOP/s", "of matrix products' GFLOP/s", "on"], rows) if rows else ""


def scaling() -> str:
    """Ranks and data beside one process."""
    rows = []
    for path in sorted(RESULTS.glob("scale-*.json")):
        found = json.loads(path.read_text(encoding="utf-8"))
        for row in found["rows"]:
            cells = [f"{row['ranks']}", f"{row['data']}×", f"{row['images_per_second']:,.0f}", f"{row['ratio']:.2f}"]
            rows.append([f"`{found['recipe']}`, global batch {found['batch_size']}", *cells, machine(found["environment"])])
    return table(["recipe", "ranks", "data", "images/s", "of one process", "on"], rows) if rows else ""


def speed_text() -> str:
    """Tables of what was measured for speed; time is all that a user waits for once the data are in memory."""
    return "\n\n".join(part for part in (speed_recipes(), loops(), shares(), scaling()) if part) or "Not yet measured."


def results_page() -> str:
    """A row a results file, and what is still to be measured."""
    on_gpu = False
    rows = []
    for path in sorted(RESULTS.glob("*.json")):
        measured = json.loads(path.read_text(encoding="utf-8"))
        runs = measured.get("runs", [measured])
        where = sorted({f"{run['environment']['device']}, {run['environment']['precision']}" for run in runs})
        commands = list(dict.fromkeys(run["command"] for run in runs))
        what = ". ".join(words for words in (measured["what"], measured.get("note", "")) if words)
        cells = [f"`{path.name}`", what, "; ".join(where), "<br>".join(f"`{command}`" for command in commands)]
        rows.append([cell.replace("|", "\\|") for cell in cells])
        on_gpu = on_gpu or any(run["environment"]["device_type"] == "cuda" for run in runs)
    facts = measured_facts()
    open_ones = [name for name in recipe_names() if not facts.get(name, {}).get("in_full")]
    return (
        "# Results\n\n"
        "Every accuracy, time and speed in the README and in docs/ that was measured here comes from a file of this folder,\n"
        "which holds the command, the hardware, the versions and the seeds behind it. `python benchmarks/documents.py` made\n"
        "this page.\n\n"
        + table(["file", "what was measured", "where", "command"], rows)
        + "\n\nNot yet run in full: "
        + ", ".join(f"`{name}`" for name in open_ones)
        + ".\n"
        + ("" if on_gpu else "Nothing has been measured on a GPU yet.\n")
    )


PARTS = {"RECIPES": recipes_table, "MILESTONES": milestones_table, "SPEED": speed_text, "SYSTEMS": systems_table}


def written(text: str) -> str:
    """A document with the parts between its markers made anew."""
    for name, part in PARTS.items():
        begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        before, found, rest = text.partition(begin)
        if found:
            text = f"{before}{begin}\n{part()}\n{end}{rest.partition(end)[2]}"
    return text


def documents() -> dict[Path, str]:
    """Everything that is made from results/: path → content."""
    pages = {path: written(path.read_text(encoding="utf-8")) for path in (ROOT / "README.md", ROOT / "docs" / "systems.md")}
    pages[RESULTS / "README.md"] = results_page()
    return {**pages, RECIPES / "measured.json": json.dumps(measured_facts(), indent=1) + "\n"}


if __name__ == "__main__":
    for path, text in documents().items():
        path.write_text(text, encoding="utf-8")
