"""An ablation's table, for a terminal, as Markdown and as JSON, and its picture."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from bantamnet.evaluate.measured import measured
from bantamnet.evaluate.verdict import points
from bantamnet.report.compare import judge, notes
from bantamnet.report.saving import png
from bantamnet.runs.ablation import Cell
from bantamnet.runs.group import group_runs, state
from bantamnet.runs.tensorfile import write_bytes

matplotlib.use("Agg")
COLOURS = {"better": "#2ca02c", "worse": "#d62728", "no difference": "#7f7f7f", "cannot be decided": "#9467bd", "base": "#1f77b4"}


def tabulate(cells: Sequence[Cell], out: Path, about: dict[str, Any], split: str = "test") -> dict[str, Any]:
    """Figures of each cell over its finished seeds, with a verdict against the first; `about` goes in front.

    All comparisons with the base are made at once. A cell without a finished run has no figures yet.
    """
    rows: list[dict[str, Any]] = []
    subjects = []
    for cell in cells:
        folder = out / cell.folder
        states = [state(run) for run in group_runs(folder)]
        row: dict[str, Any] = {"cell": cell.name, "values": cell.values, "folder": cell.folder}
        row["states"] = {name: states.count(name) for name in dict.fromkeys(states)}
        row |= dict.fromkeys(("parameters", "seeds", "accuracies", "mean", "std", "interval_95", "seconds", "against_base"))
        if "finished" in row["states"]:
            subject = measured(folder, split)
            subjects.append((len(rows), subject))
            facts = subject.facts()
            row |= {key: facts[key] for key in ("parameters", "seeds", "accuracies", "mean", "std", "interval_95")}
            row["seconds"] = sum(summary["seconds"] for summary in subject.summaries) / len(subject.summaries)
        rows.append(row)
    told: list[str] = []
    if subjects and subjects[0][0] == 0:
        read = [subject for _, subject in subjects]
        names = ["the base", *(cells[place].name for place, _ in subjects[1:])]
        found = judge([(0, place) for place in range(1, len(read))], read, names)
        for (place, _), verdict in zip(subjects[1:], found, strict=True):
            rows[place]["against_base"] = {**verdict.facts(), "word": word(verdict.found)}
        told = notes(found, read, names)
    base = f"the base is {cells[0].name}" + (
        "" if rows[0]["mean"] is not None else ", and has no finished run: so nothing is compared"
    )
    return {**about, "split": split, "base": cells[0].name, "cells": rows, "notes": [*about.get("notes", []), base, *told]}


def word(found: str) -> str:
    """A verdict from the side of the cell: `second better` is better."""
    return {"second better": "better", "first better": "worse"}.get(found, found)


def write_tables(facts: dict[str, Any], out: Path) -> None:
    """`ablation.json`, `ablation.md` and `ablation.png` in `out`."""
    write_bytes(out / "ablation.json", (json.dumps(facts, indent=2, ensure_ascii=False) + "\n").encode())
    write_bytes(out / "ablation.md", markdown(facts).encode())
    if any(row["mean"] is not None for row in facts["cells"]):  # else there is nothing to draw
        write_bytes(out / "ablation.png", png(plot(facts)))


COLUMNS = ("cell", "parameters", "seeds", "accuracy", "against the base", "verdict")


def table_rows(facts: dict[str, Any]) -> list[list[str]]:
    """The cells of the table as text, a row for each of `COLUMNS`' entries."""
    return [
        [
            row["cell"],
            "" if row["parameters"] is None else f"{row['parameters']:,}",
            ", ".join(f"{num} {name}" for name, num in row["states"].items()),
            _mean(row),
            _difference(row["against_base"]),
            "the base" if index == 0 else row["against_base"]["word"] if row["against_base"] else "",
        ]
        for index, row in enumerate(facts["cells"])
    ]


def _mean(row: dict[str, Any]) -> str:
    if row["mean"] is None:
        return ""
    return f"{100 * row['mean']:.2f}" + ("%" if row["std"] is None else f" ± {100 * row['std']:.2f}%")


def _difference(verdict: dict[str, Any] | None) -> str:
    if verdict is None:
        return ""
    text = ("+" if verdict["difference"] >= 0 else "") + points(verdict["difference"])
    return text if verdict["interval_95"] is None else f"{text} ({' to '.join(map(points, verdict['interval_95']))})"


def sentences(facts: dict[str, Any]) -> list[str]:
    """What the comparison of each cell with the base comes to, in words."""
    return [row["against_base"]["sentence"] for row in facts["cells"] if row["against_base"]]


def markdown(facts: dict[str, Any]) -> str:
    """The table, the picture, the verdicts in words and what must be known to read them."""
    rows = [COLUMNS, ["---"] * len(COLUMNS), *table_rows(facts)]
    lines = [f"# {facts['name']}", "", facts["about"], ""] if facts["about"] else [f"# {facts['name']}", ""]
    lines += [f"Recipe `{facts['recipe']}`, {facts['split']} accuracy, mean ± standard deviation over seeds.", ""]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    lines += ["", "![every seed, and mean ± standard deviation of each cell](ablation.png)", ""]
    lines += [f"- {text}" for text in [*sentences(facts), *facts["notes"]]]
    return "\n".join([*lines, "", f"To repeat it: `{facts['command']}`", ""])


def plot(facts: dict[str, Any]) -> Figure:
    """A line for each cell: every seed, mean ± standard deviation, and the verdict against the base in words."""
    rows = facts["cells"]
    longest = max(len(row["cell"]) for row in rows)
    figure = Figure(figsize=(6 + 0.075 * longest, 1.4 + 0.42 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for place, row in enumerate(rows):
        verdict = row["against_base"]["word"] if row["against_base"] else "base" if row["cell"] == facts["base"] else ""
        verdict = verdict or ", ".join(f"{num} {name}" for name, num in row["states"].items())
        colour = COLOURS.get(verdict, "#7f7f7f")
        axes.annotate(verdict, (1.01, place), xycoords=("axes fraction", "data"), va="center", fontsize=9, color=colour)
        if row["mean"] is None:
            continue
        axes.errorbar(
            100 * row["mean"], place, xerr=100 * (row["std"] or 0.0), fmt="D", color=colour, markersize=6, capsize=4, linewidth=2
        )
        axes.plot(
            [100 * value for value in row["accuracies"]],
            [place] * len(row["accuracies"]),
            "o",
            color="black",
            alpha=0.45,
            markersize=4,
        )
    if rows[0]["mean"] is not None:
        axes.axvline(100 * rows[0]["mean"], color=COLOURS["base"], linestyle=":", linewidth=1)
    axes.set_yticks(range(len(rows)), [row["cell"] for row in rows], fontsize=9, parse_math=False)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel(f"{facts['split']} accuracy (%): dots are seeds, bars mean ± standard deviation", fontsize=9)
    axes.set_title(facts["name"], fontsize=11, parse_math=False)
    axes.grid(axis="x", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    return figure
