"""A user's own augmentation operations and data sources, registered by name."""

import inspect
import keyword
from collections.abc import Callable
from dataclasses import is_dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bantamnet.config.own import check_new_name
from bantamnet.data.augment import Augmentation
from bantamnet.data.operation import Operation, arguments
from bantamnet.data.operations import OPERATIONS
from bantamnet.data.sources import SOURCES, Source, Stat
from bantamnet.data.split import Split
from bantamnet.data.statistics import normalization
from bantamnet.errors import UserError, told, unknown
from bantamnet.runtime import generator

OWN_OPERATIONS: set[type[Operation]] = set()


def register_operation(name: str, operation: Any) -> type[Operation]:
    """Make `operation`, an `Operation` class whose annotated fields are its arguments, known as `name` in augmentation lines."""
    check_new_name("an operation", name, OPERATIONS)
    if not name.isidentifier() or keyword.iskeyword(name):
        raise UserError(f"operation {name!r}: the name stands in a line as in crop(4)|{name}; write letters, digits and _")
    if not (isinstance(operation, type) and issubclass(operation, Operation)):
        raise UserError(
            f"operation {name!r}: register a class that is a bantamnet.data.operations.Operation, with draw and apply; "
            f"got {operation!r}"
        )
    if missing := sorted(getattr(operation, "__abstractmethods__", ())):
        raise UserError(f"operation {name!r}: {operation.__name__} lacks {' and '.join(missing)}")
    made: Any = operation if is_dataclass(operation) else arguments(operation)
    OPERATIONS[name] = made
    OWN_OPERATIONS.add(made)
    return made  # type: ignore[no-any-return]


def check_operations(augmentation: Augmentation, size: tuple[int, int]) -> None:
    """Raise `UserError` unless each own operation does to a few images of `size` what one of bantamnet's does."""
    images = torch.randint(0, 256, (4, 3, *size), dtype=torch.uint8, generator=generator("check operations"))
    for operation in augmentation.operations:
        if type(operation) in OWN_OPERATIONS:
            try:
                fault = _fault(operation, images)
            except UserError:
                raise
            except Exception as error:
                fault = told(error, inspect.getsourcefile(type(operation)))
            if fault:
                raise UserError(f"data.augment: {type(operation).__name__}: {fault}")


def _fault(operation: Operation, images: Tensor) -> str | None:
    """What is wrong with an operation, tried on a few images."""
    num = len(images)
    drawn = operation.draw(num, generator("check operations"))
    if not isinstance(drawn, dict) or any(not isinstance(v, Tensor) or len(v) != num for v in drawn.values()):
        return f"draw must return a dict of tensors with a row for each of the {num} samples"
    again = operation.draw(num, generator("check operations"))
    if drawn.keys() != again.keys() or any(not torch.equal(drawn[name], again[name]) for name in drawn):
        return "draw must draw from the generator it is given, and from nothing else"
    before = images.clone()
    out = operation.apply(images, drawn)
    if not isinstance(out, Tensor) or out.dtype != torch.uint8 or out.shape != images.shape:
        found = f"{out.dtype} {tuple(out.shape)}" if isinstance(out, Tensor) else type(out).__name__
        return f"apply must turn uint8 images {tuple(images.shape)} into the same, got {found}"
    if not torch.equal(images, before):
        return "apply must leave the images it is given as they are; return new ones"
    single = [operation.apply(images[i : i + 1], {name: v[i : i + 1] for name, v in drawn.items()}) for i in range(num)]
    if not torch.equal(torch.cat(single), out):
        return (
            "apply must do to an image what its row of parameters says, whatever images stand beside it; draw all chance in draw"
        )
    return None


class OwnSource(Source):
    """A data source that the user registered; what is not said of it is measured on its images when it is first asked for."""

    name: str
    function: Callable[..., Any]
    said: dict[str, Any]

    def __init__(self, name: str, function: Callable[..., Any], said: dict[str, Any]) -> None:
        self.__dict__ |= {"name": name, "function": function, "said": said, "about": said.get("about", "your own")}
        self.__dict__["load"] = cache(self._load)

    def _load(self, data_dir: Path | None) -> tuple[Split, Split]:
        function, name = self.function, self.name
        try:
            splits = function(data_dir) if inspect.signature(function).parameters else function()
        except UserError:
            raise
        except Exception as error:
            raise UserError(f"data.name: {name} cannot be loaded: {told(error, inspect.getsourcefile(function))}") from error
        if not isinstance(splits, tuple) or len(splits) != 2 or not all(isinstance(split, Split) for split in splits):
            raise UserError(
                f"data.name: {name} must return (train, test), each a bantamnet.data.split.Split, as canonical(images, labels, "
                "class_names) makes it"
            )
        train, test = splits
        for split in (train, test):
            _check_split(name, split, train)
        return train, test

    @property
    def class_names(self) -> tuple[str, ...]:
        """As said, or as the training images'."""
        return tuple(self.said["class_names"]) if "class_names" in self.said else self.load(None)[0].class_names

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, as said, or as the training images'."""
        return tuple(self.said["size"]) if "size" in self.said else self.load(None)[0].size

    @property
    def mean(self) -> Stat:
        """As said, or as measured."""
        return tuple(self.said["mean"]) if "mean" in self.said else self._measured[0]

    @property
    def std(self) -> Stat:
        """As said, or as measured."""
        return tuple(self.said["std"]) if "std" in self.said else self._measured[1]

    @cached_property
    def _measured(self) -> tuple[Stat, Stat]:
        return normalization(self.load(None)[0])


def _check_split(name: str, split: Split, train: Split) -> None:
    num, classes = len(split), len(split.class_names)
    images, labels = split.images, split.labels
    if not isinstance(images, Tensor) or images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3 or not num:
        raise UserError(
            f"data.name: {name}: images must be uint8 (N, 3, H, W), got {getattr(images, 'dtype', '')} {tuple(images.shape)}"
        )
    if labels.dtype != torch.int64 or tuple(labels.shape) != (num,) or len(images) != num or len(split.ids) != num:
        raise UserError(f"data.name: {name}: labels must be int64 ({len(images)},), got {labels.dtype} {tuple(labels.shape)}")
    if int(labels.min()) < 0 or int(labels.max()) >= classes:
        raise UserError(f"data.name: {name}: labels must lie in 0 … {classes - 1}, for {classes} classes")
    if split.class_names != train.class_names or split.size != train.size:
        raise UserError(f"data.name: {name}: train and test images differ in their classes or in their size")


def register_source(name: str, function: Any, **said: Any) -> Callable[..., tuple[Split, Split]]:
    """Make `function`, returning (train, test), known as the data set `name`; it takes nothing, or the data folder (may be None).

    `said` may hold class_names, mean, std, size and about; what it does not say is measured on the images.
    """
    check_new_name("a data set", name, SOURCES)
    known = ("about", "class_names", "mean", "size", "std")
    for key in said:
        if key not in known:
            raise UserError(f"data {name!r}: {unknown('fact', key, known)}")
    if not callable(function) or isinstance(function, type):
        raise UserError(f"data {name!r}: register a function that returns (train, test), got {function!r}")
    needed = [p for p in inspect.signature(function).parameters.values() if p.default is p.empty]
    if len(needed) > 1:
        raise UserError(f"data {name!r}: its function takes nothing, or the data folder; got {inspect.signature(function)}")
    SOURCES[name] = OwnSource(name, function, said)
    return function  # type: ignore[no-any-return]
