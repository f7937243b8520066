"""Time series of a parcel table whose dates lie side by side, a column each."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..records import Sensor, Series
from .tables import numbers

if TYPE_CHECKING:
    import pandas as pd

AXES = ("doy", "date", "step")


def days_since_new_year(dates: Iterable[object], years: np.ndarray, where: str) -> np.ndarray:
    """Days from 1 January of ``years`` (N,) to ``dates`` (N,): dates, or text as 2020-11-01, 20201101 or 2020_11_01.

    Raises:
        ValueError: If one is no date; ``where`` says where it stands.
    """
    import pandas as pd

    text = pd.Series([str(date).replace("_", "-") for date in dates], dtype=object)
    stamps = pd.to_datetime(text, format="ISO8601", errors="coerce")
    if stamps.isna().any():
        raise ValueError(
            f"{where}: {text[stamps.isna()].iloc[0]!r} is no date; dates are written 2020-11-01 or 20201101"
        )
    new_year = (np.asarray(years, np.int64) - 1970).astype("datetime64[Y]").astype("datetime64[D]")
    days: np.ndarray = (stamps.to_numpy("datetime64[D]") - new_year).astype(np.int64)
    return days


@dataclass(frozen=True)
class Wide:
    """One row a parcel; a column holds one band on one date.

    Attributes:
        sensor: Bands, units and how the store keeps them.
        pattern: Regular expression that a whole column name must match, with one of the groups ``(?P<doy>..)`` (day of
            the year, 1 = 1 January), ``(?P<date>..)`` (ISO) and ``(?P<step>..)`` (dates equally spaced from ``start``
            to ``end``), and the group ``(?P<band>..)``, which may be left out for a sensor of one band.
        start: Column of the first step's date.
        end: Column of the last step's date.
        names: Band as the column spells it -> band as the sensor does; those not named are spelt alike.
        factor: Physical units of a 1 in the file.
        nodata: Number that stands for a missing value, besides NaN and empty.
    """

    sensor: Sensor
    pattern: str
    start: str = ""
    end: str = ""
    names: Mapping[str, str] = field(default_factory=dict)
    factor: float = 1.0
    nodata: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", dict(self.names))
        groups = set(re.compile(self.pattern).groupindex)
        if len(groups & set(AXES)) != 1 or groups - {*AXES, "band"}:
            raise ValueError(
                f"pattern needs the group (?P<band>..) and one of {list(AXES)}; {self.pattern!r} has {groups}"
            )
        if "band" not in groups and len(self.sensor.bands) > 1:
            raise ValueError(f"pattern {self.pattern!r} needs (?P<band>..): the sensor has {list(self.sensor.bands)}")
        if ("step" in groups) != bool(self.start and self.end):
            raise ValueError(
                "start and end name the date columns of a pattern with (?P<step>..), and only of such a one"
            )

    @property
    def axis(self) -> str:
        """What tells the dates of the columns apart: "doy", "date" or "step"."""
        return next(axis for axis in AXES if axis in re.compile(self.pattern).groupindex)

    @property
    def needs_year(self) -> bool:
        """Whether days are counted from dates, so that the label year must be known."""
        return self.axis != "doy"

    @property
    def extra(self) -> dict[str, str]:
        """Further columns that are read: what for -> name."""
        return {"first date": self.start, "last date": self.end} if self.start else {}

    def grid(self, path: Path, columns: Sequence[str]) -> tuple[list[str], list[list[str]]]:
        """Times as they are spelt, in order, and the column of every band at each: (T,) and (T, C).

        Raises:
            ValueError: If no column matches, or a band lacks a date that another one has.
        """
        found: dict[str, dict[str, str]] = {}
        for column in columns:
            if match := re.fullmatch(self.pattern, column):
                band = match.groupdict().get("band") or self.sensor.bands[0]
                found.setdefault(match[self.axis], {})[self.names.get(band, band)] = column
        bands = sorted({band for at in found.values() for band in at})
        if lacking := [band for band in self.sensor.bands if band not in bands]:
            raise ValueError(
                f"{path}: no column matches {self.pattern!r} for the bands {lacking}; bands found: {bands}; all "
                f"columns: {list(columns)}"
            )
        times = sorted(found, key=lambda time: time if self.axis == "date" else int(time))
        for time in times:
            if lacking := [band for band in self.sensor.bands if band not in found[time]]:
                raise ValueError(
                    f"{path}: {self.axis} {time} has no column of the bands {lacking}; it has {found[time]}"
                )
        return times, [[found[time][band] for band in self.sensor.bands] for time in times]

    def days(self, path: Path, times: Sequence[str], frame: pd.DataFrame, years: np.ndarray) -> np.ndarray:
        """Days (N, T) of a piece of N parcels whose label years are ``years`` (N,)."""
        if self.axis == "doy":
            return np.broadcast_to(np.array([int(time) - 1 for time in times]), (len(years), len(times)))
        if self.axis == "date":
            where = f"{path}, columns {self.pattern!r}"
            return np.stack([days_since_new_year([time] * len(years), years, where) for time in times], 1)
        first, last = (
            days_since_new_year(frame[column], years, f"{path}, column {column!r}")[:, None]
            for column in (self.start, self.end)
        )
        steps = np.array([int(time) for time in times])
        days = first + (last - first) * (steps - steps[0]) / max(int(steps[-1] - steps[0]), 1)
        rounded: np.ndarray = np.rint(days).astype(np.int64)
        return rounded

    def read(
        self, path: Path, columns: Sequence[str], frame: pd.DataFrame, first: int, keys: np.ndarray, years: np.ndarray
    ) -> list[Series]:
        """Series of each parcel of a piece: values (T, C) float32 in physical units, NaN where missing."""
        times, names = self.grid(path, columns)
        values = np.stack(
            [[numbers(frame, column, path, first, keys) for column in bands] for bands in names], dtype=np.float64
        ).transpose(2, 0, 1)
        known = physical(values, self.factor, self.nodata)
        return [Series(x, days) for x, days in zip(known, self.days(path, times, frame, years), strict=True)]


def physical(values: np.ndarray, factor: float, nodata: float | None) -> np.ndarray:
    """Numbers of a file as float32 physical units, missing ones as NaN."""
    missing = np.isnan(values) if nodata is None else np.isnan(values) | (values == nodata)
    known: np.ndarray = np.where(missing, np.nan, values * factor).astype(np.float32)
    return known
