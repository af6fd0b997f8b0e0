"""A run survives kills, damage, full disks and second processes; what is not the same run is refused."""

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from bantamnet.errors import UserError, WriteError
from bantamnet.lock import hold
from bantamnet.runs import tensorfile
from bantamnet.runs.tensorfile import DamagedFileError, read_tensors, write_bytes, write_tensors
from bantamnet.training import loop, train
from bantamnet.training.checkpoints import list_checkpoints
from bantamnet.training.signals import Stopped
from conftest import tiny
from same_run import SETS, assert_same_run, newest_step, stopping_after

FORK = multiprocessing.get_context("fork")
"""Processes that have imported everything already, which takes longer than what they do here."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody disturbed."""
    return train.train(tiny(*SETS), tmp_path_factory.mktemp("whole") / "run").path


@pytest.fixture
def stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that was stopped in its second epoch."""
    with stopping_after(monkeypatch, 10), pytest.raises(Stopped):
        train.train(tiny(*SETS), tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("split_seed: 0", "split_seed: 1", "data.val.split_seed was 0 and is 1"),
        ("widths: [8, 16]", "widths: [8, 24]", "model.widths.1 was 16 and is 24"),
        ("lr: 0.1", "lr: 0.2", "optim.0.lr was 0.1 and is 0.2"),
        ("batch_size: 200", "batch_size: 100", "batch_size was 200 and is 100"),
    ],
)
def test_another_run_is_refused_by_the_field_that_differs(stopped: Path, old: str, new: str, field: str) -> None:
    config = stopped / "config.yaml"
    assert old in config.read_text()
    config.write_text(config.read_text().replace(old, new, 1))
    with pytest.raises(UserError, match=field):
        train.resume(stopped)


def test_other_images_and_classes_are_refused(stopped: Path) -> None:
    path = list_checkpoints(stopped / "checkpoints")[-1]
    tensors, header = read_tensors(path)
    for field, value in (("data fingerprint", "0" * 64), ("class_names", list("abcdefghij"))):
        write_tensors(path, tensors, {**header, "identity": {**header["identity"], field: value}})
        with pytest.raises(UserError, match=field):
            train.resume(stopped)


def test_what_a_runs_steps_do_not_depend_on_may_change(whole: Path, stopped: Path) -> None:
    config = stopped / "config.yaml"
    config.write_text(config.read_text().replace("keep: 2", "keep: 5"))
    train.resume(stopped)
    assert_same_run(whole, stopped)


def test_a_run_in_use_is_refused_and_the_lock_dies_with_its_process(whole: Path, stopped: Path) -> None:
    held = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import pathlib, sys, time; from bantamnet.lock import hold\n"
            "with hold(pathlib.Path(sys.argv[1])): print('held', flush=True); time.sleep(600)",
            str(stopped),
        ],
        stdout=subprocess.PIPE,
    )
    assert held.stdout is not None and held.stdout.readline() == b"held\n"
    with pytest.raises(UserError, match="in use by another process"):
        train.resume(stopped)
    held.kill()
    held.wait()
    train.resume(stopped)
    assert_same_run(whole, stopped)
    with hold(stopped):
        pass  # and nobody holds it after the end


def test_every_truncation_and_flipped_bit_is_detected(tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    tensors = {"a": torch.randn(40, 30), "b": torch.arange(7)}
    write_tensors(path, tensors, {"kind": "checkpoint", "step": 3})
    sound = path.read_bytes()
    rng = random.Random(0)
    damaged = [sound[: rng.randrange(len(sound))] for _ in range(20)]
    for place in [0, 3, 8, 9, 20, 60, 100, len(sound) - 1, *(rng.randrange(len(sound)) for _ in range(40))]:
        flipped = bytearray(sound)
        flipped[place] ^= 1 << rng.randrange(8)
        damaged.append(bytes(flipped))
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(DamagedFileError):
            read_tensors(path)
    path.write_bytes(sound)
    assert read_tensors(path)[0]["a"].equal(tensors["a"])


def test_what_was_not_written_by_the_run_is_never_deleted(stopped: Path) -> None:
    strangers = [stopped / "checkpoints" / name for name in ("mine.safetensors", "step-final.safetensors", "notes.txt")]
    strangers += [stopped / "other.tmp", stopped / "checkpoints" / ".gitignore"]
    for path in strangers:
        path.write_text("mine")
    train.resume(stopped)
    assert all(path.read_text() == "mine" for path in strangers)


@pytest.fixture
def small_disk(tmp_path: Path) -> Path:
    """A file system of 1 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_told_and_the_run_goes_on_later(whole: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = small_disk / "run"
    with stopping_after(monkeypatch, 8), pytest.raises(Stopped):
        train.train(tiny(*SETS), path)
    before = {p.name: p.read_bytes() for p in list_checkpoints(path / "checkpoints")}
    with pytest.raises(OSError), (small_disk / "filler").open("wb") as filler:
        while True:
            filler.write(bytes(4096))
            filler.flush()
    with pytest.raises(WriteError, match=r"cannot write .*No space left on device"):
        train.resume(path)
    assert {p.name: p.read_bytes() for p in list_checkpoints(path / "checkpoints")} == before
    assert not list(path.rglob(".*.tmp"))
    (small_disk / "filler").unlink()
    train.resume(path)
    assert_same_run(whole, path)


def test_a_write_that_fails_leaves_the_old_file_and_no_temporary_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_bytes(path, b"old")
    for name in ("fsync", "fdopen"):
        with monkeypatch.context() as patch:
            patch.setattr(tensorfile.os, name, lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
            with pytest.raises(WriteError, match=r"file: No space left on device; what was written before is untouched"):
                write_bytes(path, b"new and longer")
        assert path.read_bytes() == b"old" and [p.name for p in tmp_path.iterdir()] == ["file"]
    with pytest.raises(WriteError, match="No such file or directory"):
        write_bytes(tmp_path / "removed" / "file", b"new")


def die_at(place: str, run: Path) -> None:
    """Go on with a run, and be killed at the named call inside the fourth checkpoint that is written."""
    owner: Any = {"mkstemp": tempfile, "write": os, "fsync": os, "replace": Path, "folder": os, "unlink": Path}[place]
    name = {"write": "fdopen", "folder": "fsync"}.get(place, place)
    original, save = getattr(owner, name), loop.save_checkpoint
    calls = {"saves": 0, "inside": 0}

    def deadly(*arguments: Any, **words: Any) -> Any:
        calls["inside"] += 1
        if calls["saves"] == 4 and calls["inside"] == (2 if place == "folder" else 1):
            if place == "write":
                with original(*arguments, **words) as file:
                    file.write(b"half a checkpoint")
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **words)

    def counted(*arguments: Any) -> None:
        calls["saves"] += 1
        calls["inside"] = 0
        save(*arguments)

    loop.save_checkpoint = counted
    setattr(owner, name, deadly)
    train.resume(run)


@pytest.mark.slow
@pytest.mark.parametrize("place", ["mkstemp", "write", "fsync", "replace", "folder", "unlink"])
def test_killed_at_each_call_of_writing_a_checkpoint(
    whole: Path, tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run"
    with stopping_after(monkeypatch, 3), pytest.raises(Stopped):
        train.train(tiny(*SETS, "checkpoint={every_steps: 2, keep: 2}"), path)
    before = newest_step(path)
    process = FORK.Process(target=die_at, args=(place, path))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert newest_step(path) > before
    train.resume(path)
    assert_same_run(whole, path)
    assert not list(path.rglob(".*.tmp"))


@pytest.mark.slow
def test_killed_at_twenty_random_moments(tmp_path: Path) -> None:
    """kill −9, each time a few steps further on, sometimes in the middle of writing a checkpoint."""
    config = tiny(*SETS, "batch_size=40", "checkpoint={every_steps: 1, keep: 2}")
    undisturbed = train.train(config, tmp_path / "whole").path
    path, rng = tmp_path / "run", random.Random(0)
    for _ in range(20):
        begun = (path / "config.yaml").exists()
        process = FORK.Process(target=train.resume if begun else train.train, args=(path,) if begun else (config, path))
        wanted = newest_step(path) + 1
        process.start()
        while newest_step(path) < wanted and process.is_alive():
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.03))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL, "finished too early to be killed twenty times"
    train.resume(path)
    assert_same_run(undisturbed, path)
    assert not list(path.rglob(".*.tmp"))
