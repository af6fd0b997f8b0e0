"""What can go wrong beside a fault of the code: a user's mistake, told with its fix, and a training that cannot go on."""

import traceback
from collections.abc import Iterable
from difflib import SequenceMatcher, get_close_matches
from pathlib import Path


class UserError(ValueError):
    """Something the user can put right; the message says how. The command line prints it and exits with 2."""


class WriteError(UserError):
    """A file could not be written (disk full, read-only or removed folder); what had been written before is untouched."""

    def __init__(self, path: Path, error: OSError) -> None:
        super().__init__(f"cannot write {path}: {error.strerror or error}; what was written before is untouched")


class NonFiniteError(ArithmeticError):
    """A loss or a weight is NaN or infinite; training cannot go on. The command line exits with 3."""


class LostRankError(RuntimeError):
    """Another rank has died or hangs; this one cannot go on alone. The command line exits with 4."""


def unknown(kind: str, name: object, known: Iterable[str]) -> str:
    """One line that says `name` is no `kind`, names the nearest of the `known` ones, then all of them."""
    names = sorted(set(known))
    word = str(name)
    near = get_close_matches(word, names, n=len(names), cutoff=0.5) if names else []
    # Of equally near names, the one that begins alike: resnet20 for resnet2, not resnet32.
    near.sort(key=lambda one: (SequenceMatcher(None, one, word).ratio(), one.startswith(word)), reverse=True)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"unknown {kind} {word!r}{hint} (valid: {', '.join(names)})"


def told(error: BaseException, file: str | None = None) -> str:
    """An error in a user's code in one line, `ValueError: … (mine.py, line 12)`: the deepest line, in `file` if it is there."""
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error.msg} ({error.filename}, line {error.lineno})"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename == file] or list(frames)
    where = f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""
    return f"{traceback.format_exception_only(error)[-1].strip()}{where}"
