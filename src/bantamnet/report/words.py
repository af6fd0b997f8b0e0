"""Numbers as a report writes them."""


def percent(share: float, places: int = 2) -> str:
    """0.9406 → 94.06%."""
    return f"{100 * share:.{places}f}%"


def interval(low: float, high: float) -> str:
    """0.93, 0.94 → 93.00% to 94.00%."""
    return f"{percent(low)} to {percent(high)}"


def count(value: int, one: str, many: str = "") -> str:
    """1, seed → 1 seed; 5, seed → 5 seeds."""
    return f"{value:,} {one if value == 1 else many or one + 's'}"


def macs(value: int) -> str:
    """12501632 → 12.5 M."""
    for size, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if value >= size:
            return f"{value / size:.{1 if value >= 10 * size else 2}f} {unit}"
    return str(value)


def duration(seconds: float) -> str:
    """9.4 → 9.4 s, 173 → 2 min 53 s, 17700 → 4 h 55 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def listed(words: list[str]) -> str:
    """a, b and c."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else ""
