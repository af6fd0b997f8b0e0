"""What this machine can do for training, and what slows it: each finding with what to do about it."""

import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import torch

from bantamnet.data.sources import SOURCES, default_data_dir
from bantamnet.errors import UserError
from bantamnet.kernels import missing
from bantamnet.machine import GB, busy_cores, free_memory, usable_cores
from bantamnet.runtime import WINOGRAD, cpu_name, number_type, pick_precision

Status = Literal["ok", "warn", "problem"]

LEAST_DISK, LITTLE_DISK = GB // 10, 2 * GB
LEAST_MEMORY, LITTLE_MEMORY = GB // 2, 3 * GB
"""A run on CIFAR-10 holds 1 to 3 GB of memory and writes some dozen MB."""


@dataclass(frozen=True)
class Finding:
    """One thing looked at: `problem` makes training impossible, `warn` slows it or misleads; `numbers` are for programs."""

    name: str
    status: Status
    found: str
    fix: str = ""
    numbers: dict[str, Any] = field(default_factory=dict)


def examine(data_dir: Path | None = None, out: Path = Path("runs"), seconds: float = 0.5) -> dict[str, Any]:
    """All findings, and whether training is possible; each measurement takes about `seconds`. Leaves nothing behind."""
    findings = [
        *versions(),
        busyness(busy_cores(seconds), usable_cores()),
        *processors(),
        *speed(torch.device("cpu"), seconds),
        *cuda(seconds),
        memory(free_memory()),
        *run_folder(out),
        *data_sets(data_dir),
    ]
    counts = {status: sum(finding.status == status for finding in findings) for status in ("ok", "warn", "problem")}
    can_train = counts["problem"] == 0
    possible = "training is possible here" if can_train else "training is not possible here until the problems are put right"
    warned = f"; {counts['warn']} warning{'s' if counts['warn'] > 1 else ''}" if counts["warn"] else ""
    return {"can_train": can_train, "conclusion": possible + warned, "findings": [asdict(finding) for finding in findings]}


def versions() -> Iterator[Finding]:
    """bantamnet's and Python's versions, and whether what bantamnet needs is there and new enough."""
    wanted = [line for line in metadata.requires("bantamnet") or [] if "extra" not in line]
    have: dict[str, str] = {}
    for line in wanted:
        match = re.match(r"([A-Za-z0-9._-]+)\s*(?:>=\s*([0-9.]+))?", line)
        assert match is not None
        name, least = match[1], match[2]
        try:
            have[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            yield Finding(name, "problem", "missing", f"pip install '{line}'")
            continue
        if least and _numbers(have[name]) < _numbers(least):
            yield Finding(name, "problem", f"{have[name]} is older than {least}", f"pip install -U '{line}'")
    have = {"bantamnet": metadata.version("bantamnet"), **have}
    yield Finding("versions", "ok", ", ".join(f"{name} {version}" for name, version in have.items()), numbers=have)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.split("+")[0])[:3])


