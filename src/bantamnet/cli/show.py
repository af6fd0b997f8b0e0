"""What the verbs print: one JSON object, or tables for people."""

import csv
import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bantamnet.errors import UserError

RUN_COLUMNS = ("name", "recipe", "state", "epochs", "parameters", "val", "test", "label", "seed", "seconds")
Facts = dict[str, Any]


def console(stderr: bool = False) -> Console:
    """The terminal; output that is piped has lines of 160."""
    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else 160, highlight=False)


def either(as_json: bool, facts: Facts, for_people: Callable[[Facts], None]) -> None:
    """`facts` as one JSON object, or through the function that shows them to people."""
    if as_json:
        print(json.dumps(_finite(facts), ensure_ascii=False, allow_nan=False))
    else:
        for_people(facts)


def _finite(value: Any) -> Any:
    """With None for numbers that JSON does not have: NaN and infinities."""
    if isinstance(value, dict):
        return {key: _finite(inside) for key, inside in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inside) for inside in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def percent(share: float | None) -> str:
    """0.9406 → 94.06%."""
    return "" if share is None else f"{100 * share:.2f}%"


def number(value: int | None) -> str:
    """2777674 → 2,777,674."""
    return "" if value is None else f"{value:,}"


FOLDED = 12
"""So narrow may a column of words get before the table becomes wider than the terminal."""


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = ()) -> None:
    """Print a plain table; the columns named in `right` are flush right.

    Nothing is cut: on a narrow terminal words fold, and numbers and the first column make the table wider than it.
    """
    widest = [max(map(cell_len, column)) for column in zip(columns, *rows, strict=True)]
    least = [w if not i or columns[i] in right else min(w, FOLDED) for i, w in enumerate(widest)]
    shown = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column, most, width in zip(columns, widest, least, strict=True):
        justify: Literal["left", "right"] = "right" if column in right else "left"
        shown.add_column(column, justify=justify, min_width=width, no_wrap=width == most, overflow="fold")
    for row in rows:
        shown.add_row(*(escape(cell) for cell in row))
    terminal, gaps = console(), 2 * len(columns)
    terminal.width = max(terminal.width, sum(least) + gaps) if terminal.is_terminal else sum(widest) + gaps
    terminal.print(shown)


def figure_text(figures: Facts) -> str:
    """94.06% (9,406 of 10,000; 95% interval 93.58% to 94.51%), NLL 0.2."""
    low, high = figures["accuracy_95"]
    return (
        f"{percent(figures['accuracy'])} ({figures['correct']:,} of {figures['num']:,}; 95% interval {percent(low)} to "
        f"{percent(high)}), NLL {figures['nll']:.4f}"
    )


def views_text(figures: Facts) -> str:
    """tta hflip (2 views, 1.19 passes an image: 1,904 of 10,000 images under 0.9), or `tta none`."""
    text = f"tta {figures['tta']}"
    if "tta_average" not in figures:
        return text
    text += f" ({figures['views']} views, mean of {figures['tta_average']}, {figures['passes_per_image']:.2f} passes an image"
    if figures["tta_below"] is not None:
        text += f": {figures['images_with_views']:,} images under {figures['tta_below']}"
    return f"{text})"


def warn_of_equal_views(figures: Facts) -> None:
    """A line on stderr for each view that was another one under a different name."""
    for first, later in figures.get("equal_views", []):
        print(
            f"warning: tta {figures['tta']}: view {later} is view {first} on every image; it adds weight and no view",
            file=sys.stderr,
        )


