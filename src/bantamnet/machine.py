"""What the machine says of itself: cores that may be used, memory that is free, how busy it is."""

import contextlib
import os
import resource
import sys
import time
from pathlib import Path

GB = 1024**3


def usable_cores() -> float:
    """Cores that this process may use: those it is bound to, fewer where a container's quota says so."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="utf-8").split()
        if quota != "max":
            return min(float(bound), int(quota) / int(period))
    return float(bound)


def free_memory() -> int:
    """Bytes that can be had without swapping, within a container's limit; half of all memory where the system does not tell."""
    free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        free = 1024 * int(next(line for line in lines if line.startswith("MemAvailable")).split()[1])
    with contextlib.suppress(OSError, ValueError):
        group = Path("/sys/fs/cgroup")
        limit = int((group / "memory.max").read_text(encoding="utf-8"))
        free = min(free, limit - int((group / "memory.current").read_text(encoding="utf-8")))
    return max(free, 0)


def peak_memory() -> int:
    """The most bytes of memory that this process has held."""
    with contextlib.suppress(OSError, StopIteration):  # on Linux `getrusage` also counts what the program before an exec held
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def busy_cores(seconds: float = 0.5) -> float | None:
    """Cores that work on anything while this process waits for so long; None where the system does not tell."""
    try:
        before = _busy_seconds()
        began = time.monotonic()
        time.sleep(seconds)
        return (_busy_seconds() - before) / (time.monotonic() - began)
    except (OSError, ValueError, IndexError):
        return None


def _busy_seconds() -> float:
    line = Path("/proc/stat").read_text(encoding="utf-8").splitlines()[0]
    user, nice, system, _idle, _iowait, irq, softirq, steal, *_ = (int(ticks) for ticks in line.split()[1:])
    ticks = user + nice + system + irq + softirq + steal
    return float(ticks / os.sysconf("SC_CLK_TCK"))
