"""Pictures of where a net looks: each image beside its heat, one PNG an image."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import torch
from matplotlib.figure import Figure
from torch import Tensor

from bantamnet.data.preprocess import find_pictures
from bantamnet.data.split import Split
from bantamnet.errors import UserError, WriteError, unknown
from bantamnet.evaluate.classifier import Classifier
from bantamnet.evaluate.explain import Stage, explain
from bantamnet.evaluate.metrics import predicted_classes
from bantamnet.report.overlay import enlarge, overlay
from bantamnet.report.saving import png
from bantamnet.runs.tensorfile import write_bytes

matplotlib.use("Agg")
SIDE = 256
"""Pixels, or more, that an image's longer side is drawn at."""
NAMES = {"gradcam": "Grad-CAM", "cam": "CAM"}


@dataclass(frozen=True)
class Shown:
    """An image that is to be explained, under a name that a file can have; `true` is its class where that is known."""

    name: str
    image: Tensor
    """uint8 (3, H, W), as the net sees it."""
    true: str | None = None


def from_files(classifier: Classifier, paths: Sequence[Path]) -> list[Shown]:
    """Picture files, and those in folders, read as `predict` reads them."""
    return [Shown(path.stem, classifier.info.preprocessing.read_image(path)) for path in find_pictures(paths)]


def from_split(split: Split, rows: Sequence[int], part: str) -> list[Shown]:
    """Images of a split by their places, from 0; raises `UserError` for one that it does not have."""
    beyond = [row for row in rows if not 0 <= row < len(split)]
    if beyond:
        raise UserError(f"--{part}: there are images 0 to {len(split) - 1}; got {beyond[0]}")
    indices = torch.tensor(rows, dtype=torch.int64)
    images, labels = split.gather(indices.to(split.labels.device)), split.labels[indices].tolist()
    return [
        Shown(f"{part}-{row}", image, split.class_names[label]) for row, image, label in zip(rows, images, labels, strict=True)
    ]


def write_explanations(
    classifier: Classifier, shown: Sequence[Shown], out: Path, class_name: str | None = None, method: str = "gradcam",
    stage: Stage = "last",
) -> list[dict[str, Any]]:  # fmt: skip
    """One PNG for each image into the new folder `out`: what speaks for `class_name`, or for the net's own answer.

    Returns what each shows: `picture`, `file`, `class` and `probability` of the answer, `explained` and its probability, `true`.
    """
    names = classifier.info.class_names
    if class_name is not None and class_name not in names:
        raise UserError(f"--class: {unknown('class', class_name, names)}")
    images = torch.stack([one.image for one in shown])
    logits = classifier.logits(images)
    said = logits.argmax(1)
    asked = said if class_name is None else torch.full_like(said, names.index(class_name))
    place = next(classifier.net.parameters()).device
    heats = explain(
        classifier.net, images.to(place), classifier.info.preprocessing, asked.to(place), method=method, stage=stage
    ).cpu()
    probabilities = predicted_classes(logits, 1)[0][:, 0].tolist()
    of_asked = logits.float().softmax(1).gather(1, asked[:, None])[:, 0].tolist()
    about = f"{NAMES[method]}, {'last maps' if stage == 'last' else f'stage {stage}' if isinstance(stage, int) else stage}"
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(out, error) from None
    rows: list[dict[str, Any]] = []
    taken: set[str] = set()
    for index, one in enumerate(shown):
        row = {
            "picture": one.name,
            "file": str(out / _free_name(one.name, taken)),
            "class": names[int(said[index])],
            "probability": probabilities[index],
            "explained": names[int(asked[index])],
            "explained_probability": of_asked[index],
            "true": one.true,
        }
        write_bytes(Path(row["file"]), png(draw(one.image, heats[index], row, about), dpi=100))
        rows.append(row)
    return rows


def draw(image: Tensor, heat: Tensor, row: dict[str, Any], about: str) -> Figure:
    """The image, and the heat over it; above them what the net says and what is explained."""
    scale = math.ceil(SIDE / max(image.shape[1:]))
    height, width = scale * image.shape[1], scale * image.shape[2]
    figure = Figure(figsize=((2 * width + 150) / 100, (height + 80) / 100), dpi=100, layout="constrained")
    plain, hot = figure.subplots(1, 2)
    plain.imshow(enlarge(image, scale).permute(1, 2, 0).numpy(force=True), interpolation="nearest")
    hot.imshow(overlay(image, heat, scale).permute(1, 2, 0).numpy(), interpolation="nearest")
    nothing = "nothing speaks" if not float(heat.max()) else "what speaks"
    sure = "" if row["explained"] == row["class"] else f" ({100 * row['explained_probability']:.1f}%)"
    plain.set_title(f"says {_short(row['class'])}, {100 * row['probability']:.1f}%", fontsize=10, parse_math=False)
    hot.set_title(f"{nothing} for {_short(row['explained'])}{sure}", fontsize=10, parse_math=False)
    true = f"; it is {_short(row['true'])}" if row["true"] else ""
    plain.set_xlabel(f"{_short(row['picture'])}{true}", fontsize=8, parse_math=False)
    hot.set_xlabel(about, fontsize=8, parse_math=False)
    for axes in (plain, hot):
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
    return figure


def _short(name: str, most: int = 20) -> str:
    """A name that fits above half a picture."""
    return name if len(name) <= most else f"{name[: most - 1]}…"


def _free_name(name: str, taken: set[str]) -> str:
    """`NAME.png`, or `NAME-2.png` and so on where that is taken."""
    free, number = f"{name}.png", 2
    while free in taken:
        free, number = f"{name}-{number}.png", number + 1
    taken.add(free)
    return free
