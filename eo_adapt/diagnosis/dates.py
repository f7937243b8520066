"""When the domains have usable dates: density by month, share of dates lost, bins without any."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .profiles import Floats, Ints, Mask
from .table import ParcelTable, Series

MONTH = 365.25 / 12


def monthly(days: Ints, counted: Mask) -> tuple[Ints, Floats]:
    """Months since January of the label year (K,), negative before, and mean dates a parcel in each (K,).

    Args:
        days: (N, T).
        counted: (N, T) the dates to count.
    """
    if not counted.any():
        return np.zeros(0, np.int64), np.zeros(0)
    month = np.floor(days / MONTH).astype(np.int64)
    first, last = int(month[counted].min()), int(month[counted].max())
    number = np.bincount(month[counted] - first, minlength=last - first + 1)
    return np.arange(first, last + 1), number / len(days)


def density(series: Series) -> dict[str, Any]:
    """Dates of one sensor: ``month``, ``valid`` and ``all`` a parcel and month, ``lost`` share, ``valid_total``."""
    month, every = monthly(series.days, series.real)
    there, valid = monthly(series.days, series.valid)
    aligned = np.zeros(len(month))
    aligned[np.searchsorted(month, there)] = valid
    return {
        "month": month.tolist(),
        "all": every.tolist(),
        "valid": aligned.tolist(),
        "valid_total": float(series.valid.sum() / len(series.valid)),
        "lost": float(1 - series.valid.sum() / max(1, series.real.sum())),
    }


def presence(tables: Mapping[str, ParcelTable]) -> dict[str, Any]:
    """Share of each domain's parcels that have a date in each bin, and which bins are compared."""
    first = next(iter(tables.values()))
    return {
        "day": first.middle.tolist(),
        "season": first.season.tolist(),
        "presence": {name: table.presence.tolist() for name, table in tables.items()},
    }
