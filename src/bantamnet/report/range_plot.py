"""The picture of a learning-rate range test."""

from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from bantamnet.errors import UserError
from bantamnet.report.saving import save

matplotlib.use("Agg")
RAW, SMOOTH, GOOD, RECIPE = "#9ecae1", "#1f77b4", "#2ca02c", "#d95f02"


def save_range_plot(facts: dict[str, Any], name: str, folder: Path) -> Path:
    """Write `NAME-lr-range.png` (numbered where taken) into `folder`; its path."""
    path, number = folder / f"{name}-lr-range.png", 2
    while path.exists():
        path, number = folder / f"{name}-lr-range-{number}.png", number + 1
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save(range_plot(facts, name), path)
    except OSError as error:
        raise UserError(f"--out: cannot write {path}: {error}") from None
    return path


def range_plot(facts: dict[str, Any], name: str) -> Figure:
    """Loss over the rising learning rate: every step, the smoothed curve, the good range, the recipe's rate."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    rates, losses, smoothed = facts["rates"], facts["losses"], facts["smoothed"]
    axes.plot(rates, losses, ".", color=RAW, markersize=5, label="loss of each step")
    axes.plot(rates, smoothed, color=SMOOTH, linewidth=2, label="smoothed")
    if facts["low"] is not None:
        low, high, suggestion = facts["low"], facts["high"], facts["suggestion"]
        axes.axvspan(low, high, color=GOOD, alpha=0.12, linewidth=0, label=f"good range: {low:.2g} to {high:.2g}")
        at = smoothed[rates.index(suggestion)]
        axes.plot([suggestion], [at], "o", color=GOOD, markersize=8, label=f"falls fastest: {suggestion:.2g}")
    if facts["recipe_rate"] > 0:
        label = f"the recipe's rate: {facts['recipe_rate']:.2g} ({facts['verdict']})"
        axes.axvline(facts["recipe_rate"], color=RECIPE, linestyle="--", label=label)
    axes.set_title(f"{name}: learning-rate range test over {len(rates)} steps", fontsize=11, parse_math=False)
    if not rates:  # the first loss was not finite
        return figure
    # A diverging loss would squeeze everything that matters into the bottom of the picture.
    bottom, top = min(smoothed), max(smoothed[: smoothed.index(min(smoothed)) + 1])
    room = max(top - bottom, 0.1 * top)
    axes.set_ylim(bottom - 0.25 * room, top + 0.6 * room)
    axes.set_xscale("log")
    axes.set_xlabel("learning rate")
    axes.set_ylabel("training loss")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9, loc="lower left")
    return figure
