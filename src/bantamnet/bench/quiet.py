"""Nothing is timed while other programs work, unless one insists."""

import time

from bantamnet.errors import UserError
from bantamnet.machine import busy_cores, usable_cores

SHARE = 0.15
"""Share of the cores that may be busy with other things."""


def refuse_busy(even_if_busy: bool) -> float | None:
    """Cores that other programs keep busy, over a second in which this one sleeps (None where the system does not tell).

    Raises `UserError` where that is too much for figures, unless told.
    """
    load = busy_cores(1.0)
    allowed = SHARE * usable_cores()
    if load is not None and load > allowed and not even_if_busy:
        raise UserError(
            f"other programs keep {load:.1f} of {usable_cores():g} cores busy, so figures would be theirs too; stop them, or "
            "measure all the same with --even-if-busy (the load is recorded with the figures)"
        )
    return load


def settle(others: float | None, seconds: float = 10.0) -> None:
    """Wait until workers that were used have filled their queues and sleep, at most so long; others keep so many cores busy."""
    began, cores = time.monotonic(), usable_cores()
    quiet = min(SHARE * cores + (others or 0.0), 0.75 * cores)  # others that keep all busy would hide the workers
    while time.monotonic() - began < seconds and (busy_cores(0.2) or 0.0) > quiet:
        pass
