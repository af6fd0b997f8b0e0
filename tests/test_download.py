"""Downloads from a web server of many faults: nothing but the whole, valid set ever lies at the final path."""

import io
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from bantamnet.data import download, obtain
from bantamnet.data.cifar import CIFARS, CifarSet
from bantamnet.data.download import Mirror, Patience, chosen_mirrors
from bantamnet.data.obtain import fetch_cifar, load_cifar
from bantamnet.errors import UserError
from conftest import invoke
from small_cifar import Server, SmallCifar, mirrored, serving, tree

# No least rate but where slowness is the matter: the machine that tests may be busy.
CALM = Patience(connect=2, silence=0.5, min_rate=0, window=0.2)
HASTY = replace(CALM, min_rate=1e6)
ARCHIVE = "cifar-10-python.tar.gz"


@dataclass
class Site:
    """A server, the set that it serves, and the tree that a download ends with."""

    server: Server
    known: CifarSet
    result: dict[str, str]

    def mirrors(self, *behaviours: str) -> list[Mirror]:
        return [self.server.mirror(behaviour) for behaviour in behaviours]

    def ranges(self, behaviour: str) -> list[int]:
        """Where the requests to a mirror began."""
        asked = [given for path, given in self.server.asked if path.startswith(f"/{behaviour}/")]
        return [int(given[6:-1]) if given else 0 for given in asked]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[CifarSet, dict[str, bytes], dict[str, str]]:
    folder = tmp_path_factory.mktemp("made")
    known, content = mirrored(SmallCifar(), folder)
    inside = tree(folder / "cifar-10-batches-python")
    result = {f"cifar10/cifar-10-batches-python/{name}": content for name, content in inside.items()}
    return known, content, {".cifar10.lock": EMPTY, "cifar10": "folder", "cifar10/cifar-10-batches-python": "folder", **result}


EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.fixture
def site(
    made: tuple[CifarSet, dict[str, bytes], dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Site]:
    known, content, result = made
    monkeypatch.delenv("BANTAMNET_MIRRORS")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving(content) as server:
        site = Site(server, known, result)
        monkeypatch.setitem(CIFARS, "cifar10", known)
        yield site


def fetch(site: Site, root: Path, mirrors: list[Mirror], patience: Patience = CALM) -> list[str]:
    """Fetch from these mirrors; the lines that are told."""
    CIFARS["cifar10"] = replace(site.known, mirrors=tuple(mirrors))
    told: list[str] = []
    assert fetch_cifar("cifar10", root, patience=patience, tell=told.append) == (root / "cifar10", True)
    return told


# (what the first mirror does; whether the second is asked, and whether only for the rest; words that are told)
ENDS: list[tuple[str, str, str]] = [
    ("good", "not asked", ""),
    ("elsewhere", "not asked", ""),
    ("chunked", "not asked", ""),
    ("encoded", "not asked", ""),
    ("truncated", "not asked", ""),
    ("cut", "for the rest", "the transfer broke after"),
    ("cut-without-ranges", "for the rest", "the transfer broke after"),
    ("reset", "for the rest", "the transfer broke after"),
    ("stall", "for the rest", "nothing came for 0.5 s"),
    ("slow", "for the rest", "too slow"),
    ("silent", "for all", "nothing came for 0.5 s"),
    ("forbidden", "for all", "HTTP 403 Forbidden"),
    ("page", "for all", "sent a web page, not the file"),
    ("circle", "for all", "redirects without end"),
    ("wrong", "for all", "checksum does not hold"),
    ("endless", "for all", "sends more than any file"),
]


@pytest.mark.parametrize(("behaviour", "second", "words"), ENDS, ids=[behaviour for behaviour, _, _ in ENDS])
def test_the_right_end_of_each_fault(
    site: Site, tmp_path: Path, behaviour: str, second: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if behaviour == "endless":
        monkeypatch.setattr(download, "MAX_BYTES", 1 << 20)
    root = tmp_path / "data"
    told = fetch(site, root, site.mirrors(behaviour, "good"), HASTY if behaviour == "slow" else CALM)
    assert tree(root) == site.result
    asked = [] if behaviour == "good" else site.ranges("good")
    if behaviour == "elsewhere":
        asked = asked[1:]
    if second == "not asked":
        assert not asked and len(told) == 1
    else:
        whole = len(site.server.content[ARCHIVE])
        assert 0 < asked[0] < whole if second == "for the rest" else asked == [0] or behaviour == "endless"
        assert words in told[1] and "127.0.0.1" in told[1]
    splits = load_cifar("cifar10", root)
    assert [split.fingerprint for split in splits] == list(site.known.fingerprints.values())


def test_a_truncating_mirror_is_asked_for_the_rest_each_time(site: Site, tmp_path: Path) -> None:
    fetch(site, tmp_path, site.mirrors("truncated"))
    ranges = site.ranges("truncated")
    assert len(ranges) > 2 and ranges == sorted(set(ranges)) and ranges[0] == 0


def test_wrong_bytes_at_the_beginning_do_not_spoil_the_next_mirror(site: Site, tmp_path: Path) -> None:
    fetch(site, tmp_path, site.mirrors("wrong-half", "good"))
    half, then = site.ranges("good")
    assert half > 0 and then == 0 and tree(tmp_path) == site.result


def test_another_range_than_asked_for_is_refused(site: Site, tmp_path: Path) -> None:
    told = fetch(site, tmp_path, site.mirrors("cut", "other-range", "good"))
    assert "another range" in told[2] and tree(tmp_path) == site.result


def test_a_part_that_is_whole_or_too_long(site: Site, tmp_path: Path) -> None:
    for extra in (b"", b"more"):
        root = tmp_path / f"extra{len(extra)}"
        part = root / ".cifar10.part" / ".download" / f"{ARCHIVE}.part"
        part.parent.mkdir(parents=True)
        part.write_bytes(site.server.content[ARCHIVE] + extra)
        fetch(site, root, site.mirrors("good"))
        assert tree(root) == site.result


def test_where_all_are_slow_the_fastest_goes_on_from_where_it_was(site: Site, tmp_path: Path) -> None:
    told = fetch(site, tmp_path, site.mirrors("slower", "slow", "forbidden"), HASTY)
    assert tree(tmp_path) == site.result
    assert len(site.ranges("slower")) == 1 and len(site.ranges("slow")) == 2 and min(site.ranges("slow")) > 0
    assert any("no mirror is faster" in line for line in told)


def test_parquet_and_binary_packages(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("parquet", "binary"):
        root = tmp_path / package
        fetch(site, root, [site.server.mirror("good", package)])
        assert (root / "cifar10").is_dir() and not (root / ".cifar10.part").exists()
        assert load_cifar("cifar10", root)[0].fingerprint == site.known.fingerprints["train"]
    monkeypatch.setattr(download, "find_spec", lambda name: None)
    told = fetch(site, tmp_path / "without", [site.server.mirror("good", "parquet"), *site.mirrors("good")])
    assert "pip install 'bantamnet[parquet]'" in told[1] and tree(tmp_path / "without") == site.result


@pytest.mark.parametrize("behaviours", [("forbidden", "wrong", "silent"), ("cut",), ()], ids=str)
def test_no_mirror_helps(site: Site, tmp_path: Path, behaviours: tuple[str, ...]) -> None:
    CIFARS["cifar10"] = replace(site.known, mirrors=(*site.mirrors(*behaviours), Mirror("http://127.0.0.1:9", "python")))
    with pytest.raises(UserError) as told:
        fetch_cifar("cifar10", tmp_path, patience=CALM, tell=lambda _: None)
    for word in (str(tmp_path), "data_batch_1.bin", "cifar-10-batches-py", ARCHIVE, "--data digits", "BANTAMNET_DATA"):
        assert word in str(told.value)
    for word in ("HTTP 403", "checksum", "nothing came") if len(behaviours) > 1 else ("cannot be reached",):
        assert word in str(told.value)
    left = [path.name for path in tmp_path.iterdir()]
    assert set(left) <= {".cifar10.lock", ".cifar10.part"} and (".cifar10.part" in left) == (behaviours == ("cut",))


def test_what_is_there_is_not_fetched_and_what_is_in_the_way_is_kept(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    SmallCifar().write_binary(tmp_path / "here" / "cifar-10-batches-bin")
    assert fetch_cifar("cifar10", tmp_path / "here", patience=CALM) == (tmp_path / "here" / "cifar-10-batches-bin", False)
    assert not site.server.asked
    # What is there is found whether downloads are on or off, packed or not.
    monkeypatch.setenv("BANTAMNET_MIRRORS", "none")
    assert fetch_cifar("cifar10", tmp_path / "here", patience=CALM)[1] is False
    SmallCifar().write_binary(tmp_path / "made" / "cifar-10-batches-bin")
    (tmp_path / "packed").mkdir()
    with tarfile.open(tmp_path / "packed" / "cifar-10-binary.tar.gz", "w:gz") as packed:
        packed.add(tmp_path / "made", ".")
    assert fetch_cifar("cifar10", tmp_path / "packed", patience=CALM) == (
        tmp_path / "packed" / "cifar10" / "cifar-10-batches-bin",
        False,
    )
    shutil.copy(tmp_path / "packed" / "cifar-10-binary.tar.gz", tmp_path / "here")
    assert fetch_cifar("cifar10", tmp_path / "here", patience=CALM)[1] is False and not (tmp_path / "here" / "cifar10").exists()
    part = tmp_path / "broken" / ".cifar10.part" / ".download" / "cifar-10-python.tar.gz.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"begun")
    (tmp_path / "broken" / "cifar-10-binary.tar.gz").write_bytes(b"no archive")
    with pytest.raises(UserError, match="downloads are off"):
        fetch_cifar("cifar10", tmp_path / "broken", patience=CALM)
    assert part.read_bytes() == b"begun"
    with pytest.raises(UserError, match="downloads are off"):
        fetch_cifar("cifar10", tmp_path / "nothing", patience=CALM)
    monkeypatch.delenv("BANTAMNET_MIRRORS")
    damaged = tmp_path / "damaged" / "cifar-10-batches-bin"
    SmallCifar(seed=2).write_binary(damaged)
    fetch(site, damaged.parent, site.mirrors("good"))
    assert len(load_cifar("cifar10", damaged.parent)[0]) == 60 and damaged.is_dir()
    (tmp_path / "taken" / "cifar10").mkdir(parents=True)
    (tmp_path / "taken" / "cifar10" / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="move it away"):
        fetch_cifar("cifar10", tmp_path / "taken", patience=CALM)
    assert (tmp_path / "taken" / "cifar10" / "mine.txt").read_text() == "mine"


def test_a_full_disk_is_told_and_the_part_stays(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: object, target: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(obtain, "_settle", full)
    CIFARS["cifar10"] = replace(site.known, mirrors=tuple(site.mirrors("good")))
    with pytest.raises(UserError, match=r"No space left on device.*--data-dir"):
        fetch_cifar("cifar10", tmp_path, patience=CALM, tell=lambda _: None)
    assert not (tmp_path / "cifar10").exists()


def test_training_fetches_on_first_use_and_the_verb_before(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BANTAMNET_MIRRORS", f"http://127.0.0.1:{site.server.port}/forbidden {site.mirrors('good')[0].url}")
    train, test = load_cifar("cifar10", tmp_path / "first")
    assert (len(train), len(test)) == (60, 20) and site.ranges("forbidden")
    address = f"{site.mirrors('good')[0].url}/{ARCHIVE}?download=1"
    arguments = ["fetch", "cifar10", "--mirror", address, "--data-dir", str(tmp_path / "verb"), "--json"]
    for fetched in (True, False):
        code, out, err = invoke(arguments, monkeypatch, capsys)
        folder = tmp_path / "verb" / "cifar10"
        assert json.loads(out)["fetched"] is fetched and code == 0
        assert "\x1b" not in err and "\r" not in err and folder.is_dir()
    for wrong, words in ((["cifar11"], "did you mean 'cifar10'"), (["cifar10", "--mirror", "ftp://x"], "begins with http")):
        code, out, err = invoke(["fetch", *wrong, "--data-dir", str(tmp_path / "new")], monkeypatch, capsys)
        assert code == 2 and words in err and not (tmp_path / "new").exists()


def test_mirrors_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    known = CIFARS["cifar100"]
    assert chosen_mirrors(known.mirrors, known.packages) == []  # as in all tests: none
    monkeypatch.setenv("BANTAMNET_MIRRORS", "https://a.org/x https://b.org/y/cifar-100-binary.tar.gz?z=1")
    chosen = chosen_mirrors(known.mirrors, known.packages)
    assert [(m.url, m.package) for m in chosen] == [
        *(("https://a.org/x", package) for package in ("python", "binary", "parquet")),
        ("https://b.org/y/", "binary"),
    ]
    monkeypatch.delenv("BANTAMNET_MIRRORS")
    for known in CIFARS.values():
        assert chosen_mirrors(known.mirrors, known.packages) == list(known.mirrors)
        assert known.mirrors[-1].host == "www.cs.toronto.edu" and all(m.url.startswith("https://") for m in known.mirrors)
        assert {mirror.package for mirror in known.mirrors} <= set(known.packages)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_on_a_terminal_and_none_in_a_pipe(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site.server.seconds = 0.5
    monkeypatch.setenv("TERM", "xterm")
    for stream in (Terminal(), io.StringIO()):
        monkeypatch.setattr(sys, "stderr", stream)
        fetch(site, tmp_path / type(stream).__name__, site.mirrors("steady"))
        assert (ARCHIVE in stream.getvalue()) == ("B/s" in stream.getvalue()) == isinstance(stream, Terminal)


def in_child(act: object, *arguments: object) -> multiprocessing.Process:
    """The function in a process of its own, which shares nothing with this one from then on."""
    child = multiprocessing.get_context("fork").Process(target=act, args=arguments)  # type: ignore[attr-defined]
    child.start()
    return child


def test_eight_processes_with_a_cold_cache_end_with_one_valid_copy(site: Site, tmp_path: Path) -> None:
    site.server.seconds = 0.5
    CIFARS["cifar10"] = replace(site.known, mirrors=tuple(site.mirrors("steady")))

    def load() -> None:
        torch.set_num_threads(1)
        train, _ = load_cifar("cifar10", tmp_path)
        os._exit(0 if train.fingerprint == site.known.fingerprints["train"] else 1)

    children = [in_child(load) for _ in range(8)]
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0] * 8
    assert tree(tmp_path) == site.result
    assert site.server.asked == [(f"/steady/{ARCHIVE}", None)]


def test_killed_while_downloading_and_run_again(site: Site, tmp_path: Path) -> None:
    site.server.seconds = 0.6
    moments = random.Random(0)
    CIFARS["cifar10"] = replace(site.known, mirrors=tuple(site.mirrors("steady")))
    resumed = 0
    for attempt in range(4):
        root = tmp_path / str(attempt)
        child = in_child(fetch_cifar, "cifar10", root, (), CALM)
        time.sleep(moments.uniform(0.2, 0.6))
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        assert not (root / "cifar10").exists() or tree(root) == site.result
        had = len(site.server.asked)
        assert load_cifar("cifar10", root)[0].fingerprint == site.known.fingerprints["train"]
        assert tree(root) == site.result
        resumed += any(given for _, given in site.server.asked[had:])
    assert resumed


EVENTS = ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.chmod", "os.utime", "tempfile.mkstemp", "shutil.rmtree")


@pytest.mark.slow
@pytest.mark.parametrize("package", ["python", "parquet", "lying there"])
def test_killed_at_every_step_and_run_again(site: Site, tmp_path: Path, package: str) -> None:
    """SIGKILL at the n-th opening, renaming, removing or making of anything in the data folder, for every n."""
    mirror = site.server.mirror("good", "binary" if package == "lying there" else package)
    CIFARS["cifar10"] = replace(site.known, mirrors=(mirror,))
    expected = None
    for step in range(1, 1000):
        root = tmp_path / str(step)
        root.mkdir()
        if package == "lying there":
            (root / ARCHIVE).write_bytes(site.server.content[ARCHIVE])

        def killed(root: Path = root, step: int = step) -> None:
            left = step

            def at(event: str, arguments: tuple[object, ...]) -> None:
                nonlocal left
                if event in EVENTS and str(root) in str(arguments):
                    left -= 1
                    if left == 0:
                        os.kill(os.getpid(), signal.SIGKILL)

            sys.addaudithook(at)
            load_cifar("cifar10", root)
            os._exit(0)

        child = in_child(killed)
        child.join(60)
        final = tree(root / "cifar10") if (root / "cifar10").exists() else None
        assert load_cifar("cifar10", root)[0].fingerprint == site.known.fingerprints["train"]
        expected = expected or tree(root)
        assert tree(root) == expected and final in (None, tree(root / "cifar10"))
        if child.exitcode == 0:
            break
        assert child.exitcode == -signal.SIGKILL
    assert step > 20


def test_nothing_is_seen_at_the_final_path_before_it_is_whole(site: Site, tmp_path: Path) -> None:
    seen: list[set[str]] = []
    ended = threading.Event()

    def watch() -> None:
        while not ended.is_set():
            if (tmp_path / "cifar10").exists():
                seen.append(set(tree(tmp_path / "cifar10")))
                return

    watcher = threading.Thread(target=watch)
    watcher.start()
    fetch(site, tmp_path, site.mirrors("cut", "wrong", "good"))
    watcher.join(10)
    ended.set()
    assert seen == [{name.removeprefix("cifar10/") for name in site.result if name.startswith("cifar10/")}]
