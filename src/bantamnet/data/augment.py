"""An augmentation is one readable line, `crop(4)|hflip|rotate(15)`, applied in the order written."""

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import torch
from pydantic import ValidationError
from torch import Tensor

from bantamnet.data.operations import OPERATIONS, Operation, Parameters
from bantamnet.errors import UserError, unknown

Named = TypeVar("Named")

CHUNK = {"cpu": 512, "cuda": 8192}
"""Images of 32×32 augmented at once: on a CPU their intermediates stay in its cache. The result does not depend on it."""


def chunk_size(device: torch.device, size: tuple[int, int]) -> int:
    """Images of `size` (height, width) augmented at once: as many pixels, whatever the size."""
    return max(1, CHUNK[device.type] * 32 * 32 // (size[0] * size[1]))


@dataclass(frozen=True)
class Augmentation:
    """Operations in order; the empty line does nothing."""

    line: str
    operations: tuple[Operation, ...]

    def draw(self, num: int, *words: object, device: torch.device | None = None) -> list[Parameters]:
        """Parameters of `num` samples, one entry an operation; a function of the words (seed, epoch, …) alone.

        They are drawn on the CPU, so that every device sees the same, and moved to `device`.
        """
        drawn = (
            operation.draw_for(num, "augment", *words, index, type(operation).__name__)
            for index, operation in enumerate(self.operations)
        )
        return [{name: values.to(device) for name, values in entry.items()} for entry in drawn]

    def apply(self, images: Tensor, parameters: list[Parameters]) -> Tensor:
        """uint8 (N, 3, H, W) → the same shape and type; row i of each parameter belongs to image i, whatever the chunk size."""
        for operation, values in zip(self.operations, parameters, strict=True):
            images = operation.apply(images, values)
        return images


def rows(parameters: list[Parameters], indices: Tensor) -> list[Parameters]:
    """The parameters of these samples; `indices` int64 on their device."""
    return [{name: values[indices] for name, values in entry.items()} for entry in parameters]


def parse(line: str, mean: Sequence[float] | None = None) -> Augmentation:
    """The augmentation that a line describes; raises `UserError` naming the nearest operation or argument.

    `mean` is what normalisation subtracts, per channel of pixels in [0, 1]: rounded to a byte it is the colour that
    `fill=mean` stands for. Without it a line can be checked, not applied.
    """
    operations = read_line(line, OPERATIONS, "crop(4)|hflip|rotate(15)")
    if mean is not None:
        operations = [_with_mean(operation, mean) for operation in operations]
    return Augmentation(line.strip() and line, tuple(operations))


def _with_mean(operation: Operation, mean: Sequence[float]) -> Operation:
    """The same operation, its fill a colour where it was the word `mean`."""
    if getattr(operation, "fill", None) != "mean":
        return operation
    return replace(operation, fill=tuple(round(255 * min(1.0, max(0.0, channel))) for channel in mean))  # type: ignore[type-var]


def read_line(line: str, table: Mapping[str, type[Named]], example: str) -> list[Named]:
    """The entries of `table` that a line names, `name(argument, …)` between bars; an empty line names none."""
    if not line.strip():
        return []
    try:
        tree = ast.parse(line.strip(), mode="eval").body
    except (SyntaxError, ValueError):
        raise UserError(f"cannot read {line!r}; write it as in {example}") from None
    return [_entry(node, line, table, example) for node in _between_bars(tree)]


def _between_bars(node: ast.expr) -> Iterator[ast.expr]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        yield from _between_bars(node.left)
        yield from _between_bars(node.right)
    else:
        yield node


def _entry(node: ast.expr, line: str, table: Mapping[str, type[Named]], example: str) -> Named:
    called = node if isinstance(node, ast.Call) else ast.Call(node, [], [])
    if not isinstance(called.func, ast.Name):
        raise UserError(f"cannot read {ast.unparse(node)!r} in {line!r}; write it as in {example}")
    name = called.func.id
    if name not in table:
        raise UserError(unknown("operation", name, table))
    kind = table[name]
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    if len(called.args) > len(names):
        raise UserError(f"{ast.unparse(node)}: {name} takes at most {len(names)} arguments ({', '.join(names)})")
    values: dict[str, Any] = {}
    try:
        for key, value in [*zip(names, called.args, strict=False), *((word.arg, word.value) for word in called.keywords)]:
            if key not in names:
                raise UserError(f"{name}: {unknown('argument', key, names)}")
            if key in values:
                raise UserError(f"{name}: argument {key!r} is given twice")
            values[key] = value.id if isinstance(value, ast.Name) else ast.literal_eval(value)
    except (ValueError, TypeError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{ast.unparse(node)}: arguments are plain numbers and words, as in {name}(4)") from None
    try:
        return kind(**values)
    except ValidationError as error:
        told = "; ".join(
            f"{'.'.join(map(str, entry['loc'])) or 'arguments'}: {_lowered(entry['msg'].removeprefix('Value error, '))}"
            for entry in error.errors()
        )
        raise UserError(f"{ast.unparse(node)}: {told}") from None


def _lowered(sentence: str) -> str:
    return sentence[0].lower() + sentence[1:]
