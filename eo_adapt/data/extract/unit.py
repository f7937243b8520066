"""One unit of work: all bands of one acquisition of one tile, over all its parcels. Workers run this and nothing else.

A unit reads its images block by block and writes one array, ``parts/<id>.npy``, under a temporary name that is renamed
when whole:

    (n, (S + 1) C) float32      for each statistic S, then for the share that is clear: the C bands; n parcels
    (p, C) float32              of pixel sets: the p chosen pixels; NaN = not clear
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .coverage import Coverage, Part, build
from .errors import FATAL, FatalError, cannot_write
from .grid import Block, Grid
from .images import Acquisition
from .masks import Mask, on_grid
from .pixels import PixelSets, by_block, choose
from .raster import Raster, filled, opened
from .sentinel1 import check_units, to_power
from .statistics import Sums, medians, sums

STATISTICS = ("mean", "variance", "median")


@dataclass(frozen=True)
class Task:
    """What a worker needs to know besides the acquisition; the same for all units of a tile.

    Attributes:
        coverages: Folder of the matrix of each grid.
        grids: Band -> number of its grid.
        known: The grids.
        statistics: Some of :data:`STATISTICS`.
        pixels: File of the pixel sets; "" = statistics are wanted.
        mask: How masks are read.
        reproject: Resampling for images on another grid; "" = they are refused.
        backscatter: Whether units must be those of Sentinel-1.
        memory: Bytes that a worker may use.
    """

    coverages: tuple[str, ...]
    grids: dict[str, int]
    known: tuple[Grid, ...]
    statistics: tuple[str, ...]
    pixels: str
    mask: Mask
    reproject: str
    backscatter: bool
    memory: int


def run_unit(acquisition: Acquisition, task: Task, part: str) -> str:
    """Compute one unit and write its part.

    Raises:
        BadImageError: If an image cannot be used.
        FatalError: If the part cannot be written.
    """
    import rasterio

    with rasterio.Env(GDAL_CACHEMAX=max(task.memory // 8, 1 << 25), GDAL_NUM_THREADS="1"), ExitStack() as stack:
        look = Look(acquisition, task, stack)
        values = look.pixel_values() if task.pixels else look.statistics()
    write_array(Path(part), values.astype(np.float32))
    return part


def run_coverage(grid: Grid, shapes: str, folder: str) -> str:
    """Compute the matrix of a grid from a file of outlines; see :func:`.coverage.build`."""
    return str(build(grid, load_shapes(Path(shapes)), Path(folder)))


def save_shapes(path: Path, shapes: Sequence[bytes]) -> None:
    """Outlines (WKB) as a file, so that they need not travel to workers."""
    lengths, data = np.array([len(x) for x in shapes], np.int64), np.frombuffer(b"".join(shapes), np.uint8)

    def save(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.savez(file, lengths=lengths, data=data)

    _written(path, save)


def load_shapes(path: Path) -> list[bytes]:
    """What :func:`save_shapes` wrote."""
    with np.load(path) as arrays:
        ends = arrays["lengths"].cumsum()
        data = arrays["data"].tobytes()
    return [
        data[end - length : end] for end, length in zip(ends.tolist(), np.diff(ends, prepend=0).tolist(), strict=True)
    ]


def run_pixels(coverage: str, least: float, most: int, path: str) -> str:
    """Choose the pixel sets of a tile and write them."""
    chosen = choose(Coverage(Path(coverage)), least, most)
    _written(Path(path), chosen.save)
    return path


def write_array(path: Path, array: np.ndarray) -> None:
    """An npy that is there as a whole or not at all."""

    def save(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.save(file, array)

    _written(path, save)


def _written(path: Path, save: Any) -> None:
    name = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".", suffix=".tmp", dir=path.parent)
        os.close(handle)
        save(Path(name))
        os.replace(name, path)
    except OSError as error:
        if error.errno in FATAL:
            raise cannot_write(path, error) from error
        raise
    finally:
        if name:
            Path(name).unlink(missing_ok=True)


class Look:
    """The open images of one acquisition.

    Args:
        acquisition: Which.
        task: What to do.
        stack: Closes the images.
    """

    def __init__(self, acquisition: Acquisition, task: Task, stack: ExitStack) -> None:
        self.task, self.names = task, list(acquisition.bands)
        self.bands: list[Raster] = []
        for name, image in acquisition.bands.items():
            grid = task.known[task.grids[name]]
            self.bands.append(stack.enter_context(opened(image, grid, task.reproject)))
        self.mask: Raster | None = None
        if acquisition.mask is not None:
            fine = min(task.known, key=lambda grid: grid.resolution)
            raster = stack.enter_context(opened(acquisition.mask))
            if fine.ratio(raster.grid) is None and task.reproject:
                raster = stack.enter_context(opened(acquisition.mask, fine, "nearest"))
            self.mask = raster
        self._checked: set[int] = set()

    def statistics(self) -> np.ndarray:
        """(n, (S + 1) C) float64."""
        task, names = self.task, self.names
        count = len(np.load(Path(task.coverages[0]) / "totals.npy", mmap_mode="r"))
        found = np.full((len(task.statistics) + 1, count, len(names)), np.nan)
        for number, folder in enumerate(task.coverages):
            columns = [i for i, name in enumerate(names) if task.grids[name] == number]
            coverage = Coverage(Path(folder))
            gathered = self._sums(coverage, columns)
            found[-1][:, columns] = gathered.share
            for s, statistic in enumerate(task.statistics):
                if statistic == "median":
                    for column in columns:
                        found[s][:, column] = medians(coverage, partial(self._read, columns=[column], at_once=1))
                else:
                    found[s][:, columns] = getattr(gathered, statistic)
        return np.concatenate(list(found), 1)

    def _sums(self, coverage: Coverage, columns: Sequence[int]) -> Sums:
        at_once = max(1, self.task.memory // 8)
        return sums(
            coverage,
            len(columns),
            lambda part: self._read(part, columns, max(1, at_once // (24 * max(1, len(part.pixels))))),
            "variance" in self.task.statistics,
        )

    def _read(self, part: Part, columns: Sequence[int], at_once: int) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
        """Covered pixels of a block, a few bands at a time, so that memory stays bounded."""
        clear = self._clear(self.bands[columns[0]].grid, part.block)
        for start in range(0, len(columns), at_once):
            some = columns[start : start + at_once]
            values = np.empty((len(some), len(part.pixels)))
            good = np.empty(values.shape, bool)
            for i, column in enumerate(some):
                values[i], good[i] = self._band(column, part.block, clear, part.pixels)
            yield slice(start, start + len(some)), values, good

    def _clear(self, grid: Grid, block: Block) -> np.ndarray | None:
        """(rows, columns) bool; None where there is no mask."""
        return None if self.mask is None else on_grid(self.task.mask, self.mask, grid, block)

    def _band(
        self, column: int, block: Block, clear: np.ndarray | None, pixels: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Physical values (p,) and whether they may be used."""
        raster = self.bands[column]
        raw = raster.read(block).ravel()[pixels]
        good = filled(raw, raster.empty)
        values = raw.astype(np.float64) * raster.image.scale + raster.image.offset
        if self.task.backscatter:
            if column not in self._checked and good.sum() >= 100:
                check_units(values[good], raster.image.decibels, raster.image.path)
                self._checked.add(column)
            values = to_power(values) if raster.image.decibels else values
        return values, good if clear is None else good & clear.ravel()[pixels]

    def pixel_values(self) -> np.ndarray:
        """(p, C) float64, NaN where not clear."""
        chosen = PixelSets.load(Path(self.task.pixels))
        fine = min(self.task.known, key=lambda grid: grid.resolution)
        found = np.full((len(chosen.down), len(self.names)), np.nan)
        for number, grid in enumerate(self.task.known):
            columns = [i for i, name in enumerate(self.names) if self.task.grids[name] == number]
            down, across = chosen.on(fine, grid)
            for block, which in by_block(grid, down, across):
                inside = (down[which] - block.top) * block.shape[1] + across[which] - block.left
                clear = self._clear(grid, block)
                for column in columns:
                    values, good = self._band(column, block, clear, inside)
                    found[which, column] = np.where(good, values, np.nan)
        return found


def fatal(error: BaseException) -> bool:
    """Whether an error will be the same for every unit."""
    return isinstance(error, FatalError | ImportError | MemoryError)
