"""A contact sheet of shifted data: a row a corruption, its severities side by side on the same few images."""

from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from bantamnet.data.split import Split
from bantamnet.errors import UserError
from bantamnet.evaluate.shift_plan import Cell, ShiftPlan
from bantamnet.report.contact import GAP, write_contact_sheet
from bantamnet.report.saving import save

matplotlib.use("Agg")
SHOWN = 4
"""Images in each severity, as different in class as can be."""


def write_shift_sheet(plan: ShiftPlan, path: Path) -> None:
    """Write it as PNG; a set that is shifted as it is gets a plain contact sheet. Raises `UserError` where it cannot."""
    title = f"{plan.request.shift}: {plan.source}"
    if not plan.corruptions:
        write_contact_sheet(plan.cells[0].split, title, path)
        return
    try:
        save(shift_sheet(plan, title), path, bbox_inches="tight", pad_inches=0.1)
    except OSError as error:
        raise UserError(f"--picture: cannot write {path}: {error.strerror or error}") from None


def shift_sheet(plan: ShiftPlan, title: str) -> Figure:
    """The plain images at the left, where they are known, then severity after severity."""
    severities = plan.request.severities
    rows = _picked(plan.cells[0].split)
    plain = [plan.clean.gather(rows)] if plan.clean else []
    by_place = {(cell.corruption, cell.severity): _seen(cell, rows) for cell in plan.cells}
    lines = [[*plain, *(by_place[name, severity] for severity in severities)] for name in plan.corruptions]
    canvas = np.concatenate([_line(groups) for groups in lines])
    height, width = canvas.shape[:2]
    figure = Figure(figsize=(14, 12 * height / width + 0.7), layout="constrained")
    axes = figure.subplots()
    axes.imshow(canvas)
    line, group = height / len(lines), width / len(lines[0])
    axes.set_yticks([line * (number + 0.5) for number in range(len(lines))], plan.corruptions)
    heads = [*(["plain"] if plain else []), *(f"severity {severity}" for severity in severities)]
    axes.set_xticks([group * (number + 0.5) for number in range(len(heads))], heads)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(title, fontsize=10, parse_math=False)
    return figure


def _picked(split: Split) -> Tensor:
    """Rows of the first image of each of some classes."""
    labels = split.labels.tolist()
    firsts = [labels.index(label) for label in sorted(set(labels))]
    return torch.tensor(firsts[:: max(1, len(firsts) // SHOWN)][:SHOWN])


def _seen(cell: Cell, rows: Tensor) -> Tensor:
    images = cell.split.gather(rows)
    return cell.transform(images, rows) if cell.transform else images


def _line(groups: list[Tensor]) -> np.ndarray:
    """White uint8 (height, width, 3): groups of images side by side, a wider gap between groups."""
    blocks = []
    for images in groups:
        for number, image in enumerate(images.numpy()):
            edge = GAP if number + 1 < len(images) else 4 * GAP
            blocks.append(np.pad(image.transpose(1, 2, 0), ((GAP, 0), (0, edge), (0, 0)), constant_values=255))
    return np.concatenate(blocks, 1)
