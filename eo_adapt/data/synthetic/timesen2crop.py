"""Made-up data in the raw layout of TimeSen2Crop; see :mod:`eo_adapt.data.readers.timesen2crop` for the layout."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..readers.timesen2crop import BANDS, CLASSES
from .curves import greenness, reflectance

SEASON = {  # class -> days of the harvest year on which it greens up and dries; others are green all summer
    "legumes": (120, 220),
    "maize": (160, 265),
    "potato": (150, 235),
    "sunflower": (145, 240),
    "soy": (160, 255),
    "winter barley": (75, 170),
    "winter caraway": (90, 185),
    "rye": (80, 185),
    "rapeseed": (60, 175),
    "beet": (140, 285),
    "spring cereals": (105, 195),
    "winter wheat": (85, 190),
    "winter triticale": (80, 187),
}
HEADER = ",".join([*(f"B{i}" for i in range(1, 10)), "Flag"])


@dataclass(frozen=True)
class TimeSen2CropWorld:
    """Generator of TimeSen2Crop-like data.

    Attributes:
        tiles: Tile folders; a year in front makes it another season, as ``2019_33UVP``.
        pixels: Of each class and tile.
        year: Harvest year of tiles without one.
        seed: Of everything.
    """

    tiles: Sequence[str] = ("32TPT", "33UVP", "33UXP", "2019_33UVP")
    pixels: int = 4
    year: int = 2018
    seed: int = 0

    def write(self, root: Path) -> None:
        """Write all tiles below ``root``."""
        for tile in self.tiles:
            rng = np.random.default_rng([self.seed, zlib.crc32(tile.encode())])
            year = int(tile[:4]) if "_" in tile else self.year
            days = np.sort(rng.choice(np.arange(-120, 243, 5), int(rng.integers(25, 45)), replace=False))
            late = rng.normal(0, 8)  # the tile's season
            folder = Path(root) / tile
            folder.mkdir(parents=True)
            dates = np.datetime64(f"{year}-01-01") + days.astype("timedelta64[D]")
            lines = [str(date).replace("-", "") for date in dates]
            (folder / "dates.csv").write_text("\n".join(["acquisition_date", *lines, ""]))
            for number, label in enumerate(CLASSES):
                (folder / str(number)).mkdir()
                for i in range(self.pixels):
                    array = _pixel(label, days, late, rng)
                    rows = [",".join(map(str, row)) for row in array.tolist()]
                    (folder / str(number) / f"{i}.csv").write_text("\n".join([HEADER, *rows, ""]))


def _pixel(label: str, days: np.ndarray, late: float, rng: np.random.Generator) -> np.ndarray:
    """(T, 10) whole numbers: nine bands and the flag."""
    rise, fall = SEASON.get(label, (75, 305))
    shift = late + rng.normal(0, 5)
    green = greenness(days, rise + shift, fall + shift) + rng.normal(0, 0.03, len(days))
    flags = rng.choice(4, len(days), p=[0.6, 0.3, 0.06, 0.04])
    values = 1e4 * reflectance(green, BANDS, np.where(flags == 1, rng.uniform(0.3, 1, len(days)), 0.0))
    values[flags == 2] *= 0.4
    return np.column_stack([values.clip(1, 1e4).round().astype(int), flags])
