"""One process at a time writes to a run; the lock goes when its process does, however it ends."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from bantamnet.errors import UserError, WriteError

try:
    import fcntl
except ImportError:  # a system without locks of this kind: runs are not guarded there
    fcntl = None  # type: ignore[assignment]


@contextlib.contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Hold the folder itself, so that no lock file stays behind; raises `UserError` where a living process holds it."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise WriteError(folder, error) from None
    try:
        if fcntl:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(f"{folder} is in use by another process; wait until that has ended, or stop it") from None
            except OSError:
                pass  # a network file system without locks
        yield
    finally:
        os.close(handle)
