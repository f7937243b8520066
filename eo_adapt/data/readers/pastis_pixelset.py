"""PASTIS-R pixel sets: the Sentinel-2 and Sentinel-1 series of all pixels of a parcel, in one file a parcel.

Garnot, Landrieu & Chehata 2022 (ISPRS Journal 187, arXiv:2112.07558). Raw layout::

    <root>/metadata.geojson              of the patches, as in PASTIS: ID_PATCH, TILE, dates-S2, dates-S1A, dates-S1D
    <root>/metadata_parcel.csv           ID_PARCEL, ID_PATCH, Fold, Label (1..19) and shapes of the parcel, GF_<what>
    <root>/DATA_S2/S2_<parcel>.npy       (T, 10, N) L2A counts of N pixels; T are the dates of the parcel's patch
    <root>/DATA_S1A/S1A_<parcel>.npy     (T, 3, N) of ascending orbits: VV, VH, VV / VH in dB; T of its own
    <root>/DATA_S1D/S1D_<parcel>.npy     the same of descending ones

Void (19) is no crop: such parcels are left out. Where a parcel lies is not published: lon and lat are the centre of its
patch, up to 0.9 km off. Not read: ``NORM_PARCEL_<satellite>_set.json`` (statistics are those of the training parcels).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..records import Record, Sensor, Series
from ..scenes.geo import to_lonlat
from ..scenes.units import misfit
from .files import check_columns, damaged, need, read_csv
from .pastis import CRS, METADATA, SATELLITES, YEAR, Pastis, dates_of, features, tile_of
from .pastis_classes import NAMES, VOID

if TYPE_CHECKING:
    import pandas as pd

PARCELS = "metadata_parcel.csv"
SOURCE = "the pixel-set version of PASTIS-R (https://zenodo.org/records/5735646)"
SHAPES = "GF_"  # what columns with shapes of a parcel begin with
_NODATA = -10000  # count of Theia's L2A where nothing was seen; it is stored as 0, and all counts 10,000 higher


class _Patch(NamedTuple):
    """What the parcels of a patch share."""

    tile: str
    lonlat: tuple[float, float]
    days: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class PastisPixelSet:
    """Reads the parcels of PASTIS-R as pixel sets.

    Attributes:
        satellites: Which of S2, S1A (ascending) and S1D (descending), each a sensor called by its small letters.
        folds: train, val and test -> folds of the publisher; parcels of other folds have no split. The first of the
            publisher's five rotations by default.
    """

    satellites: Sequence[str] = ("S2", "S1A", "S1D")
    folds: Mapping[str, Sequence[int]] = field(default_factory=lambda: {"train": (1, 2, 3), "val": (4,), "test": (5,)})

    def __post_init__(self) -> None:
        object.__setattr__(self, "satellites", Pastis(self.satellites, self.folds).satellites)  # refuses what is wrong

    @property
    def sensors(self) -> Mapping[str, Sensor]:
        """A sensor each satellite: ``s2``, ``s1a``, ``s1d``."""
        made = {
            "S2": Sensor(SATELLITES["S2"].bands, "reflectance", 1e-4, offset=_NODATA * 1e-4),
            "S1A": Sensor(SATELLITES["S1A"].bands, "dB", 1.0, dtype="float32"),
            "S1D": Sensor(SATELLITES["S1D"].bands, "dB", 1.0, dtype="float32"),
        }
        return {name.lower(): made[name] for name in self.satellites}

    def read(self, root: Path) -> Iterator[Record]:
        """Yield the parcels in the order of their ids.

        Raises:
            FileNotFoundError: If the metadata, or a parcel's pixels, are missing.
            ValueError: If a file is damaged or does not fit the metadata; names file and parcel.
        """
        root = Path(root)
        path = need(root / PARCELS, SOURCE)
        table = read_csv(path)
        check_columns(
            path,
            [str(name) for name in table],
            {"parcel id": "ID_PARCEL", "patch": "ID_PATCH", "fold": "Fold", "class": "Label"},
        )
        numbers = {name: _whole(path, table, name) for name in ("ID_PARCEL", "ID_PATCH", "Fold", "Label")}
        shapes = _shapes(path, table)
        patches = self._patches(need(root / METADATA, SOURCE))
        part_of = {int(fold): part for part, folds in self.folds.items() for fold in folds}
        for row in np.argsort(numbers["ID_PARCEL"], kind="stable"):
            parcel, patch, fold, label = (int(column[row]) for column in numbers.values())
            if label == VOID:
                continue
            if label not in NAMES or patch not in patches:
                what = f"class {label}; known are 0 to {VOID}" if label not in NAMES else f"patch {patch}"
                raise ValueError(f"{path}: parcel {parcel} has {what}; {METADATA} and {PARCELS} belong together")
            about = patches[patch]
            yield Record(
                key=str(parcel),
                label=NAMES[label],
                lon=about.lonlat[0],
                lat=about.lonlat[1],
                series={name.lower(): self._series(root, name, parcel, about.days[name]) for name in self.satellites},
                country="FR",
                region=about.tile,
                year=YEAR,
                sensor="+".join(self.sensors),
                split=part_of.get(fold, ""),
                attributes=shapes[row] if shapes.size else None,
            )

    def _patches(self, path: Path) -> dict[int, _Patch]:
        found = {}
        new_year = np.datetime64(f"{YEAR}-01-01")
        for number, about, outline in features(path):
            centre = (outline.min(0) + outline.max(0)) / 2
            lon, lat = to_lonlat(centre[:1], centre[1:], np.array([CRS]))[0]
            days = {
                name: (np.array(dates_of(path, number, about, name), "datetime64[D]") - new_year).astype(np.int64)
                for name in self.satellites
            }
            found[number] = _Patch(tile_of(str(about["TILE"])), (float(lon), float(lat)), days)
        return found

    def _series(self, root: Path, name: str, parcel: int, days: np.ndarray) -> Series:
        """One satellite's pixels, by date; a pixel of S2 is seen where no band has the count of no data."""
        path = need(root / f"DATA_{name}" / f"{name}_{parcel}.npy", f"{SOURCE}; only PASTIS-R has S1A and S1D")
        values = _load(path)
        imagery = SATELLITES[name]
        if values.ndim != 3 or values.shape[:2] != (len(days), len(imagery.bands)):
            raise ValueError(
                f"{path} has shape {values.shape}; {METADATA} lists {len(days)} dates of the patch, so it should be "
                f"({len(days)}, {len(imagery.bands)}, pixels)"
            )
        order = np.argsort(days, kind="stable")
        pixels = values.transpose(2, 0, 1)[:, order]
        if name != "S2":
            if problem := misfit(pixels.transpose(2, 0, 1), imagery.units, imagery.bands):
                raise ValueError(f"{path}: {problem}")
            return Series(pixels.astype(np.float32), days[order])
        if (pixels != np.rint(pixels)).any() or (pixels.size and not _NODATA <= pixels.min() <= pixels.max() <= 32767):
            raise ValueError(f"{path} should hold whole counts, reflectance x 10,000, from {_NODATA} to 32767")
        counts = (pixels.astype(np.int32) - _NODATA).astype(np.uint16)
        return Series(counts, days[order], valid_pixels=np.asarray((counts > 0).all(-1)))


def _load(path: Path) -> np.ndarray:
    try:
        values: np.ndarray = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise damaged(path, error) from error
    if values.dtype.kind not in "iuf":
        raise ValueError(f"{path} should hold numbers; it holds {values.dtype}")
    return values


def _whole(path: Path, table: pd.DataFrame, name: str) -> np.ndarray:
    """A column of whole numbers, which may be written as 7 or 7.0."""
    values: Any = table[name].to_numpy()
    if values.dtype.kind not in "iuf" or not np.isfinite(values).all() or (values != np.rint(values)).any():
        raise ValueError(f"{path}: column {name} should hold whole numbers in every row; got {values[:3].tolist()} ...")
    return np.asarray(values, np.int64)


def _shapes(path: Path, table: pd.DataFrame) -> np.ndarray:
    """(parcels, A) float32, the columns that begin with GF_; A = 0 where there are none."""
    names = [name for name in table.columns if str(name).startswith(SHAPES)]
    values = table[names].to_numpy()
    if names and (values.dtype.kind not in "iuf" or not np.isfinite(values).all()):
        raise ValueError(f"{path}: columns {names} should hold finite numbers in every row")
    return np.asarray(values, np.float32)