def busyness(busy: float | None, cores: float) -> Finding:
    """Whether other programs want the cores too."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    numbers = {"busy_cores": busy, "cores": cores, "load_average": load}
    told = f"; load average {load:.1f}" if load is not None else ""
    if busy is None:
        return Finding("other work", "ok", f"the system does not tell{told}", numbers=numbers)
    found = f"{busy:.1f} of {cores:g} cores are busy with other programs{told}"
    if busy > 0.25 * cores:
        fix = "timings mislead, those below too, and training is slower than it could be: wait for the others, or stop them"
        return Finding("other work", "warn", found, fix, numbers)
    return Finding("other work", "ok", found, numbers=numbers)


def processors() -> Iterator[Finding]:
    """Cores against threads, and the instructions that decide on the precision."""
    cores, threads = usable_cores(), torch.get_num_threads()
    setting = os.environ.get("OMP_NUM_THREADS")
    why = f", OMP_NUM_THREADS={setting}" if setting else ""
    numbers = {"cores": cores, "all_cores": os.cpu_count(), "threads": threads, "omp_num_threads": setting}
    found = f"{cpu_name()}: {cores:g} usable cores, {threads} thread{'s' if threads > 1 else ''}{why}"
    if threads > cores:
        fix = f"more threads than cores wait for one another: export OMP_NUM_THREADS={max(1, int(cores))}"
        yield Finding("processor", "warn", found, fix, numbers)
    elif threads < int(cores / 2) or (setting and threads < int(cores)):
        fix = f"unset OMP_NUM_THREADS to use all cores, or export OMP_NUM_THREADS={int(cores)}"
        yield Finding("processor", "warn", found, fix, numbers)
    else:
        yield Finding("processor", "ok", found, numbers=numbers)
    if not torch.backends.mkldnn.is_available():
        yield Finding(
            "oneDNN", "warn", "this PyTorch is built without it, so convolutions are slow", "install PyTorch's own wheel"
        )


def speed(device: torch.device, seconds: float) -> Iterator[Finding]:
    """Measured matrix products in fp32 and bf16, what `precision: auto` makes of it, and memory bandwidth."""
    size = 1024 if device.type == "cpu" else 8192
    rates = {name: matrix_rate(device, kind, size, seconds) for name, kind in (("fp32", torch.float32), ("bf16", torch.bfloat16))}
    chosen = pick_precision("auto", device)
    ratio = rates["bf16"] / rates["fp32"]
    has = "lacks" if chosen.startswith("fp32") else "has"
    instructions = (
        f"the processor {has} bf16 instructions (AVX512-BF16 or AMX)" if device.type == "cpu" else f"the GPU {has} bf16 units"
    )
    found = (
        f"matrix products: fp32 {rates['fp32'] / 1e9:,.0f} GFLOP/s, bf16 {rates['bf16'] / 1e9:,.0f} ({ratio:.1f}×); "
        f"{instructions}, so precision: auto computes in {chosen}"
    )
    numbers = {"fp32_flops": rates["fp32"], "bf16_flops": rates["bf16"], "auto": chosen}
    name = f"{device.type} precision"
    better = "bf16" if ratio > 1 else "fp32"
    if not chosen.startswith(better) and not 0.8 < ratio < 1.25:
        yield Finding(name, "warn", found, f"{better} is faster as measured: try --set precision={better}", numbers)
    elif device.type == "cpu" and not chosen.endswith(WINOGRAD):
        fix = "install a C compiler: bantamnet's own convolutions, compiled for this processor, are about twice as fast"
        yield Finding(name, "warn", f"{found}; {missing(number_type(chosen))}", fix, numbers)
    else:
        yield Finding(name, "ok", found, numbers=numbers)
    rate = bandwidth(device, seconds)
    yield Finding(
        f"{device.type} memory", "ok", f"copies {rate / 1e9:.1f} GB/s, read and written", numbers={"bytes_per_second": rate}
    )


def cuda(seconds: float) -> Iterator[Finding]:
    """The GPU, or why there is none."""
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        found = f"{torch.cuda.get_device_name()}, {free / GB:.1f} of {total / GB:.1f} GB free, CUDA {torch.version.cuda}"
        status: Status = "warn" if free < total / 2 else "ok"
        fix = "another program holds its memory: see nvidia-smi" if status == "warn" else ""
        yield Finding("cuda", status, found, fix, {"free_bytes": free, "total_bytes": total, "count": torch.cuda.device_count()})
        yield from speed(torch.device("cuda"), seconds)
    elif Path("/proc/driver/nvidia").exists():
        built = torch.version.cuda
        found = f"there is an NVIDIA GPU, and PyTorch sees none (it is built {f'for CUDA {built}' if built else 'without CUDA'})"
        fix = (
            "see whether nvidia-smi works; its CUDA version must be at least PyTorch's" if built else "install PyTorch with CUDA"
        )
        yield Finding("cuda", "warn", found, fix)
    else:
        yield Finding("cuda", "ok", "no GPU; training runs on the processor")


def memory(free: int) -> Finding:
    """Main memory."""
    found, numbers = f"{free / GB:.1f} GB free", {"free_bytes": free}
    if free < LITTLE_MEMORY:
        status: Status = "problem" if free < LEAST_MEMORY else "warn"
        return Finding("memory", status, found, "training on CIFAR-10 wants 1 to 3 GB: stop other programs", numbers)
    return Finding("memory", "ok", found, numbers=numbers)


def run_folder(out: Path) -> Iterator[Finding]:
    """Whether runs can be written, and how much."""
    place = out.absolute()
    while not place.exists():
        place = place.parent
    fix = "name another folder with --out"
    if not place.is_dir():
        yield Finding("run folder", "problem", f"{place} is in the way of {out}: it is no folder", fix)
        return
    try:
        began = time.perf_counter()
        with tempfile.NamedTemporaryFile(dir=place, prefix=".bantamnet-doctor-") as file:
            file.write(bytes(2**20))
            file.flush()
            os.fsync(file.fileno())
        took = time.perf_counter() - began
    except OSError as error:
        yield Finding("run folder", "problem", f"{place} cannot be written to: {error.strerror}", fix)
        return
    free = shutil.disk_usage(place).free
    found = f"{place}: {free / GB:.1f} GB free, 1 MB written safely in {1000 * took:.0f} ms"
    numbers = {"free_bytes": free, "write_seconds": took}
    if free < LITTLE_DISK:
        yield Finding("run folder", "problem" if free < LEAST_DISK else "warn", found, f"make room, or {fix}", numbers)
    else:
        yield Finding("run folder", "ok", found, numbers=numbers)


def data_sets(data_dir: Path | None) -> Iterator[Finding]:
    """Which known data sets are here, whole and unchanged; the digits are built in, so that something always is."""
    root = data_dir or default_data_dir()
    here, missing = [], []
    for name, source in SOURCES.items():
        try:
            found = (source.find or source.load)(data_dir)
            if found is None:
                missing.append(name)
                continue
            train, test = found
            here.append(f"{name} ({len(train):,} + {len(test):,} images)")
        except UserError as error:
            yield Finding("data", "warn", f"{name}: {error}", f"until then --set data.name={name} cannot be trained on")
            missing.append(name)
    told = f"{', '.join(here)}; folder {root}"
    numbers = {"folder": str(root), "missing": missing}
    if "cifar10" in missing:
        fix = "most recipes want CIFAR-10: it is downloaded on first use, or now by bantamnet fetch cifar10"
        yield Finding("data", "warn", told, fix, numbers)
    else:
        yield Finding("data", "ok", told + (f"; not here: {', '.join(missing)}" if missing else ""), numbers=numbers)


def matrix_rate(device: torch.device, dtype: torch.dtype, size: int, seconds: float) -> float:
    """Floating-point operations a second of products of two square matrices."""
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    return 2 * size**3 / _fastest(lambda: left @ right, device, seconds)


def bandwidth(device: torch.device, seconds: float) -> float:
    """Bytes a second that a copy reads and writes; the tensors are far larger than caches."""
    num = 2**26 if device.type == "cpu" else 2**28
    source = torch.ones(num, device=device)
    target = torch.empty_like(source)
    return 2 * 4 * num / _fastest(lambda: target.copy_(source), device, seconds)


def _fastest(call: Callable[[], object], device: torch.device, seconds: float) -> float:
    """Seconds of the fastest call within so much time: what the machine can do when nothing disturbs it."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        began = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - began)
    return min(times)
