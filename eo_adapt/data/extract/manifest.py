"""What is to be done and what became of it: ``manifest.jsonl`` and finished parts, in a folder beside the store.

    <work>/manifest.jsonl    a line each time a unit ends: id, name, state (done, failed), attempt, error
    <work>/parts/<id>.npy    what a unit found; it is there as a whole or not at all
    <work>/coverage/<key>/   matrices
    <work>/pixels/<key>.npz  pixel sets

An id is a hash of all that a part depends on: files (path and size), what the numbers mean, grids, parcels, options.
So a rerun finds what is done, other options make other parts, and no part is taken for another.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import FATAL, cannot_write
from .images import Acquisition
from .unit import Task


@dataclass(frozen=True)
class Unit:
    """One acquisition of one tile.

    Attributes:
        id: Hash of all that its part depends on.
        acquisition: Its images.
        place: (sensor, tile).
    """

    id: str
    acquisition: Acquisition
    place: tuple[str, str]

    @property
    def name(self) -> str:
        """For people."""
        return self.acquisition.name


def unit_id(acquisition: Acquisition, task: Task) -> str:
    """16 hex digits that are the same whenever the part would be.

    The size of each file is part of it: a file that was cut short and fetched again is another one.
    """
    images = [*acquisition.bands.values(), *([acquisition.mask] if acquisition.mask else [])]
    sizes = [Path(image.path).stat().st_size if Path(image.path).is_file() else -1 for image in images]
    depends = {
        "acquisition": {k: v for k, v in acquisition.as_json().items() if k != "sensor"},
        "sizes": sizes,
        "coverages": [Path(folder).name for folder in task.coverages],
        "grids": task.grids,
        "statistics": task.statistics,
        "pixels": Path(task.pixels).name,
        "mask": repr(task.mask),
        "reproject": task.reproject,
        "backscatter": task.backscatter,
    }
    return hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()[:16]


class Manifest:
    """The folder of an extraction.

    Args:
        folder: Made if it is not there.

    Raises:
        FatalError: If it cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / "manifest.jsonl"
        try:
            (folder / "parts").mkdir(parents=True, exist_ok=True)
            for leftover in (folder / "parts").glob(".*.tmp"):  # of a run that was killed
                leftover.unlink(missing_ok=True)
            torn = self.path.is_file() and not self.path.read_bytes().endswith(b"\n")
            self._file = self.path.open("a", encoding="utf-8")
            if torn and self.path.stat().st_size:
                self._file.write("\n")
        except OSError as error:
            raise cannot_write(folder, error) from error

    def close(self) -> None:
        """Close the list."""
        self._file.close()

    def part(self, unit: Unit) -> Path:
        """Where a unit's part is, or will be."""
        return self.folder / "parts" / f"{unit.id}.npy"

    def is_done(self, unit: Unit) -> bool:
        """Whether its part is there."""
        return self.part(unit).is_file()

    def note(self, unit: Unit, state: str, attempt: int, error: str = "") -> None:
        """Add a line, on disk before the next unit.

        Raises:
            FatalError: If it cannot be written.
        """
        line = {"id": unit.id, "unit": unit.name, "state": state, "attempt": attempt, "error": error}
        try:
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as problem:
            if problem.errno in FATAL:
                raise cannot_write(self.path, problem) from problem
            raise

    def lines(self) -> list[Mapping[str, Any]]:
        """All whole lines so far."""
        found = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                found.append(json.loads(line))
            except json.JSONDecodeError:
                continue  # the run was killed while it wrote this one
        return found
