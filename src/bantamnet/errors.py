"""A user's mistake, told with its fix."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(ValueError):
    """Something the user can put right; the message says how. The command line prints it and exits with 2."""


def unknown(kind: str, name: object, known: Iterable[str]) -> str:
    """One line that says `name` is no `kind`, names the nearest of the `known` ones, then all of them."""
    names = sorted(known)
    near = get_close_matches(str(name), names, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"unknown {kind} {str(name)!r}{hint} (valid: {', '.join(names)})"
