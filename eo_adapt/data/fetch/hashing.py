"""Hashes of files, and whether they are those that a publisher gives."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .sources import Source

BLOCK = 1 << 20


class Hashes:
    """SHA-256 and MD5 of bytes as they come by. MD5 only compares with what publishers give; it protects nobody."""

    def __init__(self) -> None:
        self._sha256, self._md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
        self.bytes = 0

    def add(self, data: bytes) -> None:
        """Take the next bytes."""
        self._sha256.update(data)
        self._md5.update(data)
        self.bytes += len(data)

    def add_file(self, path: Path) -> Hashes:
        """Take all bytes of a file."""
        with path.open("rb") as file:
            while data := file.read(BLOCK):
                self.add(data)
        return self

    def hex(self) -> dict[str, str]:
        """Algorithm -> hexadecimal digits of all bytes so far."""
        return {"sha256": self._sha256.hexdigest(), "md5": self._md5.hexdigest()}


def mismatch(source: Source, hashes: dict[str, str], size: int) -> str:
    """What differs between a file and what its recipe says of it; "" = nothing that is known differs."""
    if source.size is not None and size != source.size:
        return f"has {size:,} bytes, the recipe says {source.size:,}"
    for name, text in source.known.items():
        if hashes[name] != text:
            return f"has the {name} {hashes[name]}, the recipe says {text}"
    return ""


def verified_by(source: Source) -> str:
    """What a file that does not differ was compared by: sha256, md5, size, or nothing."""
    return next(iter(source.known), "size" if source.size is not None else "nothing")
