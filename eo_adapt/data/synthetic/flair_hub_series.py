"""Files of the Sentinel series of a made-up FLAIR-HUB: GeoTIFFs of dates x bands, masks, and tables of dates."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..readers.flair_hub import CRS
from ..readers.flair_hub_series import MASKS, SENTINEL2
from .aerial_world import Patch
from .climate import DAYS
from .flair_hub_seasons import Sky, sentinel1, sentinel2, shares_of

SPREAD = 0.8  # of clouds: small = dates are clear or overcast, seldom between
PIXEL = 10.0  # metres, about


@dataclass(frozen=True)
class Sentinels:
    """The Sentinels above one department for a year.

    Attributes:
        above: Its sky.
        revisit: Days between dates of Sentinel-2.
        year: Of the dates.
    """

    above: Sky
    revisit: int
    year: int

    @property
    def days(self) -> np.ndarray:
        """(T,) dates of Sentinel-2, days since 1 January."""
        return np.arange(2, DAYS, self.revisit)

    def cloudy(self, rng: np.random.Generator) -> np.ndarray:
        """(T,) share of each date of Sentinel-2 over a zone that is cloud; at least one is clear."""
        mean = self.above.clouds
        share = rng.beta(SPREAD * mean + 0.05, SPREAD * (1 - mean) + 0.05, len(self.days))
        share[np.argmin(share)] = 0.0
        return np.asarray(np.round(share, 2))

    def write(
        self,
        rng: np.random.Generator,
        place: tuple[Path, str, str, str],
        modality: str,
        patch: Patch,
        gsd: float,
        cloudy: np.ndarray,
    ) -> tuple[str, ...]:
        """Write one series of a patch, of Sentinel-2 with its masks, and return its dates as YYYYMMDD."""
        side = patch.mask.shape[0] * gsd
        size = round(side / PIXEL)
        fractions = shares_of(patch.mask, size)
        if modality == SENTINEL2:
            days = self.days
            counts, masks = sentinel2(rng, fractions, days, cloudy, self.above)
            write_tif(_path(place, MASKS), masks.reshape(-1, size, size), patch, side / size)
            write_tif(_path(place, modality), counts.reshape(-1, size, size), patch, side / size)
        else:
            descending = "DESC" in modality
            days = np.arange(1 + 4 * descending, DAYS, max(1, round(1.2 * self.revisit)))
            looks = sentinel1(rng, fractions, days, self.above.angles[descending], self.above.delay)
            write_tif(_path(place, modality), looks.reshape(-1, size, size), patch, side / size)
        new_year = datetime.date(self.year, 1, 1)
        return tuple((new_year + datetime.timedelta(int(day))).strftime("%Y%m%d") for day in days)


def _path(place: tuple[Path, str, str, str], modality: str) -> Path:
    root, domain, roi, cell = place
    return root / f"{domain}_{modality}" / roi / f"{domain}_{modality}_{roi}_{cell}.tif"


def write_tif(path: Path, values: np.ndarray, patch: Patch, gsd: float) -> None:
    """A GeoTIFF of (C, H, W) around the centre of the patch."""
    import rasterio
    from rasterio.transform import from_origin

    path.parent.mkdir(parents=True, exist_ok=True)
    bands, rows, columns = values.shape
    west = patch.about["patch_centroid_x"] - gsd * columns / 2
    north = patch.about["patch_centroid_y"] + gsd * rows / 2
    with rasterio.open(
        path, "w", driver="GTiff", width=columns, height=rows, count=bands, dtype=values.dtype, crs=CRS,
        transform=from_origin(west, north, gsd, gsd), compress="deflate",
    ) as file:  # fmt: skip
        file.write(values)


def write_dates(path: Path, dates: Mapping[str, Sequence[str]], known: Mapping[str, Patch]) -> None:
    """The GeoPackage of one modality: patch_id and acquisition_dates, a mapping of 0, 1, 2 ... to YYYYMMDD as text."""
    import geopandas
    from shapely.geometry import Point

    path.parent.mkdir(parents=True, exist_ok=True)
    spelled = [json.dumps({str(i): day for i, day in enumerate(days)}) for days in dates.values()]
    places = [Point(known[key].about["patch_centroid_x"], known[key].about["patch_centroid_y"]) for key in dates]
    table = {"patch_id": list(dates), "acquisition_dates": spelled}
    geopandas.GeoDataFrame(table, geometry=places, crs=CRS).to_file(path, driver="GPKG")
