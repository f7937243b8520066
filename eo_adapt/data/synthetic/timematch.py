"""Made-up data in the raw layout of TimeMatch; see :mod:`eo_adapt.data.readers.timematch` for the layout."""

from __future__ import annotations

import datetime
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..readers.s2_tiles import pixel_lonlat
from ..readers.timematch import BANDS, BLOCK, BLOCKS_A_SIDE
from ..readers.timematch_classes import COUNTRIES, PUBLISHED
from ..records import Record, Series
from .curves import greenness, reflectance

DATASETS = ("denmark/32VNH/2017", "france/30TXT/2017", "france/31TCJ/2017", "austria/33UVP/2017")
SHIFT = {"32VNH": 20, "30TXT": 0, "31TCJ": -10, "33UVP": 8}  # days by which a tile's season is later
SEASONS = {  # class -> (rise, fall), day of the year
    "corn": (165, 265),
    "winter_wheat": (85, 190),
    "spring_barley": (125, 200),
    "winter_rapeseed": (65, 170),
    "meadow": (75, 310),
    "other": (140, 240),
}
_OTHER = {"denmark": "583", "france": "VRC", "austria": "651"}  # codes that belong to no published class


@dataclass(frozen=True)
class TimeMatchWorld:
    """Generator of TimeMatch-like data.

    Attributes:
        parcels: Parcels a dataset.
        seed: Seed of all draws.
        datasets: ``country/tile/year`` folders.
        images: Acquisitions a dataset, about equally spaced over the year.
    """

    parcels: int = 60
    seed: int = 0
    datasets: Sequence[str] = DATASETS
    images: int = 36

    def write(self, root: Path) -> None:
        """Write all datasets below ``root``."""
        self.write_known(root)

    def write_known(self, root: Path) -> list[Record]:
        """Write all datasets and return what a reader should find, dataset by dataset."""
        rng = np.random.default_rng(self.seed)
        return [r for name in self.datasets for r in _dataset(Path(root), name, self.parcels, self.images, rng)]


def _dataset(root: Path, name: str, parcels: int, images: int, rng: np.random.Generator) -> list[Record]:
    country, tile, year = name.split("/")
    folder = root / country / tile / year
    for part in ("data", "meta"):
        (folder / part).mkdir(parents=True)
    days = np.unique(np.linspace(2, 360, images).astype(int) + rng.integers(-2, 3, images))
    cloudy = rng.uniform(0, 80, len(days)).round(2)
    known: list[Record] = []
    listed: list[dict[str, Any]] = []
    for i in range(parcels):
        label = list(SEASONS)[i % len(SEASONS)]
        counts = _pixels(label, days, SHIFT.get(tile, 0), cloudy, rng)
        block = int(rng.integers(BLOCKS_A_SIDE**2))
        features = [*rng.uniform((400, 1e4), (2000, 1e5)).tolist(), 0.02, np.float64(0.7)]
        _write_zarr(folder / "data" / f"{i}.zarr", counts)
        about = {"id": int(rng.integers(30)), "label": _code(country, label, i)}  # field numbers repeat between farms
        listed.append({**about, "n_pixels": np.int32(counts.shape[2]), "block": block, "geometric_features": features})
        known.append(_record(name, i, label, block, days, counts, features))
    new_year = datetime.date(int(year), 1, 1)
    metadata = {
        "start_date": f"{year}0101",
        "end_date": f"{year}1231",
        "dates": [int((new_year + datetime.timedelta(int(day))).strftime("%Y%m%d")) for day in days],
        "cloudy_pct": cloudy.tolist(),
        "parcels": listed,
    }
    (folder / "meta" / "metadata.pkl").write_bytes(pickle.dumps(metadata))
    return known


def _code(country: str, label: str, i: int) -> Any:
    """A label as the country's table has it: numbers as floats in Denmark, NaN where there is none."""
    codes = [code for code, name in PUBLISHED[country].items() if name == label]
    code = codes[i % len(codes)] if codes else _OTHER[country]
    if country != "denmark":
        return code
    return float("nan") if label == "other" and i % 2 else float(code)


def _pixels(label: str, days: np.ndarray, shift: float, cloudy: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Counts (T, C, S); clouds brighten a date, one date of a parcel may lie outside the image (all 0)."""
    size = int(rng.integers(25, 120))
    rise, fall = SEASONS[label]
    late = shift + rng.normal(0, 5)
    green = greenness(days, rise + late, fall + late)[:, None] + rng.normal(0, 0.03, (len(days), size))
    cloud = (rng.random(len(days)) * 100 < cloudy)[:, None] * rng.uniform(0.2, 0.9, (len(days), 1))
    values = reflectance(green, BANDS, np.broadcast_to(cloud, green.shape))
    counts = (values * 1e4).clip(1, 65535).astype(np.uint16)
    counts[rng.integers(len(days))] *= np.uint16(rng.random() < 0.8)
    return counts.transpose(0, 2, 1)


def _write_zarr(path: Path, counts: np.ndarray) -> None:
    """As zarr 2 wrote it by default: version 2, packed by blosc with lz4."""
    import numcodecs
    import zarr

    array = zarr.create_array(
        path,
        shape=counts.shape,
        chunks=counts.shape,
        dtype=counts.dtype,
        zarr_format=2,
        compressors=numcodecs.Blosc(cname="lz4", clevel=5, shuffle=numcodecs.Blosc.SHUFFLE),
        fill_value=0,
        config={"write_empty_chunks": True},
    )
    array[...] = counts


def _record(
    name: str, i: int, label: str, block: int, days: np.ndarray, counts: np.ndarray, features: list[float]
) -> Record:
    country, tile, year = name.split("/")
    column, row = divmod(block, BLOCKS_A_SIDE)
    lon, lat = pixel_lonlat(tile, BLOCK * (column + 0.5), BLOCK * (row + 0.5))
    values = counts.transpose(2, 0, 1)
    return Record(
        key=f"{country}-{tile}-{year}-{i}",
        label=label,
        lon=lon,
        lat=lat,
        series={"s2": Series(values, days, valid_pixels=(values != 0).any(-1))},
        country=COUNTRIES[country],
        region=tile,
        year=int(year),
        sensor="s2",
        split=f"block{block:02d}",
        attributes=np.array(features, np.float32),
    )