def finished(facts: Facts) -> None:
    """The end of a training."""
    chosen = facts["chosen"]
    by = {"best-val": "highest validation accuracy", "best-test": "highest test accuracy", "last": "the last"}[chosen["by"]]
    print(f"kept   epoch {chosen['epoch']} of {facts['epochs']} ({by})")
    for split, figures in facts["figures"].items():
        tta = f", {views_text(figures)}" if figures["tta"] != "none" else ""
        print(f"{split:6} {figure_text(figures)}{tta}")
    if budget := facts["time_budget"]:
        print(
            f"time   {budget['spent_seconds']:.0f} of {budget['budget_seconds']:g} s; {budget['steps']:,} steps "
            f"({budget['epochs']:.2f} epochs), planned at first {budget['planned_steps']:,}; a second run would differ"
        )
    if origin := facts["refit_of"]:
        print(
            f"refit  of {origin['run']}, which had {percent(origin['val_accuracy'])} of {origin['val_num']:,} validation images"
        )
    print(f"label  {facts['label']}; {facts['seconds']:.0f} s, peak memory {facts['peak_memory_mb']:.0f} MB")
    print(f"run    {facts['run']}  (best.safetensors, curves.png, confusion.png)")
    print(f"next   bantamnet evaluate {facts['run']}")


def imported(facts: Facts) -> None:
    """What became of weights that were trained elsewhere."""
    print(f"net     {facts['net']}, {facts['parameters']:,} parameters, {facts['tensors']} tensors named as by {facts['naming']}")
    for name in facts["left_out"]:
        print(f"        left out, as the map says: {name}")
    mean, std = (" ".join(f"{value:g}" for value in facts[key]) for key in ("mean", "std"))
    print(f"pixels  mean {mean}, std {std} ({facts['preprocessing']}; --mean and --std change them)")
    print(f"classes {facts['num_classes']} of {facts['classes']}, in its order")
    if facts["says"]:
        print(f"told    {', '.join(f'{key} {value}' for key, value in facts['says'].items())} (by the file; not measured here)")
    print(f"label   {facts['label']}")
    print(f"next    bantamnet evaluate {facts['model']}")


def evaluation(facts: Facts) -> None:
    """Accuracy and the table by class."""
    print(f"{facts['data']} {facts['split']}: {figure_text(facts)}")
    print(f"calibration: {calibration_text(facts['calibration'])}")
    print(f"checkpoint: {facts['chosen']}; label: {facts['label']}; {views_text(facts)}, {facts['precision']}")
    rows = [
        [row["class"], number(row["num"]), percent(row["precision"]), percent(row["recall"]), percent(row["f1"])]
        for row in facts["per_class"]
    ]
    means = [percent(facts["macro"][name]) for name in ("precision", "recall", "f1")]
    rows.append(["mean", number(facts["num"]), *means])
    table(["class", "images", "precision", "recall", "F1"], rows, ["images", "precision", "recall", "F1"])


def calibration_text(facts: Facts) -> str:
    """ECE 3.10%; with temperature 1.412 (fitted on 5,000 validation images): ECE 0.92%, NLL 0.2."""
    text = f"ECE {percent(facts['ece'])} ({facts['bins']} bins; of equal mass {percent(facts['ece_equal_mass'])})"
    if facts["temperature"] is None:
        return f"{text}; temperature {facts['temperature_from']}"
    scaled = f"ECE {percent(facts['ece_scaled'])}, NLL {facts['nll_scaled']:.4f}"
    return f"{text}; with temperature {facts['temperature']:.3f} ({facts['temperature_from']}): {scaled}"


def predictions(facts: Facts) -> None:
    """A line a picture and rank."""
    rows = [[row["path"], str(row["rank"]), row["class"], percent(row["probability"])] for row in facts["predictions"]]
    table(["picture", "rank", "class", "probability"], rows, ["rank", "probability"])


def write_csv(path: Path, rows: Sequence[Facts]) -> None:
    """The same as CSV."""
    try:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, ["path", "rank", "class", "probability"])
            writer.writeheader()
            writer.writerows(rows)
    except OSError as error:
        raise UserError(f"--csv: cannot write {path}: {error}") from None


