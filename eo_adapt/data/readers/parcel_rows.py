"""Time series of a parcel table whose dates lie one below the other: one row a parcel and date."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..records import Sensor, Series
from .files import check_columns
from .parcel_values import days_since_new_year, physical
from .tables import numbers

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Long:
    """One row a parcel and date; a column holds one band. Rows may come in any order.

    Attributes:
        sensor: Bands, units and how the store keeps them.
        date: Column of ISO dates; or
        doy: Column of days of the year, 1 = 1 January.
        columns: Band -> column; those not named are called as the band.
        factor: Physical units of a 1 in the file.
        nodata: Number that stands for a missing value, besides NaN and empty.
        gdd: Column of growing degree days accumulated up to the date, for ``position=gdd``; "" = none.
    """

    sensor: Sensor
    date: str = ""
    doy: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    factor: float = 1.0
    nodata: float | None = None
    gdd: str = ""

    def __post_init__(self) -> None:
        if (odd := set(self.columns) - set(self.sensor.bands)) or bool(self.date) == bool(self.doy):
            raise ValueError(
                f"give either date or doy ({self.date!r}, {self.doy!r}), and columns of the bands "
                f"{list(self.sensor.bands)} only (not of {sorted(odd)})"
            )
        object.__setattr__(self, "columns", {band: self.columns.get(band, band) for band in self.sensor.bands})

    @property
    def needs_year(self) -> bool:
        """Whether days are counted from dates, so that the label year must be known."""
        return bool(self.date)

    @property
    def extra(self) -> dict[str, str]:
        """Further columns that are read: what for -> name."""
        return {"date": self.date or self.doy} | ({"gdd": self.gdd} if self.gdd else {})

    def grid(self, path: Path, columns: Sequence[str]) -> tuple[list[str], list[list[str]]]:
        """Columns of the bands, in the shape that :meth:`Wide.grid` gives them.

        Raises:
            ValueError: If one is missing.
        """
        check_columns(path, columns, {f"band {band}": column for band, column in self.columns.items()})
        return [], [list(self.columns.values())]

    def read(
        self, path: Path, columns: Sequence[str], frame: pd.DataFrame, first: int, keys: np.ndarray, years: np.ndarray
    ) -> list[Series]:
        """Series of each parcel, values float32 in physical units, parcels in order of first appearance.

        Raises:
            ValueError: If a parcel has a date twice, or a value is no number.
        """
        table = np.stack([numbers(frame, column, path, first, keys) for column in self.columns.values()], -1)
        if self.date:
            days = days_since_new_year(frame[self.date], years, f"{path}, column {self.date!r}")
        elif np.isnan(doy := numbers(frame, self.doy, path, first, keys)).any():
            raise ValueError(f"{path}: {np.isnan(doy).sum()} rows have no day of the year in column {self.doy!r}")
        else:
            days = doy.astype(np.int64) - 1
        twice = frame.assign(_key=keys, _day=days).duplicated(["_key", "_day"]).to_numpy()
        if twice.any():
            raise ValueError(
                f"{path}: {twice.sum()} rows repeat a date of their parcel, first parcels "
                f"{list(dict.fromkeys(keys[twice]))[:5]}; keep one row a parcel and date"
            )
        values = physical(table, self.factor, self.nodata)
        heat = numbers(frame, self.gdd, path, first, keys) if self.gdd else None
        return [
            Series(values[rows], days[rows], gdd=None if heat is None else heat[rows]) for rows in groups(keys, days)
        ]


def groups(keys: np.ndarray, order: np.ndarray | None = None) -> list[np.ndarray]:
    """Row numbers of each key, keys in order of first appearance, rows sorted by ``order``."""
    numbered = {key: n for n, key in enumerate(dict.fromkeys(keys))}
    number = np.array([numbered[key] for key in keys], np.int64)
    rows = np.lexsort((np.arange(len(keys)) if order is None else order, number))
    return np.split(rows, np.flatnonzero(np.diff(number[rows])) + 1) if len(rows) else []
