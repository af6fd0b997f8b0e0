"""The machine under a run: device, precision, seeds, ranks, and what is recorded about them."""

import contextlib
import datetime
import functools
import hashlib
import importlib
import itertools
import os
import platform
import shlex
import sys
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from bantamnet import kernels
from bantamnet.errors import LostRankError, UserError, unknown


def pick_device(name: str) -> torch.device:
    """`auto`, `cpu` or `cuda` as a device; raises `UserError` when CUDA is asked for and missing."""
    if name not in ("auto", "cpu", "cuda"):
        raise UserError(unknown("device", name, ("auto", "cpu", "cuda")))
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda":
        if not torch.cuda.is_available():
            raise UserError("device: cuda was asked for and PyTorch sees none here; use device: auto or cpu")
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device(name)


WINOGRAD = "-winograd"
"""End of a precision's name: on a CPU, with the kernels of `bantamnet.kernels`, Winograd's convolutions among them."""


def number_type(precision: str) -> torch.dtype:
    """What a precision computes in, float32 or bfloat16."""
    return torch.float32 if precision.startswith("fp32") else torch.bfloat16


def pick_precision(name: str, device: torch.device, compiled: bool = False) -> str:
    """`fp32` or `bf16`, with `-winograd` or without; `auto` takes bf16 where the processor has instructions for it, and
    `-winograd` where it can.

    Raises `UserError` where `-winograd` is asked for and cannot be had: it needs a CPU and a C compiler, and a net that is not
    `compiled`.
    """
    plain = name.removesuffix(WINOGRAD)
    if name != plain and (reason := no_winograd(plain, device, compiled)):
        raise UserError(
            f"precision: {name} {reason}; use precision={plain}"
            + (", or compile=none" if compiled and device.type == "cpu" else "")
        )
    if name != "auto":
        return name
    plain = "bf16" if has_bf16(device) else "fp32"
    return plain if no_winograd(plain, device, compiled) else plain + WINOGRAD


def has_bf16(device: torch.device) -> bool:
    """Whether there are instructions for it; emulated it takes many times as long as fp32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def no_winograd(plain: str, device: torch.device, compiled: bool = False) -> str | None:
    """Why `fp32` or `bf16` cannot be had as `-winograd`; None where it can."""
    if device.type != "cpu":
        return "is for a CPU"
    if compiled:
        return "cannot go through torch.compile"
    reason = kernels.missing(number_type(plain))
    return f"cannot be had here: {reason}" if reason else None


def recorded_precision(name: str, device: torch.device) -> str:
    """The precision that figures were taken in, or the nearest that this device has, for taking them again."""
    plain = name.removesuffix(WINOGRAD)
    if plain == "bf16" and not has_bf16(device):
        return pick_precision("auto", device)
    return plain if name != plain and no_winograd(plain, device) else pick_precision(name, device)


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """Compute in `precision`; weights stay as they are."""
    context = contextlib.ExitStack()
    context.enter_context(torch.autocast(device.type, torch.bfloat16, enabled=number_type(precision) == torch.bfloat16))
    if precision.endswith(WINOGRAD):
        context.enter_context(kernels.FasterKernels())
    return context


def memory_format(device: torch.device, precision: str) -> torch.memory_format:
    """Channels last where the convolutions are faster so: for plain fp32 on a CPU they are on Intel's, and slower on AMD's."""
    plain = device.type == "cpu" and precision == "fp32" and "Intel" not in cpu_name()
    return torch.contiguous_format if plain else torch.channels_last


def key(*words: object) -> int:
    """A 63-bit seed that is a function of the words alone, the same on every machine."""
    return int.from_bytes(hashlib.sha256(repr(words).encode()).digest()[:8], "big") >> 1


def generator(*words: object) -> torch.Generator:
    """A CPU generator seeded by the words, so that a draw depends on what it is for and not on what was drawn before."""
    return torch.Generator().manual_seed(key(*words))


def rng_state(device: torch.device) -> dict[str, Tensor]:
    """State of the global generators (dropout draws from them)."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def set_rng_state(state: dict[str, Tensor], device: torch.device) -> None:
    """Undo for `rng_state`."""
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)


