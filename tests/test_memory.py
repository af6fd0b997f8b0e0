"""Memory that is kept between steps, seen by the pages that the system hands out."""

import subprocess
import sys

import pytest

COUNT_FAULTS = """
import resource
import torch
from bantamnet.memory import keep_freed_memory

def faults():
    for step in range(10):
        if step == 5:  # the first steps find out how the blocks fit
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        blocks = [torch.ones(size * 1024 * 1024, dtype=torch.uint8) for size in (64, 48, 40)]
        del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(faults(), keep_freed_memory(), keep_freed_memory(False), faults(), keep_freed_memory(), faults())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc alone can be told")
def test_freed_memory_is_kept_and_used_again() -> None:
    done = subprocess.run([sys.executable, "-c", COUNT_FAULTS], capture_output=True, text=True, check=True)
    before, told, told_back, after, told_again, kept = done.stdout.split()
    assert told == told_back == told_again == "True"
    assert int(kept) < int(before) / 20 and int(kept) < int(after) / 20, done.stdout
