"""The four tiles of PASTIS as the generator has them: place, crops, light, soil, clouds, radar angles.

Shares, light and clouds are rounded to what such a country looks like (Normandy: cloud, meadows, wheat, beet; the lower
Rhone: sun, sunflower, lucerne, bright soils). They are choices of this simulation, no statistics.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

CROP = {  # class of PASTIS -> crop of the simulation
    1: "pasture_meadow_grassland_grass",
    2: "winter_common_soft_wheat",
    3: "grain_maize_corn_popcorn",
    4: "winter_barley",
    5: "winter_rapeseed_rape",
    6: "spring_barley",
    7: "sunflower",
    9: "sugar_beet",
    13: "potatoes",
    14: "alfalfa_lucerne",
}


@dataclass(frozen=True)
class Tile:
    """One tile.

    Attributes:
        x: Centre, metres of EPSG:2154.
        y: See ``x``.
        lon: The same in degrees.
        lat: See ``lon``.
        digit: First digit of the ids of its patches.
        shares: Weights of the classes of ``CROP``, in its order.
        gain: Calibration and view in the first and the last band, straight in wavelength between.
        soil: Factor of the soil's red reflectance.
        clouds: Mean share of a date that is cloud.
        angles: Incidence angle of ascending and descending orbits, degrees.
    """

    x: float
    y: float
    lon: float
    lat: float
    digit: int
    shares: tuple[float, ...]
    gain: tuple[float, float]
    soil: float
    clouds: float
    angles: tuple[float, float]


#                                                          mead wheat corn barl rape sp.b sunf beet pota luce
TILES: Mapping[str, Tile] = {
    "T30UXV": Tile(475000, 6900000, -0.1, 49.2, 1, (24, 20, 13, 6, 7, 3, 2, 12, 8, 5), (0.93, 0.97), 0.85, 0.50,
                   (44.0, 33.0)),
    "T31TFJ": Tile(815000, 6345000, 4.45, 44.2, 2, (18, 10, 9, 6, 5, 6, 20, 4, 6, 16), (1.08, 1.03), 1.25, 0.15,
                   (35.0, 40.0)),
    "T31TFM": Tile(830000, 6640000, 4.7, 46.85, 3, (22, 18, 12, 11, 11, 6, 6, 4, 4, 6), (1.0, 1.0), 1.0, 0.30,
                   (38.0, 38.0)),
    "T32ULU": Tile(1040000, 6850000, 7.65, 48.65, 4, (14, 18, 28, 6, 6, 4, 4, 10, 6, 4), (0.98, 1.02), 0.95, 0.38,
                   (40.0, 36.0)),
}  # fmt: skip


def between(strength: float, name: str, tile: str) -> np.ndarray:
    """A tile's numbers at strength 1, the mean of all tiles at 0, straight between."""
    mean = np.mean([getattr(other, name) for other in TILES.values()], axis=0)
    return np.asarray(mean + strength * (np.asarray(getattr(TILES[tile], name)) - mean), dtype=np.float64)


def shares(strength: float, tile: str) -> np.ndarray:
    """Share of each class of ``CROP`` among a tile's parcels, sum 1."""
    own = {name: np.array(other.shares) / sum(other.shares) for name, other in TILES.items()}
    mean = np.mean(list(own.values()), axis=0)
    return np.asarray(mean + strength * (own[tile] - mean))
