"""What an answer of a server means: a file, a rest of it, a page to log in, come back later, or no."""

from __future__ import annotations

import email.utils
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .patience import AgainError, RestartError

if TYPE_CHECKING:
    import requests

    from .sources import Source

PASSING = (408, 425, 429, 500, 502, 503, 504)


class DownloadError(RuntimeError):
    """A file that cannot be had, and what to do about it."""


@dataclass(frozen=True)
class Span:
    """Which bytes an answer holds.

    Attributes:
        start: First byte.
        total: Bytes of the whole file; None = the server does not say.
        etag: Strong validator; "" = none.
        modified: Last-Modified; "" = none.
    """

    start: int
    total: int | None
    etag: str = ""
    modified: str = ""


def span(response: requests.Response, have: int, source: Source, path: Path) -> Span:
    """Which bytes come.

    Args:
        response: The answer.
        have: Bytes that are there already.
        source: What was asked for.
        path: Where it goes to.

    Raises:
        AgainError: If the server asks to come back, or sends another range than was asked for.
        DownloadError: If it refuses, or offers a file of another size than the recipe says.
    """
    status = response.status_code
    if status in PASSING:
        raise AgainError(
            f"the server answered {status} {response.reason}", _after(response.headers.get("Retry-After", ""))
        )
    if status == 416:  # the part is longer than the file, or the server counts otherwise: without the range
        raise RestartError("the server has no such range")
    if status not in (200, 206):
        raise DownloadError(
            f"{source.url} answered {status} {response.reason}. {_hint(status)} {by_hand(source, path)}"
        )
    if (packing := response.headers.get("Content-Encoding", "identity")) != "identity":
        raise DownloadError(f"{source.url} comes packed as {packing}, which cannot be resumed. {by_hand(source, path)}")
    found = _span(response, have)
    if found.total is not None and source.size is not None and found.total != source.size:
        raise DownloadError(
            f"{source.url} is {found.total:,} bytes long, the recipe says {source.size:,}: the publisher changed it. "
            f"See {source.page or 'its page'}, and correct bytes and hash in a copy of the recipe"
        )
    return found


def _span(response: requests.Response, have: int) -> Span:
    etag = response.headers.get("ETag", "")
    marks = "" if etag.startswith("W/") else etag, response.headers.get("Last-Modified", "")
    if response.status_code == 200:
        length = response.headers.get("Content-Length", "")
        return Span(0, int(length) if length.isdecimal() else None, *marks)
    match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", response.headers.get("Content-Range", ""))
    if match is None or int(match[1]) != have:
        raise RestartError(f"the server sent the range {response.headers.get('Content-Range')!r}, not from {have}")
    return Span(have, None if match[3] == "*" else int(match[3]), *marks)


def check_page(response: requests.Response, source: Source, path: Path) -> None:
    """Refuse a web page that comes in place of a file.

    Raises:
        DownloadError: If it is one; says where the server led to, and how to get the file by hand.
    """
    if is_page(response) and not source.file.endswith((".html", ".htm")):
        led = f", after leading to {response.url}" if response.history else ""
        raise DownloadError(
            f"{source.url} answered with a web page in place of the file{led}. The publisher wants you to log in or to "
            f"agree to something, or the file has moved. {by_hand(source, path)}"
        )


def is_page(response: requests.Response) -> bool:
    """Whether an answer is a web page."""
    return response.headers.get("Content-Type", "").split(";")[0].strip().lower() in (
        "text/html",
        "application/xhtml+xml",
    )


def by_hand(source: Source, path: Path) -> str:
    """How a person gets a file."""
    return f"Get it with a browser from {source.page or source.url}, put it at {path}, and run the same command again"


def _hint(status: int) -> str:
    if status in (401, 403, 407):
        return "It wants a login or an agreement, or does not let programs in."
    return "It is not there any more." if status in (404, 410) else "The publisher does not give it."


def _after(text: str) -> float | None:
    """Seconds of a Retry-After header, which holds seconds or a date."""
    if text.strip().isdecimal():
        return float(text)
    when = email.utils.parsedate_tz(text) if text else None
    return None if when is None else max(0.0, email.utils.mktime_tz(when) - time.time())