def is_main_process() -> bool:
    """Whether this process is the one that prints and draws, among those that `torchrun` started."""
    return os.environ.get("RANK", "0") == "0"


@dataclass(frozen=True)
class Ranks:
    """The processes that train together; one process is rank 0 of 1 and pays for nothing."""

    rank: int = 0
    size: int = 1

    @property
    def main(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0

    def wait(self) -> None:
        """Until every rank has come here."""
        if self.size > 1:
            dist.barrier()

    def shard(self, indices: Tensor) -> Tensor:
        """This rank's part of a list of samples; the parts are disjoint and complete."""
        return indices[self.rank :: self.size]

    def sum(self, tensor: Tensor) -> Tensor:
        """Sum over ranks."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    @torch.no_grad()
    def average_(self, tensors: list[Tensor]) -> None:
        """Replace each tensor by its mean over ranks, all of one type in one message."""
        for dtype in {tensor.dtype: None for tensor in tensors} if self.size > 1 else ():
            same = [tensor for tensor in tensors if tensor.dtype == dtype]
            flat = torch.cat([tensor.reshape(-1) for tensor in same])
            dist.all_reduce(flat)
            parts = flat.div_(self.size).split([tensor.numel() for tensor in same])
            torch._foreach_copy_(same, [part.view(tensor.shape) for part, tensor in zip(parts, same, strict=True)])

    @torch.no_grad()
    def copy_main_(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor by the one of rank 0."""
        for tensor in tensors if self.size > 1 else ():
            dist.broadcast(tensor, 0)

    def gather(self, tensor: Tensor, lengths: list[int] | None = None) -> list[Tensor]:
        """Every rank's tensor, of `lengths[rank]` rows where they differ."""
        if self.size == 1:
            return [tensor]
        lengths = lengths or [len(tensor)] * self.size
        padded = torch.zeros(max(lengths), *tensor.shape[1:], dtype=tensor.dtype, device=tensor.device)
        padded[: len(tensor)] = tensor
        parts = [torch.empty_like(padded) for _ in range(self.size)]
        dist.all_gather(parts, padded)
        return [part[:length] for part, length in zip(parts, lengths, strict=True)]


_TIMES_JOINED = itertools.count()


@contextlib.contextmanager
def join_ranks(device: torch.device, timeout: float = 600) -> Iterator[Ranks]:
    """The ranks that `torchrun` started, or this process alone.

    Raises `LostRankError` when another rank closes its connection, or does not come to where the others wait for `timeout`
    seconds. A rank that fails does not say goodbye: closing its connections is what ends the others.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Ranks()
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    # Its functions take the process group of the time of their import as a default. Imported later, as torch.optim does,
    # they would hold this one for ever, and threads of it at the interpreter's end can abort a process that has done its work.
    importlib.import_module("torch.distributed.nn.functional")
    limit = datetime.timedelta(seconds=timeout)
    store, rank, size = next(rendezvous("env://", timeout=limit))
    # torchrun keeps one store over its restarts (pytorch issue 135712), and over all that a process joins: what the ranks of
    # the last attempt, or of the run before, left there must not be taken for what those of this one say.
    attempt = f"attempt {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}, {next(_TIMES_JOINED)}"
    store = dist.PrefixStore(attempt, store)  # type: ignore[attr-defined]
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=limit)
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size())
    except RuntimeError as error:
        if isinstance(error, dist.DistError) or "gloo" in str(error):
            reason = str(error).strip().splitlines()[0]
            raise LostRankError(f"rank {dist.get_rank()} lost another rank, and leaves ({reason})") from None
        raise
    dist.destroy_process_group()


def environment(device: torch.device, precision: str) -> dict[str, Any]:
    """Hardware and versions, as recorded with every figure."""
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name(),
        "device_type": device.type,
        "precision": precision,
        "cpu_cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


@functools.cache
def cpu_name() -> str:
    """The processor's own name where the system tells it."""
    with contextlib.suppress(OSError), Path("/proc/cpuinfo").open(encoding="utf-8") as lines:
        for line in lines:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def command_line() -> str:
    """The command that this process was started with."""
    program, *arguments = sys.argv
    name = Path(program).name
    return shlex.join(["bantamnet" if name == "__main__.py" else name, *arguments])
