"""Nothing is timed while other programs work."""

import time

from bantamnet.errors import UserError
from bantamnet.machine import busy_cores, usable_cores

SHARE = 0.15
"""Share of the cores that may be busy with other things."""


def other_load() -> float | None:
    """Cores that other programs keep busy, measured over a second while this one sleeps; None where the system does not tell."""
    return busy_cores(1.0)


def refuse_busy(even_if_busy: bool) -> float | None:
    """The load of other programs; raises `UserError` where it is too much for figures, unless told."""
    load = other_load()
    allowed = SHARE * usable_cores()
    if load is not None and load > allowed and not even_if_busy:
        raise UserError(
            f"other programs keep {load:.1f} of {usable_cores():g} cores busy, so figures would be theirs too; stop them, or "
            "measure all the same with --even-if-busy (the load is recorded with the figures)"
        )
    return load


def settle(seconds: float = 10.0) -> None:
    """Wait until workers that were used have filled their queues and sleep, at most so long."""
    began = time.monotonic()
    while time.monotonic() - began < seconds and (busy_cores(0.2) or 0.0) > SHARE:
        pass
