"""A clean run, and the ways to spoil a copy of it through the project's own writers."""

import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from bantamnet.config import RunConfig
from bantamnet.configfile import write_yaml
from bantamnet.models.build import build
from bantamnet.runs.directory import RunDirectory
from bantamnet.runs.importing import import_weights
from bantamnet.runs.lookup import resolve
from bantamnet.runs.tensorfile import digest, read_tensors, write_tensors

CLEAN = (
    "model={name: custom-tiny, stem_width: 16, widths: [16, 32], strides: [2, 2], blocks: [1, 1]}",
    "optim={name: adam, lr: 0.02, schedule: [cosine]}",
    "data.augment=''",
    "batch_size=32",
    "epochs=4",
    "select=best-val",
    "label_smoothing=0",
    "ema=null",
    "precision=fp32",
)
"""Digits, a net of 20,282 weights, a schedule that ends with the run."""

Spoil = Callable[[RunDirectory], None]


def clean(*sets: str) -> RunConfig:
    return resolve("quickstart", [*CLEAN, *sets])


def copied(base: Path, to: Path, *spoils: Spoil) -> Path:
    """A run of its own in a folder of its own, spoilt."""
    path = to / "run"
    shutil.copytree(base, path, ignore=shutil.ignore_patterns("checkpoints"))
    for spoil in spoils:
        spoil(RunDirectory(path))
    return path


def summary(change: Callable[[dict[str, Any]], object]) -> Spoil:
    def spoil(run: RunDirectory) -> None:
        facts = run.summary()
        assert facts
        change(facts)
        run.write_summary(facts)

    return spoil


def config(**keys: Any) -> Spoil:
    """`a__b=value` for a.b of config.yaml."""

    def spoil(run: RunDirectory) -> None:
        tree = run.config().dump()
        for path, value in keys.items():
            *sections, key = path.split("__")
            inner = tree
            for section in sections:
                inner = inner[section]
            inner[key] = value
        (run.path / "config.yaml").write_text(write_yaml(tree))

    return spoil


def epochs(change: Callable[[list[dict[str, Any]]], object]) -> Spoil:
    def spoil(run: RunDirectory) -> None:
        lines = run.epochs()
        change(lines)
        run.metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))

    return spoil


def model(change: Callable[[dict[str, Tensor], dict[str, Any]], object], sign: bool = True) -> Spoil:
    """Change tensors and header of the model file; `sign` lets everything name the new weights, as if they had been trained."""

    def spoil(run: RunDirectory) -> None:
        tensors, header = read_tensors(run.best)
        change(tensors, header)
        if sign:
            header["weights_digest"] = digest(tensors)
            for figure in header["figures"]:
                figure["digest"] = header["weights_digest"]
            summary(lambda facts: [figure.update(digest=header["weights_digest"]) for figure in facts["figures"].values()])(run)
            for split in ("val", "test"):
                predictions(split, lambda _, about: about.update(digest=header["weights_digest"]))(run)
        write_tensors(run.best, tensors, header)

    return spoil


def predictions(split: str, change: Callable[[dict[str, Tensor], dict[str, Any]], object]) -> Spoil:
    def spoil(run: RunDirectory) -> None:
        path = run.path / "predictions" / f"{split}.safetensors"
        tensors, header = read_tensors(path)
        change(tensors, header)
        write_tensors(path, tensors, header)

    return spoil


def figure(run: RunDirectory, split: str) -> dict[str, Any]:
    facts = run.summary()
    assert facts
    return facts["figures"][split]


def set_figure(split: str, value: Callable[[RunDirectory], dict[str, Any]]) -> Spoil:
    """Other numbers in summary.json."""

    def spoil(run: RunDirectory) -> None:
        new = value(run)
        summary(lambda facts: facts["figures"][split].update(new))(run)

    return spoil


def imported(to: Path) -> Path:
    """A model file of weights that were trained elsewhere, for the clean run's net."""
    source, out = to / "elsewhere.pth", to / "imported.safetensors"
    torch.manual_seed(5)
    torch.save(build(clean().model, 10).state_dict(), source)
    recipe = to / "net.yaml"
    recipe.write_text(write_yaml(clean().dump()))
    import_weights(source, str(recipe), out, classes="digits")
    return out


def pictures(root: Path, shared: Iterable[np.ndarray] = (), num: int = 12) -> Path:
    """Two classes of noise in train and test; `shared` are (train picture, test picture) pairs of further images."""
    rng = np.random.default_rng(3)
    for part in ("train", "test"):
        for label in ("a", "b"):
            folder = root / part / label
            folder.mkdir(parents=True)
            for number in range(num):
                Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    for number, pair in enumerate(shared):
        for part, picture in zip(("train", "test"), pair, strict=True):
            Image.fromarray(picture).save(root / part / "a" / f"shared-{number}.png")
    return root


def noise_picture(seed: int) -> np.ndarray:
    """Smooth noise with a picture's range."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(40, 200, (8, 8, 3), dtype=np.uint8))
    return np.asarray(small.resize((32, 32), Image.Resampling.BICUBIC)).copy()


def folder_recipe(to: Path, root: Path) -> str:
    """The clean recipe on a folder of pictures."""
    path = to / "folder.yaml"
    path.write_text(f"base: quickstart\nname: folder\ndata: {{name: {root}, val: {{source: none}}}}\nselect: last\n")
    return str(path)
