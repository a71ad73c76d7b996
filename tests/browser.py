"""A headless Chromium for tests, driven by the DevTools protocol over a pair of pipes."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

BROWSER = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chromium-browser"))), None)
needs_browser = pytest.mark.skipif(not BROWSER, reason="no chromium and no google-chrome is on the PATH")
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--no-first-run")
KEYS = {"Tab": 9, "Enter": 13, " ": 32, "Home": 36, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}


class Pipe:
    """Commands to a browser, and its answers; events are kept."""

    def __init__(self, write: int, read: int) -> None:
        self._write, self._read = write, os.fdopen(read, "rb")
        self._last, self.events = 0, list[dict[str, Any]]()

    def call(self, method: str, session: str = "", **params: Any) -> dict[str, Any]:
        """Return the result of a command."""
        self._last += 1
        command = {"id": self._last, "method": method, "params": params} | ({"sessionId": session} if session else {})
        os.write(self._write, json.dumps(command).encode() + b"\0")
        while (said := self.message()).get("id") != self._last:
            self.events.append(said)
        if "error" in said:
            raise AssertionError(f"{method}: {said['error']}")
        return said["result"]

    def close(self) -> None:
        os.close(self._write)
        self._read.close()

    def message(self) -> dict[str, Any]:
        """Return the next message of the browser."""
        raw = bytearray()
        while (byte := self._read.read(1)) not in (b"\0", b""):
            raw += byte
        return json.loads(raw)


@dataclass
class Tab:
    """A page in the browser."""

    pipe: Pipe
    session: str

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        return self.pipe.call(method, self.session, **params)

    def open(self, address: str) -> None:
        """Show an address, and wait until all of it is loaded."""
        self.pipe.events.clear()
        moved = self.call("Page.navigate", url=address)
        while "loaderId" in moved and not any(e.get("method") == "Page.loadEventFired" for e in self.pipe.events):
            self.pipe.events.append(self.pipe.message())

    def evaluate(self, expression: str) -> Any:
        """Return the value of an expression, or of what it promises."""
        said = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in said:
            raise AssertionError(said["exceptionDetails"]["exception"].get("description", said))
        return said["result"].get("value")

    def press(self, *keys: str) -> None:
        """Press keys one after the other."""
        for key in keys:
            code = {"key": key, "code": key, "windowsVirtualKeyCode": KEYS[key]}
            text = {"Enter": "\r", " ": " "}.get(key)
            self.call("Input.dispatchKeyEvent", type="keyDown", **code, **({"text": text} if text else {}))
            self.call("Input.dispatchKeyEvent", type="keyUp", **code)

    def shape(self, width: int, height: int = 900, dark: bool = False) -> None:
        """Set the window's size, and whether the reader prefers dark colours."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def console(self) -> list[str]:
        """Return what the page wrote to its console, errors included, since it was opened."""
        self.evaluate("0")
        lines = []
        for event in self.pipe.events:
            params = event.get("params", {})
            if event.get("method") == "Runtime.consoleAPICalled":
                lines.append(" ".join(str(a.get("value", a.get("description"))) for a in params["args"]))
            if event.get("method") == "Runtime.exceptionThrown":
                lines.append(str(params["exceptionDetails"].get("exception", {}).get("description")))
            if event.get("method") == "Log.entryAdded":
                lines.append(params["entry"]["text"] + " " + params["entry"].get("url", ""))
        return lines


@contextmanager
def tab(folder: Path) -> Iterator[Tab]:
    """Context with a page of a browser that keeps its profile in a folder."""
    commands, write = os.pipe()
    read, answers = os.pipe()
    shell = f'exec "$@" 3</dev/fd/{commands} 4>/dev/fd/{answers}'
    command = ["sh", "-c", shell, "sh", str(BROWSER), *FLAGS, f"--user-data-dir={folder}", "about:blank"]
    with subprocess.Popen(command, pass_fds=(commands, answers), stderr=subprocess.DEVNULL) as process:
        os.close(commands)
        os.close(answers)
        pipe = Pipe(write, read)
        [target, *_] = [t for t in pipe.call("Target.getTargets")["targetInfos"] if t["type"] == "page"]
        session = pipe.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)["sessionId"]
        page = Tab(pipe, session)
        for domain in ("Page", "Runtime", "Log"):
            page.call(f"{domain}.enable")
        try:
            yield page
        finally:
            pipe.call("Browser.close")
            process.wait(timeout=30)
            pipe.close()
