"""A user's own code: Python files named on the command line or in a recipe, what they register, and a run's copies of them."""

import hashlib
import sys
import types
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from bantamnet.config import OwnGroup, RunConfig, Used
from bantamnet.configfile import Tree
from bantamnet.data.augment import parse
from bantamnet.data.operations import OPERATIONS
from bantamnet.data.own import check_operations, register_operation, register_source
from bantamnet.data.sources import SOURCES
from bantamnet.errors import UserError, told, unknown
from bantamnet.models.own import OWN_MODELS, register_model
from bantamnet.optim.own import OWN_OPTIMIZERS, check_own, register_optimizer
from bantamnet.runs.tensorfile import write_bytes

T = TypeVar("T")
KINDS: dict[str, tuple[dict[str, Any], Callable[..., Any]]] = {
    "model": (OWN_MODELS, register_model),
    "operation": (OPERATIONS, register_operation),
    "optimizer": (OWN_OPTIMIZERS, register_optimizer),
    "data": (SOURCES, register_source),
}
"""The table of each kind, and what puts something into it."""


@dataclass(frozen=True)
class _Place:
    """Where a name was registered."""

    file: str
    line: int
    sha256: str | None
    module: str

    def is_again(self, other: "_Place") -> bool:
        """The same line of the same file, or the same prompt: a file imported twice, a notebook's cell run again."""
        if self.sha256 and other.sha256:
            return (self.sha256, self.line) == (other.sha256, other.line)
        return not self.sha256 and not other.sha256 and self.module == other.module == "__main__"


_PLACES: dict[tuple[str, str], _Place] = {}
_CONTENTS: dict[str, bytes] = {}
"""Files that were run, by the sha256 of their content."""


def registrar(kind: str, name: str, frame: types.FrameType, facts: Mapping[str, Any]) -> Callable[[T], T]:
    """A decorator that registers what it stands above; `frame` is where it stands."""
    if kind not in KINDS:
        raise UserError(unknown("kind", kind, KINDS))
    if facts and kind != "data":
        raise UserError(f"register({kind!r}, {name!r}) takes no {', '.join(facts)}; give arguments in the config")
    table, put = KINDS[kind]
    place = _place(frame)

    def register(thing: T) -> T:
        before = _PLACES.get((kind, name))
        if before and before.is_again(place):
            del table[name]
        try:
            made: T = put(name, thing, **facts)
        except UserError as error:
            raise UserError(f"{place.file}, line {place.line}: {error}") from None
        _PLACES[kind, name] = place
        return made

    return register


def _place(frame: types.FrameType) -> _Place:
    file = frame.f_code.co_filename
    sha256 = frame.f_globals.get("__bantamnet_sha256__")
    if sha256 is None and Path(file).is_file():
        sha256 = hashlib.sha256(Path(file).read_bytes()).hexdigest()
    return _Place(file, frame.f_lineno, sha256, frame.f_globals.get("__name__", ""))


def use_file(path: Path, sha256: str = "") -> str:
    """Run a Python file for what it registers, once for a content; returns its sha256.

    Raises `UserError` where it cannot be read, fails, registers nothing, or has another sum than the one expected. What a
    failed file had registered is forgotten.
    """
    if sha256 in _CONTENTS:
        return sha256
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"use: cannot read {path}: {error.strerror or error}") from None
    found = hashlib.sha256(content).hexdigest()
    if sha256 and found != sha256:
        raise UserError(
            f"use: {path} has changed: its sha256 is {found[:12]}…, {sha256[:12]}… was expected; put the file back, or take the "
            "sum out of the recipe to train with what it is now"
        )
    if found in _CONTENTS:
        return found
    module = types.ModuleType(f"bantamnet_own_{found[:16]}")
    vars(module).update({"__file__": str(path), "__bantamnet_sha256__": found})
    sys.modules[module.__name__] = module  # dataclasses look their module up by name
    known = dict(_PLACES)
    try:
        exec(compile(content, str(path), "exec"), module.__dict__)
        if known == _PLACES:
            raise UserError(f'use: {path} registers nothing; write @bantamnet.register("model", "mine") above a class')
    except BaseException as error:
        _forget(known, module.__name__)
        if isinstance(error, UserError):
            raise
        if isinstance(error, Exception | SystemExit):
            raise UserError(f"use: {path} fails: {told(error, str(path))}") from error
        raise
    _CONTENTS[found] = content
    return found


