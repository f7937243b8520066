"""Made-up data in the raw layout of PASTIS-HD: the patches of PastisWorld, and a SPOT image of each."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..readers.pastis import CRS, GSD
from ..readers.pastis_hd import SPOT
from .pastis import Known, PastisWorld
from .pastis_tiles import TILES

ZOOM = 10  # pixels of SPOT along one of Sentinel-2
GAIN = 800.0  # digital numbers per unit of reflectance
SEASON = 180  # day of the year near which SPOT saw the fields


class PastisHDWorld(PastisWorld):
    """Generator of data like PASTIS-HD; see :class:`.pastis.PastisWorld` for its knobs."""

    def write_known(self, root: Path) -> list[Known]:
        """Write all files and return what a reader should find, by id."""
        known = super().write_known(root)
        for patch in known:
            streams = np.random.SeedSequence([self.seed, 7, list(TILES).index(patch.tile), patch.number])
            _write(Path(root) / SPOT.format(patch.number), spot(np.random.default_rng(streams), patch), patch)
        return known


def spot(rng: np.random.Generator, patch: Known) -> np.ndarray:
    """(3, 10 S, 10 S) uint8: red, green and blue of the clearest date of the summer, with rows and grain within fields.

    Args:
        rng: Source of randomness.
        patch: Its series and parcels.
    """
    days, images = patch.days["S2"], patch.images["S2"].astype(np.float64) * 1e-4
    late = np.argsort(np.abs(days - SEASON))[: max(1, len(days) // 4)]
    clearest = late[images[late, 0].mean((1, 2)).argmin()]  # clouds are bright in blue
    coarse = images[clearest, [2, 1, 0]]
    fine = coarse.repeat(ZOOM, 1).repeat(ZOOM, 2)
    rows, columns = np.indices(fine.shape[1:])
    parcel = patch.target[1].repeat(ZOOM, 0).repeat(ZOOM, 1)
    angle = rng.uniform(0, np.pi, 256)[parcel]
    stripes = 1 + 0.06 * np.sin((rows * np.cos(angle) + columns * np.sin(angle)) * 2 * np.pi / 6)
    grain = np.exp(rng.normal(0, 0.03, fine.shape[1:]))
    return np.asarray((GAIN * fine * stripes * grain).clip(1, 255), np.uint8)


def _write(path: Path, image: np.ndarray, patch: Known) -> None:
    import rasterio
    from rasterio.transform import from_origin

    path.parent.mkdir(parents=True, exist_ok=True)
    half = GSD * patch.target.shape[-1] / 2
    place = from_origin(patch.x - half, patch.y + half, GSD / ZOOM, GSD / ZOOM)
    bands, height, width = image.shape
    profile = {"driver": "GTiff", "count": bands, "height": height, "width": width, "dtype": "uint8"}
    with rasterio.open(path, "w", crs=CRS, transform=place, compress="deflate", **profile) as file:
        file.write(image)
