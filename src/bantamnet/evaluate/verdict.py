"""What a comparison of two nets or two recipes comes to, in words that need no statistics."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from bantamnet.evaluate.groups import FEWEST_TO_PERMUTE, Grouped, holm
from bantamnet.evaluate.paired import FEWEST_DISAGREEMENTS, Paired

LEVEL = 0.05
"""Share of comparisons of equally good ones that may be called a difference."""


@dataclass(frozen=True)
class Verdict:
    """Whether a second is better than a first."""

    first: str
    second: str
    found: Literal["first better", "second better", "no difference", "cannot be decided"]
    test: Literal["mcnemar", "welch", "paired t", "sign", "permutation", "none"]
    """McNemar over images (two trained models); Welch, or permutation, over seeds (two recipes), paired where both are figures of
    the same nets; `none` where no test can be made."""
    difference: float
    """Accuracy of the second less that of the first, in [-1, 1]."""
    interval_95: tuple[float, float] | None
    """Of the difference, for this comparison alone."""
    p: float | None
    p_adjusted: float | None
    """Raised for the number of comparisons made at once (Holm); it decides."""
    comparisons: int
    """How many were made at once."""
    num: tuple[int, int]
    """Images of both, or seeds of each."""
    unit: Literal["images", "seeds"]
    needed: int | None
    """So many images, or seeds each, would show a difference of this size four times in five; None where there is none."""
    why: str = ""
    """What stands against a verdict."""

    def facts(self) -> dict[str, Any]:
        """As JSON values, the sentence included."""
        return {**asdict(self), "sentence": self.sentence()}

    def sentence(self) -> str:
        """The verdict in words."""
        size = f"{points(abs(self.difference))} points"
        if self.found in ("first better", "second better"):
            better, worse = (self.second, self.first) if self.found == "second better" else (self.first, self.second)
            return f"{better} is better than {worse}: {size}{self._interval()}; {self._chance()}"
        more = self._more()
        if self.found == "cannot be decided":
            text = f"whether {self.first} or {self.second} is better cannot be decided ({size} apart): {self.why}"
            return f"{text}; it would take {more} to see one of this size" if more else text
        text = f"no difference can be seen between {self.first} and {self.second}: {size}{self._interval()}"
        if not self.difference:
            return text
        text = f"{text}; {self._chance()}"
        return f"{text}; it would take {more} to see one of this size" if more else text

    def _more(self) -> str:
        if not self.needed:
            return ""
        if self.unit == "images":
            return f"about {float(f'{self.needed:.2g}'):,.0f} such images"
        return f"{'at least' if self.needed <= FEWEST_TO_PERMUTE else 'about'} {self.needed:,} seeds each"

    def _interval(self) -> str:
        if self.interval_95 is None:
            return ""
        low, high = self.interval_95
        if self.difference < 0:  # told as the lead of the better one
            low, high = -high, -low
        alone = ", taken alone" if self.comparisons > 1 else ""
        return f" (95% interval {points(low)} to {points(high)}{alone})"

    def _chance(self) -> str:
        assert self.p_adjusted is not None
        share = 100 * self.p_adjusted
        among = f" among {self.comparisons} comparisons" if self.comparisons > 1 else ""
        if share > 99:
            return f"a difference this large{among} would nearly always come up by chance"
        often = "less than 0.01%" if share < 0.01 else f"{share:.2g}%" if share < 10 else f"{share:.0f}%"
        return f"a difference this large{among} would come up by chance in {often} of cases"


def points(share: float) -> str:
    """Percentage points: 0.0062 → 0.62."""
    text = f"{100 * share:.2f}"
    return "0.00" if text == "-0.00" else text


def verdicts(pairs: Sequence[tuple[str, str, Paired | Grouped]]) -> list[Verdict]:
    """The verdict of each (first, second, comparison); p is raised for as many as are made at once and can be decided."""
    counted = [index for index, (_, _, result) in enumerate(pairs) if result.decidable and result.p is not None]
    raised = dict(zip(counted, holm([pairs[index][2].p or 0.0 for index in counted]), strict=True))
    return [_verdict(*pair, raised.get(index), max(1, len(counted))) for index, pair in enumerate(pairs)]


def _verdict(first: str, second: str, result: Paired | Grouped, p: float | None, comparisons: int) -> Verdict:
    found: Literal["first better", "second better", "no difference", "cannot be decided"]
    if p is None:
        found = "cannot be decided"
    elif p >= LEVEL or result.difference == 0:
        found = "no difference"
    else:
        found = "second better" if result.difference > 0 else "first better"
    paired = isinstance(result, Paired)
    return Verdict(
        first=first,
        second=second,
        found=found,
        test="mcnemar" if isinstance(result, Paired) else result.test,
        difference=result.difference,
        interval_95=result.interval,
        p=result.p,
        p_adjusted=p,
        comparisons=comparisons,
        num=(result.num, result.num) if isinstance(result, Paired) else result.num,
        unit="images" if paired else "seeds",
        needed=result.needed,
        why=_why(result) if p is None else "",
    )


def _why(result: Paired | Grouped) -> str:
    if isinstance(result, Paired):
        num = result.only_first + result.only_second
        many = f"{num} of {result.num:,} images" if num else f"none of the {result.num:,} images"
        return f"the two disagree on {many}, and no outcome of fewer than {FEWEST_DISAGREEMENTS} could be told from chance"
    if result.test == "sign":
        return f"all {result.num[0]} nets gained the same, and are too few to tell that from chance"
    if result.test == "permutation":
        return "the seeds of each show no spread, and are too few to deal out anew"
    one, two = result.num
    seeds = f"{one} seed{'s' * (one > 1)} each" if one == two else f"{one} against {two} seeds"
    return f"{seeds} {'is' if one == two == 1 else 'are'} too few to know how much seeds differ among themselves"
