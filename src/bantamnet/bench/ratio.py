"""Ways of doing one thing, timed in turn, so that whatever else the machine does falls on all of them."""

import statistics
from collections.abc import Callable, Mapping
from typing import Any

Measure = Callable[[], float]
"""Images a second, measured now."""


def alternate(ways: Mapping[str, Measure], rounds: int) -> dict[str, list[float]]:
    """Images a second of each way in each round; every other round goes through them backwards."""
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        for name in list(ways)[:: -1 if number % 2 else 1]:
            rates[name].append(ways[name]())
    return rates


def ratio(ours: list[float], theirs: list[float]) -> dict[str, Any]:
    """How many times as fast, round by round: median, least, most, and each."""
    ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
    return {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios), "rounds": ratios}
