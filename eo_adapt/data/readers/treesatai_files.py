"""Files of TreeSatAI time series: what names, the h5 of a patch, labels, splits and places say."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..records import Series
from ..scenes.units import misfit
from .files import check_columns, damaged

SENSORS: Mapping[str, tuple[str, int]] = {  # sensor -> what its keys in the h5 begin with, and its bands
    "s2": ("sen-2", 10),
    "s1_asc": ("sen-1-asc", 2),
    "s1_desc": ("sen-1-des", 2),
}
PLACES = "geojson/bb_60m.GeoJSON"
SIDE = 6  # pixels of 10 m along a patch
_NAME = re.compile(r"(?P<name>(?P<genus>[A-Z][a-z]+)(_(?P<species>[a-z]+))?_.+?)(_(?P<year>20\d\d))?")
_DATE = re.compile(r"_(\d{4})(\d\d)(\d\d)T\d{6}")  # the first in a product's name is when it was sensed
_TILE = re.compile(r"_(T\d\d[A-Z]{3})_")


@dataclass(frozen=True)
class Look:
    """What a file holds of one sensor.

    Attributes:
        values: (36, T, C) float32, reflectance or linear backscatter; nan where there is none.
        dates: (T,) datetime64[D], in the order of the file.
        seen: (36, T) bool.
        tiles: MGRS tile of each product that names one.
    """

    values: np.ndarray
    dates: np.ndarray
    seen: np.ndarray
    tiles: tuple[str, ...]

    def series(self, path: Path, year: int) -> Series:
        """The same in the order of the dates.

        Raises:
            ValueError: If a date is more than a year from the label year.
        """
        days = (self.dates - np.datetime64(f"{year}-01-01")).astype(np.int64)
        if len(days) and not -366 <= days.min() <= days.max() <= 731:
            raise ValueError(f"{path}: dates from {self.dates.min()} to {self.dates.max()}, and its year is {year}")
        order = np.argsort(days, kind="stable")
        return Series(self.values[:, order], days[order], valid_pixels=self.seen[:, order])


def patch_name(path: Path) -> tuple[str, int]:
    """Name of a patch without its year, and the year; 0 where the file's name has none.

    Raises:
        ValueError: If the name does not begin with a genus.
    """
    if not (found := _NAME.fullmatch(path.stem)):
        raise ValueError(f"{path}: a patch is named <Genus>_<species>_<age>_<number>_<survey>_<owner>[_<year>].h5")
    return found["name"], int(found["year"] or 0)


def species_of(name: str) -> str:
    """``Abies alba`` of ``Abies_alba_1_1005_WEFL_NLF``; a genus alone where no species follows."""
    found = _NAME.fullmatch(name)
    return "" if found is None else " ".join(filter(None, (found["genus"], found["species"])))


def look_of(path: Path, sensor: str, hide: tuple[float, float], optional: bool) -> Look:
    """One sensor of a file.

    Args:
        path: The h5.
        sensor: One of :data:`SENSORS`.
        hide: Percent of snow and of cloud from which a pixel of Sentinel-2 is hidden.
        optional: Whether the sensor's keys may all be missing.

    Raises:
        ValueError: If the file is damaged, lacks a key, has arrays that do not fit, or numbers that are not of the
            unit.
    """
    prefix, bands = SENSORS[sensor]
    keys = [f"{prefix}-{what}" for what in ("data", "products", "masks")[: 3 if sensor == "s2" else 2]]
    found, names = _arrays(path, keys)
    if not found and optional:
        none = np.zeros((SIDE * SIDE, 0), bool)
        return Look(np.zeros((SIDE * SIDE, 0, bands), np.float32), np.zeros(0, "datetime64[D]"), none, ())
    if lacking := [key for key in keys if key not in found]:
        raise ValueError(
            f"{path} lacks {lacking}; it holds {names}. Fetch it again; if the files are meant to have no {sensor}, "
            f"list it under the reader's optional (optional: [{sensor}])"
        )
    data, products = found[keys[0]], [_text(name) for name in found[keys[1]].ravel()]
    if data.shape != (len(products), bands, SIDE, SIDE) or data.dtype.kind not in "iuf":
        raise ValueError(
            f"{path}: {keys[0]} holds {data.dtype} {data.shape}; with {len(products)} products it should be numbers "
            f"({len(products)}, {bands}, {SIDE}, {SIDE})"
        )
    values = _physical(path, keys[0], data.astype(np.float32))
    seen = np.isfinite(values).all(1)
    if sensor == "s2":
        seen &= _clear(path, keys[2], found[keys[2]], len(products), hide)
    tiles = tuple(tile[1] for name in products if (tile := _TILE.search(name)))
    return Look(_pixels(values), _dates(path, keys[1], products), _pixels(seen[:, None])[..., 0], tiles)


def _arrays(path: Path, keys: Sequence[str]) -> tuple[dict[str, np.ndarray], list[str]]:
    """Those of some keys that a file has, and the names of all."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            return {key: np.asarray(file[key][()]) for key in keys if key in file}, sorted(file)
    except (OSError, RuntimeError) as error:
        raise damaged(path, error) from error


def _pixels(array: np.ndarray) -> np.ndarray:
    """(T, C, 6, 6) -> (36, T, C)."""
    return array.reshape(*array.shape[:2], -1).transpose(2, 0, 1)


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)


