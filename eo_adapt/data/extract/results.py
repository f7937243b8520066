"""From finished parts to the records of a store, and the lists that lie beside them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..records import Record, Sensor
from ..records import Series as Dates
from .assemble import Assembly, Looks, PixelAssembly, Series, series_of
from .images import Acquisition
from .manifest import Manifest, Unit
from .parcels import areas, centres, text
from .plan import Place, Plan
from .sentinel1 import to_decibels
from .unit import Task

if TYPE_CHECKING:
    from .reader import ParcelExtraction


@dataclass
class Results:
    """What a run came to.

    Attributes:
        plan: What was to be done.
        manifest: Where it is.
        tasks: Of each tile.
        units: All of them.
        failed: Unit id -> error.
    """

    plan: Plan
    manifest: Manifest
    tasks: Mapping[Place, Task]
    units: Sequence[Unit]
    failed: Mapping[str, str]

    @property
    def done(self) -> list[Unit]:
        """Units whose part is there."""
        return [unit for unit in self.units if unit.id not in self.failed]

    @property
    def failures(self) -> list[tuple[str, str]]:
        """(name, error) of all images and units that are missing."""
        failed = [(unit.name, self.failed[unit.id]) for unit in self.units if unit.id in self.failed]
        return sorted(self.plan.lost) + failed


def band_names(options: ParcelExtraction, family: str) -> list[str]:
    """Bands of a series in the store."""
    plain = list(options.polarisations if family == "s1" else options.bands)
    chosen = [name for name in options.statistics if name != "share"]
    named = [band if i == 0 else f"{band}_{name}" for i, name in enumerate(chosen) for band in plain]
    return named + (["valid_share"] if "share" in options.statistics else [])


def sensor_of(options: ParcelExtraction, family: str) -> Sensor:
    """How a series is stored: reflectances as counts of 1e-4 from -0.1 on, anything else as it is."""
    bands = tuple(band_names(options, family))
    if family == "s1":
        return Sensor(bands, "dB" if options.decibels else "linear power", 1.0, 0.0, "float32")
    if options.units == "reflectance" and set(options.statistics) <= {"mean", "median"}:
        return Sensor(bands, "reflectance", 1e-4, -0.1, "uint16")
    return Sensor(bands, options.units, 1.0, 0.0, "float32")


def make_records(options: ParcelExtraction, results: Results, year: int) -> Iterator[Record]:
    """One record a parcel, in the order of the layer."""
    plan, series = results.plan, series_of(results.done)
    series += [Series(name, (), {}, 0, "") for name in options.sensors if name not in {one.name for one in series}]
    chosen = [name for name in options.statistics if name != "share"]
    tiles = {tile.place: tile for tile in plan.tiles}
    about = _About(options, plan, year)
    if options.pixels:
        sets = PixelAssembly(results.manifest, plan.tiles, results.tasks)
        for row in range(len(plan.parcels)):
            looks = {one.name: _pixels(sets, one, row, options) for one in series}
            yield about.record(row, {name: _dated(x, about.years[row]) for name, x in looks.items()})
        return
    assembly = Assembly(results.manifest, [tiles[place] for place in sorted(tiles)], results.tasks, chosen)
    for start, end in assembly.chunks(len(plan.parcels), series):
        seen = [(one, assembly.looks(one, start, end)) for one in series]
        for row in range(start, end):
            made = {one.name: _means(one, looks, row - start, options) for one, looks in seen}
            yield about.record(row, {name: _dated(x, about.years[row]) for name, x in made.items()})


Found = tuple[np.ndarray, list[str], np.ndarray]  # values (..., T, C), ISO moments, valid (T,)


def _means(series: Series, looks: Looks, row: int, options: ParcelExtraction) -> Found:
    """Values (T, C) of one parcel."""
    there = np.flatnonzero(looks.seen[row]).tolist()
    sensor = options.sensors[series.name]
    if not there:
        return np.zeros((0, len(sensor.bands))), [], np.zeros(0, bool)
    values = _stored(looks.values[row, there].reshape(len(there), -1), options, sensor)
    share = looks.share[row, there].min(1)
    if "share" in options.statistics:
        values = np.concatenate([values, share[:, None]], 1)
    enough = (share > 0) & (share >= options.min_share * (1 - 1e-9))
    return values, [series.passes[i][0] for i in there], enough & np.isfinite(values).all(1)


def _pixels(sets: PixelAssembly, series: Series, row: int, options: ParcelExtraction) -> Found:
    """Values (S, T, C) of one parcel."""
    sensor = options.sensors[series.name]
    numbers, values = sets.pixels(series, row)
    if not numbers:
        return np.zeros((1, 0, len(sensor.bands))), [], np.zeros(0, bool)
    values = _stored(values, options, sensor)
    share = np.isfinite(values).all(-1).mean(0)
    enough = (share > 0) & (share >= options.min_share * (1 - 1e-9))
    return values, [series.passes[i][0] for i in numbers], enough


def _stored(values: np.ndarray, options: ParcelExtraction, sensor: Sensor) -> np.ndarray:
    """Values in the units of the store, within what its counts can hold."""
    if sensor.units == "dB":
        values = to_decibels(values)
    if sensor.dtype == "uint16":
        values = np.clip(values, sensor.offset, sensor.offset + 65535 * sensor.scale)
    return values


def _dated(found: Found, year: int) -> Dates:
    values, moments, valid = found
    first = date(year, 1, 1)
    days = np.array([(date.fromisoformat(moment[:10]) - first).days for moment in moments], np.int64)
    return Dates(values, days, valid)


class _About:
    """What is known of each parcel besides its series."""

    def __init__(self, options: ParcelExtraction, plan: Plan, year: int) -> None:
        frame = plan.parcels.frame
        self.lon, self.lat, shapes = centres(frame)
        import shapely

        self.wkb = shapely.to_wkb(shapes)
        self.keys = frame["key"].to_numpy(object)
        home = np.full(len(frame), "", object)
        for tile in reversed(plan.tiles):
            home[tile.rows] = tile.name
        constant = {"label": "", "hcat": "", "split": "", "country": options.country, "region": options.region}
        self.words: dict[str, np.ndarray] = {
            name: text(frame[name]) if name in frame else np.full(len(frame), value, object)
            for name, value in constant.items()
        }
        if "region" not in frame and not options.region:
            self.words["region"] = home
        years = pd.to_numeric(frame["year"], errors="coerce") if "year" in frame else None
        if years is not None and years.isna().any():
            bad = self.keys[years.isna().to_numpy()]
            raise ValueError(
                f"{len(bad)} parcels have no number in column {options.columns['year']!r}, first {bad[:5]}"
            )
        self.years = [year] * len(frame) if years is None else years.astype(int).tolist()
        self.shapes = areas(frame) if options.shapes else None
        self.sensor = "s1" if not options.images else options.sensor

    def record(self, row: int, series: Mapping[str, Dates]) -> Record:
        """The record of one parcel."""
        words: dict[str, Any] = {name: values[row] for name, values in self.words.items()}
        return Record(
            key=self.keys[row], lon=float(self.lon[row]), lat=float(self.lat[row]), series=series, **words,
            year=self.years[row], sensor=self.sensor, geometry=self.wkb[row],
            attributes=None if self.shapes is None else self.shapes[row],
        )  # fmt: skip


def write_lists(options: ParcelExtraction, results: Results, folder: Path) -> None:
    """What else belongs into a store.

    ``acquisitions.parquet`` (a row a finished unit: series, tile, moment, platform, orbit, direction, baseline),
    ``failed.csv`` and ``repaired.csv`` if there are any, and ``extraction.json``, the options that shaped the values.
    """
    rows = [_row(unit.acquisition) for unit in results.done]
    pd.DataFrame(rows).to_parquet(folder / "acquisitions.parquet", index=False)
    lists = {"failed": (results.failures, "image"), "repaired": (results.plan.parcels.repaired, "parcel_id")}
    for name, (pairs, column) in lists.items():
        if pairs:
            pd.DataFrame(pairs, columns=[column, "reason"]).to_csv(folder / f"{name}.csv", index=False)
    how = ("scheduler", "workers", "memory", "retries", "slurm", "work")  # who computed it does not shape the values
    plain = {k: v for k, v in vars(options).items() if not k.startswith("_") and k not in how}
    (folder / "extraction.json").write_text(json.dumps(plain, indent=1, default=list))


def _row(one: Acquisition) -> dict[str, str]:
    names = ("sensor", "tile", "moment", "platform", "orbit", "direction", "baseline")
    return {name: str(getattr(one, name)) for name in names}
