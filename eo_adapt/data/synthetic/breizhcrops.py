"""Made-up data in the raw layout of BreizhCrops; see :mod:`eo_adapt.data.readers.breizhcrops` for the layout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..readers.breizhcrops import SPLITS
from ..readers.breizhcrops_arrays import BANDS, COLUMNS, FLAGS, sensor
from ..records import Record, Series
from .curves import greenness, reflectance

# class id -> name, codes of the declaration (groups of codes.csv), season (rise, fall)
CLASSES = (
    ("barley", ("ORH", "ORP"), (85, 180)),
    ("wheat", ("BTH", "BTP"), (90, 195)),
    ("rapeseed", ("CZH", "CZP"), (65, 170)),
    ("corn", ("MIS", "MIE", "MID"), (165, 265)),
    ("sunflower", ("TRN",), (150, 240)),
    ("orchards", ("VRG", "PFR"), (110, 300)),
    ("nuts", ("NOX", "NOS", "CTG"), (125, 295)),
    ("permanent meadows", ("PPH", "PRL"), (60, 325)),
    ("temporary meadows", ("PTR", "RGA"), (75, 310)),
)
CENTRES = {"frh01": (-2.9, 48.4), "frh02": (-4.1, 48.2), "frh03": (-1.6, 48.2), "frh04": (-2.8, 47.8)}
SHIFT = {"frh01": 4, "frh02": 12, "frh03": 0, "frh04": -8}  # days by which a region's season is later
UNUSED = "VRC"  # vines: declared, but in none of the nine classes


@dataclass(frozen=True)
class BreizhCropsWorld:
    """Generator of BreizhCrops-like data.

    Attributes:
        parcels: Parcels a region whose code is in a class; two more are in none or without a date.
        seed: Seed of all draws.
        level: "L1C" or "L2A".
        regions: Of frh01 to frh04.
        order: Column order of the L1C arrays.
        year: Label year.
    """

    parcels: int = 45
    seed: int = 0
    level: str = "L1C"
    regions: Sequence[str] = tuple(SPLITS)
    order: str = "letters"
    year: int = 2017

    def write(self, root: Path) -> None:
        """Write class mapping, codes, indexes, arrays and shapefiles below ``root``."""
        self.write_known(root)

    def write_known(self, root: Path) -> list[Record]:
        """Write all files and return what a reader should find, region by region."""
        rng = np.random.default_rng(self.seed)
        (Path(root) / str(self.year) / self.level).mkdir(parents=True, exist_ok=True)
        mapping = [(n, name, code) for n, (name, codes, _) in enumerate(CLASSES) for code in codes]
        lines = [f"{n},{row[0]},{row[1]},{row[2]}" for n, row in enumerate(mapping)]
        (Path(root) / "classmapping.csv").write_text("\n".join([",id,classname,code", *lines, ""]))
        codes = [f"{code};{name};{number};{name}" for number, name, code in mapping]
        head = "Code Culture;Libellé Culture;Code Groupe Culture;Libellé Groupe Culture"
        (Path(root) / "codes.csv").write_text("\n".join([head, *codes, ""]), encoding="utf-8")
        return [record for name in self.regions for record in _region(Path(root), name, self, rng)]


def _region(root: Path, region: str, world: BreizhCropsWorld, rng: np.random.Generator) -> list[Record]:
    import h5py

    known, rows, places = [], [], []
    parcels, level, order, year = world.parcels, world.level, world.order, world.year
    ids = rng.choice(np.arange(1_000_000, 9_999_999), parcels + 2, replace=False)
    with h5py.File(root / str(year) / level / f"{region}.h5", "w") as file:
        for n, parcel in enumerate(ids.tolist()):
            name, codes, (rise, fall) = CLASSES[n % len(CLASSES)]
            late = SHIFT[region] + rng.normal(0, 5)
            dates = 0 if n == parcels + 1 else int(rng.integers(30, 60))
            series, array = _parcel(level, order, year, (rise + late, fall + late), dates, rng)
            key = f"csv/{region}/{parcel}.csv"
            if level == "L2A":
                key = f"/data/BreizhCrops/L2A_img/data/{year}/L2A/{region}/csv/{parcel}.csv"
            file.create_dataset(key, data=array)
            code = codes[n % len(codes)] if n != parcels else UNUSED
            flag = COLUMNS[level, order].index(next(iter(FLAGS[level])))
            rows.append((array[:, flag].mean() if dates else 0.0, parcel, code, key, n + 1, dates))
            lon, lat = np.array(CENTRES[region]) + rng.uniform(-0.2, 0.2, 2)
            places.append((parcel, code, float(lon), float(lat)))
            if n < parcels:
                known.append(_record(region, parcel, name, (float(lon), float(lat)), series, year))
    _write_index(root / str(year) / level / f"{region}.csv", rows)
    _write_shapes(root / str(year) / f"{region}.shp", places)
    return known


def _record(region: str, parcel: int, name: str, place: tuple[float, float], series: Series, year: int) -> Record:
    return Record(
        key=f"{region}-{parcel}",
        label=name,
        lon=place[0],
        lat=place[1],
        series={"s2": series},
        country="FR",
        region=region,
        year=year,
        sensor="s2",
        split=SPLITS[region],
    )


def _parcel(
    level: str, order: str, year: int, season: tuple[float, float], dates: int, rng: np.random.Generator
) -> tuple[Series, np.ndarray]:
    days = np.sort(rng.choice(np.arange(1, 363, 3), dates, replace=False))
    cloud = (rng.random(dates) < 0.35) * rng.uniform(0.2, 1, dates)
    green = greenness(days, *season) + rng.normal(0, 0.03, dates)
    columns, bands = COLUMNS[level, order], BANDS[level]
    array = np.zeros((dates, len(columns)))
    array[:, [columns.index(band) for band in bands]] = 1e4 * reflectance(green, sensor(level).bands, cloud).clip(0)
    name, whole = next(iter(FLAGS[level].items()))
    array[:, columns.index(name)] = cloud * whole
    new_year = np.datetime64(f"{year}-01-01", "ns")
    array[:, columns.index("doa")] = (new_year + days.astype("timedelta64[D]")).astype(np.int64)
    values = (array[:, [columns.index(band) for band in bands]] * 1e-4).astype(np.float32)
    return Series(values, days, valid=cloud == 0), array


def _write_index(path: Path, rows: list[tuple[float, int, str, str, int, int]]) -> None:
    import pandas as pd

    names = ["meanQA60", "id", "CODE_CULTU", "path", "idx", "sequencelength"]
    pd.DataFrame(rows, columns=names).to_csv(path)


def _write_shapes(path: Path, places: list[tuple[int, str, float, float]]) -> None:
    """Squares of 100 m in Lambert 93."""
    import geopandas
    import shapely

    ids, codes, lon, lat = zip(*places, strict=True)
    centres = geopandas.GeoSeries(shapely.points(lon, lat), crs="EPSG:4326").to_crs("EPSG:2154")
    squares = shapely.box(centres.x - 50, centres.y - 50, centres.x + 50, centres.y + 50)
    geopandas.GeoDataFrame({"ID": ids, "CODE_CULTU": codes}, geometry=squares, crs="EPSG:2154").to_file(path)
