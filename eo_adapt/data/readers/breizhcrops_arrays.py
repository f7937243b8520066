"""The arrays of BreizhCrops: which column is what, how that is checked, and how one becomes a series.

The raw layout is in :mod:`.breizhcrops`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..records import Sensor, Series
from .files import damaged

_QA = ("QA10", "QA20", "QA60", "doa")
BANDS = {
    "L1C": ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B10", "B11", "B12"),
    "L2A": ("B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B11", "B12"),
}
COLUMNS = {
    ("L1C", "letters"): (*sorted(BANDS["L1C"]), *_QA),
    ("L1C", "numbers"): (*BANDS["L1C"], *_QA),
    ("L2A", "letters"): ("doa", *BANDS["L2A"], "CLD", "EDG", "SAT"),
    ("L2A", "numbers"): ("doa", *BANDS["L2A"], "CLD", "EDG", "SAT"),
}
FLAGS = {"L1C": {"QA60": 1024.0}, "L2A": {"CLD": 1.0, "EDG": 1.0, "SAT": 1.0}}  # value of a parcel wholly flagged
LOWEST = {"L1C": 0.0, "L2A": -0.1}  # a lower mean reflectance has no-data pixels (-10 000) in it


def sensor(level: str) -> Sensor:
    """Bands in the order of their numbers, named as elsewhere ("B02" for "B2")."""
    names = tuple(b if b[1:] in ("8A", "10", "11", "12") else f"B0{b[1:]}" for b in BANDS[level])
    return Sensor(names, offset=LOWEST[level])


def read_array(file: Any, path: Path, key: str, columns: Sequence[str]) -> np.ndarray:
    """One parcel of an open h5 file, (T, columns) float64.

    Raises:
        ValueError: If it is not there, damaged, or of another width.
    """
    if key not in file:
        raise ValueError(f"{path} has no parcel {key!r}, which its index lists; index and h5 must be of one release")
    try:
        array = np.asarray(file[key])
    except OSError as error:
        raise damaged(path, error) from error
    if array.ndim != 2 or array.shape[1] != len(columns):
        raise ValueError(f"{path}, {key!r} has shape {array.shape}; expected (dates, {len(columns)}): {list(columns)}")
    return array


def check_order(array: np.ndarray, path: Path, level: str, order: str, year: int) -> None:
    """Refuse an array whose columns cannot be what they are taken for.

    Raises:
        ValueError: If the date column holds no dates near ``year``, or (L1C) cirrus is brighter than a surface band.
    """
    columns = COLUMNS[level, order]
    years = array[:, columns.index("doa")].astype("datetime64[ns]").astype("datetime64[Y]").astype(int) + 1970
    if (abs(years - year) > 1).any():
        raise ValueError(
            f"{path}: column {columns.index('doa')} should be the date (ns since 1970) near {year}; read as such it "
            f"gives the years {sorted(set(years.tolist()))[:5]}. Is this file of level {level}?"
        )
    if level == "L1C":
        cirrus, surface = (np.median(array[:, i]) for i in ((1, 10) if order == "letters" else (10, 1)))
        if cirrus >= surface:
            other = "numbers" if order == "letters" else "letters"
            raise ValueError(
                f"{path}: with order: {order} the cirrus band B10 has median {cirrus:g}, more than a surface band "
                f"({surface:g}); the file has the other order: set order: {other}"
            )


def to_series(array: np.ndarray, level: str, order: str, year: int, flags: Sequence[str], most: float) -> Series:
    """Reflectance, days and validity of one parcel.

    Args:
        array: (T, columns), as in the file.
        level: "L1C" or "L2A".
        order: Column order.
        year: Days count from its 1 January.
        flags: Quality columns that make a date invalid.
        most: Share of the parcel that may be flagged.
    """
    columns = COLUMNS[level, order]
    dates = array[:, columns.index("doa")].astype("datetime64[ns]").astype("datetime64[D]")
    values = array[:, [columns.index(band) for band in BANDS[level]]] * 1e-4
    values = np.where(values < LOWEST[level], np.nan, values).astype(np.float32)
    flagged = np.stack([np.zeros(len(array)), *(array[:, columns.index(f)] / FLAGS[level][f] for f in flags)])
    days = (dates - np.datetime64(f"{year}-01-01")).astype(np.int64)
    return Series(values, days, valid=flagged.max(0) <= most)
