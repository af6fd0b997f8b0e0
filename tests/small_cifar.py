"""A small set in the shape of CIFAR, written in each layout and served by a web server of many faults."""

import contextlib
import gzip
import hashlib
import io
import pickle
import socket
import struct
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
from PIL import Image

from bantamnet.data.cifar import CIFARS, CifarSet
from bantamnet.data.download import Mirror


class SmallCifar:
    """60 training and 20 test images, drawn from a seed; the labels of `cifar100` come after a coarse one."""

    NUM = {"train": 60, "test": 20}  # noqa: RUF012

    def __init__(self, name: str = "cifar10", seed: int = 1) -> None:
        self.name, self.real = name, CIFARS[name]
        rng = np.random.default_rng(seed)
        classes = self.real.layouts.num_classes
        self.parts = {
            part: (rng.integers(0, 256, (num, 3, 32, 32), dtype=np.uint8), rng.integers(0, classes, num))
            for part, num in self.NUM.items()
        }

    def fingerprint(self, part: str) -> str:
        images, labels = self.parts[part]
        sums = sorted(hashlib.sha256(bytes([n]) + i.tobytes()).digest() for i, n in zip(images, labels, strict=True))
        return hashlib.sha256(b"".join(sums)).hexdigest()

    def known(self, **changes: object) -> CifarSet:
        """The entry of the table that knows this set by its content."""
        return replace(
            self.real,
            fingerprints={part: self.fingerprint(part) for part in self.parts},
            layouts=replace(self.real.layouts, num_images=self.NUM),
            **changes,  # type: ignore[arg-type]
        )

    def shares(self, files: dict[str, tuple[str, ...]]) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
        """(file name, its images, its labels), the images of a part divided among its files."""
        for part, names in files.items():
            images, labels = self.parts[part]
            for number, name in enumerate(names):
                yield name, images[number :: len(names)], labels[number :: len(names)]

    def write_binary(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        coarse = bytes(self.real.layouts.label_bytes - 1)
        for name, images, labels in self.shares(self.real.layouts.binary):
            (folder / name).write_bytes(b"".join(coarse + bytes([n]) + i.tobytes() for i, n in zip(images, labels, strict=True)))

    def write_python(self, folder: Path, protocol: int | None = None) -> None:
        """As Python 2 wrote the official files, or as Python 3 writes them in that protocol."""
        folder.mkdir(parents=True)
        key = "labels" if self.name == "cifar10" else "fine_labels"
        for name, images, labels in self.shares(self.real.layouts.python):
            batch = {"data": images.reshape(-1, 3072), key: labels.tolist(), "batch_label": name}
            (folder / name).write_bytes(python2_pickle(batch) if protocol is None else pickle.dumps(batch, protocol))

    def write_parquet(self, folder: Path, image_column: str = "img", as_struct: bool = True) -> None:
        import pyarrow as pa
        import pyarrow.parquet as parquet

        folder.mkdir(parents=True)
        label_column = "label" if self.name == "cifar10" else "fine_label"
        for part, (images, labels) in self.parts.items():
            cells = [png(image) for image in images]
            column = [{"bytes": cell, "path": None} for cell in cells] if as_struct else cells
            parquet.write_table(
                pa.table({image_column: column, label_column: labels.tolist(), "extra": [0] * len(labels)}),
                folder / f"{part}-00000-of-00001.parquet",
                row_group_size=32,
            )


def png(image: np.ndarray) -> bytes:
    """(3, H, W) as PNG."""
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0))).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def python2_pickle(batch: dict[str, object]) -> bytes:
    """What Python 2 with NumPy 1 wrote: byte strings for text, `numpy.core.multiarray`."""

    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value if len(value) < 256 else b"T" + struct.pack("<i", len(value)) + value

    def number(value: int) -> bytes:
        return b"J" + struct.pack("<i", value)

    def write(value: object) -> bytes:
        if isinstance(value, str):
            return text(value.encode())
        if isinstance(value, list):
            return b"](" + b"".join(number(n) for n in value) + b"e"
        assert isinstance(value, np.ndarray) and value.dtype == np.uint8
        made = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(" + number(0) + b"t" + text(b"b") + b"tR"
        dtype = b"cnumpy\ndtype\n(" + text(b"u1") + number(0) + number(1) + b"tR("
        dtype += number(3) + text(b"|") + b"NNN" + number(-1) + number(-1) + number(0) + b"tb"
        shape = b"(" + b"".join(number(side) for side in value.shape) + b"t"
        return made + b"(" + number(1) + shape + dtype + b"\x89" + text(value.tobytes()) + b"tb"

    return b"\x80\x02}(" + b"".join(text(key.encode()) + write(value) for key, value in batch.items()) + b"u."


def pack(folder: Path, archive: Path, level: int = 1) -> bytes:
    """A .tar.gz of a folder, the same bytes each time."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        tar.add(folder, folder.name)
    archive.write_bytes(gzip.compress(stream.getvalue(), level, mtime=0))
    return archive.read_bytes()


def mirrored(small: SmallCifar, folder: Path) -> tuple[CifarSet, dict[str, bytes]]:
    """(the set's entry of the table, with the sums of its packages; the packages' files by name)."""
    real = small.real
    content = {}
    for package, write in (("python", small.write_python), ("binary", small.write_binary)):
        (archive,) = real.packages[package]
        inside = folder / archive.removesuffix(".tar.gz").replace("10-", "10-batches-")
        write(inside)
        content[archive] = pack(inside, folder / archive)
    small.write_parquet(folder / "parquet")
    content |= {path.name: path.read_bytes() for path in (folder / "parquet").iterdir()}
    sums = {name: f"sha256:{hashlib.sha256(body).hexdigest()}" for name, body in content.items()}
    packages = {package: {name: sums[name] for name in names} for package, names in real.packages.items()}
    return small.known(packages=packages), content


def tree(folder: Path) -> dict[str, str]:
    """Every file and folder below it, with its content's sum."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in sorted(folder.rglob("*"))
    }


