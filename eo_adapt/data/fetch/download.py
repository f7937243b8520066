"""One file over HTTP, whatever happens on the way: resumed, tried again, and verified before it has its name.

Bytes go to ``<file>.part``; what must not change until the next attempt (ETag, Last-Modified, size) stands beside it in
``<file>.part.json``. A range is asked for with If-Range (RFC 9110, 13.1.5 and 14.2): a server whose file changed, or
that knows no ranges, sends everything, and the part starts anew. Proxies and certificates are those of ``requests``.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from ... import __version__
from .hashing import BLOCK, Hashes, mismatch, verified_by
from .patience import AgainError, Patience, RestartError
from .responses import DownloadError, Span, check_page, span

if TYPE_CHECKING:
    import requests

    from .sources import Source

SPARE = 64 << 20  # bytes that a download leaves free on the disk


@dataclass(frozen=True)
class Got:
    """A file that is there.

    Attributes:
        path: Where.
        hashes: Algorithm -> hexadecimal digits.
        bytes: Size.
        verified: What it was compared by: ``sha256``, ``md5``, ``size`` or ``nothing``.
    """

    path: Path
    hashes: dict[str, str]
    bytes: int
    verified: str


def download(source: Source, path: Path, lock: Path, patience: Patience | None = None, show: bool | None = None) -> Got:
    """Fetch a file to ``path``; another process that fetches it, too, is waited for.

    Args:
        source: Link, and what is known of the file.
        path: Where to; ``<path>.part`` is its place until it is whole and verified.
        lock: Lock file, one a file.
        patience: How long to wait and how often to try.
        show: Whether to draw a progress bar; None = on a terminal.

    Raises:
        DownloadError: If the publisher does not give the file, or gives another one than the recipe says.
        OSError: If the disk is full or the folder cannot be written; what came so far stays for the next time.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock.parent.mkdir(parents=True, exist_ok=True)
    with _held(lock, path):
        if path.is_file():  # another process was faster
            got = Hashes().add_file(path)
            if problem := mismatch(source, got.hex(), got.bytes):
                raise DownloadError(f"{path} is there, but {problem}; remove it to fetch it again")
            return Got(path, got.hex(), got.bytes, verified_by(source))
        with _bar(path.name, sys.stderr.isatty() if show is None else show) as advance:
            return _Transfer(source, path, patience or Patience(), advance).run()


@contextlib.contextmanager
def _held(lock: Path, path: Path) -> Any:
    holder = FileLock(str(lock))
    try:
        holder.acquire(timeout=0.1)
    except Timeout:
        print(f"waiting for another process that fetches {path.name}", file=sys.stderr)
        holder.acquire()
    try:
        yield
    finally:
        holder.release()


