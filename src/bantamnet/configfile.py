"""From YAML and `--set` to a `RunConfig`, and from pydantic's errors to sentences a user can act on."""

import re
import types
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from bantamnet.config import AnyGroup, AnyOptimizer, AnySegment, Checks, Group, Imported, RunConfig
from bantamnet.config.data import is_path
from bantamnet.config.own import OWN
from bantamnet.errors import UserError, unknown

Tree = dict[str, Any]

SHORT = {"tta": "views", "ema": "decay", "sam": "rho"}
"""Sections that may be written as one word or number: the key that it stands for."""

EXPONENT = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+")


class _Loader(yaml.SafeLoader):
    """YAML in which 1e-8 is a number; by version 1.1 it is text, for want of a point."""


class _Dumper(yaml.SafeDumper):
    """Quotes text that such a loader would take for a number."""


for _kind in (_Loader, _Dumper):
    _kind.add_implicit_resolver("tag:yaml.org,2002:float", EXPONENT, list("-+0123456789"))


def read_value(text: str) -> Any:
    """A value in YAML; raises `yaml.YAMLError`, `ValueError` or `RecursionError`."""
    return yaml.load(text, _Loader)


class ConfigError(UserError):
    """All mistakes of one config; `mistakes` holds a sentence for each."""

    def __init__(self, what: str, mistakes: Sequence[str]) -> None:
        self.mistakes = list(mistakes)
        super().__init__("\n  ".join([f"{what}:", *self.mistakes]))


def validate(tree: Tree, what: str = "config", checks: Checks | None = None) -> RunConfig:
    """The typed config of a plain tree; raises `ConfigError` with every mistake at once."""
    try:
        return RunConfig.model_validate(tree, context=dict(checks or {}))
    except ValidationError as error:
        raise ConfigError(what, [_sentence(entry, tree) for entry in error.errors()]) from None


def validate_origin(tree: Tree, what: str = "config", checks: Checks | None = None) -> RunConfig | Imported:
    """The config in a model file: that of the run it came from, or what is known of an imported net."""
    if "imported" not in tree:
        return validate(tree, what, checks)
    try:
        return Imported.model_validate(tree, context=dict(checks or {}))
    except ValidationError as error:
        raise ConfigError(what, [_sentence(entry, tree) for entry in error.errors()]) from None


def read_yaml(path: Path) -> Tree:
    """A YAML file's mapping; raises `UserError` for anything else."""
    try:
        tree = read_value(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, RecursionError) as error:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}") from None
    if not isinstance(tree, dict):
        raise UserError(f"{path} must hold keys and values (`name: …`), not {type(tree).__name__}")
    return tree


def write_yaml(tree: Tree) -> str:
    """YAML text in the order of the keys."""
    return str(yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100, default_flow_style=None))


def merge(base: Tree, changes: Tree) -> Tree:
    """`base` with `changes` laid over it key by key; lists and scalars are replaced whole."""
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        if key in SHORT and isinstance(old, str | int | float) and isinstance(value, dict):
            old = {SHORT[key]: old}
        if isinstance(old, dict) and isinstance(value, dict):
            merged[key] = merge(_without_foreign_keys(key, old, value.get("name")), value)
        else:
            merged[key] = value
    return merged


def apply_sets(tree: Tree, assignments: Iterable[str]) -> Tree:
    """`tree` with all assignments carried out, in their order but for names.

    A section's new name clears away keys of the old one, so it comes before what else is said of that section.
    """
    ordered: list[tuple[str, str]] = []
    for assignment in assignments:
        key = assignment.partition("=")[0].strip()
        section, _, last = key.rpartition(".")
        place = len(ordered)
        others = [other for other, _ in ordered]
        if last == "name" and key not in others:
            whole = (number for number, other in enumerate(others) if f"{section}.".startswith(f"{other}."))
            since = max(whole, default=-1) + 1
            place = next((number for number in range(since, place) if others[number].startswith(f"{section}.")), place)
        ordered.insert(place, (key, assignment))
    for _, assignment in ordered:
        tree = apply_set(tree, assignment)
    return tree