Behaviour = Callable[["Handler", bytes], None]


@dataclass
class Server:
    """Serves `content` under any name; what a path's first folder is called says how (see `BEHAVIOURS`)."""

    content: dict[str, bytes]
    port: int = 0
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    """(path, Range header) of each request."""
    seconds: float = 0.0
    """How long `steady` takes over a file."""
    ended: threading.Event = field(default_factory=threading.Event)

    def mirror(self, behaviour: str, package: str = "python") -> Mirror:
        return Mirror(f"http://127.0.0.1:{self.port}/{behaviour}", package)


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    known: Server

    def do_GET(self) -> None:
        self.known.asked.append((self.path, self.headers.get("Range")))
        _, behaviour, name = self.path.split("/")
        with contextlib.suppress(OSError):  # the client has gone
            BEHAVIOURS[behaviour](self, self.known.content.get(name, b""))

    def end_headers(self) -> None:
        self.send_header("Connection", "close")
        super().end_headers()

    def log_message(self, *arguments: object) -> None: ...

    def start(self) -> int:
        """First byte that is asked for."""
        given = self.headers.get("Range")
        return int(given.removeprefix("bytes=").removesuffix("-")) if given else 0

    def head(self, body: bytes, ranges: bool = True, **headers: str) -> bytes:
        """Send the head of an answer; returns what is to follow it."""
        start = self.start() if ranges else 0
        if start >= len(body) > 0:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(body)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return b""
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        if not any(name == "Transfer_Encoding" for name in headers):
            self.send_header("Content-Length", str(len(body) - start))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        return body[start:]

    def drip(self, body: bytes, piece: int, pause: float) -> None:
        for begin in range(0, len(body), piece):
            self.wfile.write(body[begin : begin + piece])
            self.wfile.flush()
            time.sleep(pause)


def _good(handler: Handler, body: bytes) -> None:
    handler.wfile.write(handler.head(body))


