"""Test-time augmentation: what a net says about several views of an image, as one answer."""

import math
from collections.abc import Callable, Mapping
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from bantamnet.config import Tta
from bantamnet.configfile import merge, validate_origin
from bantamnet.data.views import read_views
from bantamnet.errors import UserError
from bantamnet.runtime import Ranks

Predict = Callable[[Tensor], Tensor]
"""uint8 images (N, 3, H, W) → float32 logits (N, classes)."""


class ViewAverage:
    """Averages what is said about the views of each image, and counts what that took; one is made for each set of figures."""

    def __init__(self, tta: Tta) -> None:
        self.tta = tta
        self.views = read_views(tta.views)
        self.pairs = list(combinations(range(len(self.views)), 2))
        self.counts = [0, 0, 0]
        """Images, those of them that got all views, forward passes."""
        self.differing: Tensor | None = None
        """int64 (pairs,), on the images' device: batches in which the two views of a pair differed."""

    @property
    def plain(self) -> bool:
        """Whether there is nothing but the untouched image."""
        return len(self.views) == 1 and self.views[0].plain

    def logits(self, predict: Predict, images: Tensor, indices: Tensor) -> Tensor:
        """float32 (N, classes) of uint8 images (N, 3, H, W); `indices` int64 (N,) on the CPU say which samples these are.

        Averaged probabilities come back as their logarithms, so that softmax gives the probabilities again.
        """
        if self.tta.below is None:
            self._count(len(images), len(images), 0)
            return self._average(predict, images, indices, None)
        plain = predict(images)
        unsure = (plain.softmax(1).amax(1) < self.tta.below).nonzero()[:, 0]
        self._count(len(images), len(unsure), len(images))
        answers = plain.log_softmax(1) if self.tta.average == "probabilities" else plain.clone()
        if len(unsure):
            chosen = indices[unsure.to(indices.device)]
            answers[unsure] = self._average(predict, images[unsure], chosen, plain[unsure])
        return answers

    def _average(self, predict: Predict, images: Tensor, indices: Tensor, plain: Tensor | None) -> Tensor:
        """The weighted mean over views; `plain` is what is known already of the untouched images."""
        seen = [view.apply(images, indices) for view in self.views]
        self._compare(seen)
        whole = sum(view.weight for view in self.views)
        logarithms = self.tta.average == "probabilities"
        total: Tensor | None = None
        for view, pixels in zip(self.views, seen, strict=True):
            if view.plain and plain is not None:
                said = plain
            else:
                said = predict(pixels)
                self._count(0, 0, len(pixels))
            if logarithms:
                said = said.log_softmax(1) + math.log(view.weight / whole)
                total = said if total is None else torch.logaddexp(total, said)
            else:
                total = said * view.weight if total is None else total.add_(said, alpha=view.weight)
        assert total is not None
        return total if logarithms else total / whole

    def count_plain(self, num: int) -> None:
        """Plain logits of `num` images are known already, and count as made."""
        self._count(num, num, num)

    def _count(self, images: int, extended: int, passes: int) -> None:
        self.counts = [old + new for old, new in zip(self.counts, (images, extended, passes), strict=True)]

    def _compare(self, seen: list[Tensor]) -> None:
        """Remember which views differ; nothing is waited for."""
        if self.pairs:
            differ = torch.stack([(seen[first] != seen[second]).any() for first, second in self.pairs]).long()
            self.differing = differ if self.differing is None else self.differing + differ

    def sum(self, ranks: Ranks, device: torch.device) -> None:
        """Add up what the ranks have counted; called once, by all of them, when everything is scored."""
        if ranks.size > 1:
            differing = torch.zeros(len(self.pairs), dtype=torch.long) if self.differing is None else self.differing
            summed = ranks.sum(torch.cat([torch.tensor(self.counts, device=device), differing.to(device)]))
            self.counts, self.differing = summed[:3].tolist(), summed[3:]

    def figures(self) -> dict[str, Any]:
        """What goes beside an accuracy: the views, forward passes an image, and views that were equal on all images seen."""
        images, extended, passes = self.counts
        told: dict[str, Any] = {
            "tta": self.tta.views,
            "views": len(self.views),
            "passes_per_image": passes / images if images else 0.0,
        }
        if not self.plain:
            told |= {
                "tta_average": self.tta.average,
                "tta_below": self.tta.below,
                "images_with_views": extended,
                "equal_views": self.equal_views(),
            }
        return told

    def equal_views(self) -> list[list[int]]:
        """[first, later] numbers, from 1, of views that gave the same bytes for every image; each later one once."""
        if self.differing is None or not self.counts[1]:
            return []
        equal: dict[int, int] = {}
        for (first, later), differs in zip(self.pairs, self.differing.tolist(), strict=True):
            if not differs:
                equal.setdefault(later + 1, first + 1)
        return [[first, later] for later, first in sorted(equal.items())]


def view_average(tta: "str | Tta | ViewAverage") -> ViewAverage:
    """From a word, a line or the keys of a config; one that is made already stays itself."""
    if isinstance(tta, ViewAverage):
        return tta
    return ViewAverage(Tta(views=tta) if isinstance(tta, str) else tta)


def chosen_tta(
    tta: "str | Tta | ViewAverage", config: Mapping[str, Any], average: str | None = None, below: float | None = None
) -> ViewAverage:
    """What a user asks of a model whose run has this config: `recipe` is the run's own, `average` and `below` change it."""
    if isinstance(tta, ViewAverage):
        return tta
    if tta == "none" and average is None and below is None:
        return ViewAverage(Tta())
    asked: Any = tta.model_dump() if isinstance(tta, Tta) else config.get("tta", "none") if tta == "recipe" else tta
    if tta == "none" and below is None:
        raise UserError("--tta-average says how views are averaged, and there is one; name views too, as in --tta hflip")
    given = {name: value for name, value in {"average": average, "below": below}.items() if value is not None}
    tree = merge({"tta": asked}, {"tta": given}) if given else {"tta": asked}
    return ViewAverage(validate_origin({**config, **tree}, "test-time augmentation", {"tta": read_views}).tta)
