"""Pictures of a run, made from its directory alone: curves.png and confusion.png."""

from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bantamnet.evaluate.metrics import confusion_matrix
from bantamnet.report.saving import png
from bantamnet.runs.directory import RunDirectory
from bantamnet.runs.tensorfile import read_header, write_bytes

matplotlib.use("Agg")
TRAIN, VAL, LR = "#1f77b4", "#d95f02", "#555555"


def draw(run: RunDirectory) -> RunDirectory:
    """Write both pictures of a finished run; returns the run."""
    summary = run.summary()
    assert summary is not None
    for name, figure in (("curves", curves(run, summary)), ("confusion", confusion(run, summary))):
        write_bytes(run.path / f"{name}.png", png(figure))
    return run


def draw_once(run: RunDirectory) -> bool:
    """Draw a finished run's pictures unless they are there; whether they were not."""
    missing = not (run.path / "confusion.png").exists()
    if missing:
        draw(run)
    return missing


def curves(run: RunDirectory, summary: dict[str, Any]) -> Figure:
    """Loss, accuracy and learning rate over epochs; the chosen epoch is marked."""
    lines = run.epochs()
    epochs = [line["epoch"] for line in lines]
    on_test = "val" not in summary["data"] or summary["data"]["val"] == summary["data"]["test"]
    seen, scored = "training (augmented, on the way)", "test" if on_test else "validation"
    figure = Figure(figsize=(12, 3.8), layout="constrained")
    loss, accuracy, rate = figure.subplots(1, 3)
    for axes, key, scale in ((loss, "loss", 1), (accuracy, "accuracy", 100)):
        axes.plot(epochs, [scale * line[f"train_{key}"] for line in lines], color=TRAIN, label=seen)
        if f"val_{key}" in lines[0]:
            axes.plot(epochs, [scale * line[f"val_{key}"] for line in lines], color=VAL, label=scored)
    for index in range(len(lines[0]["lr"])):
        rate.plot(epochs, [line["lr"][index] for line in lines], color=LR, label=f"group {index}")
    test, chosen = summary["figures"]["test"], summary["chosen"]["epoch"]
    figure.suptitle(
        f"{summary['name']}: {100 * test['accuracy']:.2f}% test ({summary['label']}), {summary['parameters']:,} parameters",
        parse_math=False,
    )
    for axes, name in ((loss, "loss"), (accuracy, "accuracy (%)"), (rate, "learning rate")):
        _tidy(axes, name, epochs)
        axes.axvline(chosen, color="#999999", linestyle=":", label=f"kept: epoch {chosen}")
    loss.legend(frameon=False, fontsize=8)
    return figure


def _tidy(axes: Axes, title: str, epochs: list[int]) -> None:
    axes.set_title(title, fontsize=10)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if len(epochs) == 1:
        for line in axes.lines:
            line.set_marker("o")


def confusion(run: RunDirectory, summary: dict[str, Any]) -> Figure:
    """Counts of test images by true class (row) and predicted class (column), shaded by share of the row."""
    stored = run.predictions("test")
    names = read_header(run.best)["class_names"]
    matrix = confusion_matrix(stored["logits"].argmax(1), stored["targets"], len(names)).numpy()
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    side = max(5.0, 0.55 * min(len(names), 40) + 1.5)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    test = summary["figures"]["test"]
    title = f"{summary['name']}, {test['num']:,} test images, {100 * test['accuracy']:.2f}% right"
    axes.set_title(title, fontsize=10, parse_math=False)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    if len(names) <= 20:
        axes.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor", parse_math=False)
        axes.set_yticks(range(len(names)), names, parse_math=False)
        for (row, column), count in np.ndenumerate(matrix):
            if count:
                colour = "white" if share[row, column] > 0.5 else "black"
                axes.text(column, row, str(count), ha="center", va="center", fontsize=8, color=colour)
    return figure
