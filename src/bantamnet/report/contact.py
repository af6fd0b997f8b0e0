"""A contact sheet: some images of every class, as the net sees them."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure

from bantamnet.data.split import Split
from bantamnet.errors import UserError
from bantamnet.report.saving import save
from bantamnet.runtime import generator

matplotlib.use("Agg")
COLUMNS, ROWS = 12, 40
GAP = 2
"""Pixels between images."""


def contact_sheet(split: Split, title: str, seed: int = 0) -> Figure:
    """A row a class (the first 40), up to 12 images drawn by `seed` in each; its number of images stands beside its name."""
    shown = range(min(len(split.class_names), ROWS))
    labels = split.labels.cpu()
    picked = []
    for label in shown:
        members = (labels == label).nonzero()[:, 0]
        picked.append(members[torch.randperm(len(members), generator=generator("contact", seed, label))[:COLUMNS]])
    canvas = _grid([split.gather(rows.to(split.labels.device)).cpu().numpy() for rows in picked], split.size)
    names = [f"{split.class_names[label]}  {int((labels == label).sum()):,}" for label in shown]
    height, width = canvas.shape[:2]
    inches = 10.0
    figure = Figure(figsize=(inches + 2, inches * height / width + 0.7), layout="constrained")
    axes = figure.subplots()
    axes.imshow(canvas)
    step = split.size[0] + GAP
    axes.set_yticks([GAP + step * row + split.size[0] / 2 for row in shown], names, parse_math=False)
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    left_out = len(split.class_names) - len(shown)
    axes.set_title(f"{title}{f' ({left_out} further classes not shown)' if left_out else ''}", fontsize=10, parse_math=False)
    return figure


def _grid(rows: Sequence[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """White uint8 (height, width, 3) with each row's images (n, 3, h, w) side by side."""
    height, width = size
    canvas = np.full((len(rows) * (height + GAP) + GAP, COLUMNS * (width + GAP) + GAP, 3), 255, np.uint8)
    for row, images in enumerate(rows):
        top = GAP + row * (height + GAP)
        for column, image in enumerate(images):
            left = GAP + column * (width + GAP)
            canvas[top : top + height, left : left + width] = image.transpose(1, 2, 0)
    return canvas


def write_contact_sheet(split: Split, title: str, path: Path) -> None:
    """Write it as PNG; raises `UserError` where that cannot be done."""
    try:
        save(contact_sheet(split, title), path, bbox_inches="tight", pad_inches=0.1)
    except OSError as error:
        raise UserError(f"--out: cannot write {path}: {error.strerror or error}") from None


def free_file(stem: str, ending: str) -> Path:
    """`stem` with `ending` in the working folder, or `stem-2`, `-3`, … where that is taken."""
    path, number = Path(stem + ending), 2
    while path.exists():
        path, number = Path(f"{stem}-{number}{ending}"), number + 1
    return path
