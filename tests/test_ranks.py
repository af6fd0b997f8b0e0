"""Several processes train one run: the same sums as one process, and none is left behind when one of them fails."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn

from bantamnet.models.syncnorm import SyncBatchNorm2d
from bantamnet.runs.directory import RunDirectory
from conftest import tiny
from same_run import assert_same_run, newest_step

ALIKE = """
import sys
from pathlib import Path
import torch
from bantamnet.runtime import join_ranks
from bantamnet.training.loop import batches
from bantamnet.training.setup import prepare
from bantamnet.training.step import average_over_ranks
from conftest import tiny

torch.set_num_threads(1)
with join_ranks(torch.device("cpu")) as ranks:
    config = tiny("batch_size=101", "model.dropout=null", "ema=null")
    setup, state = prepare(config, None, torch.device("cpu"), ranks)
    state.net.double()
    state.net.train()
    for epoch in range(2):
        for images, targets, share, _ in batches(setup, epoch):
            loss = torch.nn.functional.cross_entropy(state.net(images.double()), targets, label_smoothing=0.1)
            (loss * share).backward()
            average_over_ranks(ranks, state.net)
            state.optimizers.step(state.step)
            state.step += 1
    assert state.step >= 20
    if ranks.main:
        torch.save(state.net.state_dict(), sys.argv[1])
