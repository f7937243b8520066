"""What was done to a raw folder: one small file a source, so that no step is done twice with the same inputs."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .sources import Source

FOLDER = ".eo_adapt"
UNPACKING = 1  # raised when the same archive would be unpacked otherwise


def now() -> str:
    """This second, UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


class Ledger:
    """The notes on one source below a raw folder.

    Args:
        raw: The raw folder.
        source: The source.
    """

    def __init__(self, raw: Path, source: Source) -> None:
        self.folder = raw / FOLDER
        name = re.sub(r"[^\w.\-]+", "_", source.file)
        self.name = f"{name[:80]}-{hashlib.sha256(source.file.encode()).hexdigest()[:8]}"
        self.path, self.lock = self.folder / f"{self.name}.json", self.folder / f"{self.name}.lock"
        self.work, self.ready = self.folder / f"{self.name}.unpacking", self.folder / f"{self.name}.unpacked"

    def read(self) -> dict[str, Any]:
        """The notes; {} = there are none, or they cannot be read."""
        with contextlib.suppress(OSError, json.JSONDecodeError):
            found = json.loads(self.path.read_text())
            return found if isinstance(found, dict) else {}
        return {}

    def write(self, **notes: Any) -> None:
        """Add to the notes; in a folder that cannot be written, nothing is noted and steps are checked each time."""
        with contextlib.suppress(OSError):
            write_json(self.path, {**self.read(), **notes})

    @property
    def under_way(self) -> bool:
        """Whether an archive was being unpacked when a process ended."""
        return next(self.folder.glob(f"{self.name}.unpack*"), None) is not None


def write_json(path: Path, content: Any) -> None:
    """Write a small file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(content, indent=1, default=str))
    os.replace(temporary, path)


def unpack_key(source: Source, sha256: str) -> str:
    """What tells one unpacking from another."""
    return hashlib.sha256(f"{UNPACKING} {sha256} {source.unpack}".encode()).hexdigest()[:16]
