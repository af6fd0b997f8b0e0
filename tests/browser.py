"""Chromium, driven through its own pipe: what a page asks for, what it complains of, how it looks."""

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


def find_chromium() -> str:
    """Its program; the test is skipped where there is none, unless BANTAMNET_NEED_CHROMIUM says that there has to be one."""
    named = os.environ.get("BANTAMNET_CHROMIUM")
    found = named or next((path for name in NAMES if (path := shutil.which(name))), None)
    if not found:
        reason = "needs Chromium: apt-get install chromium, or BANTAMNET_CHROMIUM=its program"
        if os.environ.get("BANTAMNET_NEED_CHROMIUM"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


class Browser:
    """One page; `events` holds all that it has told."""

    def __init__(self, to: int, fro: int, log: Path) -> None:
        self.to, self.fro, self.log = to, fro, log
        self.buffer, self.number = b"", 0
        self.events: list[dict[str, Any]] = []
        self.session: str | None = None
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Ask for something and wait for the answer."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        message |= {"sessionId": self.session} if self.session else {}
        os.write(self.to, json.dumps(message).encode() + b"\0")
        while True:
            got = self._read(method)
            if got.get("id") == self.number:
                assert "error" not in got, f"{method}: {got['error']}"
                return dict(got["result"])
            self.events.append(got)

    def _read(self, why: str, seconds: float = 60) -> dict[str, Any]:
        end = time.monotonic() + seconds
        while b"\0" not in self.buffer:
            ready, _, _ = select.select([self.fro], [], [], max(0.0, end - time.monotonic()))
            part = os.read(self.fro, 1 << 20) if ready else b""
            assert part, f"Chromium does not answer {why}: {self.log.read_text(errors='replace')[-2000:]}"
            self.buffer += part
        message, self.buffer = self.buffer.split(b"\0", 1)
        return dict(json.loads(message))

    def open(self, path: Path, width: int = 1280, height: int = 900, scheme: str = "light") -> None:
        """Load a file in a window of that width, light or dark, and wait until all of it is there."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
        self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.events.clear()
        self.send("Page.navigate", url=path.resolve().as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(self._read("the loading of the page"))

    def value(self, script: str) -> Any:
        """What a line of JavaScript gives."""
        done = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def requests(self) -> list[str]:
        """The addresses asked for since `open`."""
        return [e["params"]["request"]["url"] for e in self.events if e["method"] == "Network.requestWillBeSent"]

    def complaints(self) -> list[str]:
        """Everything on the console since `open`, and what was thrown."""
        kinds = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
        return [json.dumps(e["params"])[:500] for e in self.events if e["method"] in kinds]

    def screenshot(self) -> bytes:
        """The whole page as PNG."""
        return base64.b64decode(self.send("Page.captureScreenshot", captureBeyondViewport=True)["data"])

    def pdf(self) -> bytes:
        """The page as it prints."""
        return base64.b64decode(self.send("Page.printToPDF", preferCSSPageSize=True, printBackground=True)["data"])


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """A browser of its own, which ends with the block."""
    program = find_chromium()
    ours, theirs = os.pipe(), os.pipe()
    child_reads, we_write = ours
    we_read, child_writes = theirs

    def wire() -> None:
        high = [os.dup2(child_reads, 60), os.dup2(child_writes, 61)]  # 3 and 4 may be these very pipes
        os.dup2(high[0], 3)
        os.dup2(high[1], 4)

    log = folder / "chromium.log"
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--no-first-run"]
    with log.open("wb") as file:
        process = subprocess.Popen(
            [program, *flags, "--remote-debugging-pipe", f"--user-data-dir={folder / 'profile'}"],
            stdout=file,
            stderr=file,
            preexec_fn=wire,
            close_fds=False,
        )
    os.close(child_reads)
    os.close(child_writes)
    try:
        page = Browser(we_write, we_read, log)
        yield page
        page.session = None
        page.send("Browser.close")
    finally:
        os.close(we_write)
        os.close(we_read)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
