"""Facts about nets, recipes and runs, as plain values for tables and JSON."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from bantamnet.config import OwnModel, RunConfig
from bantamnet.data.sources import find_source
from bantamnet.errors import UserError, unknown
from bantamnet.models.build import build_to_count
from bantamnet.models.own import check_forward
from bantamnet.models.resnet import count_parameters
from bantamnet.models.summary import summarize, weight_class
from bantamnet.runs.directory import GROUP_FILE, RunDirectory
from bantamnet.runs.group import group_runs, is_group, seed_of, state
from bantamnet.runs.lookup import RECIPES, find, recipe_names, resolve, resolve_model
from bantamnet.runs.modelfile import load_model
from bantamnet.runs.own import use_copies


def describe(name: str, sets: Sequence[str], size: int | None = None) -> dict[str, Any]:
    """Layers and costs of a net, recipe, run or model file, for pictures of `size` (default: the recipe's, or 32)."""
    found = find(name)
    budget: int | None = None
    if found.kind in ("run", "model file"):
        assert found.path is not None
        if sets:
            raise UserError(f"--set: {name} is a {found.kind}; its net is what it is")
        if size:
            raise UserError(f"--size: {name} is a {found.kind}; its pictures have the size that it was trained at")
        if found.kind == "run":
            use_copies(found.path, RunDirectory(found.path).config().use)
        net, info, _ = load_model(found.path / "best.safetensors" if found.kind == "run" else found.path)
        input_size, net_name = info.preprocessing.size, info.config["model"]["name"]
    elif found.kind == "recipe":
        config = resolve(name, sets)
        source = find_source(config.data.name)
        net_name, budget = config.model.name, config.max_parameters
        input_size = (size,) * 2 if size else (config.data.size,) * 2 if config.data.size else source.size
        net = build_to_count(config.model, len(source.class_names))
        if isinstance(config.model, OwnModel):
            check_forward(net_name, net, input_size, len(source.class_names))
    else:
        model = resolve_model(name, sets)
        net_name, input_size = model.name, (size or 32,) * 2
        net = build_to_count(model, 10)
        if isinstance(model, OwnModel):
            check_forward(net_name, net, input_size, 10)
    try:
        summary = summarize(net, input_size)
    except RuntimeError:
        height, width = input_size
        raise UserError(
            f"pictures of {height} × {width} are too small for {net_name}; make them larger or the net shallower"
        ) from None
    return {
        "name": name,
        "kind": found.kind,
        "net": net_name,
        "input": [3, *input_size],
        "budget": budget,
        "over_budget": budget is not None and summary.params > budget,
        **summary.as_dict(),
    }


def list_recipes() -> list[dict[str, Any]]:
    """Every shipped recipe with what it asks for, assumes and claims, and what has been measured of it."""
    measured = json.loads((RECIPES / "measured.json").read_text(encoding="utf-8"))
    return [{**recipe_facts(name, resolve(name)), "reproduced": measured.get(name, "not yet")} for name in recipe_names()]


def recipe_facts(name: str, config: RunConfig) -> dict[str, Any]:
    """One line of the list of recipes."""
    params = count_parameters(build_to_count(config.model, len(find_source(config.data.name).class_names)))
    return {
        "name": name,
        "about": config.about,
        "data": config.data.name,
        "parameters": params,
        "weight_class": weight_class(params),
        "budget": config.max_parameters,
        "epochs": config.epochs,
        "label": config.label,
        "assumed": config.assumed,
        "claims": config.claims.model_dump(mode="json") if config.claims else None,
    }


def list_runs(folder: Path, sort: str, columns: Iterable[str]) -> list[dict[str, Any]]:
    """Every run and group directly inside `folder`, sorted by a column; figures best first, unfinished runs last."""
    if sort not in columns:
        raise UserError(f"--sort: {unknown('column', sort, columns)}")
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; `bantamnet train quickstart` makes the first run")
    rows = [_group_facts(path) if is_group(path) else _run_facts(RunDirectory(path)) for path in _runs_in(folder)]
    best_first = sort in ("test", "val")
    known = [row for row in rows if row[sort] is not None]
    known.sort(key=lambda row: int(row[sort].partition("/")[0]) if sort == "epochs" else row[sort], reverse=best_first)
    return known + [row for row in rows if row[sort] is None]


def _runs_in(folder: Path) -> list[Path]:
    return sorted({path.parent for name in ("config.yaml", GROUP_FILE) for path in folder.glob(f"*/{name}")})


def _group_facts(path: Path) -> dict[str, Any]:
    """A line for a group: means of its finished runs, and `val_std` and `test_std` beside them."""
    runs = [_run_facts(run) for run in group_runs(path) if (run.path / "config.yaml").is_file()]
    states = [state(run) for run in group_runs(path)]
    finished = [run for run in runs if run["state"] == "finished"]
    first = (finished or runs or [dict.fromkeys(("recipe", "epochs", "parameters", "label"))])[0]
    row: dict[str, Any] = {key: first[key] for key in ("recipe", "epochs", "parameters", "label")}
    for split in ("val", "test"):
        values = [run[split] for run in finished if run[split] is not None]
        row |= {split: fmean(values) if values else None, f"{split}_std": stdev(values) if len(values) > 1 else None}
    seconds = [run["seconds"] for run in runs if run["seconds"] is not None]
    counted = {name: states.count(name) for name in dict.fromkeys(states)}
    return {
        "name": f"{path.name}/",
        "state": ", ".join(f"{num} {name}" for name, num in counted.items()),
        "seed": None,
        "seeds": [seed_of(run) for run in group_runs(path)],
        "seconds": sum(seconds) if seconds else None,
        **row,
    }


def _run_facts(run: RunDirectory) -> dict[str, Any]:
    now, lines = state(run), run.epochs()
    summary = (run.summary() or {}) if now == "finished" else {}
    try:
        config: RunConfig | None = run.config()
    except UserError:
        config = None
    figures = summary.get("figures", {})
    planned = config.epochs if config and config.counts_epochs else "?"
    return {
        "name": run.path.name,
        "recipe": config.name if config else "unreadable config.yaml",
        "state": now,
        "epochs": f"{len(lines)}/{summary.get('epochs', planned)}",
        "parameters": summary.get("parameters"),
        "val": figures.get("val", {}).get("accuracy"),
        "test": figures.get("test", {}).get("accuracy"),
        "label": summary.get("label"),
        "seed": config.seed if config else None,
        "seconds": summary.get("seconds", lines[-1]["seconds"] if lines else None),
    }
