"""The cells of an ablation: every combination of the values that its keys take."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from bantamnet.config import RunConfig
from bantamnet.config.ablation import Ablation
from bantamnet.configfile import read_value, read_yaml
from bantamnet.errors import UserError, unknown
from bantamnet.runs.lookup import RECIPES, recipe_names, resolve

ABLATIONS = RECIPES / "ablations"


@dataclass(frozen=True)
class Cell:
    """One combination of values."""

    name: str
    """As in tables: `model.blocks=[2, 2, 2], optim.name=sgd`."""
    folder: str
    """The name as a folder's."""
    values: dict[str, str]
    """Key → value, as in tables."""
    config: RunConfig


def ablation_names() -> list[str]:
    """Every shipped ablation."""
    return sorted(path.stem for path in ABLATIONS.glob("*.yaml"))


def list_ablations() -> list[dict[str, Any]]:
    """Every shipped ablation: what it varies, and how many runs it makes."""
    listed = []
    for name in ablation_names():
        ablation, _ = find_ablation(name, [])
        varied = {key: list(_named(values)) for key, values in ablation.vary.items()}
        num = prod(len(values) for values in varied.values())
        facts = {"name": name, "recipe": ablation.recipe, "about": ablation.about, "vary": varied, "notes": ablation.notes}
        listed.append({**facts, "cells": num, "seeds": ablation.seeds, "runs": num * ablation.seeds})
    return listed


def find_ablation(name: str, vary: Sequence[str]) -> tuple[Ablation, Path | None]:
    """(a shipped ablation, an ablation file, or a recipe with `--vary` texts; the file's path)."""
    path = Path(name)
    if name in ablation_names():
        path = ABLATIONS / f"{name}.yaml"
    if path.suffix in (".yaml", ".yml") and path.is_file() and "vary" in (tree := read_yaml(path)):
        if vary:
            raise UserError(f"--vary: {name} says itself what varies; change a copy of it, or name its recipe")
        return read_ablation(tree, name), path
    if not vary:
        raise UserError(
            f"{name}: say what to vary, as in --vary optim.lr=0.1,0.05; "
            f"or name a shipped ablation ({', '.join(ablation_names())})"
        )
    if path.suffix not in (".yaml", ".yml") and name not in recipe_names():
        raise UserError(unknown("recipe or ablation", name, [*recipe_names(), *ablation_names()]))
    varied: dict[str, list[Any]] = {}
    for text in vary:
        key, values = read_vary(text)
        if key in varied:
            raise UserError(f"--vary: {key} is given twice; list all its values at once")
        varied[key] = values
    return Ablation(recipe=name, vary=varied), None


def read_ablation(tree: dict[str, Any], what: str) -> Ablation:
    """The typed form of a file; raises `UserError` for what is wrong in it."""
    try:
        return Ablation.model_validate(tree)
    except ValidationError as error:
        mistakes = [f"{'.'.join(map(str, entry['loc'])) or 'file'}: {entry['msg']}" for entry in error.errors()]
        raise UserError("\n  ".join([f"{what}:", *mistakes])) from None


def read_vary(text: str) -> tuple[str, list[Any]]:
    """`KEY=V1,V2` as (key, values), each value YAML; commas inside brackets and quotes belong to a value."""
    key, equals, rest = text.partition("=")
    if not equals or not key.strip():
        raise UserError(f"--vary takes KEY=V1,V2, as in --vary optim.lr=0.1,0.05; got {text!r}")
    values = []
    for part in split_values(rest):
        if not part:
            raise UserError(f'--vary {key}: a value is empty; write "" for an empty text, null for none')
        try:
            values.append(read_value(part))
        except (yaml.YAMLError, ValueError, RecursionError):
            raise UserError(f"--vary {key}: {part!r} is not a YAML value; quote text that holds special characters") from None
    return key.strip(), values


def split_values(text: str) -> list[str]:
    """Cut at the commas that are in no brackets and no quotes."""
    parts, depth, quote, start = [], 0, "", 0
    for place, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        elif letter in "([{":
            depth += 1
        elif letter in ")]}":
            depth -= 1
        elif letter == "," and depth == 0:
            parts.append(text[start:place].strip())
            start = place + 1
    return [*parts, text[start:].strip()]


def cells(ablation: Ablation, path: Path | None, sets: Sequence[str] = (), use: Sequence[Path] = ()) -> list[Cell]:
    """Every cell with its complete config, the base first; raises `UserError` naming all that are wrong."""
    recipe = ablation.recipe
    if path is not None and (path.parent / recipe).is_file():
        recipe = str(path.parent / recipe)
    named = {key: _named(values) for key, values in ablation.vary.items()}
    _refuse_odd(named)
    fixed = [*(_assignment(key, value) for key, value in ablation.set.items()), *sets]
    found: list[Cell] = []
    mistakes = []
    for chosen in product(*(values.items() for values in named.values())):
        pairs = dict(zip(named, chosen, strict=True))
        values = {key: name for key, (name, _) in pairs.items()}
        title = ", ".join(f"{key}={name}" for key, name in values.items())
        try:
            config = resolve(recipe, [*fixed, *(_assignment(key, value) for key, (_, value) in pairs.items())], use)
        except UserError as error:
            mistakes.append(f"{title}: {error}")
            continue
        if twin := next((cell for cell in found if cell.config == config), None):
            mistakes.append(f"{title}: the same run as {twin.name}")
        found.append(Cell(title, _folder(title, [cell.folder for cell in found]), values, config))
    if mistakes:
        raise UserError("\n  ".join(["these cells of the grid cannot be trained, so nothing was:", *mistakes]))
    return found


def _refuse_odd(named: dict[str, dict[str, Any]]) -> None:
    for key, values in named.items():
        if key in ("seed", "name", "use"):
            raise UserError(f"--vary {key}: not a key to vary" + ("; --seeds N trains several" if key == "seed" else ""))
        if len(values) < 2:
            raise UserError(f"--vary {key}: give two values or more, the first of them the base; --set sets one for all")


def _named(values: list[Any] | dict[str, Any]) -> dict[str, Any]:
    """Name of a value → value."""
    if isinstance(values, dict):
        return values
    named: dict[str, Any] = {}
    for value in values:
        text = _text(value)
        if text in named:
            raise UserError(f"--vary: the value {text} is given twice")
        named[text] = value
    return named


def _text(value: Any) -> str:
    """A value as one would write it: [2,2,2], none, 0.1."""
    if isinstance(value, str) and value:
        return value
    return json.dumps(value, ensure_ascii=False, default=str, separators=(",", ":"))


def _assignment(key: str, value: Any) -> str:
    return f"{key}={json.dumps(value, ensure_ascii=False, default=str)}"


def _folder(title: str, taken: Sequence[str]) -> str:
    name = re.sub(r"[^A-Za-z0-9.]+", "-", title).strip("-.")[:80]
    number = 2
    while name in taken:
        name, number = f"{name.removesuffix(f'-{number - 1}')}-{number}", number + 1
    return name
