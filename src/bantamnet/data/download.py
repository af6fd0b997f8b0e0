"""Bring files from mirrors, in order, until all of one package are there with the checksums they should have.

pooch checks sums and puts a file in its place; what it does not do is done here: a broken transfer goes on where it broke, at the
same mirror or at the next, and a mirror that is too slow is left.
"""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bantamnet.errors import UserError

BLOCK = 1 << 16
MAX_BYTES = 1 << 29
"""No file of a known data set is larger; a mirror that sends more sends something else."""
TRIES = 8
"""Broken transfers from one mirror, each of which brought something."""

Files = dict[str, str]
"""File name → checksum, as `md5:…` or `sha256:…`."""


@dataclass(frozen=True)
class Mirror:
    """A folder on the web that holds the files of a package under their own names."""

    url: str
    package: str

    @property
    def host(self) -> str:
        """Its name for people."""
        return urlsplit(self.url).netloc


@dataclass(frozen=True)
class Patience:
    """When a mirror is left: seconds to connect, seconds without a byte, and bytes a second over a window of seconds."""

    connect: float = 10.0
    silence: float = 20.0
    min_rate: float = 200_000.0
    window: float = 10.0


def say(line: str) -> None:
    """A line for people; stdout is for results."""
    print(line, file=sys.stderr, flush=True)


class NoMirrorError(Exception):
    """No mirror brought the files; the message has a line for each."""


class _MirrorError(Exception):
    """This mirror does not bring this file; the message says why."""


class _BrokenError(_MirrorError):
    """The transfer ended early; it may go on from there."""


class _SlowError(_MirrorError):
    """The mirror is slower than `min_rate`."""

    def __init__(self, rate: float) -> None:
        super().__init__(f"too slow, {rate / 1000:.0f} kB/s")
        self.rate = rate


def fetch_files(
    mirrors: Sequence[Mirror], packages: dict[str, Files], folder: Path, patience: Patience, tell: Callable[[str], None] = say
) -> str:
    """Bring all files of one package into a folder; returns the package's name.

    Mirrors are asked in order. One that is too slow is left for the next; where all that work are slow, the fastest of them is
    taken. Raises `NoMirrorError` where none brings the files, and `OSError` for what is wrong on this side (a full disk).
    """
    reasons = []
    slow: list[tuple[float, Mirror]] = []
    for mirror in mirrors:
        try:
            return _fetch_package(mirror, packages, folder, patience, patience.min_rate)
        except _MirrorError as error:
            reasons.append(f"{mirror.host}: {error}")
            tell(f"  {reasons[-1]}; on to the next")
            if isinstance(error, _SlowError):
                slow.append((error.rate, mirror))
    for _, mirror in sorted(slow, key=lambda entry: -entry[0]):
        tell(f"  no mirror is faster; back to {mirror.host}")
        try:
            return _fetch_package(mirror, packages, folder, patience, 0.0)
        except _MirrorError as error:
            reasons.append(f"{mirror.host}: {error}")
    raise NoMirrorError("\n".join(f"  {reason}" for reason in reasons) or "  no mirror is set")


def _fetch_package(mirror: Mirror, packages: dict[str, Files], folder: Path, patience: Patience, min_rate: float) -> str:
    if mirror.package == "parquet" and find_spec("pyarrow") is None:
        raise _MirrorError("has Parquet files, which need pyarrow (pip install 'bantamnet[parquet]')")
    for name, checksum in packages[mirror.package].items():
        _fetch_file(f"{mirror.url.rstrip('/')}/{name}", checksum, folder / name, patience, min_rate)
    return mirror.package


def _fetch_file(url: str, checksum: str, path: Path, patience: Patience, min_rate: float) -> None:
    """At `path` lies the file with that checksum, or nothing."""
    import pooch  # type: ignore[import-untyped]

    pooch.get_logger().setLevel("ERROR")
    for _ in range(2):
        transfer = _Transfer(patience, min_rate, path.with_name(f"{path.name}.part"))
        try:
            pooch.retrieve(url, checksum, path.name, path.parent, downloader=transfer)
            return
        except ValueError:  # pooch: another checksum; it has removed the file
            if not transfer.resumed:
                break  # otherwise the beginning, from elsewhere, may have been the wrong part
    raise _MirrorError("sent other bytes than the file's (its checksum does not hold)")


