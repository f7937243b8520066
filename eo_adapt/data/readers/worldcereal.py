"""Reader of WorldCereal's test resources: monthly Sentinel-2, Sentinel-1 and weather of reference points, as one npz.

Layout::

    <root>/worldcereal_ts.npz
        X          (N, 12, 13) float32, nan = missing
        bands      (13,) B02..B12 reflectance, VV_dB, VH_dB, TMEAN_K (kelvin), PRECIP_mm
        steps      (12,) Dec(y-1), Jan, .. Nov: months of the label year, the first of the year before
        sample_id, domain, ref_id, year, lon, lat, ewoc_code    (N,) each
    <root>/worldcereal_class_mappings.json     {taxonomy: {ewoc code: class}}
"""

from __future__ import annotations

import datetime
import json
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..records import Record, Sensor, Series
from ..scenes.units import not_decibels
from .files import damaged, need

SERIES, CLASSES = "worldcereal_ts.npz", "worldcereal_class_mappings.json"
SOURCE = "the WorldCereal test resources"
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
FIELDS = ("sample_id", "domain", "ref_id", "year", "lon", "lat", "ewoc_code")
SENSORS = {  # sensor -> our band: the file's
    "s2": {band: band for band in ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B11", "B12")},
    "s1": {"VV": "VV_dB", "VH": "VH_dB"},
    "weather": {"TMEAN": "TMEAN_K", "PRECIP": "PRECIP_mm"},
}
UNITS = {"s2": "reflectance", "s1": "dB", "weather": "K, mm"}
# Where nearly all values of a unit lie; another unit (counts, linear power, degrees Celsius) lies elsewhere.
USUAL = {"s2": (-0.1, 1.5), "s1": (-60.0, 15.0), "TMEAN": (200.0, 340.0), "PRECIP": (0.0, 3000.0)}
IGNORED = "ignore"  # the taxonomies' class of what is not to be used


@dataclass(frozen=True)
class WorldCereal:
    """Streams the points in the order of the file; each sensor has its own missing months.

    A step's day is the 15th of its month. A month is missing for a sensor where one of its bands is nan, or lies
    outside of what its unit can be: some reflectances of the published file are mixed with a fill value.

    Attributes:
        taxonomy: Which mapping of the json gives the classes; its class "ignore" is no label.
    """

    taxonomy: str = "LANDCOVER10"

    @property
    def sensors(self) -> Mapping[str, Sensor]:
        """Sentinel-2, Sentinel-1 and weather."""
        return {n: Sensor(tuple(bands), UNITS[n], 1.0, 0.0, "float32") for n, bands in SENSORS.items()}

    def read(self, root: Path) -> Iterator[Record]:
        """Yield one record a point.

        Raises:
            FileNotFoundError: If one of the two files is missing.
            ValueError: If a file is damaged, lacks a field or band, holds other units, or there is no such taxonomy.
        """
        path = need(Path(root) / SERIES, SOURCE)
        file = _load(path)
        names = classes(need(Path(root) / CLASSES, SOURCE), self.taxonomy)
        looks = {sensor: _bands(path, file, bands) for sensor, bands in SENSORS.items()}
        for sensor, values in looks.items():
            looks[sensor] = plausible(path, sensor, values)
        days = {year: _days(path, file["steps"].tolist(), year) for year in set(file["year"].tolist())}
        for n, key in enumerate(file["sample_id"].tolist()):
            code, year = str(file["ewoc_code"][n]), int(file["year"][n])
            if code not in names:
                raise ValueError(
                    f"{path}: sample {key!r} has the code {code!r}, which {self.taxonomy} of {CLASSES} does not map: "
                    "set the reader's taxonomy to another one, or add the code"
                )
            yield Record(
                key=key,
                label="" if names[code] == IGNORED else names[code],
                lon=float(file["lon"][n]),
                lat=float(file["lat"][n]),
                series={sensor: Series(values[n], days[year]) for sensor, values in looks.items()},
                country=_country(str(file["ref_id"][n])),
                region=re.sub(r"-\d{4}$", "", str(file["domain"][n])),
                year=year,
            )


def classes(path: Path, taxonomy: str) -> Mapping[str, str]:
    """Code -> class of one taxonomy.

    Raises:
        ValueError: If the file is damaged or has no such taxonomy; says which it has.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise damaged(path, error) from error
    if not isinstance(found, dict) or taxonomy not in found:
        raise ValueError(f"{path} has no taxonomy {taxonomy!r}; it has {sorted(found)}: set the reader's taxonomy")
    return {str(code): str(name) for code, name in found[taxonomy].items()}


def plausible(path: Path, sensor: str, values: np.ndarray) -> np.ndarray:
    """Values (N, T, C) with months as nan where a band lies outside of what its unit can be.

    Raises:
        ValueError: If that is more than a tenth of them: then the file holds another unit.
    """
    bands = tuple(SENSORS[sensor])
    low, high = np.array([USUAL.get(band, USUAL.get(sensor, (-np.inf, np.inf))) for band in bands]).T
    known = np.isfinite(values)
    odd = known & ((values < low) | (values > high))
    share = odd.sum((0, 1)) / np.maximum(known.sum((0, 1)), 1)
    if sensor == "s1":
        share = np.where([not_decibels(values[..., band]) for band in range(len(bands))], 1.0, share)
    if (share > 0.1).any():
        worst = int(np.argmax(share))
        name, land = SENSORS[sensor][bands[worst]], ", and below 0 over land" if sensor == "s1" else ""
        there = values[..., worst][known[..., worst]]
        raise ValueError(
            f"{path}: {name} lies in [{there.min():g}, {there.max():g}]; as {UNITS[sensor]} it should lie in "
            f"[{low[worst]:g}, {high[worst]:g}]{land}: convert it first"
        )
    kept: np.ndarray = np.where(odd.any(-1, keepdims=True), np.nan, values).astype(np.float32)
    return kept


def _load(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            file = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise damaged(path, error) from error
    if lacking := [name for name in ("X", "bands", "steps", *FIELDS) if name not in file]:
        raise ValueError(f"{path} has no {lacking}; it has {sorted(file)}")
    size = (len(file["sample_id"]), len(file["steps"]), len(file["bands"]))
    if file["X"].shape != size:
        raise ValueError(f"{path}: X has shape {file['X'].shape}; with its samples, steps and bands it must be {size}")
    if wrong := [name for name in FIELDS if file[name].shape != size[:1]]:
        raise ValueError(f"{path}: {wrong} must have one entry for each of {size[0]} samples")
    return file


def _bands(path: Path, file: Mapping[str, np.ndarray], bands: Mapping[str, str]) -> np.ndarray:
    there = [str(band) for band in file["bands"]]
    if lacking := [band for band in bands.values() if band not in there]:
        raise ValueError(f"{path} has no bands {lacking}; it has {there}")
    return np.asarray(file["X"][..., [there.index(band) for band in bands.values()]], np.float32)


def _days(path: Path, steps: Sequence[str], year: int) -> np.ndarray:
    """(T,) days from 1 January of ``year`` to the 15th of each step's month."""
    days = []
    for step in steps:
        match = re.fullmatch(r"([A-Z][a-z]{2})(\(y-1\))?", step)
        if match is None or match[1] not in MONTHS:
            raise ValueError(f"{path}: step {step!r} is no month; steps are spelt Jan .. Dec, or Dec(y-1)")
        date = datetime.date(year - bool(match[2]), MONTHS.index(match[1]) + 1, 15)
        days.append((date - datetime.date(year, 1, 1)).days)
    return np.array(days)


def _country(ref: str) -> str:
    """The country of a reference data set, of ids such as 2023_FRA_LPIS_POLY_110."""
    parts = ref.split("_")
    return parts[1] if len(parts) > 1 else ""
