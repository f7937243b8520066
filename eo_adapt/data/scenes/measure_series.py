"""One series of one patch, read once when a store is written: dates, sizes and units checked, bands summed up."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .raster import Grid
from .records import Imagery, Scene, Series
from .series import Frames, grids_of, read_series
from .units import misfit

NO_SERIES = {"paths": [], "dates": [], "key": "", "masks": [], "mask_key": "", "clear": [], "valid": []}
YEARS = 1  # dates may lie so many years before or after the year of the labels


class Measured(NamedTuple):
    """What is known of a series.

    Attributes:
        row: Columns of the index, without the sensor's name. Paths and dates are as the record has them; ``clear``, the
            share of pixels seen, and ``valid`` in the order of the dates.
        grid: Size and place; bands are those of one date.
        shown: (H, W) bool, pixels that a valid date shows.
    """

    row: dict[str, Any]
    grid: Grid
    shown: np.ndarray


def measure_series(root: Path, scene: Scene, name: str, series: Series, imagery: Imagery) -> Measured:
    """Check a series and sum up its bands over the pixels that valid dates show.

    A date is valid if it shows a pixel, and at least the share of them that the rule for masks wants.

    Raises:
        TileError: If a file is missing, cut short or damaged.
        ValueError: If it does not fit what its record and the reader say; names file and patch.
    """
    check_dates(scene, name, series.dates)
    grid = _grid(root, scene, name, series, imagery)
    frames = read_series(root, series, imagery, range(len(imagery.bands)))
    share = frames.seen.mean((1, 2))
    valid = (share > 0) & (share >= (imagery.hidden.clear if imagery.hidden is not None else 0))
    row = {
        "path": series.paths[0],
        "paths": list(series.paths),
        "dates": list(series.dates),
        "window": None if series.window is None else list(series.window),
        "bands": list(series.bands),
        "key": series.key,
        "masks": list(series.masks),
        "mask_key": series.mask_key,
        "clear": share.tolist(),
        "valid": valid.tolist(),
        **moments(root, scene, name, series.paths[0], frames, valid, imagery),
    }
    return Measured(row, grid, frames.seen[valid].any(0))


def check_dates(scene: Scene, name: str, dates: tuple[str, ...]) -> None:
    """Refuse a series without dates, with some that are none, or far from the year of its labels."""
    if not dates:
        raise ValueError(f"patch {scene.key!r}: {name} has no dates; a series needs the date of each frame")
    for date in dates:
        try:
            year = datetime.date.fromisoformat(date).year
        except (TypeError, ValueError) as error:
            raise ValueError(f"patch {scene.key!r}: {name} has the date {date!r}; dates are YYYY-MM-DD") from error
        if abs(year - scene.year) > YEARS:
            raise ValueError(
                f"patch {scene.key!r}: {name} has the date {date}, more than a year from that of its labels, "
                f"{scene.year}: days are counted from its 1 January. Correct the dates or the year of the scene"
            )


def _grid(root: Path, scene: Scene, name: str, series: Series, imagery: Imagery) -> Grid:
    """The series' grid, once it fits the reader; that of its masks, too."""
    path = root / series.paths[0]
    grid = grids_of(root, series.paths, series.key, len(series.dates), series.window)
    wanted = series.bands or tuple(range(1, len(imagery.bands) + 1))
    if len(wanted) != len(imagery.bands) or max(wanted) > grid.bands or (not series.bands and len(wanted) < grid.bands):
        raise ValueError(
            f"patch {scene.key!r}: {path} has {grid.bands} bands a date, the reader of {name} names "
            f"{list(imagery.bands)} with the numbers {list(wanted)}: correct the reader's bands, or give their numbers "
            "(Series.bands)"
        )
    loose = imagery.dtype == "float" and np.dtype(grid.dtype).kind == "f"
    if grid.dtype != imagery.dtype and not loose:
        raise ValueError(
            f"{path} holds {grid.dtype}, {name} is declared as {imagery.dtype}: the numbers would mean something else. "
            "Correct the reader's dtype and scale, or convert the file"
        )
    if series.masks:
        _check_mask(root, scene, name, series, imagery, grid)
    return grid


def _check_mask(root: Path, scene: Scene, name: str, series: Series, imagery: Imagery, grid: Grid) -> None:
    if imagery.hidden is None:
        raise ValueError(
            f"patch {scene.key!r}: {name} has masks, and its imagery no rule (hidden) that says how they are to be read"
        )
    mask = grids_of(root, series.masks, series.mask_key, len(series.dates), series.window)
    if (mask.height, mask.width) != (grid.height, grid.width) or mask.bands != imagery.hidden.bands:
        raise ValueError(
            f"patch {scene.key!r}: the mask {root / series.masks[0]} has {mask.bands} bands a date of {mask.height} x "
            f"{mask.width} pixels; {name} needs {imagery.hidden.bands} of {grid.height} x {grid.width}"
        )


def moments(
    root: Path, scene: Scene, name: str, path: str, frames: Frames, valid: np.ndarray, imagery: Imagery
) -> dict[str, Any]:
    """Number of pixels, and mean and sum of squared deviations of each band in physical units, float64.

    Dates are joined one by one as by Chan et al. 1983 (The American Statistician 37, 242-247), equation 2.1.

    Raises:
        ValueError: If the values cannot be of the imagery's unit.
    """
    n, mean, m2 = 0, np.zeros(len(imagery.bands)), np.zeros(len(imagery.bands))
    for counts, seen in zip(frames.values[valid], frames.seen[valid], strict=True):
        values = counts[:, seen].astype(np.float64) * imagery.scale + imagery.offset
        own, more = values.mean(1), values.shape[1]
        m2 += np.square(values - own[:, None]).sum(1) + np.square(own - mean) * n * more / (n + more)
        mean += (own - mean) * more / (n + more)
        n += more
    some = frames.values[valid][..., ::4, ::4].swapaxes(0, 1)[:, frames.seen[valid][..., ::4, ::4]]
    if problem := misfit(some.astype(np.float64) * imagery.scale + imagery.offset, imagery.units, imagery.bands):
        raise ValueError(f"patch {scene.key!r}: {name} {root / path}: {problem}")
    return {"n": n, "mean": mean.tolist(), "m2": m2.tolist()}