def apply_set(tree: Tree, assignment: str) -> Tree:
    """`tree` with one `a.b.0.c=VALUE` carried out; VALUE is YAML."""
    path, equals, text = assignment.partition("=")
    keys = [key for key in path.strip().split(".") if key]
    if not equals or not keys:
        raise UserError(f"--set takes KEY=VALUE, as in --set optim.lr=0.05; got {assignment!r}")
    try:
        value = read_value(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        raise UserError(f"--set {path}: {text!r} is not a YAML value; quote text that holds special characters") from None
    return merge(tree, _nest(keys, value, tree))


def _nest(keys: list[str], value: Any, tree: Any) -> Tree:
    key, rest = keys[0], keys[1:]
    old = tree.get(key) if isinstance(tree, dict) else None
    if rest and isinstance(old, list):
        if not rest[0].isdigit() or int(rest[0]) >= len(old):
            raise UserError(f"--set {'.'.join(keys)}: {key!r} is a list of {len(old)}; write {key}.0.… for its first entry")
        index = int(rest[0])
        item = merge({"item": old[index]}, _nest(["item", *rest[1:]], value, {"item": old[index]}))["item"]
        return {key: [*old[:index], item, *old[index + 1 :]]}
    return {key: _nest(rest, value, old) if rest else value}


def _without_foreign_keys(section: str, old: Tree, new_name: Any) -> Tree:
    """What is left of a section when its name changes.

    A named net starts afresh, another optimiser keeps the keys it knows, and a folder of pictures takes on no statistics of
    another data set's pixels and no number of its images.
    """
    if section == "data" and isinstance(new_name, str) and is_path(new_name) and new_name != old.get("name"):
        val = (
            {key: value for key, value in old.get("val", {}).items() if key != "count"}
            if isinstance(old.get("val"), dict)
            else {}
        )
        return {key: value for key, value in old.items() if key not in ("mean", "std")} | {"val": val}
    if section == "model" and isinstance(new_name, str) and new_name != old.get("name") and not new_name.startswith("custom"):
        return {}
    for union, base in ((AnyGroup, Group), (AnySegment, None)):
        known = kinds(union)
        if base and isinstance(new_name, str) and (str(old.get("name")) in known) != (new_name in known):
            if new_name in known and "args" not in old:  # an unknown name, put right
                return old
            fields = known.get(new_name, base).model_fields  # from a shipped optimiser to an own one, or back
            return {key: value for key, value in old.items() if key in fields or key == "name"}
        if str(new_name) in known and str(old.get("name")) in known:
            return {key: value for key, value in old.items() if key in known[str(new_name)].model_fields}
    return old


def _sentence(entry: Any, tree: Tree) -> str:
    """One pydantic error as `path: what is wrong and what would be right`."""
    section, path = _locate(entry["loc"], tree)
    where, value, kind = ".".join(path), entry["input"], entry["type"]
    prefix = f"{where}: " if where else ""
    if kind == "extra_forbidden":
        parent = ".".join(path[:-1])
        known = [field.alias or name for name, field in section.model_fields.items()] if section else []
        return f"{parent + ': ' if parent else ''}{unknown('key', path[-1], known)}"
    if kind == "literal_error":
        return f"{prefix}{unknown('value', value, _words(entry['ctx']['expected']))}"
    if kind == "union_tag_invalid":
        return f"{prefix}{unknown('name', entry['ctx']['tag'], _words(entry['ctx']['expected_tags']))}"
    if kind == "union_tag_not_found":
        return f"{prefix}needs a `name`, as in {{name: …}}"
    if kind in ("model_type", "dict_type", "model_attributes_type"):
        return f"{prefix}takes keys and values, as in {{key: value}}, got {value!r}"
    if kind == "missing":
        return f"{prefix}missing; add this key"
    if kind == "value_error":
        return f"{prefix}{entry['ctx']['error']}"
    return f"{prefix}{entry['msg'][0].lower()}{entry['msg'][1:]}, got {value!r}"


def _words(expected: str) -> Iterable[str]:
    return [word.strip().strip("'") for word in expected.replace(" or ", ", ").split(",")]


def _locate(loc: tuple[int | str, ...], tree: Any) -> tuple[type[BaseModel] | None, list[str]]:
    """The section that an error's last key stands in, and its path as the user wrote it (no union tags, no short-form 0)."""
    section: type[BaseModel] | None = RunConfig
    kind: Any = RunConfig
    path: list[str] = []
    for part in loc:
        if kind is AnyOptimizer:  # pydantic names which of the two it is before what is wrong in it
            known, own = get_args(get_args(kind)[0])
            kind = own if part == OWN else known
            continue
        options = _options(kind)
        tags = {_tag(option): option for option in options if isinstance(option, type) and issubclass(option, BaseModel)}
        if isinstance(part, str) and len(tags) > 1 and part in tags:
            kind = section = tags[part]
            continue
        if isinstance(part, str) and not isinstance(tree, dict | list):
            break  # pydantic names the alternatives it tried inside a union of plain types
        models = list(tags.values())
        section = models[0] if len(models) == 1 else section
        if isinstance(part, int):
            kind = next((get_args(option)[0] for option in options if get_origin(option) in (list, tuple)), None)
            if isinstance(tree, list):
                path.append(str(part))
                tree = tree[part] if part < len(tree) else None
        else:
            kind = _field_kind(section, part)
            path.append(part)
            tree = tree.get(part) if isinstance(tree, dict) else None
    return section, path


def _field_kind(section: type[BaseModel] | None, key: str) -> Any:
    for name, field in (section.model_fields if section else {}).items():
        if key in (name, field.alias):
            return Annotated[field.annotation, field] if isinstance(field, FieldInfo) else None
    return None


def _options(kind: Any) -> list[Any]:
    """The alternatives of a type, annotations taken off."""
    if get_origin(kind) is Annotated:
        return _options(get_args(kind)[0])
    if get_origin(kind) in (Union, types.UnionType):
        return [option for alternative in get_args(kind) for option in _options(alternative)]
    return [kind]


def kinds(union: Any) -> dict[str, type[BaseModel]]:
    """The sections of a union that a `name` tells apart, by that name."""
    return {_tag(kind): kind for kind in get_args(get_args(union)[0])}


def _tag(section: type[BaseModel]) -> str:
    """The `name` that picks this section out of a union."""
    field = section.model_fields.get("name")
    if field is None or get_origin(field.annotation) is not Literal:
        return section.__name__
    return str(get_args(field.annotation)[0])