def layers(facts: Facts) -> None:
    """Layer table and totals."""
    rows = [
        [layer["name"], layer["kind"], "×".join(map(str, layer["shape"])), number(layer["params"]), number(layer["macs"])]
        for layer in facts["layers"]
    ]
    rows.append(["total", "", "", number(facts["params"]), number(facts["macs"])])
    table(["layer", "kind", "output", "parameters", "MACs"], rows, ["parameters", "MACs"])
    print(f"\ninput {'×'.join(map(str, facts['input']))}; trainable {facts['trainable']:,} of {facts['params']:,} parameters")
    print(
        f"one image in fp32: input {facts['input_mb']:.2f} MB, forward/backward {facts['forward_backward_mb']:.2f} MB, "
        f"parameters {facts['params_mb']:.2f} MB"
    )
    if facts["weight_class"]:
        print(f"weight class {facts['weight_class']}, {facts['margin']:,} parameters to spare")
    else:
        print("over every weight class")
    if facts["over_budget"]:
        print(f"over this recipe's budget of {facts['budget']:,}: train would refuse it")


def data(facts: Facts) -> None:
    """What is known of a data set."""
    splits = facts["splits"]
    counts = [split["per_class"] for split in splits.values()]
    rows = [[name, *(number(column[index]) for column in counts)] for index, name in enumerate(facts["class_names"])]
    rows.append(["total", *(number(split["num"]) for split in splits.values())])
    table(["class", *splits], rows, list(splits))
    imbalance = facts["imbalance"]
    print(f"\nimbalance    {f'{imbalance:.2f}' if imbalance else 'infinite'} (largest over smallest class of train)")
    print(f"input        {facts['size'][0]}×{facts['size'][1]}")
    if sizes := facts["original_sizes"]:
        spread = ", ".join(f"{name} {sizes[name][0]:g}×{sizes[name][1]:g}" for name in ("min", "median", "max"))
        common = f"{sizes['commonest'][0]}×{sizes['commonest'][1]} in {percent(sizes['commonest_share'])}"
        print(f"pictures     height×width: {spread}; most often {common}")
    for name in ("mean", "std"):
        print(f"{name:12} {' '.join(f'{value:.4f}' for value in facts[name])} (train, pixels / 255)")
    for name, split in splits.items():
        print(f"fingerprint  {name:6} {split['fingerprint']}")
    found = facts["duplicates"]
    inside = ", ".join(f"{num:,} in {name}" for name, num in found["inside"].items())
    across = ", ".join(f"{pair['num']:,} of {pair['splits'][1]} also in {pair['splits'][0]}" for pair in found["across"])
    print(f"duplicates   {inside}; {across}; {found['conflicting']:,} with different labels")
    for group in found["examples"]:
        print(f"             {' = '.join(group)}")
    print(f"contact      {facts['contact_sheet']}")


def run_list(facts: Facts) -> None:
    """A line a run."""
    rows = [
        [
            *(str(row[name] or "") for name in ("name", "recipe", "state", "epochs")),
            number(row["parameters"]),
            *(
                percent(row[split]) + (f" ± {percent(std)}" if (std := row.get(f"{split}_std")) else "")
                for split in ("val", "test")
            ),
            row["label"] or "",
            seeds(row),
            "" if row["seconds"] is None else f"{row['seconds']:.0f}",
        ]
        for row in facts["runs"]
    ]
    table(RUN_COLUMNS, rows, ["epochs", "parameters", "val", "test", "seed", "seconds"])


def seeds(row: Facts) -> str:
    """A run's seed, or a group's: 0-4."""
    if "seeds" not in row:
        return "" if row["seed"] is None else str(row["seed"])
    numbers: list[int] = row["seeds"]
    together = len(numbers) > 1 and numbers == list(range(numbers[0], numbers[-1] + 1))
    return f"{numbers[0]}-{numbers[-1]}" if together else ", ".join(map(str, numbers))


def recipe_list(facts: Facts) -> None:
    """A line a recipe; a narrow terminal gets fewer columns, whole ones."""
    cells: dict[str, Callable[[Facts], str]] = {
        "recipe": lambda row: row["name"],
        "parameters": lambda row: number(row["parameters"]),
        "class": lambda row: row["weight_class"] or "",
        "epochs": lambda row: str(row["epochs"]),
        "label": lambda row: row["label"],
        "data": lambda row: row["data"],
        "about": lambda row: row["about"],
    }
    columns = list(cells) if console().width >= 120 else list(cells)[:-2]
    rows = [[cells[column](row) for column in columns] for row in facts["recipes"]]
    table(columns, rows, ["parameters", "epochs"])
