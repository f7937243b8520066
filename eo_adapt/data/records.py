"""What a reader yields and a store keeps: one record a parcel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np


@dataclass(frozen=True)
class Sensor:
    """How the numbers of one sensor are to be read.

    Attributes:
        bands: Band names in the order of the last axis of ``Series.values``.
        units: Physical unit of ``count * scale + offset``, e.g. ``"reflectance"``. Of ``"dB"`` and ``"linear"``
            (backscatter) a store refuses numbers that cannot be such, by its first parcels (:mod:`.backscatter`).
        scale: Physical units per stored count.
        offset: Physical value of count 0.
        dtype: How values lie on disk. ``uint16`` counts, or ``float32`` physical units (scale 1, offset 0).
    """

    bands: tuple[str, ...]
    units: str = "reflectance"
    scale: float = 1e-4
    offset: float = 0.0
    dtype: Literal["uint16", "float32"] = "uint16"

    def __post_init__(self) -> None:
        object.__setattr__(self, "bands", tuple(self.bands))
        if not self.bands or len(set(self.bands)) != len(self.bands):
            raise ValueError(f"a sensor needs one name a band, all different; got {list(self.bands)}")
        if self.dtype not in ("uint16", "float32"):
            raise ValueError(f"a sensor is stored as 'uint16' or 'float32'; got dtype={self.dtype!r}")
        if self.dtype == "float32" and (self.scale, self.offset) != (1.0, 0.0):
            raise ValueError("float32 sensors hold physical units: set scale=1, offset=0")


@dataclass(frozen=True)
class Series:
    """One sensor's time series of one parcel.

    Attributes:
        values: (T, C) parcel series or (S, T, C) pixel set. Integers are stored counts; floats are physical units.
            A NaN in any band makes the date (or the pixel's date) invalid.
        days: (T,) days since 1 January of the label year; may be negative.
        valid: (T,) bool, False where the date must not be used (cloud, missing); None = all that are not NaN.
        valid_pixels: (S, T) bool for pixel sets; None = all that are not NaN.
        gdd: (T,) growing degree days accumulated up to each date, degree C x day.
    """

    values: np.ndarray
    days: np.ndarray
    valid: np.ndarray | None = None
    valid_pixels: np.ndarray | None = None
    gdd: np.ndarray | None = None


@dataclass(frozen=True)
class Record:
    """One parcel, as a reader hands it to the store.

    Attributes:
        key: Parcel id, unique in the data set.
        label: Class name as the data set's legend spells it; "" = not labelled, as every parcel of a new target may be.
        lon: Longitude of the centre, degrees WGS 84.
        lat: Latitude of the centre, degrees WGS 84.
        series: Sensor name -> series.
        hcat: HCAT3 code, 10 digits as a string; "" when unknown.
        country: ISO 3166 alpha-2 code, or a country's name.
        region: NUTS code, region or tile.
        year: Label (harvest) year.
        sensor: Sensor column of the index, e.g. ``"s2"``, for domains that differ by sensor.
        split: The publisher's split, "" when there is none.
        geometry: WKB in EPSG:4326; None = the centre point.
        attributes: (A,) numbers a parcel (geometric features); None when there are none.
    """

    key: str
    label: str
    lon: float
    lat: float
    series: Mapping[str, Series]
    hcat: str = ""
    country: str = ""
    region: str = ""
    year: int = 0
    sensor: str = ""
    split: str = ""
    geometry: bytes | None = None
    attributes: np.ndarray | None = None
