"""Train, measure and audit small image classifiers to a parameter budget.

`build`, `train`, `resume` and `load` are the whole job in Python; the command `bantamnet` is the same on a terminal.
Importing this package is cheap: PyTorch is loaded by the first call.
"""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from torch import nn

    from bantamnet.config import RunConfig
    from bantamnet.evaluate.classifier import Classifier
    from bantamnet.runs.directory import RunDirectory
    from bantamnet.training.train import Options

__version__ = "0.1.0"
__all__ = ["build", "load", "register", "resume", "train"]
T = TypeVar("T")


def register(kind: str, name: str, **facts: Any) -> Callable[[T], T]:
    """A decorator that makes what it stands above known by `name`, for configs, the command line and model files.

    `kind` is "model" (an `nn.Module` class taking (num_classes, **args)), "operation" (a `bantamnet.data.operations.Operation`
    class), "optimizer" (a `torch.optim.Optimizer` class) or "data" (a function returning (train, test) splits; its `facts`
    may be class_names, mean, std, size and about, and are measured where left out). Raises `UserError` for a name that is
    taken, and for what is not of the kind.
    """
    from bantamnet.runs.own import registrar

    return registrar(kind, name, sys._getframe(1), facts)


def build(name: str, settings: Mapping[str, Any] | None = None, num_classes: int = 10) -> "nn.Module":
    """A fresh net by the name of a model, recipe or recipe file; `settings` as in `{"model.blocks": [3, 3, 3]}`."""
    from bantamnet.models import build as models
    from bantamnet.runs.lookup import find, resolve, resolve_model

    sets = _assignments(settings)
    model = resolve(name, sets).model if find(name).kind == "recipe" else resolve_model(name, sets)
    return models.build(model, num_classes)


def train(
    recipe: "str | Path | RunConfig",
    settings: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    options: "Options | None" = None,
) -> "RunDirectory":
    """Train a recipe (a name, a file, or a complete config) into a run directory; its `summary()` holds the figures.

    `settings` change keys of a named recipe, as in `{"optim.lr": 0.05}`.
    """
    from bantamnet.errors import UserError
    from bantamnet.runs.lookup import resolve
    from bantamnet.training import train as training

    if isinstance(recipe, str | Path):
        config = resolve(str(recipe), _assignments(settings))
    elif settings:
        raise UserError("settings change a named recipe; a config is complete already")
    else:
        config = recipe
    return _drawn(training.train(config, Path(out) if out else None, options))


def resume(run: str | Path, options: "Options | None" = None) -> "RunDirectory":
    """Go on with a run that was stopped; one that was stopped before its pictures were drawn gets them."""
    from bantamnet.runs.directory import RunDirectory
    from bantamnet.runs.own import use_copies
    from bantamnet.training import train as training

    begun = RunDirectory.open(Path(run))
    use_copies(begun.path, begun.config().use)
    if begun.summary() and not (begun.path / "confusion.png").exists():
        return _drawn(begun)
    return _drawn(training.resume(Path(run), options))


def load(path: str | Path, device: str = "auto", precision: str = "auto") -> "Classifier":
    """The classifier in a model file or run directory: `load("runs/quickstart").predict(["seven.png"])`."""
    from bantamnet.evaluate.classifier import load_classifier

    return load_classifier(Path(path), device, precision)


def _drawn(run: "RunDirectory") -> "RunDirectory":
    from bantamnet.report.pictures import draw
    from bantamnet.runtime import is_main_process

    return draw(run) if is_main_process() else run


def _assignments(settings: Mapping[str, Any] | None) -> list[str]:
    return [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in (settings or {}).items()]
