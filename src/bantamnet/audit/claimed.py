"""What a report says of itself, held against itself and against the config."""

import math
import re
from collections.abc import Iterator
from typing import Any

from bantamnet.audit.finding import Finding, NotCheckedError
from bantamnet.audit.subject import Subject
from bantamnet.config import Claims
from bantamnet.evaluate.distributions import Z_95
from bantamnet.models.build import build_to_count
from bantamnet.models.resnet import count_parameters
from bantamnet.runs.lookup import resolve_model


def headline(claims: Claims) -> str:
    """94.06%, or words where it is not told."""
    return "the headline" if claims.accuracy is None else f"{claims.accuracy:g}%"


def is_share(percent: float, num: int) -> bool:
    """Whether some number of images out of `num` is `percent`, rounded up or down to as many digits as it is quoted to."""
    exact = percent * num / 100
    step = 10.0 ** -_decimals(percent)
    return any(abs(100 * count / num - percent) < step * (1 - 1e-9) for count in (math.floor(exact), math.ceil(exact)))


def _decimals(value: float) -> int:
    return len(f"{value!r}".partition(".")[2].rstrip("0"))


def impossible_claim(claims: Claims) -> Iterator[Finding]:
    """Accuracies that no number of images gives."""
    quoted = [
        ("accuracy", claims.accuracy, claims.num),
        *(("ablations", value, one.num) for one in claims.ablations for value in (one.accuracy, one.against)),
    ]
    for key, percent, num in quoted:
        if percent is not None and num is not None and not is_share(percent, num):
            lower = math.floor(percent * num / 100)
            yield Finding(
                "impossible-accuracy",
                "error",
                f"claims.{key}: {percent:g}% quoted to {_decimals(percent)} decimals cannot be a count out of {num:,} images: "
                f"{lower:,} of them are {100 * lower / num:g}%, {lower + 1:,} are {100 * (lower + 1) / num:g}%",
                "find out which images it was measured on, and give the count beside the percentage",
                "claim",
            )


def averaged_claim(claims: Claims) -> Iterator[Finding]:
    """A headline that is a mean over batches."""
    if claims.mean_of == "batches":
        yield Finding(
            "batch-mean",
            "error",
            f"claims.mean_of: {headline(claims)} and its curves are means over batches, in which each image of a shorter "
            "last batch counts for more than another",
            "count the right answers over all images and divide once",
            "claim",
        )


def claimed_source(claims: Claims) -> Iterator[Finding]:
    """A headline that its own logs, checkpoint or way of measuring do not give."""
    name = "figure-source"
    best = claims.best_epoch
    if claims.accuracy is not None and claims.logged and claims.accuracy not in claims.logged:
        yield Finding(
            name,
            "error",
            f"claims.accuracy: the headline {claims.accuracy:g}% is in no log; they show "
            f"{', '.join(f'{value:g}%' for value in claims.logged)}",
            "quote the figure of the checkpoint that is kept",
            "claim",
        )
    if claims.inference and best and claims.inference.epoch not in (None, best):
        yield Finding(
            name,
            "error",
            f"claims.inference.epoch: {headline(claims)} is of epoch {best}, and the report's inference loads "
            f"epoch {claims.inference.epoch}",
            "score the weights that are used",
            "claim",
        )
    if claims.tta and not claims.tta_measured:
        yield Finding(
            name,
            "error",
            f"claims.tta: {headline(claims)} is credited to test-time augmentation, and the log has it without any",
            "give both figures, each with its views",
            "claim",
        )


def description(subject: Subject) -> Iterator[Finding]:
    """What text, README and code say of a key, against each other and against the config."""
    tree = subject.recipe.dump()
    for key, readings in subject.claims.told.items():
        value = _at(tree, key.split("."))
        has = "has no such key" if value is None else f"has {value}"
        if len(set(readings)) > 1 or readings[0] != str(value):
            yield Finding(
                "description",
                "warning",
                f"claims.told: of {key} the report says {' / '.join(readings)}; this config {has}",
                "describe what was run, once, and from its config",
                "claim",
            )


