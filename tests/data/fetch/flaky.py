"""A server on this machine that does to files what servers do: drop, stall, cut, corrupt, change, move, refuse."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Served:
    """One file, and what happens to requests for it, one after the other; without a fault it is served well.

    Faults: ``drop:N`` and ``stall:N`` after N bytes, ``cut:N`` (as if the file were N bytes long), ``corrupt``, ``503``
    and other numbers, ``login`` (leads to a page), ``changed`` (other content from now on), ``range`` (a wrong one).
    """

    content: bytes
    faults: list[str] = field(default_factory=list)
    ranges: bool = True
    etag: bool = True
    retry_after: str = ""
    slow: float = 0.0  # seconds a block of 16 KiB
    asked: list[str] = field(default_factory=list)  # the Range header of each request

    def mark(self) -> str:
        return '"' + hashlib.sha256(self.content).hexdigest()[:16] + '"'


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *_: object) -> None:
        """Silence."""

    def do_GET(self) -> None:
        if self.path == "/login":
            self._send(200, b"<html>log in, please</html>", {"Content-Type": "text/html; charset=utf-8"})
            return
        served = self.server.files.get(self.path)
        if served is None:
            self._send(404, b"no", {})
            return
        served.asked.append(self.headers.get("Range", ""))
        fault = served.faults.pop(0) if served.faults else ""
        if fault.isdecimal():
            extra = {"Retry-After": served.retry_after} if served.retry_after else {}
            self._send(int(fault), b"busy", extra)
        elif fault == "login":
            self._send(302, b"", {"Location": "/login"})
        else:
            self._file(served, fault)

    def _file(self, served: Served, fault: str) -> None:
        if fault == "changed":
            served.content = served.content[::-1]
        content = served.content
        word, _, count = fault.partition(":")
        if word == "cut":
            content = content[: int(count)]
        if word == "corrupt":
            content = content[:10] + bytes([content[10] ^ 255]) + content[11:]
        headers = {"Content-Type": "application/octet-stream"}
        if served.etag:
            headers["ETag"] = served.mark()
        start = self._start(served)
        if start >= len(content) > 0:
            self._send(416, b"", {**headers, "Content-Range": f"bytes */{len(content)}"})
            return
        if start:
            first = start + 7 if word == "range" else start
            headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
        body = content[start:]
        stop = int(count) if word in ("drop", "stall") else None
        self._send(206 if start else 200, body, headers, stop, word == "stall", served.slow)

    def _start(self, served: Served) -> int:
        asked = self.headers.get("Range", "")
        if not asked or not served.ranges or self.headers.get("If-Range", served.mark()) != served.mark():
            return 0
        return int(asked.removeprefix("bytes=").split("-")[0])

    def _send(
        self,
        status: int,
        body: bytes,
        headers: dict[str, str],
        stop: int | None = None,
        stall: bool = False,
        slow: float = 0.0,
    ) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            if slow:
                for at in range(0, len(body), 1 << 14):
                    self.wfile.write(body[at : at + (1 << 14)])
                    time.sleep(slow)
            else:
                self.wfile.write(body if stop is None else body[:stop])
        if stop is not None:
            self.wfile.flush()
            if stall:
                self.server.over.wait(5)
            self.close_connection = True


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, Served] = {}
        self.over = threading.Event()

    def put(self, path: str, content: bytes, *faults: str, **options: object) -> str:
        """Serve a file; its link."""
        self.files[path] = Served(content, list(faults), **options)  # type: ignore[arg-type]
        return f"http://127.0.0.1:{self.server_port}{path}"

    def folder(self, root: Path, **options: object) -> str:
        """Serve all files below a folder; the link of the folder."""
        for path in root.rglob("*"):
            if path.is_file():
                self.put(f"/{path.relative_to(root).as_posix()}", path.read_bytes(), **options)
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *_: object) -> None:
        """Clients that go away are what is tested."""


@contextlib.contextmanager
def running() -> Iterator[Server]:
    """A server in a thread."""
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.over.set()
            server.shutdown()