class _Transfer:
    """Downloads a URL for pooch; what has come stays in `part` until all has."""

    def __init__(self, patience: Patience, min_rate: float, part: Path) -> None:
        self.patience, self.min_rate, self.part = patience, min_rate, part
        self.resumed = False

    def __call__(self, url: str, output_file: str, _pooch: object, check_only: bool = False) -> None:
        for left in reversed(range(TRIES)):
            before = self.have()
            try:
                self.go_on(url)
                break
            except _BrokenError:
                if not left or self.have() == before:
                    raise
        self.part.replace(output_file)

    def have(self) -> int:
        """Bytes that have come."""
        return self.part.stat().st_size if self.part.exists() else 0

    def go_on(self, url: str) -> None:
        """Bring what is missing of the part."""
        import requests
        from urllib3.exceptions import HTTPError, ReadTimeoutError

        have = self.have()
        headers = {"Accept-Encoding": "identity", "User-Agent": "bantamnet"} | ({"Range": f"bytes={have}-"} if have else {})
        timeouts = (self.patience.connect, self.patience.silence)
        try:
            with requests.get(url, headers=headers, stream=True, timeout=timeouts) as response:
                self.receive(response, have)
        except (ReadTimeoutError, requests.ReadTimeout):
            raise _MirrorError(f"nothing came for {self.patience.silence:g} s") from None
        except requests.ConnectTimeout:
            raise _MirrorError(f"no connection within {self.patience.connect:g} s") from None
        except requests.TooManyRedirects:
            raise _MirrorError("redirects without end") from None
        except requests.exceptions.SSLError:
            raise _MirrorError("its certificate does not hold") from None
        except requests.RequestException as error:
            raise _MirrorError(f"cannot be reached ({type(error).__name__})") from None
        except HTTPError:
            raise _BrokenError(f"the transfer broke after {self.have():,} bytes") from None

    def receive(self, response: Any, have: int) -> None:
        """Write the body where it belongs in the part."""
        given = response.headers.get("Content-Range", "")
        if response.status_code == 416 and have:
            if given == f"bytes */{have}":
                self.resumed = True
                return  # all had come
            self.part.unlink()
            raise _BrokenError("what had come before is longer than the file")
        if response.status_code not in (200, 206):
            raise _MirrorError(f"HTTP {response.status_code} {response.reason}")
        if "text/html" in response.headers.get("Content-Type", ""):
            raise _MirrorError("sent a web page, not the file")
        if response.status_code == 206 and not given.startswith(f"bytes {have}-"):
            raise _MirrorError(f"sent another range than asked for ({given!r})")
        start = have if response.status_code == 206 else 0
        self.resumed = start > 0
        length = response.headers.get("Content-Length", "")
        total = start + int(length) if length.isdigit() else None
        with self.part.open("ab" if start else "wb") as file, _bar(self.part.stem, start, total) as advance:
            done = start
            since, at_since = time.monotonic(), start
            # read1 returns what has come; read would wait for a whole block, however slowly it drips in.
            while block := response.raw.read1(BLOCK, decode_content=False):
                file.write(block)
                done += len(block)
                advance(len(block))
                if done > MAX_BYTES:
                    self.part.unlink()
                    raise _MirrorError("sends more than any file of this data set has")
                if (seconds := time.monotonic() - since) >= self.patience.window:
                    if (rate := (done - at_since) / seconds) < self.min_rate:
                        raise _SlowError(rate)
                    since, at_since = time.monotonic(), done


@contextlib.contextmanager
def _bar(name: str, done: int, total: int | None) -> Iterator[Callable[[int], None]]:
    """A progress bar on a terminal's stderr; the function tells it of bytes that came. Elsewhere nothing."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(name, total=total, completed=done)
        yield lambda count: progress.advance(task, count)


def chosen_mirrors(default: Sequence[Mirror], packages: dict[str, Files], given: Sequence[str] = ()) -> list[Mirror]:
    """The mirrors that are asked: those given, else those of `BANTAMNET_MIRRORS` (addresses with blanks between; `none` for no
    download at all), else the default.

    An address is that of a folder, which may hold any package, or of one of a package's files.
    """
    words = list(given) or os.environ.get("BANTAMNET_MIRRORS", "").split()
    if words == ["none"]:
        return []
    mirrors = []
    for word in words:
        parts = urlsplit(word)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise UserError(f"mirror {word!r}: give an address that begins with http:// or https://")
        name = parts.path.rsplit("/", 1)[-1]
        folder = word[: word.rindex(name)] if name else word
        named = [Mirror(folder, package) for package, files in packages.items() if name and name in files]
        mirrors += named or [Mirror(word, package) for package in packages]
    return mirrors if words else list(default)
