"""Series of dates -> time bins -> profiles over the year that may be moved along the calendar. Arrays only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

BIN = 15.0  # days; two to three passes of Sentinel-2, finer than a crop's stages
NDVI = ("NDVI", "ndvi")
NIR_RED = (("B08", "B04"), ("B8", "B4"), ("B8A", "B04"), ("nir", "red"), ("NIR", "RED"))


def typical_step(days: npt.NDArray[np.int64], real: Mask) -> float:
    """Median number of days between neighbouring dates of a parcel, valid or not; 0 where no parcel has two.

    Args:
        days: (N, T) days, ascending where real.
        real: (N, T) False on padding.
    """
    steps = np.diff(days, axis=1)[real[:, 1:] & real[:, :-1]]
    return float(np.median(steps)) if len(steps) else 0.0


def bin_edges(days: npt.NDArray[np.int64], step: float) -> Floats:
    """Edges of time bins that hold all but stray dates.

    Composites keep their own spacing, so that each bin holds one of them; denser series get bins of ``BIN`` days.

    Args:
        days: Days of all valid dates of all domains.
        step: Days between neighbouring dates; see :func:`typical_step`.
    """
    width = max(BIN, step)
    low, high = np.quantile(days, [0.005, 0.995])
    return np.asarray(np.floor(low) - width / 2 + width * np.arange(int((high - low) // width) + 2), np.float64)


def bin_series(values: Floats, days: Ints, valid: Mask, edges: Floats) -> tuple[Floats, Floats, Ints]:
    """Means over the valid dates of each bin.

    Args:
        values: (N, T, C); anything at invalid dates.
        days: (N, T).
        valid: (N, T).
        edges: (B + 1,) days.

    Returns:
        Mean values (N, B, C) and mean day (N, B), 0 where a bin is empty, and valid dates a bin (N, B).
    """
    bins = len(edges) - 1
    at = np.searchsorted(edges, days, side="right") - 1
    inside = valid & (at >= 0) & (at < bins)
    parcel, date = np.nonzero(inside)
    cell = parcel * bins + at[parcel, date]
    size = len(values) * bins

    def total(x: npt.ArrayLike | None) -> Floats:
        return np.asarray(np.bincount(cell, x, minlength=size), np.float64).reshape(len(values), bins)

    counts = total(None)
    some = np.maximum(counts, 1)
    seen = values[parcel, date]
    means = [total(seen[:, band]) / some for band in range(values.shape[2])]
    return np.stack(means, -1), total(days[parcel, date]) / some, counts.astype(np.int64)


def interpolate(values: Floats, centre: Floats, counts: Ints, at: Floats, move: float = 0.0) -> Floats:
    """Profiles at given days: straight lines between the bins that have dates, constant beyond the first and last.

    Args:
        values: (N, B, C) means of :func:`bin_series`.
        centre: (N, B) mean day of each bin.
        counts: (N, B) valid dates a bin; every parcel has at least one bin with dates.
        at: (Q,) days wanted.
        move: Days that the series are moved later before they are read.

    Returns:
        (N, Q, C).

    Raises:
        ValueError: If a parcel has no valid date.
    """
    there = counts > 0
    if not there.any(1).all():
        raise ValueError(f"{int((~there.any(1)).sum())} parcels have no valid date; leave them out first")
    parcel = np.nonzero(there)[0]
    day, y = centre[there] + move, values[there]
    rows = np.arange(len(values))
    first = np.searchsorted(parcel, rows)[:, None]
    last = np.searchsorted(parcel, rows, side="right")[:, None] - 1
    far = float(np.ptp(at)) + float(np.ptp(day)) + abs(move) + 1e3  # rows of one sorted list, far from one another
    right = np.searchsorted(parcel * 2 * far + day - at.min(), rows[:, None] * 2 * far + at - at.min())
    low, high = np.clip(right - 1, first, last), np.clip(right, first, last)
    gap = day[high] - day[low]
    share = np.where(gap > 0, (at - day[low]) / np.where(gap > 0, gap, 1.0), 0.0)[..., None]
    return np.asarray(y[low] * (1 - share) + y[high] * share)


def vegetation_index(values: Floats, bands: Sequence[str]) -> tuple[Floats, str]:
    """NDVI (...) of values (..., C), from an NDVI band or red and near infrared; else the first band, by its name."""
    for name in NDVI:
        if name in bands:
            return values[..., bands.index(name)], "NDVI"
    for nir, red in NIR_RED:
        if nir in bands and red in bands:
            a, b = values[..., bands.index(nir)], values[..., bands.index(red)]
            return (a - b) / np.where(np.abs(a + b) > 1e-6, a + b, 1e-6), "NDVI"
    return values[..., 0], bands[0]


def shape_of(series: Floats) -> Floats:
    """(N, B) series with each parcel's own minimum at 0 and maximum at 1: when, not how much."""
    low, high = series.min(1, keepdims=True), series.max(1, keepdims=True)
    return np.asarray((series - low) / np.maximum(high - low, 1e-9))
