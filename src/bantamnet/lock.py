"""One process at a time; a lock goes when its process does, however that ends."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from bantamnet.errors import UserError, WriteError

try:
    import fcntl
except ImportError:  # a system without locks of this kind: processes are not kept apart there
    fcntl = None  # type: ignore[assignment]


@contextlib.contextmanager
def alone(path: Path, busy: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold a folder, or a file that is made where there is none; while another process holds it, wait.

    `busy` is called once before the waiting, and may raise instead. Raises `OSError` where the path cannot be opened.
    """
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if fcntl:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                busy()
                fcntl.flock(handle, fcntl.LOCK_EX)
            except OSError:
                pass  # a network file system without locks
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Hold the folder itself, so that no lock file stays behind; raises `UserError` where a living process holds it."""

    def refuse() -> None:
        raise UserError(f"{folder} is in use by another process; wait until that has ended, or stop it")

    with contextlib.ExitStack() as held:
        try:
            held.enter_context(alone(folder, refuse))
        except OSError as error:
            raise WriteError(folder, error) from None
        yield
