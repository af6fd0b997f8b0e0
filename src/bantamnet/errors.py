"""A user's mistake, told with its fix."""

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path


class UserError(ValueError):
    """Something the user can put right; the message says how. The command line prints it and exits with 2."""


class WriteError(UserError):
    """A file could not be written (disk full, read-only or removed folder); what had been written before is untouched."""

    def __init__(self, path: Path, error: OSError) -> None:
        super().__init__(f"cannot write {path}: {error.strerror or error}; what was written before is untouched")


def unknown(kind: str, name: object, known: Iterable[str]) -> str:
    """One line that says `name` is no `kind`, names the nearest of the `known` ones, then all of them."""
    names = sorted(known)
    near = get_close_matches(str(name), names, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"unknown {kind} {str(name)!r}{hint} (valid: {', '.join(names)})"
