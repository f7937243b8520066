"""Windows of image time series, read where they lie: counts by date, which pixels each date shows, and its day."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .arrays import ARRAYS, opened_array, read_array
from .raster import NOWHERE, Grid, TileError, cut_of, grid_of, inside, opened, seen_in
from .records import Hidden, Imagery, Raster, Series, Window


class Frames(NamedTuple):
    """A series, or a part of it, in the order of its dates.

    Attributes:
        values: (T, C, H, W) counts in the files' own type.
        seen: (T, H, W) bool, no nodata and not hidden by a mask.
    """

    values: np.ndarray
    seen: np.ndarray


def read_series(
    root: Path, series: Series, imagery: Imagery, wanted: Sequence[int], part: Window | None = None
) -> Frames:
    """Frames of a series; which pixels are empty is told as :func:`.raster.read_image` does, date by date.

    Args:
        root: Raw folder.
        series: Which files, dates and bands.
        imagery: How the numbers are to be read.
        wanted: Positions in ``imagery.bands``.
        part: First row, first column, height, width within the series' window; None = all of it.

    Raises:
        TileError: If a file cannot be read.
    """
    order = np.argsort(series.dates, kind="stable")
    numbers = [number - 1 for number in series.bands or range(1, len(imagery.bands) + 1)]
    # Which bands are wanted must not change which pixels are empty.
    needed = list(wanted) if imagery.nodata is None and "int" in imagery.dtype else list(range(len(numbers)))
    cut = cut_of(series.window, part)
    values = _read(root, series.paths, series.key, len(order), [numbers[i] for i in needed], cut)[order]
    seen = seen_in(values.swapaxes(0, 1), imagery.nodata)
    if series.masks and imagery.hidden is not None:
        seen &= ~read_hidden(root, series, imagery.hidden, part)
    return Frames(values[:, [needed.index(i) for i in wanted]], seen)


def read_hidden(root: Path, series: Series, rule: Hidden, part: Window | None = None) -> np.ndarray:
    """(T, H, W) bool, True where a mask hides the pixel, in the order of the dates."""
    order = np.argsort(series.dates, kind="stable")
    cut = cut_of(series.window, part)
    return hides(_read(root, series.masks, series.mask_key, len(order), range(rule.bands), cut)[order], rule)


def hides(mask: np.ndarray, rule: Hidden) -> np.ndarray:
    """(T, H, W) bool, True where a mask (T, bands, H, W) hides the pixel."""
    found = np.zeros(mask[:, 0].shape, bool)
    for band, least, listed in zip(mask.swapaxes(0, 1), rule.least, rule.values, strict=True):
        found |= np.isin(band, listed) | (band >= least if least is not None else False)
    return found


def days_of(dates: Sequence[str], year: int) -> np.ndarray:
    """(T,) int64 days since 1 January of ``year``, ascending; two on one day stay two."""
    days = np.array(sorted(dates), "datetime64[D]") - np.datetime64(f"{year}-01-01")
    return np.asarray(days.astype(np.int64))


def grids_of(root: Path, paths: Sequence[str], key: str, count: int, window: Window | None) -> Grid:
    """Size and place of a series' window, and its number of bands a date.

    Args:
        root: Raw folder.
        paths: Its files.
        key: Data set in an h5 file.
        count: Number of dates that its record names.
        window: First row, first column, height, width in the files' grid; None = all.

    Raises:
        TileError: If a file is missing, cut short or damaged.
        ValueError: If it has another number of frames, the window reaches beyond it, or its files differ in size.
    """
    path = root / paths[0]
    if len(paths) > 1:
        grids = [grid_of(root, Raster(name, window)) for name in paths]
        if len(grids) != count:
            raise ValueError(f"{path} and so on are {len(grids)} files, the record names {count} dates: one a file")
        for name, grid in zip(paths, grids, strict=True):
            if grid[:6] != grids[0][:6]:
                raise ValueError(
                    f"{root / name} has {grid.height} x {grid.width} pixels and {grid.bands} bands of {grid.dtype} at "
                    f"{grid.transform}, {path} {grids[0].height} x {grids[0].width} and {grids[0].bands} of "
                    f"{grids[0].dtype} at {grids[0].transform}: the frames of a series share one grid"
                )
        return grids[0]
    if path.suffix in ARRAYS:
        with opened_array(path, key) as array:
            if array.ndim != 4:
                raise ValueError(f"{path} holds an array {array.shape}; a series is (dates, bands, height, width)")
            _check_frames(path, array.shape[0], count)
            _, _, height, width = inside(path, window, array.shape[2:])
            return Grid(height, width, "", NOWHERE, str(array.dtype), array.shape[1])
    grid = grid_of(root, Raster(paths[0], window))
    if grid.bands % count:
        raise ValueError(
            f"{path} has {grid.bands} bands, which is no multiple of the {count} dates that its record names: dates "
            "and frames must be as many"
        )
    return grid._replace(bands=grid.bands // count, names=())


def _check_frames(path: Path, frames: int, count: int) -> None:
    if frames != count:
        raise ValueError(f"{path} has {frames} frames, its record names {count} dates: they must be as many")


def _read(
    root: Path,
    paths: Sequence[str],
    key: str,
    count: int,
    numbers: Sequence[int],
    cut: tuple[tuple[int, int], tuple[int, int]] | None,
) -> np.ndarray:
    """(T, len(numbers), h, w) of the bands at these positions of each date, in the order of the files."""
    path = root / paths[0]
    if path.suffix in ARRAYS:
        with opened_array(path, key) as array:
            return read_array(array, numbers, cut)
    with ExitStack() as stack:
        files: list[Any] = [stack.enter_context(opened(root / name)) for name in paths]
        if len(files) > 1:
            return np.stack([file.read([n + 1 for n in numbers], window=cut) for file in files])
        each = files[0].count // count
        if each * count != files[0].count:
            raise TileError(f"{path} has {files[0].count} bands, no multiple of its {count} dates: it has changed")
        values = files[0].read([each * t + n + 1 for t in range(count) for n in numbers], window=cut)
        return np.asarray(values.reshape(count, len(numbers), *values.shape[1:]))