@contextlib.contextmanager
def _bar(name: str, show: bool) -> Any:
    """What to call with (bytes so far, bytes in all or None)."""
    if not show:
        yield lambda done, total: None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()
    from rich.console import Console

    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(name, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


class _Transfer:
    """The attempts at one file."""

    def __init__(self, source: Source, path: Path, patience: Patience, advance: Any) -> None:
        self.source, self.path, self.patience, self.advance = source, path, patience, advance
        self.part, self.about = path.with_name(f"{path.name}.part"), path.with_name(f"{path.name}.part.json")
        self.seen: dict[str, Any] = {}
        self.hashes = Hashes()
        self.best, self.bad = 0, 0

    def run(self) -> Got:
        """Try until the file is whole and verified, or patience ends."""
        import requests

        self._pick_up()
        with requests.Session() as session:
            session.headers.update({"User-Agent": f"eo_adapt/{__version__}", "Accept-Encoding": "identity"})
            tries = self.patience.tries()
            while True:
                try:
                    self._attempt(session)
                    if got := self._finished():
                        return got
                except AgainError as problem:
                    moved, self.best = self.hashes.bytes > self.best, max(self.best, self.hashes.bytes)
                    if isinstance(problem, RestartError):
                        self._anew()
                    if not tries.wait(problem, moved):
                        raise DownloadError(
                            f"{self.source.url} could not be fetched: {problem}, {tries.failures} times in a row. "
                            f"{self.hashes.bytes:,} bytes are kept in {self.part}; run the same command again to go on"
                        ) from problem

    def _pick_up(self) -> None:
        """Go on with what an earlier process left, if it is of this file."""
        with contextlib.suppress(OSError, json.JSONDecodeError):
            seen = json.loads(self.about.read_text())
            self.seen = seen if isinstance(seen, dict) else {}
        if self.part.is_file() and self.seen.get("url") == self.source.url:
            self.hashes.add_file(self.part)
            self.best = self.hashes.bytes
        else:
            self._anew()

    def _anew(self) -> None:
        self.hashes, self.seen = Hashes(), {}
        for path in (self.part, self.about):
            path.unlink(missing_ok=True)

    def _headers(self) -> dict[str, str]:
        """Ask for the rest where it is sure to be of the same file, or a hash will tell."""
        validator = self.seen.get("etag") or self.seen.get("modified")
        if not self.hashes.bytes or not (validator or self.source.known):
            return {}
        rest = {"Range": f"bytes={self.hashes.bytes}-"}
        return {**rest, "If-Range": validator} if validator else rest

    def _attempt(self, session: requests.Session) -> None:
        import requests

        size = self.source.size
        if self.hashes.bytes and self.hashes.bytes == (size if size is not None else self.seen.get("total")):
            return  # killed between the last byte and the new name
        times = (self.patience.connect, self.patience.stall)
        try:
            with session.get(self.source.url, headers=self._headers(), stream=True, timeout=times) as response:
                check_page(response, self.source, self.path)
                found = span(response, self.hashes.bytes, self.source, self.path)
                self._receive(response, found)
        except requests.RequestException as error:
            passing = isinstance(error, requests.ConnectionError | requests.Timeout)
            if not passing or isinstance(error, requests.exceptions.SSLError):
                raise DownloadError(f"{self.source.url} cannot be fetched: {error}") from error
            raise AgainError(f"the connection failed ({type(error).__name__}: {error})") from error

    def _receive(self, response: requests.Response, found: Span) -> None:
        from urllib3.exceptions import HTTPError

        seen = {"url": self.source.url, "etag": found.etag, "modified": found.modified, "total": found.total}
        if found.start == 0:  # everything comes, or comes anew
            self._anew()
        elif seen != self.seen:
            raise RestartError("the file changed on the server since its first part came")
        self._expect(found, seen)
        watch = self.patience.watch()
        try:
            with self.part.open("ab") as file:
                while data := response.raw.read1(BLOCK, decode_content=False):
                    file.write(data)
                    self.hashes.add(data)
                    watch.saw(len(data))
                    self.advance(self.hashes.bytes, found.total)
                file.flush()
                os.fsync(file.fileno())
        except HTTPError as error:
            raise AgainError(
                f"the connection broke off ({type(error).__name__}) at {self.hashes.bytes:,} bytes"
            ) from error
        except OSError as error:
            raise self._unwritten(error) from error
        if found.total is not None and self.hashes.bytes < found.total:
            raise AgainError(f"only {self.hashes.bytes:,} of {found.total:,} bytes came")

    def _expect(self, found: Span, seen: dict[str, Any]) -> None:
        """Note what the server promises, and see that the disk can hold it."""
        if found.total is not None:
            need, free = found.total - self.hashes.bytes, shutil.disk_usage(self.path.parent).free
            if need + SPARE > free:
                raise OSError(
                    errno.ENOSPC,
                    f"{self.path.name} needs {need:,} bytes more, and {free:,} are free on the disk of "
                    f"{self.path.parent}: make room, or choose another folder with raw=",
                )
        if seen != self.seen:
            self.seen = seen
            temporary = self.about.with_name(f"{self.about.name}.new")
            temporary.write_text(json.dumps(seen))
            os.replace(temporary, self.about)

    def _unwritten(self, error: OSError) -> OSError:
        return OSError(error.errno, f"{self.part} cannot be written ({error.strerror or error}); what came is kept")

    def _finished(self) -> Got | None:
        """The file under its name; None = it was damaged on the way and is fetched once more."""
        hashes, size = self.hashes.hex(), self.hashes.bytes
        if problem := mismatch(self.source, hashes, size):
            self.bad += 1
            if self.bad > 1:
                self.about.unlink(missing_ok=True)
                self.part.unlink(missing_ok=True)
                raise DownloadError(
                    f"{self.source.url} gives a file that {problem}, twice. It is damaged, or the publisher changed "
                    f"it: see {self.source.page or 'its page'}, and correct the recipe if the new file is right"
                )
            self._anew()
            return None
        os.replace(self.part, self.path)
        self.about.unlink(missing_ok=True)
        return Got(self.path, hashes, size, verified_by(self.source))
