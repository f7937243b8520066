"""Made-up tables in the raw layout of data_recipes/brazil_*.yaml: columns BAND_t00, BAND_t01 ... between two dates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..records import Record, Series
from .parcel_table import ndvi_curve


@dataclass(frozen=True)
class StepsWorld:
    """Generator of one table of points, bands and steps.

    Attributes:
        file: Name of the table.
        parcels: Rows.
        seed: Seed of all draws.
        bands: Bands; all follow the greenness, each in its own range.
        labels: Classes.
        dates: First and last date, and how many there are, equally spaced.
        sensor: What the column "sensor" says.
    """

    file: str = "matogrosso_mod13q1.parquet"
    parcels: int = 120
    seed: int = 0
    bands: Sequence[str] = ("NDVI", "EVI", "RED", "NIR", "BLUE", "MIR")
    labels: Sequence[str] = ("Pasture", "Forest", "Soy_Corn")
    dates: tuple[str, str, int] = ("2013-09-14", "2014-08-29", 23)
    sensor: str = "MOD13Q1"

    def write(self, root: Path) -> None:
        """Write the table below ``root``."""
        self.write_known(root)

    def write_known(self, root: Path) -> list[Record]:
        """Write the table and return what a reader should find, with the year of the last date as label year."""
        return _steps(Path(root), self, np.random.default_rng(self.seed))


@dataclass(frozen=True)
class RondoniaWorld:
    """Generator of rondonia_s2.parquet and rondonia_l8.parquet: one place, two sensors, different dates and classes.

    Attributes:
        parcels: Rows a table.
        seed: Seed of all draws.
    """

    parcels: int = 60
    seed: int = 0

    def write(self, root: Path) -> None:
        """Write both tables below ``root``."""
        self.write_known(root)

    def write_known(self, root: Path) -> list[Record]:
        """Write both tables and return what a reader should find, with all bands and the tables' own labels."""
        s2 = ("NDVI", "EVI", "B02", "B03", "B07", "B08", "B8A", "B11", "B12", "NDMI", "SAVI")
        two, four = ("NonForest", "Forest", "Deforestation"), ("Deforestation", "Forest", "NatNonForest", "Pasture")
        dates = (("2018-08-12", "2019-07-28", 36), ("2018-07-12", "2019-07-28", 25))
        worlds = (
            StepsWorld("rondonia_s2.parquet", self.parcels, self.seed, s2, two, dates[0], "S2-brick"),
            StepsWorld("rondonia_l8.parquet", self.parcels, self.seed + 1, s2[:2], four, dates[1], "LC8_30_16D_STK-1"),
        )
        return [record for world in worlds for record in world.write_known(root)]


def _steps(root: Path, world: StepsWorld, rng: np.random.Generator) -> list[Record]:
    import pandas as pd

    dates, labels = world.dates, world.labels
    first, last = (np.datetime64(date) for date in dates[:2])
    year = int(str(last)[:4])
    offset = (first - np.datetime64(f"{year}-01-01")).astype(int)
    days = np.rint(offset + np.arange(dates[2]) * (last - first).astype(int) / (dates[2] - 1)).astype(np.int64)
    rows, known = [], []
    for n in range(world.parcels):
        label = labels[n % len(labels)]
        lon, lat = float(rng.uniform(-58, -54)), float(rng.uniform(-15, -10))
        green = ndvi_curve(((-60 + 40 * (n % len(labels)), 90 + 20 * (n % len(labels))),), days, (lat + 12) * 5, rng)
        values = np.stack([green * (0.9**c) for c in range(len(world.bands))], 1)
        key = f"{Path(world.file).stem}_{n:05d}"
        row: Mapping[str, object] = {
            "sample_id": key,
            "lon": lon,
            "lat": lat,
            "start_date": dates[0],
            "end_date": dates[1],
        }
        series = {f"{b}_t{t:02d}": values[t, c] for c, b in enumerate(world.bands) for t in range(len(days))}
        rows.append({**row, "label": label, "sensor": world.sensor, "season": np.int32(dates[0][:4]), **series})
        place = ("", "BR", "Mato Grosso", year, world.sensor)
        known.append(Record(key, label, lon, lat, {"vi": Series(values, days)}, *place))
    Path(root).mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_parquet(Path(root) / world.file, index=False)
    return known
