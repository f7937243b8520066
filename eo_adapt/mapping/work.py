"""The folder of an unfinished map: raw bytes of each layer and which bands are in; it outlives any kill."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from ..rundir import differences, spell, write_text

PLAN, LEDGER = "plan.json", "bands.done"


@dataclass(frozen=True)
class Work:
    """Files of an unfinished map, beside where it will lie.

    A layer is one file of bytes, band after band, row after row. A band of rows is written to all layers and only then
    marked in the ledger, a byte each, so that several processes may write different bands.

    Attributes:
        folder: Where they lie.
        height: Rows of the map.
        width: Columns of the map.
        layers: Layer -> number of its bands.
        bands: Number of bands of rows.
    """

    folder: Path
    height: int
    width: int
    layers: Mapping[str, int]
    bands: int

    def raw(self, layer: str) -> Path:
        """File of a layer's bytes."""
        return self.folder / f"{layer}.raw"

    def begin(self, plan: Mapping[str, Any], anew: bool) -> None:
        """Make room for all layers, or find what an earlier call has done.

        Args:
            plan: All that the map depends on, in plain types.
            anew: Whether an unfinished map of another plan may be thrown away; one without a finished band always is.

        Raises:
            ValueError: If there is one and it may not.
            OSError: If there is no room, or no permission; nothing is left behind.
        """
        plan = json.loads(json.dumps(plan))
        if (self.folder / PLAN).is_file():
            earlier = json.loads((self.folder / PLAN).read_text())
            different = differences(earlier, plan, ())
            if not different:
                return
            if not anew and self._any():
                raise ValueError(
                    f"{self.folder} holds an unfinished map of other settings; different: {spell(different)}. "
                    "overwrite=true begins anew, the same settings continue it"
                )
        shutil.rmtree(self.folder, ignore_errors=True)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for layer, count in self.layers.items():
                _reserve(self.raw(layer), count * self.height * self.width)
            _reserve(self.folder / LEDGER, self.bands)
            write_text(self.folder / PLAN, json.dumps(plan, indent=1))  # last: with it the folder counts
        except OSError as error:
            shutil.rmtree(self.folder, ignore_errors=True)
            need = sum(self.layers.values()) * self.height * self.width / 1e9
            raise OSError(
                error.errno, f"cannot write the map to {self.folder.parent} ({error.strerror}); it takes {need:.2f} GB"
            ) from error

    def _any(self) -> bool:
        """Whether the folder holds what took time: a finished band, or a network that has learnt from the scene."""
        ledger = self.folder / LEDGER
        return (ledger.is_file() and any(ledger.read_bytes())) or (self.folder / "adapted.pt").exists()

    def done(self) -> np.ndarray:
        """(bands,) bool, which bands of rows are in."""
        return np.fromfile(self.folder / LEDGER, np.uint8) == 1

    def write(self, band: int, top: int, rows: Mapping[str, np.ndarray]) -> None:
        """Put the rows of one band into all layers, and mark it once they are on the disk.

        Args:
            band: Its number.
            top: First row.
            rows: Layer -> (bands, N, width) uint8.
        """
        for layer, values in rows.items():
            with _opened(self.raw(layer)) as file:
                for number, part in enumerate(values):
                    _write(file, part.tobytes(), (number * self.height + top) * self.width)
                os.fdatasync(file)
        with _opened(self.folder / LEDGER) as file:
            _write(file, b"\x01", band)

    def end(self) -> None:
        """Throw the folder away."""
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep others from writing the same map at the same time; a killed process lets go.

    Raises:
        ValueError: If another process writes it.
        OSError: If nothing can be written there.
    """
    path = folder.with_name(f"{folder.name}.lock")
    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ValueError(f"another process is writing this map ({path} is locked); wait for it") from error
    except OSError as error:
        raise OSError(error.errno, f"cannot write to {path.parent}: {error.strerror}; set another output=") from error
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # before the release: nobody may lock a file that is about to go
        lock.release()


def _reserve(path: Path, size: int) -> None:
    """A file of so many zero bytes, whose room is taken: a full disk is found now and not after hours."""
    with path.open("wb") as file:
        if not size:
            return
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except (AttributeError, OSError) as error:
            if isinstance(error, OSError) and error.errno in (28, 27, 122):  # no space, too large, over quota
                raise
            file.truncate(size)


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    file = os.open(path, os.O_WRONLY)
    try:
        yield file
    finally:
        with contextlib.suppress(OSError):
            os.close(file)


def _write(file: int, data: bytes, at: int) -> None:
    """All of it: one call writes 2 GB at most."""
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, at)
        view, at = view[written:], at + written
