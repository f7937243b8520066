"""PASTIS and PASTIS-R: Sentinel-2, and Sentinel-1, series of French farmland with crops.

Garnot & Landrieu 2021 (ICCV, arXiv:2107.07933); Garnot, Landrieu & Chehata 2022 (ISPRS Journal 187, arXiv:2112.07558).
Raw layout; PASTIS-R has what PASTIS has, and the two folders of Sentinel-1::

    <root>/metadata.geojson               EPSG:2154; ID_PATCH, Fold (1..5), TILE, dates-S2, dates-S1A, dates-S1D
    <root>/DATA_S2/S2_10000.npy           int16 (T, 10, 128, 128), 10 m, L2A counts
    <root>/DATA_S1A/S1A_10000.npy         (T, 3, 128, 128) of ascending orbits: VV, VH, VV / VH in dB; T of its own
    <root>/DATA_S1D/S1D_10000.npy         the same of descending ones
    <root>/ANNOTATIONS/TARGET_10000.npy   uint8 (3, 128, 128), of which the first is the class, 0..19
    <root>/INSTANCE_ANNOTATIONS/INSTANCES_10000.npy   (128, 128), number of the parcel, 0 = none; may be left out

Dates are a mapping ``{"0": 20180916, "1": ...}``, or such a mapping as text, by what wrote the file; two on one day
stay two. Labels are of 2019, the series go from September 2018 to November 2019. Not read: ``HEATMAP_*.npy`` and
``ZONES_*.npy`` (they follow from the parcels, and must be those of the crop that is fed), ``ParcelIDs_*.npy`` and
``NORM_*_patch.json`` (statistics are taken from the training patches).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..scenes.geo import to_lonlat
from ..scenes.records import Classes, Imagery, Raster, Scene, Series
from .files import check_columns, damaged, need
from .frame_dates import frame_dates
from .pastis_classes import CLASSES

CRS, GSD, YEAR = "EPSG:2154", 10.0, 2019
SOURCE = "PASTIS (https://zenodo.org/records/5012942) or PASTIS-R (https://zenodo.org/records/5735646)"
METADATA = "metadata.geojson"
INSTANCES = "INSTANCE_ANNOTATIONS"
PARTS = ("train", "val", "test")
_RADAR = Imagery(("VV", "VH", "VV-VH"), "dB", dtype="float", kind="series")
SATELLITES: Mapping[str, Imagery] = {
    "S2": Imagery(
        ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12"),
        "reflectance",
        1e-4,
        nodata=-10000.0,  # of Theia, whose L2A the counts are
        dtype="int16",
        kind="series",
    ),
    "S1A": _RADAR,
    "S1D": _RADAR,
}


@dataclass(frozen=True)
class Pastis:
    """Reads the patches of PASTIS or PASTIS-R.

    Attributes:
        satellites: Which of S2, S1A (ascending) and S1D (descending), each a sensor called by its small letters.
            PASTIS has S2 alone. The first one's is the grid.
        folds: train, val and test -> folds of the publisher; patches of other folds have no split. The first of the
            publisher's five rotations by default.
    """

    satellites: Sequence[str] = ("S2",)
    folds: Mapping[str, Sequence[int]] = field(default_factory=lambda: {"train": (1, 2, 3), "val": (4,), "test": (5,)})

    def __post_init__(self) -> None:
        object.__setattr__(self, "satellites", tuple(self.satellites))
        names = self.satellites
        if not names or len(set(names)) < len(names) or not set(names) <= set(SATELLITES):
            raise ValueError(f"satellites are some of {list(SATELLITES)}, each once; got {list(names)}")
        listed = [fold for part in self.folds.values() for fold in part]
        if not set(self.folds) <= set(PARTS) or len(set(listed)) < len(listed):
            raise ValueError(f"folds gives each of {list(PARTS)} folds of its own; got {dict(self.folds)}")

    @property
    def sensors(self) -> Mapping[str, Imagery]:
        """A sensor each satellite: ``s2``, ``s1a``, ``s1d``."""
        return {name.lower(): SATELLITES[name] for name in self.satellites}

    @property
    def classes(self) -> Classes:
        """Background and 18 crops; void is ignored."""
        return CLASSES

    def read(self, root: Path) -> Iterator[Scene]:
        """Yield the patches by their ids.

        Raises:
            FileNotFoundError: If the metadata, or the folder of a satellite, are missing.
            ValueError: If the metadata are damaged, lack a column or give no dates.
        """
        root = Path(root)
        path = need(root / METADATA, SOURCE)
        patches = features(path)
        for name in self.satellites:
            need(root / f"DATA_{name}", f"{SOURCE}; only PASTIS-R has S1A and S1D")
        part_of = {int(fold): part for part, folds in self.folds.items() for fold in folds}
        for number, about, outline in sorted(patches, key=lambda patch: patch[0]):
            yield self._scene(path, number, about, outline, part_of)

    def _scene(
        self, path: Path, number: int, about: Mapping[str, Any], outline: np.ndarray, part_of: Mapping[int, str]
    ) -> Scene:
        x, y = (outline.min(0) + outline.max(0)) / 2
        lon, lat = to_lonlat(np.array([x]), np.array([y]), np.array([CRS]))[0]
        return Scene(
            key=str(number),
            images={
                name.lower(): Series((f"DATA_{name}/{name}_{number}.npy",), dates_of(path, number, about, name))
                for name in self.satellites
            },
            mask=Raster(f"ANNOTATIONS/TARGET_{number}.npy", bands=(1,)),
            lon=float(lon),
            lat=float(lat),
            x=float(x),
            y=float(y),
            crs=CRS,
            gsd=GSD,
            zone="",
            country="FR",
            region=tile_of(str(about["TILE"])),
            year=YEAR,
            split=part_of.get(int(about["Fold"]), ""),
            instances=Raster(f"{INSTANCES}/INSTANCES_{number}.npy") if (path.parent / INSTANCES).is_dir() else None,
        )


def tile_of(name: str) -> str:
    """An MGRS tile as the recipes call it: ``t31tfm`` and ``31TFM`` are ``T31TFM``."""
    name = name.upper()
    return name if name.startswith("T") else f"T{name}"


def dates_of(path: Path, number: int, about: Mapping[str, Any], satellite: str) -> tuple[str, ...]:
    """ISO dates of a patch's frames, in their order.

    Raises:
        ValueError: If there are none, or they are no mapping of positions to YYYYMMDD.
    """
    try:
        return frame_dates(about.get(f"dates-{satellite}"))
    except ValueError as error:
        raise ValueError(f"{path}: patch {number} has dates-{satellite}={error}") from error


def features(path: Path) -> list[tuple[int, Mapping[str, Any], np.ndarray]]:
    """Id, properties and outline (N, 2) in metres of each patch.

    Raises:
        ValueError: If the file is damaged, lacks a property or an outline, or is of another CRS.
    """
    try:
        document = json.loads(path.read_text())
        features = document["features"]
    except (ValueError, KeyError, TypeError) as error:
        raise damaged(path, error) from error
    crs = str((document.get("crs") or {}).get("properties", {}).get("name", CRS))
    if not crs.endswith("2154"):
        raise ValueError(f"{path} states the CRS {crs}; PASTIS comes in {CRS}: fetch it again, or transform it back")
    wanted = {"patch id": "ID_PATCH", "fold": "Fold", "tile": "TILE"}
    found = []
    for feature in features:
        about = feature.get("properties") or {}
        check_columns(path, about, wanted)
        corners = (feature.get("geometry") or {}).get("coordinates")
        if not corners:
            raise ValueError(f"{path}: patch {about['ID_PATCH']} has no outline")
        found.append((int(about["ID_PATCH"]), about, np.array(list(_points(corners)))))
    return found


def _points(corners: Sequence[Any]) -> Iterator[tuple[float, float]]:
    """The corners of polygons of any nesting."""
    if isinstance(corners[0], int | float):
        yield float(corners[0]), float(corners[1])
        return
    for part in corners:
        yield from _points(part)
