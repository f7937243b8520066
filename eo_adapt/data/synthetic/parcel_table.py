"""Made-up data in the raw layout of data_recipes/cawa.yaml.

ndvi.parquet has the columns ndvi_doy001 to ndvi_doy353, every 16 days, gaps as NaN, duplicates flagged; fields.gpkg has
the outlines, joined by sample_id.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..records import Record, Series
from .curves import greenness

REGIONS = {
    "Fergana": (71.6, 40.5, -16),
    "Kashkadarya": (65.8, 38.9, -8),
    "Samarkand": (66.9, 39.7, 0),
}  # lon, lat, shift
CROPS = {  # class -> seasons (rise, fall)
    "cotton": ((160, 285),),
    "wheat": ((75, 165),),
    "wheat_double": ((75, 165), (200, 290)),
    "rice": ((170, 260),),
    "alfalfa": ((80, 300),),
}


@dataclass(frozen=True)
class CawaWorld:
    """Generator of data like cawa: ndvi.parquet and fields.gpkg.

    Attributes:
        parcels: Parcels in all; three of a hundred are flagged duplicates.
        seed: Seed of all draws.
        gaps: Share of missing values.
    """

    parcels: int = 300
    seed: int = 0
    gaps: float = 0.3

    def write(self, root: Path) -> None:
        """Write both files below ``root``."""
        self.write_known(root)

    def write_known(self, root: Path) -> list[Record]:
        """Write both files and return what a reader should find that drops the duplicates."""
        return _cawa(Path(root), self.parcels, np.random.default_rng(self.seed), self.gaps)


def _cawa(root: Path, parcels: int, rng: np.random.Generator, gaps: float) -> list[Record]:
    import geopandas
    import pandas as pd
    import shapely

    days = np.arange(0, 353, 16)
    rows, known, squares = [], [], []
    for n in range(parcels):
        region, (lon, lat, shift) = list(REGIONS.items())[n % len(REGIONS)]
        label, year = list(CROPS)[n % len(CROPS)], int(rng.choice([2016, 2017, 2018]))
        lon, lat = lon + float(rng.uniform(-0.3, 0.3)), lat + float(rng.uniform(-0.3, 0.3))
        ndvi = ndvi_curve(CROPS[label], days, shift, rng)
        ndvi[rng.random(len(days)) < gaps] = np.nan
        key, double = f"cawa_{n:05d}", n % 33 == 32
        rows.append(
            {"sample_id": key, "country": "Uzbekistan", "region": region, "year": year, "survey_date": f"{year}-06-14"}
            | {"lon": lon, "lat": lat, "area_m2": 1e4, "label_raw": label, "season_raw": "summer", "label": label}
            | {"is_duplicate": double}
            | {f"ndvi_doy{day + 1:03d}": value for day, value in zip(days, ndvi, strict=True)}
        )
        squares.append(shapely.MultiPolygon([shapely.box(lon - 5e-4, lat - 5e-4, lon + 5e-4, lat + 5e-4)]))
        if not double:
            series = {"ndvi": Series(ndvi[:, None], days)}
            known.append(Record(key, label, lon, lat, series, "", "Uzbekistan", region, year))
    Path(root).mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame(rows)
    table.to_parquet(Path(root) / "ndvi.parquet", index=False)
    names = ["sample_id", "country", "region", "year", "label", "label_raw"]
    geopandas.GeoDataFrame(table[names], geometry=squares, crs="EPSG:4326").to_file(Path(root) / "fields.gpkg")
    return known


def ndvi_curve(
    seasons: Sequence[tuple[float, float]], days: np.ndarray, shift: float, rng: np.random.Generator
) -> np.ndarray:
    """NDVI (T,) float32 of one parcel that is green in ``seasons`` (rise, fall), ``shift`` days late, with noise."""
    late = shift + rng.normal(0, 4)
    green: np.ndarray = np.max([greenness(days, rise + late, fall + late) for rise, fall in seasons], 0)
    return (green + rng.normal(0, 0.03, len(days))).astype(np.float32)