def _truncated(handler: Handler, body: bytes) -> None:
    """Ends after a third of what is asked for, each time."""
    rest = handler.head(body)
    handler.wfile.write(rest[: max(1, len(rest) // 3)] if len(rest) > 40_000 else rest)


def _cut(handler: Handler, body: bytes) -> None:
    """Always ends at the middle of the file."""
    rest = handler.head(body)
    handler.wfile.write(rest[: max(0, len(body) // 2 - handler.start())])


def _cut_without_ranges(handler: Handler, body: bytes) -> None:
    handler.wfile.write(handler.head(body, ranges=False)[: len(body) // 2])


def _reset(handler: Handler, body: bytes) -> None:
    """Breaks the connection in the middle of the file."""
    handler.wfile.write(handler.head(body)[: max(0, len(body) // 2 - handler.start())])
    handler.wfile.flush()
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()


def _stall(handler: Handler, body: bytes) -> None:
    """Sends the first half and then nothing."""
    handler.wfile.write(handler.head(body)[: max(0, len(body) // 2 - handler.start())])
    handler.wfile.flush()
    handler.known.ended.wait(5)


def _silent(handler: Handler, body: bytes) -> None:
    handler.known.ended.wait(5)


def _slow(handler: Handler, body: bytes) -> None:
    handler.drip(handler.head(body), 2000, 0.01)


def _slower(handler: Handler, body: bytes) -> None:
    handler.drip(handler.head(body), 500, 0.01)


def _steady(handler: Handler, body: bytes) -> None:
    rest = handler.head(body)
    handler.drip(rest, max(1, len(body) // 50), handler.known.seconds / 50)


def _forbidden(handler: Handler, body: bytes) -> None:
    page = b"<html>Forbidden</html>" * 100
    handler.send_response(403)
    handler.send_header("Content-Type", "text/html")
    handler.send_header("Content-Length", str(len(page)))
    handler.end_headers()
    handler.wfile.write(page)


def _page(handler: Handler, body: bytes) -> None:
    """A login page, as of a hotel, where the file should be."""
    handler.wfile.write(handler.head(b"<html>Log in</html>", ranges=False, Content_Type="text/html; charset=utf-8"))


def _wrong(handler: Handler, body: bytes) -> None:
    handler.wfile.write(handler.head(bytes(len(body))))


def _wrong_half(handler: Handler, body: bytes) -> None:
    """Wrong bytes, and not all of them."""
    handler.wfile.write(handler.head(bytes(len(body)))[: max(0, len(body) // 2 - handler.start())])


def _other_range(handler: Handler, body: bytes) -> None:
    """Answers a request for a range with another one."""
    handler.send_response(206)
    handler.send_header("Content-Range", f"bytes 0-{len(body) - 1}/{len(body)}")
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def _chunked(handler: Handler, body: bytes) -> None:
    rest = handler.head(body, Transfer_Encoding="chunked")
    for begin in range(0, len(rest), 10_000):
        piece = rest[begin : begin + 10_000]
        handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
    handler.wfile.write(b"0\r\n\r\n")


def _encoded(handler: Handler, body: bytes) -> None:
    """Calls the archive's own compression one of the transfer, as some servers do."""
    handler.wfile.write(handler.head(body, Content_Encoding="gzip"))


def _elsewhere(handler: Handler, body: bytes) -> None:
    handler.send_response(302)
    handler.send_header("Location", handler.path.replace("/elsewhere/", "/good/"))
    handler.send_header("Content-Length", "0")
    handler.end_headers()


def _circle(handler: Handler, body: bytes) -> None:
    handler.send_response(302)
    handler.send_header("Location", handler.path)
    handler.send_header("Content-Length", "0")
    handler.end_headers()


def _endless(handler: Handler, body: bytes) -> None:
    """Far more than the file has; not without end, so that a mistake here cannot fill a disk."""
    handler.head(body, Transfer_Encoding="chunked")
    for _ in range(1000):
        handler.wfile.write(b"10000\r\n" + bytes(0x10000) + b"\r\n")


BEHAVIOURS: dict[str, Behaviour] = {
    name.removeprefix("_").replace("_", "-"): function
    for name, function in list(globals().items())
    if name.startswith("_") and getattr(function, "__annotations__", {}).get("handler") is Handler
}


@contextlib.contextmanager
def serving(content: dict[str, bytes]) -> Iterator[Server]:
    """A web server on the loopback interface, in threads of this process."""
    server = Server(content)
    web = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"known": server}))
    web.daemon_threads = True
    server.port = web.server_port
    thread = threading.Thread(target=web.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.ended.set()
        web.shutdown()
        web.server_close()
