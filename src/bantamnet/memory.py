"""Memory of the CPU that every training step takes and gives back: kept in the process in between.

The system zeroes each page that it hands out. Training takes and frees the same large blocks at every step, which glibc gets from
the system and returns each time; `results/speed-notes.md` says what that costs.
"""

import ctypes
import sys

# Parameters of mallopt(3): from malloc.h.
TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD, MMAP_MAX = -1, -2, -3, -4
MB = 1024**2


def keep_freed_memory(keep: bool = True) -> bool:
    """Let this process keep the memory it frees and use it again, or (false) give it back as is usual; whether that could be set.

    It holds for the whole process from now on. Only glibc (Linux) can be told so; under another allocator nothing changes.
    A large free block with one in use behind it stays with the process even when it is told to give back.
    """
    if not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt"):  # musl
        return False
    if keep:
        told = {MMAP_MAX: 0, TRIM_THRESHOLD: 2**31 - 1, TOP_PAD: 64 * MB}
    else:  # what glibc's own defaults come to once large blocks have been freed
        told = {MMAP_MAX: 65536, MMAP_THRESHOLD: 32 * MB, TRIM_THRESHOLD: 64 * MB, TOP_PAD: 128 * 1024}
    done = all(libc.mallopt(parameter, value) == 1 for parameter, value in told.items())
    if not keep:
        libc.malloc_trim(0)
    return done
