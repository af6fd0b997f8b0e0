"""Score a model on shifted data: accuracy by corruption and severity, and how far it falls from plain test images."""

import math
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bantamnet.config import Imported, RunConfig, Tta
from bantamnet.data.corruptions.table import CORRUPTIONS, LEFT_OUT
from bantamnet.data.listener import Listener
from bantamnet.data.sources import Source, find_source
from bantamnet.data.split import Split
from bantamnet.errors import WriteError
from bantamnet.evaluate.classifier import Classifier
from bantamnet.evaluate.distributions import Z_95
from bantamnet.evaluate.logits import batch_logits, split_logits
from bantamnet.evaluate.metrics import score
from bantamnet.evaluate.scoring import load_splits
from bantamnet.evaluate.shift_plan import SUBSET_SEED, Cell, ShiftPlan
from bantamnet.evaluate.tta import ViewAverage
from bantamnet.runs.directory import RunDirectory, append_line
from bantamnet.runtime import join_ranks

TRIED = 64
"""Images on which it is measured how long all of them take."""
FAMILIES = {name: corruption.family for name, corruption in CORRUPTIONS.items()} | dict.fromkeys(LEFT_OUT, "weather")
Facts = dict[str, Any]


def score_shift(
    path: Path,
    classifier: Classifier,
    plan: ShiftPlan,
    config: RunConfig | Imported,
    tta: Tta,
    data_dir: Path | None = None,
    listener: Listener | None = None,
) -> Facts:
    """The figures of a plan as plain values; kept in the run's shift.json, and written down as a look at test images.

    `listener` hears first how long it will take. Ranks that `torchrun` started share the images of each cell.
    """
    listener, device = listener or Listener(), next(classifier.net.parameters()).device
    # Images that are shifted already have no plain twins; then the drop is from the model's figure on all test images.
    cells = ([Cell(plan.clean)] if plan.clean else []) + list(plan.cells)
    total, done = sum(len(cell.split) for cell in cells), 0
    began = time.perf_counter()
    listener.tell(f"{what_is_scored(plan)}; about {_clock(expected_seconds(classifier, plan, tta) * total)}")
    listener.progress(0, total, "scoring images")
    scored: list[tuple[Cell, Facts, Tensor]] = []
    average = ViewAverage(tta)
    with join_ranks(device) as ranks:

        def logits(split: Split, transform: Callable[[Tensor, Tensor], Tensor] | None, views: ViewAverage) -> Tensor:
            preprocessing, precision = classifier.info.preprocessing, classifier.precision
            return split_logits(
                classifier.net, split, preprocessing, precision=precision, tta=views, ranks=ranks, transform=transform
            ).cpu()

        for cell in cells:
            average = ViewAverage(tta)
            said = logits(cell.split, cell.transform, average)
            scored.append((cell, score(said, cell.split.labels), said.argmax(1) == cell.split.labels.cpu()))
            done += len(cell.split)
            listener.progress(done, total, "scoring images")
        clean = scored.pop(0) if plan.clean else None
        plain = _told(clean[1], "the same images") if clean else _stored(classifier, average)
        if plain is None and (test := _test_images(config, data_dir, listener)):
            plain = _told(score(logits(test, None, ViewAverage(tta)), test.labels), "all test images")
    facts = {
        "model": str(path),
        "data": config.data.name,
        "shift": plan.request.shift,
        "source": plan.source,
        "generated": plan.generated,
        "images": len(plan.cells[0].split),
        "images_of": plan.num_all,
        "images_seed": SUBSET_SEED,
        **average.figures(),
        "precision": classifier.precision,
        "chosen": classifier.info.chosen,
        "label": classifier.info.label,
        "digest": classifier.digest,
        "left_out": plan.left_out,
        "clean": plain,
        **summarised(scored, plain, clean[2] if clean else None),
        "seconds": time.perf_counter() - began,
    }
    if ranks.main:
        _record(path, facts)
    return facts


def summarised(scored: list[tuple[Cell, Facts, Tensor]], clean: Facts | None, clean_right: Tensor | None) -> Facts:
    """Means of the accuracies of cells, each with (its figures, bool (images,): which are right), and drops in points.

    Intervals are of the mean over images, which all cells have in common: 95%, normal. The drop's is there where the plain
    images are the same ones, and it is of the differences image by image.
    """
    right = torch.stack([right for _, _, right in scored]).double()
    mean = float(right.mean())

    def drop(accuracy: float) -> float | None:
        return None if clean is None else 100 * (clean["accuracy"] - accuracy)

    rows, names = [], list(dict.fromkeys(cell.corruption for cell, _, _ in scored if cell.corruption))
    for name in names:
        mine = [(cell.severity, figures) for cell, figures, _ in scored if cell.corruption == name]
        accuracy = sum(figures["accuracy"] for _, figures in mine) / len(mine)
        rows.append(
            {
                "corruption": name,
                "family": FAMILIES.get(name, ""),
                "accuracy": accuracy,
                "drop_points": drop(accuracy),
                "severities": [{"severity": severity, **figures} for severity, figures in mine],
            }
        )
    severities = sorted({cell.severity for cell, _, _ in scored if cell.severity})
    by_severity = []
    for severity in severities:
        accuracy = float(right[[index for index, (cell, _, _) in enumerate(scored) if cell.severity == severity]].mean())
        by_severity.append({"severity": severity, "accuracy": accuracy, "drop_points": drop(accuracy)})
    return {
        "accuracy": mean,
        "accuracy_95": scored[0][1]["accuracy_95"] if len(scored) == 1 else _interval(right.mean(0), 1),
        "drop_points": drop(mean),
        "drop_points_95": None if clean_right is None else _interval(clean_right.double() - right.mean(0), 100),
        "corruptions": names,
        "severities": severities,
        "by_severity": by_severity,
        "by_corruption": rows,
        "figures": scored[0][1] if len(scored) == 1 else None,
    }


