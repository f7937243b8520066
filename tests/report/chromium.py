"""A real browser for tests: Chromium, spoken to over a pipe, so that nothing has to be installed beside it."""

from __future__ import annotations

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

PROGRAM = next((p for name in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(name))), None)
OPTIONS = (
    "--headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run --remote-debugging-pipe "
    "--disable-background-networking --disable-component-update --disable-sync"
)
LONGEST = 60.0  # seconds that an answer may take


class Tab:
    """One page in the browser. ``requests`` and ``complaints`` collect what it asked for and grumbled about."""

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self.write, self.read, self.number, self.rest = to_browser, from_browser, 0, b""
        self.session: str | None = None
        self.requests: list[str] = []
        self.complaints: list[str] = []

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One command of the DevTools protocol, and its answer."""
        self.number += 1
        number = self.number
        message = {"id": number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]
            self._event(answer)

    def _next(self) -> dict[str, Any]:
        end = time.monotonic() + LONGEST
        while b"\0" not in self.rest:
            ready = select.select([self.read], [], [], max(0.0, end - time.monotonic()))[0]
            assert ready, "the browser does not answer"
            more = os.read(self.read, 1 << 20)
            assert more, "the browser is gone"
            self.rest += more
        one, _, self.rest = self.rest.partition(b"\0")
        return json.loads(one)

    def _event(self, event: dict[str, Any]) -> None:
        name, params = event.get("method"), event.get("params", {})
        if name == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif name == "Runtime.exceptionThrown" or (name == "Log.entryAdded" and params["entry"]["level"] != "verbose"):
            self.complaints.append(json.dumps(params))
        elif name == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.complaints.append(json.dumps(params["args"]))

    def open(self, path: Path, width: int = 1280, dark: bool = False) -> None:
        """Show a file, and wait until it is all there."""
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Page.navigate", url=path.as_uri())
        end = time.monotonic() + LONGEST
        while self.js("document.readyState") != "complete" or self.js("location.href") == "about:blank":
            assert time.monotonic() < end, "the page does not load"
            time.sleep(0.05)
        self.js("new Promise(done => setTimeout(() => done(1), 100))")

    def js(self, expression: str) -> Any:
        """Value of a JavaScript expression in the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def press(self, key: str, code: int, text: str = "") -> None:
        """A key, as a keyboard gives it."""
        both = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **both)
        self.call("Input.dispatchKeyEvent", type="keyUp", **both)

    def click(self, selector: str) -> None:
        """The mouse on the middle of an element."""
        spot = f"document.querySelector({json.dumps(selector)})"
        self.js(f"{spot}.scrollIntoView({{block: 'center'}})")
        x, y = self.js(f"(r => [r.x + r.width / 2, r.y + r.height / 2])({spot}.getBoundingClientRect())")
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)


@contextmanager
def tab(folder: Path) -> Iterator[Tab]:
    """A browser with a profile in ``folder``; it ends with the block."""
    assert PROGRAM is not None
    ours_read, theirs_write = os.pipe()
    theirs_read, ours_write = os.pipe()
    command = f"exec {PROGRAM} {OPTIONS} --user-data-dir={folder} about:blank 3<&{theirs_read} 4>&{theirs_write}"
    process = subprocess.Popen(
        ["bash", "-c", command],
        pass_fds=(theirs_read, theirs_write),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(theirs_read)
    os.close(theirs_write)
    try:
        found = Tab(ours_write, ours_read)
        target = found.call("Target.createTarget", url="about:blank")["targetId"]
        found.session = found.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        yield found
    finally:
        process.terminate()
        process.wait(20)
        os.close(ours_write)
        os.close(ours_read)