def _dates(path: Path, key: str, products: list[str]) -> np.ndarray:
    try:
        return np.array(["-".join(_DATE.search(name).groups()) for name in products], "datetime64[D]")  # type: ignore[union-attr]
    except (AttributeError, ValueError) as error:  # None has no groups; month 13
        odd = next((name for name in products if not _DATE.search(name)), products[0])
        raise ValueError(f"{path}: {key} should hold names with _YYYYMMDDThhmmss; {odd!r} has no such date") from error


def _physical(path: Path, key: str, values: np.ndarray) -> np.ndarray:
    """Counts of Sentinel-2 as reflectance; backscatter as it is, if it is linear."""
    there = values[np.isfinite(values)]
    if key.startswith("sen-2"):
        if there.size and there.max() <= 5:
            raise ValueError(f"{path}: {key} runs up to {there.max():g}; it should hold counts, reflectance x 10,000")
        values, unit = values * np.float32(1e-4), "reflectance"
        there = values[np.isfinite(values)]
    else:
        unit = "linear"
    if problem := misfit(there, unit):
        raise ValueError(f"{path}: {key}: {problem}")
    return values


def _clear(path: Path, key: str, masks: np.ndarray, dates: int, hide: tuple[float, float]) -> np.ndarray:
    """(T, 6, 6) bool, pixels without snow and cloud."""
    if masks.ndim != 4 or masks.shape[0] != dates or masks.shape[1] < 2 or masks.shape[2:] != (SIDE, SIDE):
        raise ValueError(
            f"{path}: {key} has shape {masks.shape}; it should be ({dates}, 2 or more, {SIDE}, {SIDE}): snow, cloud"
        )
    if masks.size and not 0 <= np.nanmin(masks) <= np.nanmax(masks) <= 100:
        raise ValueError(f"{path}: {key} should hold percent, 0 to 100; it runs to {np.nanmax(masks):g}")
    return np.asarray((masks[:, 0] < hide[0]) & (masks[:, 1] < hide[1]))


def genera(path: Path) -> dict[str, list[tuple[str, float]]]:
    """Patch -> its genera with their shares of the area.

    Raises:
        ValueError: If the file is damaged, or a patch has no genus or impossible shares.
    """
    try:
        listed = json.loads(path.read_text())
        found = {
            str(name).removesuffix(".tif"): [(str(genus), float(share)) for genus, share in pairs]
            for name, pairs in listed.items()
        }
    except (ValueError, TypeError, AttributeError) as error:
        raise damaged(path, error) from error
    for name, pairs in found.items():
        if not pairs or not all(0 <= share <= 1.001 for _, share in pairs):
            raise ValueError(f"{path}: {name} has {pairs}; it should have pairs of genus and share, 0 to 1")
    return found


def parts_of(root: Path) -> dict[str, str]:
    """Patch -> train, val or test; {} where there are no lists.

    Raises:
        ValueError: If a patch is in two of them.
    """
    found: dict[str, str] = {}
    for part in ("train", "val", "test"):
        name = f"{part}_filenames.lst"
        path = next((path for path in (root / "split" / name, root / name) if path.is_file()), None)
        for line in path.read_text().split() if path else ():
            patch = line.removesuffix(".tif")
            if found.setdefault(patch, part) != part:
                raise ValueError(f"{path}: {patch} is in {found[patch]}, too; a patch is in one part only")
    return found


def places(root: Path) -> dict[str, tuple[float, float]]:
    """Patch -> longitude and latitude of its centre, of all that the geojson lists; {} where there is none.

    Raises:
        ValueError: If the geojson is damaged, names no patches, or its metres do not fit the CRS it states.
    """
    path = root / PLACES
    if not path.is_file():
        return {}
    import geopandas

    try:
        frame = geopandas.read_file(path)
    except (OSError, RuntimeError, ValueError) as error:
        raise damaged(path, error) from error
    check_columns(path, frame.columns, {"name of the patch": "IMG_ID"})
    corners = frame.geometry.to_crs(25832).bounds  # of squares; no centroid, which warns of infinite ones
    middle = (corners[["minx", "miny"]].to_numpy() + corners[["maxx", "maxy"]].to_numpy()) / 2
    centres = geopandas.GeoSeries.from_xy(*middle.T, crs=25832).to_crs(4326)
    if not (centres.x.between(5, 16) & centres.y.between(47, 56)).all():  # nor nan and inf
        raise ValueError(f"{path} states the CRS {frame.crs}, which puts patches outside of Germany; fetch it again")
    names = frame["IMG_ID"].astype(str).str.removesuffix(".tif")
    return dict(zip(names, zip(centres.x.tolist(), centres.y.tolist(), strict=True), strict=True))


def place_of(root: Path, name: str) -> tuple[float, float]:
    """Longitude and latitude of the centre of a patch's aerial image.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is damaged or not georeferenced.
    """
    import rasterio
    from rasterio.warp import transform

    tries = [root / "aerial" / "60m" / f"{name}.tif", root / "aerial" / f"{name}.tif"]
    path = next((path for path in tries if path.is_file()), None)
    if path is None:
        raise FileNotFoundError(
            f"nothing says where {name} lies: {root / PLACES} does not list it, and there is no {tries[0]}. Fetch "
            "geojson (small) or aerial of the same source"
        )
    try:
        with rasterio.open(path) as file:
            box, crs = file.bounds, file.crs
    except rasterio.errors.RasterioError as error:
        raise damaged(path, error) from error
    if crs is None:
        raise ValueError(f"{path} has no CRS; fetch it again, or {PLACES}")
    (lon,), (lat,) = transform(crs, 4326, [(box.left + box.right) / 2], [(box.bottom + box.top) / 2])
    return float(lon), float(lat)
