"""Score a trained model on a split of its own data; every look at test images is written down."""

import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from bantamnet.config import Data, Imported, RunConfig, Tta, Validation
from bantamnet.config.data import is_path
from bantamnet.configfile import validate_origin
from bantamnet.data.balance import refuse_missing
from bantamnet.data.foldersource import FolderSource
from bantamnet.data.listener import Listener
from bantamnet.data.sources import find_source
from bantamnet.data.split import Split, hold_out
from bantamnet.errors import UserError, WriteError
from bantamnet.evaluate.calibration import calibration
from bantamnet.evaluate.classifier import Classifier, load_classifier
from bantamnet.evaluate.logits import split_logits
from bantamnet.evaluate.metrics import macro, per_class, score
from bantamnet.evaluate.temperature import run_temperature
from bantamnet.evaluate.tta import chosen_tta
from bantamnet.runs.directory import RunDirectory, append_line
from bantamnet.runs.own import require
from bantamnet.runtime import join_ranks, pick_device

Known = TypeVar("Known", bound=RunConfig | Imported)


def load_splits(config: RunConfig | Imported, data_dir: Path | None, listener: Listener | None = None) -> dict[str, Split]:
    """`train` (what is learned from), `val` where there is one, and `test`."""
    return divide(load_parts(config.data, data_dir, listener), config.data.val)


def divide(parts: dict[str, Split], val: Validation) -> dict[str, Split]:
    """The parts of a data set with validation images taken as `val` says."""
    splits, train = dict(parts), parts["train"]
    if val.source == "train" and "val" not in splits:
        splits["train"], splits["val"] = hold_out(train, val.count or max(1, round(len(train) / 10)), val.split_seed)
    elif val.source == "test":
        splits["val"] = splits["test"]
    elif val.source == "none":
        splits.pop("val", None)
    refuse_missing(splits["train"])
    return splits


def load_parts(keys: Data, data_dir: Path | None, listener: Listener | None = None) -> dict[str, Split]:
    """`train` and `test` as the data set has them, and a folder's own `val`."""
    source = find_source(keys.name)
    if isinstance(source, FolderSource):
        return source.read(keys, listener or Listener()).splits
    train, test = source.load(data_dir)
    return {"train": train, "test": test}


def evaluate(
    path: Path,
    split_name: str = "test",
    tta: str | Tta = "none",
    data_dir: Path | None = None,
    device: str = "auto",
    precision: str | None = None,
    tta_average: str | None = None,
    tta_below: float | None = None,
    data: str | None = None,
    listener: Listener | None = None,
) -> dict[str, Any]:
    """Figures of a run's model, or of a model file, on `train`, `val` or `test` of the data it was trained for.

    `precision` is that of the run's own figures unless said otherwise, so that the same weights give the same figures.
    Ranks that `torchrun` started share the images. `tta` is as in `Classifier.logits`; `tta_average` and `tta_below` change
    what it says. `data` is another place of its data, or other data with the same classes.
    """
    classifier = load_classifier(path, device, precision)
    average = chosen_tta(tta, classifier.info.config, tta_average, tta_below)
    config, split = own_split(classifier, path, split_name, data_dir, data, listener)
    preprocessing = classifier.info.preprocessing
    precision = classifier.precision
    with join_ranks(pick_device(device)) as ranks:
        advance = _scoring(listener if listener and ranks.main else Listener(), len(split), ranks.size)
        logits = split_logits(
            classifier.net, split, preprocessing, precision=precision, tta=average, ranks=ranks, advance=advance
        )
    folder = path if path.is_dir() else path.parent
    if split_name == "val":
        temperature, temperature_from = None, "none: these are the images that it is fitted on"
    else:
        temperature, temperature_from = run_temperature(RunDirectory(folder), classifier.digest, average)
    by_class = per_class(logits, split.labels, split.class_names)
    figures = {
        "model": str(path),
        "data": config.data.name,
        "split": split_name,
        **average.figures(),
        "precision": precision,
        **score(logits, split.labels),
        "per_class": by_class,
        "macro": macro(by_class),
        "calibration": calibration(logits, split.labels, temperature) | {"temperature_from": temperature_from},
        "chosen": classifier.info.chosen,
        "label": classifier.info.label,
        "digest": classifier.digest,
        "fingerprint": split.fingerprint,
    }
    looks_at_test = split_name == "test" or (split_name == "val" and config.data.val.source == "test")
    if looks_at_test and ranks.main and (folder / "config.yaml").is_file():
        try:
            record_test_look(RunDirectory(folder), figures, "evaluate")
        except WriteError as error:
            warnings.warn(f"this look at the test images could not be written down: {error}", stacklevel=2)
    return figures


def _scoring(listener: Listener, num: int, num_ranks: int) -> Callable[[int], None]:
    """Tells the listener how far this rank, and so all of them, have come."""
    done = 0

    def advance(scored: int) -> None:
        nonlocal done
        done = min(num, done + scored * num_ranks)
        listener.progress(done, num, "scoring images")

    listener.progress(0, num, "scoring images")
    return advance


def own_split(
    classifier: Classifier,
    path: Path,
    split_name: str,
    data_dir: Path | None = None,
    data: str | None = None,
    listener: Listener | None = None,
) -> tuple[RunConfig | Imported, Split]:
    """(config, `train`, `val` or `test`) of the data that the model at `path` was trained for, or that `data` names instead."""
    config = moved(validate_origin(classifier.info.config, str(path)), data)
    if not is_path(config.data.name):
        require("data", config.data.name, classifier.info.config, str(path))
    splits = load_splits(config, data_dir, listener)
    if split_name not in splits:
        raise UserError(f"--split: {config.name} has no {split_name!r} images; it has {', '.join(splits)}")
    split = splits[split_name]
    if split.class_names != classifier.info.class_names:
        raise UserError(f"{path}: its classes ({_few(classifier.info.class_names)}) are not those of {config.data.name}")
    return config, split


def moved(config: Known, data: str | None) -> Known:
    """The config with its data set, or its folder, named anew; as it is where `data` is None."""
    if data is None:
        return config
    find_source(data)
    name = str(Path(data).expanduser().resolve()) if is_path(data) else data
    return config.model_copy(update={"data": config.data.model_copy(update={"name": name})})  # type: ignore[return-value]


def _few(names: tuple[str, ...], shown: int = 10) -> str:
    return ", ".join(names[:shown]) + (", …" if len(names) > shown else "")


def own_look(look: dict[str, Any], summary: dict[str, Any]) -> bool:
    """Whether a line of evaluations.jsonl is a look at the run's own test images, not at other data its net was scored on."""
    return look.get("fingerprint") in (None, summary["data"]["test"]["fingerprint"])


def record_test_look(run: RunDirectory, figures: dict[str, Any], why: str) -> None:
    """Append a look at test images to evaluations.jsonl."""
    kept = ("num", "correct", "accuracy", "nll", "tta", "tta_average", "tta_below", "precision", "digest", "epoch", "fingerprint")
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    append_line(run.evaluations, {"time": stamp, "why": why, **{k: figures[k] for k in kept if k in figures}})