def _interval(values: Tensor, unit: float) -> list[float]:
    mean, half = float(values.mean()), Z_95 * float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return [unit * (mean - half), unit * (mean + half)]


def _told(figures: Facts, of: str) -> Facts:
    return {"of": of, **figures}


def _stored(classifier: Classifier, average: ViewAverage) -> Facts | None:
    """The model file's own figure on all test images, if it was taken with the same views and precision."""
    asked = average.tta.model_dump()
    for figures in classifier.info.figures:
        views = {
            "views": figures["tta"],
            "average": figures.get("tta_average", asked["average"]),
            "below": figures.get("tta_below"),
        }
        if figures["split"] == "test" and figures["precision"] == classifier.precision and views == asked:
            kept = ("num", "correct", "accuracy", "accuracy_95", "nll")
            return _told({name: figures[name] for name in kept}, "all test images, as the model file has it")
    return None


def _test_images(config: RunConfig | Imported, data_dir: Path | None, listener: Listener) -> Split | None:
    """The plain test images of the model's own data, or None where they would have to be downloaded."""
    source = find_source(config.data.name)
    if isinstance(source, Source) and source.find and not source.find(data_dir):
        listener.tell(f"no clean figure to compare with: {config.data.name} is not in the data folder")
        return None
    return load_splits(config, data_dir, listener)["test"]


def expected_seconds(classifier: Classifier, plan: ShiftPlan, tta: Tta) -> float:
    """Of an image in one cell, on average: a pass of the net, and its corruption where it is generated."""
    split = plan.cells[0].split
    rows = torch.arange(min(TRIED, len(split)))
    device = next(classifier.net.parameters()).device
    images = split.gather(rows.to(split.labels.device)).to(device)
    preprocessing, precision = classifier.info.preprocessing, classifier.precision

    def once(work: Callable[[], Tensor]) -> float:
        work()  # the first time makes what is kept for later
        began = time.perf_counter()
        work().cpu()
        return (time.perf_counter() - began) / len(rows)

    passing = once(lambda: batch_logits(classifier.net, images, preprocessing, ViewAverage(tta), precision, rows))
    making = {cell.corruption: cell.transform for cell in plan.cells if cell.transform}
    made = [once(lambda change=change: change(images, rows)) for change in making.values()]  # type: ignore[misc]
    return passing + (sum(made) / len(made) if made else 0.0)


def what_is_scored(plan: ShiftPlan) -> str:
    """14 corruptions × 5 severities × 1,000 of 10,000 images (generated …)."""
    images = len(plan.cells[0].split)
    of = f"{images:,} of {plan.num_all:,} images" if images < plan.num_all else f"{images:,} images"
    if plan.corruptions:
        of = f"{_count(plan.corruptions, 'corruption', 's')} × {_count(plan.request.severities, 'severit', 'ies', 'y')} × {of}"
    return f"{plan.request.shift}: {of} ({plan.source})"


def _count(things: Sequence[object], word: str, several: str, one: str = "") -> str:
    return f"{len(things)} {word}{one if len(things) == 1 else several}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(max(1, round(seconds)), 60)
    return f"{minutes}:{rest:02}"


def _record(path: Path, facts: Facts) -> None:
    """Keep the figures in the run that the model belongs to, and write this look down."""
    folder = path if path.is_dir() else path.parent
    if not (folder / "config.yaml").is_file():
        return
    run, clean = RunDirectory(folder), facts["clean"]
    kept = ("shift", "generated", "corruptions", "severities", "images", "images_of", "tta", "precision", "digest")
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    # Called mean_accuracy, as it is no share of one set of images.
    line = {"time": stamp, "why": "shift", **{name: facts[name] for name in kept}, "mean_accuracy": facts["accuracy"]}
    try:
        append_line(run.evaluations, {**line, "clean_accuracy": clean and clean["accuracy"], "clean_of": clean and clean["of"]})
        run.write_shift({**facts, "time": stamp})
    except WriteError as error:
        warnings.warn(f"this look at shifted images could not be written down: {error}", stacklevel=2)
