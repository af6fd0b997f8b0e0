"""`bantamnet doctor`: every finding for what it is, with a fix, and nothing left behind."""

import json
import math
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch

from bantamnet import machine
from bantamnet.bench import doctor
from bantamnet.bench.doctor import Finding
from conftest import invoke

CPU = torch.device("cpu")


def only(findings: Any) -> Finding:
    (finding,) = list(findings)
    return finding


def test_the_whole_examination(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    real = doctor.examine
    monkeypatch.setattr(doctor, "examine", lambda data, out: real(data, out, seconds=0.01))
    code, out, _ = invoke(["doctor", "--json", "--data-dir", str(tmp_path)], monkeypatch, capsys)
    facts = json.loads(out)
    assert code == 0 and facts["can_train"] and "training is possible here" in facts["conclusion"]
    named = {finding["name"]: finding for finding in facts["findings"]}
    for name in ("versions", "other work", "processor", "cpu precision", "cpu memory", "cuda", "memory", "run folder", "data"):
        assert named[name]["status"] in ("ok", "warn")
    assert all(bool(f["fix"]) == (f["status"] != "ok") for f in facts["findings"])
    assert named["data"]["numbers"]["missing"] == ["cifar10", "cifar100"] and "digits" in named["data"]["found"]
    assert not list(tmp_path.iterdir()), "nothing is left behind"
    (tmp_path / "taken").write_text("")
    code, out, _ = invoke(["doctor", "--out", "taken/runs"], monkeypatch, capsys)
    assert code == 1 and "no folder" in out and "--out" in out and "not possible" in out and "problem" in out


def test_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    finding = only(doctor.versions())
    assert finding.status == "ok" and finding.numbers["torch"] == metadata.version("torch") and "bantamnet" in finding.numbers
    real = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "2.10.9+cpu" if name == "torch" else real(name))
    old = next(iter(doctor.versions()))
    assert (old.name, old.status) == ("torch", "problem") and "2.10.9+cpu is older than 2.11" in old.found and "pip" in old.fix

    def gone(name: str) -> str:
        raise metadata.PackageNotFoundError if name == "matplotlib" else AssertionError

    monkeypatch.setattr(metadata, "requires", lambda name: ["matplotlib>=3.9", "pytest>=8; extra == 'dev'"])
    monkeypatch.setattr(metadata, "version", lambda name: "1" if name == "bantamnet" else gone(name))
    assert next(iter(doctor.versions())).found == "missing"


@pytest.mark.parametrize(("busy", "status"), [(0.1, "ok"), (0.4, "ok"), (1.9, "warn"), (None, "ok")])
def test_other_work(busy: float | None, status: str) -> None:
    assert doctor.busyness(busy, 2).status == status


def test_busy_cores_are_counted_from_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([100.0, 103.0])
    moments = iter([10.0, 12.0])
    monkeypatch.setattr(machine, "_busy_seconds", lambda: next(ticks))
    monkeypatch.setattr(machine.time, "monotonic", lambda: next(moments))
    assert machine.busy_cores(0) == 1.5


