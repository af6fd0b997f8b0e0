"""Views of an image for test-time augmentation, as one readable line: `none + hflip(1) + 0.5*shift(1, 1)|hflip(1)`."""

import math
import re
from dataclasses import dataclass

import torch
from torch import Tensor

from bantamnet.data.augment import Augmentation, read_line, rows
from bantamnet.data.operations import OPERATIONS, Parameters
from bantamnet.errors import UserError, unknown

WORDS = {
    "none": "none",
    "hflip": "none + hflip(1)",
    "hflip-translate": "2*none + 2*hflip(1) + "
    "shift(1, 1, border=reflect) + shift(1, 1, border=reflect)|hflip(1) + "
    "shift(-1, -1, border=reflect) + shift(-1, -1, border=reflect)|hflip(1)",
}
"""Short names of lines. `hflip-translate` is that of cifar10-airbench (Jordan 2024, arXiv 2404.00498): an image and its mirror
have half of the weight, both of them moved by a pixel along the diagonal, either way, the other half."""

EXAMPLE = "none + hflip(1) + 0.5*shift(1, 1)|hflip(1)"

BLOCK = 512
"""Samples whose parameters are drawn together; part of what a random view is, so never to be changed."""


@dataclass(frozen=True)
class View:
    """An augmentation line with its share of the answer; the empty line is the image itself."""

    number: int
    """Place in the line, from 1."""
    weight: float
    """As written; only its ratio to the others counts."""
    augmentation: Augmentation

    @property
    def plain(self) -> bool:
        """Whether it is the untouched image."""
        return not self.augmentation.operations

    def apply(self, images: Tensor, indices: Tensor) -> Tensor:
        """uint8 (N, 3, H, W) → the same shape and type; `indices` int64 (N,) on the CPU say which samples these are.

        What is random depends on the number of the view and the index of the sample alone.
        """
        if self.plain or not len(images):
            return images
        return self.augmentation.apply(images, self._parameters(indices, images.device))

    def _parameters(self, indices: Tensor, device: torch.device) -> list[Parameters]:
        """Drawn in blocks of fixed size, so that the number of samples does not count."""
        blocks, place = indices.div(BLOCK, rounding_mode="floor").unique(return_inverse=True)
        drawn = [self.augmentation.draw(BLOCK, "tta", self.number, block) for block in blocks.tolist()]
        joined = [{name: torch.cat([part[name] for part in parts]) for name in parts[0]} for parts in zip(*drawn, strict=True)]
        mine = rows(joined, place * BLOCK + indices % BLOCK)
        return [{name: values.to(device) for name, values in entry.items()} for entry in mine]


def read_views(line: str) -> tuple[View, ...]:
    """The views that a word or a line describes; raises `UserError` saying which view is wrong."""
    word = line.strip()
    if not word:
        raise UserError(f"no views; write a word ({', '.join(WORDS)}), or views as in {EXAMPLE}")
    if re.fullmatch(r"[\w-]+", word) and word not in ("identity", *WORDS, *OPERATIONS):
        raise UserError(f"{unknown('value', word, WORDS)}, or views as in {EXAMPLE}")
    parts = _split(WORDS.get(word, word), "+")
    return tuple(_view(number, part, line) for number, part in enumerate(parts, 1))


def _view(number: int, text: str, line: str) -> View:
    where = f"view {number} of {line!r}"
    weight_text, *rest = _split(text, "*")
    operations = "*".join(rest) if rest else weight_text
    try:
        weight = float(weight_text) if rest else 1.0
    except ValueError:
        raise UserError(f"{where}: {weight_text.strip()!r} is no weight; write it first, as in 0.5*hflip(1)") from None
    if not (math.isfinite(weight) and weight > 0):
        raise UserError(f"{where}: the weight {weight:g} must be above 0 and finite; leave out a view that is not to count")
    named = operations.strip()
    if not named:
        raise UserError(f"{where} is empty; write none for the untouched image")
    if named in ("none", "identity"):
        return View(number, weight, Augmentation("", ()))
    for operation in _split(named, "|"):
        if operation.strip().startswith("alternating_flip"):
            raise UserError(f"{where}: alternating_flip is for training; write hflip(1)")
        if operation.strip() in ("hflip", "vflip"):
            flip = operation.strip()
            raise UserError(f"{where}: {flip} alone flips half of the images; write {flip}(1), or {flip}(0.5) to mean that")
    try:
        read = read_line(named, OPERATIONS, EXAMPLE)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    if any(getattr(operation, "fill", None) == "mean" for operation in read):
        raise UserError(f"{where}: fill=mean is for training; write the colour, as in fill=(125,123,114)")
    return View(number, weight, Augmentation(named, tuple(read)))


def _split(text: str, separator: str) -> list[str]:
    """The text between separators that stand outside of brackets."""
    parts, depth = [""], 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        if character == separator and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return parts