threads = [(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]
assert not [name for name in threads if "gloo" in name], f"the process group is still there: {threads}"
"""


def ranks(num: int, arguments: list[str], restarts: int = 0) -> subprocess.Popen[str]:
    """torchrun on this machine, each rank on one thread."""
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(num)]
    tests = str(Path(__file__).parent)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([tests, os.environ.get("PYTHONPATH", "")])}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "env": environment}
    return subprocess.Popen([*run, "--max-restarts", str(restarts), *arguments], **pipes)


def write_recipe(folder: Path, *sets: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(json.dumps(tiny("device=cpu", *sets).dump()))
    return path


@pytest.mark.slow
def test_two_ranks_compute_what_one_process_does(tmp_path: Path) -> None:
    """20 steps in float64, BatchNorm over both ranks, batches that do not divide: within 1e-9."""
    script = tmp_path / "alike.py"
    script.write_text(ALIKE)
    weights = []
    for num in (1, 2):
        process = ranks(num, [str(script), str(tmp_path / f"{num}.pt")])
        output, _ = process.communicate(timeout=200)
        assert process.returncode == 0, output
        weights.append(torch.load(tmp_path / f"{num}.pt", weights_only=True))
    differences = {name: (weights[1][name].double() - value).abs().max().item() for name, value in weights[0].items()}
    assert max(differences.values()) < 1e-9, differences


def begun(path: Path, recipe: Path, num: int, *options: str, wait: bool = True, restarts: int = 0) -> subprocess.Popen[str]:
    process = ranks(num, ["-m", "bantamnet", "train", str(recipe), "--out", str(path), *options], restarts)
    while wait and newest_step(path) < 10:
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    return process


def rank_pids(process: subprocess.Popen[str]) -> list[int]:
    """Of the living children, in the order of their ranks."""
    children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True).stdout.split()
    return sorted(int(pid) for pid in children)


def alive(pid: int) -> bool:
    """Running or stopped; one that has ended and is not yet waited for does not count."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def ended(process: subprocess.Popen[str], within: float) -> tuple[int, str]:
    """(exit code, output); nothing may be left of it after so many seconds."""
    pids = rank_pids(process)
    output, _ = process.communicate(timeout=within)
    assert not [pid for pid in pids if alive(pid)], "orphans"
    return process.returncode, output


LONG = ("epochs=2000", "checkpoint={every_steps: 5, keep: 2}")


@pytest.mark.slow
def test_a_killed_rank_ends_the_others(tmp_path: Path) -> None:
    process = begun(tmp_path / "run", write_recipe(tmp_path, *LONG), 4)
    os.kill(rank_pids(process)[2], signal.SIGKILL)
    code, output = ended(process, 15)
    assert code and "SIGKILL" in output


@pytest.mark.slow
def test_a_rank_that_hangs_ends_the_others(tmp_path: Path) -> None:
    """After the time-out of 8 s and at most 15 s."""
    process = begun(tmp_path / "run", write_recipe(tmp_path, *LONG), 4, "--rank-timeout", "8")
    pids = rank_pids(process)
    os.kill(pids[1], signal.SIGSTOP)
    stopped = time.monotonic()
    while any(alive(pid) for pid in pids if pid != pids[1]):
        assert time.monotonic() - stopped < 8 + 15
        time.sleep(0.1)
    os.kill(pids[1], signal.SIGKILL)  # or torchrun would wait half a minute for it
    code, output = ended(process, 30)
    assert code and "lost another rank" in output


@pytest.mark.slow
def test_sigterm_to_one_rank_saves_and_ends_all(tmp_path: Path) -> None:
    path = tmp_path / "run"
    process = begun(path, write_recipe(tmp_path, "epochs=2000"), 4)
    os.kill(rank_pids(process)[0], signal.SIGTERM)
    code, output = ended(process, 15)
    assert code and f"stopped by SIGTERM, state saved; go on with: bantamnet train --resume {path}" in output
    assert not RunDirectory(path).summary() and newest_step(path) >= 10


FAILING = """
import os, sys
from bantamnet.training import loop, setup

place, rank = sys.argv[1:3]

def failing(original):
    def call(*arguments, **words):
        if os.environ["RANK"] == rank:
            raise ArithmeticError("broken on purpose")
        return original(*arguments, **words)
    return call

owner = {"load_parts": setup, "save_checkpoint": loop, "split_logits": loop}[place]
setattr(owner, place, failing(getattr(owner, place)))
sys.argv = ["bantamnet", *sys.argv[3:]]
from bantamnet.cli import main
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize(("place", "rank"), [("load_parts", "3"), ("save_checkpoint", "0"), ("split_logits", "1")])
def test_an_exception_on_one_rank_ends_all_and_is_shown(tmp_path: Path, place: str, rank: str) -> None:
    script, recipe = tmp_path / "failing.py", write_recipe(tmp_path, "epochs=2000")
    script.write_text(FAILING)
    process = ranks(4, [str(script), place, rank, "train", str(recipe), "--out", str(tmp_path / "run")])
    code, output = ended(process, 60)
    assert code and "ArithmeticError: broken on purpose" in output


@pytest.mark.slow
def test_torchrun_starts_again_where_the_run_stood(tmp_path: Path) -> None:
    """A rank is killed again and again; --max-restarts goes on from the newest checkpoint, and ends bit for bit the same.

    Three times here; BANTAMNET_KILLS sets another number.
    """
    kills, chance = int(os.environ.get("BANTAMNET_KILLS", "3")), random.Random(0)
    path, recipe = tmp_path / "run", write_recipe(tmp_path, "epochs=3", "batch_size=40", "checkpoint={every_steps: 1, keep: 2}")
    whole = begun(tmp_path / "whole", recipe, 2, wait=False)
    assert ended(whole, 240)[0] == 0
    process = begun(path, recipe, 2, wait=False, restarts=kills)
    killed: set[int] = set()
    for _ in range(kills):
        wanted = newest_step(path) + 1
        while newest_step(path) < wanted or len(set(rank_pids(process)) - killed) < 2:
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.03))
        pids = [pid for pid in rank_pids(process) if pid not in killed]
        os.kill(chance.choice(pids), signal.SIGKILL)
        killed.update(pids)
        while any(alive(pid) for pid in pids):  # the other rank still writes a step or two
            time.sleep(0.01)
    code, output = ended(process, 240)
    assert code == 0 and output.count("resuming") == kills, output
    assert_same_run(tmp_path / "whole", path)


@pytest.mark.slow
def test_another_number_of_ranks_goes_on_and_says_so(tmp_path: Path) -> None:
    path, recipe = tmp_path / "run", write_recipe(tmp_path, "epochs=3", "batch_size=40", "checkpoint={every_steps: 5, keep: 2}")
    process = begun(path, recipe, 2)
    os.kill(rank_pids(process)[0], signal.SIGTERM)
    assert ended(process, 30)[0]
    process = ranks(3, ["-m", "bantamnet", "train", "--resume", str(path)])
    code, output = ended(process, 120)
    assert code == 0 and "was on 2 rank(s), and goes on with 3" in output, output
    summary = RunDirectory(path).summary() or {}
    assert summary["ranks"] == 3 and [line["val_num"] for line in RunDirectory(path).epochs()] == [144] * 3


@pytest.mark.slow
def test_evaluation_on_any_number_of_ranks_counts_every_image_once(tmp_path: Path) -> None:
    """The same weights on 1, 2, 3 and 4 ranks."""
    recipe, path = write_recipe(tmp_path, "epochs=1", "precision=fp32"), tmp_path / "run"
    assert ended(begun(path, recipe, 1, wait=False), 120)[0] == 0
    told = []
    for num in (1, 2, 3, 4):
        process = ranks(num, ["-m", "bantamnet", "evaluate", str(path), "--tta", "none + rotate(9)", "--device", "cpu", "--json"])
        code, output = ended(process, 120)
        assert code == 0, output
        figures = json.loads(next(line for line in output.splitlines() if line.startswith("{")))
        told.append({key: figures[key] for key in ("num", "correct", "per_class", "passes_per_image", "images_with_views")})
    assert told[0]["num"] == 360 and all(figures == told[0] for figures in told)
    assert len((path / "evaluations.jsonl").read_text().splitlines()) == 1 + 4, "one line an evaluation, whatever the ranks"


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize(("dtype", "close"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 0.05)])
def test_normalising_over_one_rank_is_plain_normalising(
    tmp_path: Path, dtype: torch.dtype, close: float, layout: torch.memory_format
) -> None:
    torch.manual_seed(0)
    images = (2 * torch.randn(8, 16, 5, 5) + 1).to(dtype).to(memory_format=layout)
    gradient = torch.randn(8, 16, 5, 5).to(dtype).to(memory_format=layout)
    found = []
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    for kind in (nn.BatchNorm2d, SyncBatchNorm2d):
        norm, given = kind(16).to(dtype if dtype == torch.float64 else torch.float32), images.clone().requires_grad_()
        nn.init.uniform_(norm.weight, generator=torch.Generator().manual_seed(1))
        out = norm(given)
        (out * gradient).sum().backward()
        assert given.grad is not None
        found.append([out, given.grad, norm.weight.grad, norm.bias.grad, norm.running_mean, norm.running_var])
    dist.destroy_process_group()
    for plain, ours in zip(*found, strict=True):
        torch.testing.assert_close(ours, plain, atol=close, rtol=close)
