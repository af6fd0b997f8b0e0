"""Finding what a user names: first a path, then a recipe, then a model."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from bantamnet.config import AnyModel, Data, RunConfig
from bantamnet.config.data import is_path
from bantamnet.configfile import Tree, apply_sets, merge, read_yaml, validate
from bantamnet.data import augment, mixing, views
from bantamnet.data.sources import SOURCES, find_source
from bantamnet.errors import UserError, unknown
from bantamnet.models.members import FAMILIES, MEMBERS, find_member
from bantamnet.models.own import OWN_MODELS, find_own_model
from bantamnet.optim.own import OWN_OPTIMIZERS, SHIPPED, find_own_optimizer
from bantamnet.runs.directory import refuse_group
from bantamnet.runs.own import beside, take_files

RECIPES = Path(str(files("bantamnet") / "recipes"))


@dataclass(frozen=True)
class Found:
    """What a name means; `path` is None for a named net."""

    kind: Literal["run", "model file", "recipe", "net"]
    name: str
    path: Path | None


def recipe_names() -> list[str]:
    """Every shipped recipe."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def find(name: str) -> Found:
    """Look a name up as path, recipe, model; raises `UserError` with the nearest of them."""
    path = Path(name)
    if len(name) > 200 and "/" not in name:
        raise UserError(f"{name[:40]}… is too long for a name")
    if path.is_dir():
        if (path / "config.yaml").is_file():
            return Found("run", name, path)
        refuse_group(path)
        if name not in recipe_names() and not find_member(name) and name not in OWN_MODELS:
            raise UserError(f"{name} is a folder, but no run directory (it has no config.yaml)")
    elif path.exists():
        return Found("recipe" if path.suffix in (".yaml", ".yml") else "model file", name, path)
    if name in recipe_names():
        return Found("recipe", name, RECIPES / f"{name}.yaml")
    if find_member(name) or name in OWN_MODELS:
        return Found("net", name, None)
    if path.suffix or "/" in name:
        raise UserError(f"{name}: no such file or folder")
    raise UserError(
        unknown("name", name, [*recipe_names(), *MEMBERS, *OWN_MODELS])
        + f"; {FAMILIES}, or a path to a run, model file or .yaml work too"
    )


def resolve(name: str, sets: Sequence[str] = (), use: Sequence[Path] = ()) -> RunConfig:
    """The complete config of a recipe (by name or path) with `KEY=VALUE` settings; every mistake in it is reported at once.

    The files of the user's own code that it names, and those in `use`, are run, so that what they register is known.
    """
    found = find(name)
    if found.kind != "recipe" or found.path is None:
        raise UserError(f"{name} is a {found.kind}, not a recipe; recipes: {', '.join(recipe_names())}, or a .yaml file")
    tree = _with_base(_read(found.path), found.path, ())
    tree = apply_sets(tree, sets)
    return validate(complete(take_files(tree, use)), name, CHECKS)


def resolve_model(name: str, sets: Sequence[str] = ()) -> AnyModel:
    """A named net, with `model.KEY=VALUE` settings."""
    tree: Tree = {"model": {"name": name}}
    for assignment in sets:
        if not assignment.startswith("model."):
            raise UserError(f"--set {assignment}: a named net has only model.… keys; name a recipe to set others")
    tree = apply_sets(tree, sets)
    # A whole config around it, so that mistakes are told in the same words.
    around = {"name": name, "data": {"name": "digits"}, "optim": {"name": "sgd", "lr": 0}, "epochs": 1}
    return validate(complete({**around, **tree}), name, CHECKS).model


def resolve_data(name: str, sets: Sequence[str] = ()) -> Data:
    """The data keys of a data set's name or a folder's path, with `data.KEY=VALUE` settings."""
    tree: Tree = {"data": {"name": name}}
    tree = apply_sets(tree, sets)
    around = {"name": "data", "model": {"name": "resnet8"}, "optim": {"name": "sgd", "lr": 0}, "epochs": 1}
    return validate(complete({**around, **tree}), name, CHECKS).data


def complete(tree: Tree) -> Tree:
    """Fill in what a name stands for: a net's keys, a data set's mean and standard deviation, a folder's whole path, `args`."""
    model, data = tree.get("model"), tree.get("data")
    filled = dict(tree)
    if isinstance(model, dict):
        with suppress(UserError):  # validation tells it, with its path
            member = find_member(str(model.get("name")))
            keys = member.keys if member else {"args": {}} if str(model.get("name")) in OWN_MODELS else {}
            filled["model"] = {**keys, **model}
    groups = tree.get("optim")
    if OWN_OPTIMIZERS and isinstance(groups, dict | list):
        listed = [groups] if isinstance(groups, dict) else groups
        own = [isinstance(g, dict) and isinstance(g.get("name"), str) and g["name"] not in SHIPPED for g in listed]
        completed = [{"args": {}, **group} if is_own else group for group, is_own in zip(listed, own, strict=True)]
        filled["optim"] = completed[0] if isinstance(groups, dict) else completed
    if isinstance(data, dict) and str(data.get("name")) in SOURCES:
        source = SOURCES[str(data["name"])]
        filled["data"] = {"mean": list(source.mean), "std": list(source.std), **data}
    if isinstance(data, dict) and isinstance(data.get("name"), str) and is_path(data["name"]):
        val = data.get("val", {})
        filled["data"] = {
            **data,
            "name": str(Path(data["name"]).expanduser().resolve()),
            "val": {"count": None, **val} if isinstance(val, dict) else val,
        }
    return filled


def _read(path: Path) -> Tree:
    return beside(read_yaml(path), path.parent)


def _with_base(tree: Tree, path: Path, above: tuple[str, ...]) -> Tree:
    """A recipe laid over the one that its `base:` names."""
    base = tree.pop("base", None)
    if base is None:
        return tree
    if not isinstance(base, str) or base in above:
        raise UserError(f"{path}: base must name another recipe, got {base!r}")
    beside = path.parent / f"{base}.yaml"
    own = beside.is_file() and beside.resolve() != path.resolve()
    base_path = beside if own else RECIPES / f"{base}.yaml"
    if not base_path.is_file():
        raise UserError(f"{path}: base: {unknown('recipe', base, recipe_names())}")
    return merge(_with_base(_read(base_path), base_path, (*above, base)), tree)


def _known_net(name: str) -> None:
    if not find_member(name) and not name.startswith("custom"):
        raise UserError(
            unknown("net", name, [*MEMBERS, *OWN_MODELS])
            + f"; {FAMILIES} for any depth; call a net of your own custom… and give all its keys"
        )


CHECKS: dict[str, Any] = {
    "augment": augment.parse,
    "mix": mixing.parse,
    "tta": views.read_views,
    "data": find_source,
    "model": _known_net,
    "own model": find_own_model,
    "own optimizer": find_own_optimizer,
}
"""What higher layers know about words in a config."""


def copy_recipe(name: str, to: Path) -> Path:
    """Write a shipped recipe, comments and all, to a file of the user's; an existing file is never touched."""
    if name not in recipe_names():
        raise UserError(unknown("recipe", name, recipe_names()))
    if to.exists():
        raise UserError(f"{to} exists already; choose another name")
    try:
        to.write_text((RECIPES / f"{name}.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write {to}: {error.strerror or error}") from None
    return to