def _at(tree: Any, path: list[str]) -> Any:
    for key in path:
        if isinstance(tree, list):
            tree = tree[int(key)] if key.isdigit() and int(key) < len(tree) else None
        else:
            tree = tree.get(key) if isinstance(tree, dict) else None
    return tree


def misquoted(claims: Claims, params: int, num_classes: int) -> Iterator[Finding]:
    """Numbers of parameters that the built net does not have."""

    def finding(evidence: str) -> Finding:
        return Finding("parameters", "error", evidence, "quote the count of the built net: bantamnet summary RECIPE", "claim")

    if claims.parameters is not None and claims.parameters != params:
        yield finding(f"claims.parameters: {claims.parameters:,} are claimed, and the net of this config has {params:,}")
    for text in claims.parameters_told:
        if not rounds_to(params, text):
            yield finding(f"claims.parameters_told: {text} is quoted, and {params:,} do not round to it")
    for saving in claims.fewer_parameters:
        other = count_parameters(build_to_count(resolve_model(saving.than), num_classes))
        fewer = 100 * (1 - params / other)
        if abs(fewer - saving.percent) > 10.0 ** -_decimals(saving.percent):
            yield finding(
                f"claims.fewer_parameters: {saving.percent:g}% fewer parameters than {saving.than} are claimed; {params:,} are "
                f"{fewer:.1f}% fewer than its {other:,}"
            )


def rounds_to(count: int, text: str) -> bool:
    """Whether a count is what `4.74 M`, `4,754,218` or `78k` says, to the digits that it is quoted with."""
    match = re.fullmatch(r"\s*([\d,.]+)\s*([kKmM]?)[\w ]*", text)
    if not match:
        return False
    digits, unit = match[1].replace(",", ""), {"": 1, "k": 1000, "m": 1_000_000}[match[2].lower()]
    try:
        quoted = float(digits)
    except ValueError:
        return False
    return round(count / unit, len(digits.partition(".")[2])) == quoted


def noise(subject: Subject) -> Iterator[Finding]:
    """Conclusions drawn from differences that chance makes too."""
    compared = [one for one in subject.claims.ablations if None not in (one.accuracy, one.against, one.num)]
    if not compared:
        raise NotCheckedError("`claims.ablations` gives no two accuracies with the number of images behind them")
    for one in compared:
        assert one.accuracy is not None and one.against is not None and one.num is not None
        gap, half = abs(one.accuracy - one.against), difference_interval(one.accuracy / 100, one.against / 100, one.num)
        if gap <= 100 * half:
            yield Finding(
                "noise",
                "warning",
                f"claims.ablations: of {one.varies} {one.accuracy:g}% against {one.against:g}% is claimed, {gap:.2f} points; "
                f"chance in the choice of {one.num:,} images alone makes ±{100 * half:.2f} points (95%), seeds come on top",
                "compare over several seeds, or call it no difference",
                "claim",
            )


def difference_interval(first: float, second: float, num: int) -> float:
    """Half width of the 95% interval of the difference of two shares of `num` images each, taken as independent."""
    return Z_95 * math.sqrt((first * (1 - first) + second * (1 - second)) / num)


def confounded(subject: Subject) -> Iterator[Finding]:
    """Comparisons in which more than one thing changed."""
    if not subject.claims.ablations:
        raise NotCheckedError("`claims.ablations` names no comparison")
    for one in subject.claims.ablations:
        if one.also:
            yield Finding(
                "confounded-ablation",
                "warning",
                f"claims.ablations: the comparison is told as one of {one.varies}, and {' and '.join(one.also)} differed too: "
                "what made the difference cannot be told",
                "change one key at a time: bantamnet train RECIPE --set KEY=VALUE, all else equal",
                "claim",
            )