@pytest.mark.parametrize(
    ("threads", "setting", "status", "word"),
    [(8, None, "ok", ""), (4, None, "ok", ""), (1, "1", "warn", "unset"), (4, "4", "warn", "unset"), (16, "16", "warn", "=8")],
)
def test_threads_against_cores(
    monkeypatch: pytest.MonkeyPatch, threads: int, setting: str | None, status: str, word: str
) -> None:
    monkeypatch.setattr(doctor, "usable_cores", lambda: 8.0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if setting:
        monkeypatch.setenv("OMP_NUM_THREADS", setting)
    finding = next(iter(doctor.processors()))
    assert finding.status == status and word in finding.fix and f"{threads} thread" in finding.found


@pytest.mark.parametrize(
    ("fp32", "bf16", "chosen", "status"),
    [
        (100, 20, "fp32-winograd", "ok"),
        (100, 20, "fp32", "warn"),
        (100, 400, "bf16-winograd", "ok"),
        (100, 400, "bf16", "warn"),
        (100, 20, "bf16", "warn"),
        (100, 20, "bf16-winograd", "warn"),
        (100, 400, "fp32", "warn"),
        (100, 110, "fp32-winograd", "ok"),
    ],
)
def test_precision_as_measured(monkeypatch: pytest.MonkeyPatch, fp32: int, bf16: int, chosen: str, status: str) -> None:
    rates = {torch.float32: fp32 * 1e9, torch.bfloat16: bf16 * 1e9}
    monkeypatch.setattr(doctor, "matrix_rate", lambda device, dtype, size, seconds: rates[dtype])
    monkeypatch.setattr(doctor, "bandwidth", lambda device, seconds: 1e10)
    monkeypatch.setattr(doctor, "pick_precision", lambda name, device: chosen)
    precision, memory = doctor.speed(CPU, 0.01)
    assert precision.status == status and f"computes in {chosen}" in precision.found and memory.status == "ok"
    if status == "warn":
        better = "bf16" if bf16 > fp32 else "fp32"
        assert ("C compiler" if better == chosen else f"precision={better}") in precision.fix


def test_rates_are_work_over_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_fastest", lambda call, device, seconds: (call(), 0.5)[1])
    assert doctor.matrix_rate(CPU, torch.float32, 10, 1) == 2 * 10**3 / 0.5
    assert doctor.bandwidth(CPU, 1) == 2 * 4 * 2**26 / 0.5
    monkeypatch.undo()
    now = [0.0]
    took = iter([3.0, 1.0, 2.0, *[5.0] * 9])
    monkeypatch.setattr(doctor.time, "perf_counter", lambda: now[0])
    assert doctor._fastest(lambda: now.__setitem__(0, now[0] + next(took)), CPU, 0.1) == 1.0


@pytest.mark.parametrize(("free", "status"), [(2**34, "ok"), (2**30, "warn"), (2**28, "problem")])
def test_memory(free: int, status: str) -> None:
    assert doctor.memory(free).status == status


@pytest.mark.parametrize(("free", "status"), [(2**40, "ok"), (2**30, "warn"), (2**20, "problem")])
def test_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, status: str) -> None:
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: type("Usage", (), {"free": free}))
    assert only(doctor.run_folder(tmp_path / "deep" / "er")).status == status and not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(doctor.tempfile, "NamedTemporaryFile", refuse)
    finding = only(doctor.run_folder(tmp_path))
    assert finding.status == "problem" and "Permission denied" in finding.found


def test_damaged_data_are_told(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    for name in [*(f"data_batch_{n}.bin" for n in range(1, 6)), "test_batch.bin"]:
        (folder / name).write_bytes(bytes(3073))
    damaged, rest = doctor.data_sets(tmp_path)
    assert damaged.status == "warn" and "these are not cifar10's train images" in damaged.found
    assert rest.status == "warn" and "digits (1,437 + 360 images)" in rest.found


def test_data_that_are_there(cifar_dir: Path) -> None:
    finding = only(doctor.data_sets(cifar_dir))
    assert finding.status == "ok" and "cifar10 (50,000 + 10,000 images)" in finding.found


def test_the_machine_tells_sound_numbers() -> None:
    assert 0 < machine.usable_cores() <= 4096 and 2**20 < machine.free_memory() < 2**50
    assert 2**20 < machine.peak_memory() < 2**45
    busy = machine.busy_cores(0.02)
    assert busy is None or (math.isfinite(busy) and busy >= 0)


def test_a_container_with_less(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "/sys/fs/cgroup/cpu.max": "150000 100000",
        "/sys/fs/cgroup/memory.max": "1000",
        "/sys/fs/cgroup/memory.current": "400",
    }
    real = Path.read_text
    monkeypatch.setattr(Path, "read_text", lambda self, **keys: files.get(str(self)) or real(self, **keys))
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda pid: set(range(8)))
    assert machine.usable_cores() == 1.5 and machine.free_memory() == 600