def _forget(known: Mapping[tuple[str, str], _Place], module: str) -> None:
    for kind, name in _PLACES.keys() - known.keys():
        KINDS[kind][0].pop(name, None)
        del _PLACES[kind, name]
    sys.modules.pop(module, None)


def beside(tree: Tree, folder: Path) -> Tree:
    """A recipe whose `use:` names files from where it lies itself, where they are there."""

    def found(entry: Any) -> Any:
        if isinstance(entry, dict) and isinstance(entry.get("file"), str):
            return {**entry, "file": found(entry["file"])}
        return str(folder / entry) if isinstance(entry, str) and (folder / entry).is_file() else entry

    use = tree.get("use")
    if use is None:
        return tree
    return {**tree, "use": [found(entry) for entry in use] if isinstance(use, list) else found(use)}


def take_files(tree: Tree, more: Iterable[Path] = ()) -> Tree:
    """A config's `use:` and `more` files, all of them run, with their sums; what is no list of files is left to be told."""
    use = tree.get("use") or []
    listed = [use] if isinstance(use, str) else use
    entries = [{"file": entry} if isinstance(entry, str) else entry for entry in listed] if isinstance(listed, list) else [None]
    if not all(isinstance(entry, dict) and isinstance(entry.get("file"), str) for entry in entries):
        return tree
    taken: dict[str, Tree] = {}
    for entry in [*entries, *({"file": str(path)} for path in more)]:
        sha256 = use_file(Path(entry["file"]), str(entry.get("sha256") or ""))
        taken.setdefault(sha256, {**entry, "sha256": sha256})
    names = [Path(entry["file"]).name for entry in taken.values()]
    if twice := {name for name in names if names.count(name) > 1}:
        raise UserError(f"use: two files are called {twice.pop()}, and the run keeps a copy of each by its name; rename one")
    return {**tree, "use": list(taken.values())} if taken else tree


def with_files(config: RunConfig) -> RunConfig:
    """The config with the files it uses run and their sums filled in."""
    use = [used.model_copy(update={"sha256": use_file(Path(used.file), used.sha256)}) for used in config.use]
    return config.model_copy(update={"use": use})


def _copy(run: Path, used: Used) -> Path:
    return run / "own" / Path(used.file).name


def keep_copies(run: Path, config: RunConfig) -> None:
    """Copy what was run, as it was run, into the run directory."""
    for used in config.use:
        copy = _copy(run, used)
        copy.parent.mkdir(exist_ok=True)
        write_bytes(copy, _CONTENTS[used.sha256])


def use_copies(run: Path, use: Iterable[Used]) -> list[str]:
    """Run a run directory's own copies; (a warning for each original that has changed). A changed copy is refused."""
    changed = []
    for used in use:
        copy, original = _copy(run, used), Path(used.file)
        if copy.is_file() and hashlib.sha256(copy.read_bytes()).hexdigest() != used.sha256:
            raise UserError(
                f"{copy} has changed since the run began (its sha256 was {used.sha256[:12]}…); put it back, or train anew"
            )
        use_file(copy if copy.is_file() else original, used.sha256)
        if original.is_file() and hashlib.sha256(original.read_bytes()).hexdigest() != used.sha256:
            changed.append(f"{original} has changed since the run began; the run goes on with its copy, {copy}")
    return changed


def require(kind: str, name: str, config: Mapping[str, Any], what: str) -> None:
    """Raise `UserError` saying which file `what` needs unless `name` is registered; warn where another file registered it."""
    files = [Used.model_validate(used) for used in config.get("use", [])]
    told_files = ", ".join(f"{used.file} (sha256 {used.sha256[:12]}…)" for used in files) or "code that was in no file of its own"
    if name not in KINDS[kind][0]:
        noun = {"model": "net", "data": "data set"}.get(kind, kind)
        raise UserError(
            f"{what} needs the {noun} {name!r}, which is a user's own: it was registered by {told_files}. Add --use FILE.py, or "
            "in Python register it first; no code is ever read from a model file"
        )
    place = _PLACES.get((kind, name))
    if place and files and place.sha256 not in {used.sha256 for used in files}:
        warnings.warn(f"{what} was trained with {told_files}; {name!r} comes from {place.file}, which differs", stacklevel=3)


def check_parts(config: RunConfig, size: tuple[int, int]) -> None:
    """Try a user's own optimisers and operations in small, on pictures of `size`; raises `UserError` for what is wrong."""
    for group in config.optim:
        if isinstance(group, OwnGroup):
            check_own(group)
    check_operations(parse(config.data.augment), size)
