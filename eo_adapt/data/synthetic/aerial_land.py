"""Made-up land seen from above: parcels of one use, roads, houses, trees; labels, heights, materials.

Sizes are in pixels of 0.2 m and smaller than in nature, so that patches of 64 pixels hold several things.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .aerial_departments import Grain

Floats = npt.NDArray[np.float32]
MATERIALS = ("soil", "grass", "crop", "vine", "tree", "asphalt", "tile", "slate", "water")
BUILDING, IMPERVIOUS, SOIL, WATER, DECIDUOUS, VINEYARD, HERBACEOUS, FIELD = 1, 3, 4, 5, 7, 9, 10, 11  # FLAIR#1
CLASSES = (BUILDING, IMPERVIOUS, SOIL, WATER, DECIDUOUS, VINEYARD, HERBACEOUS, FIELD)
PARCEL = 38.0  # pixels between the middles of neighbouring parcels


@dataclass
class Land:
    """A square of N x N pixels.

    Attributes:
        labels: (N, N) uint8, FLAIR#1 classes.
        height: (N, N) metres above the ground.
        material: (N, N) position in :data:`MATERIALS`.
        cover: (N, N) share of the material, the rest is soil.
        bright: (N, N) factor of the reflectance.
    """

    labels: npt.NDArray[np.uint8]
    height: Floats
    material: npt.NDArray[np.uint8]
    cover: Floats
    bright: Floats

    def paint(
        self, where: np.ndarray, label: int, material: str, cover: np.ndarray | float = 1.0, bright: float = 1.0
    ) -> None:
        """Set the pixels ``where``, a mask (N, N); heights go to 0."""
        self.labels[where] = label
        self.material[where] = MATERIALS.index(material)
        self.cover[where] = cover[where] if isinstance(cover, np.ndarray) else cover
        self.bright[where] = bright
        self.height[where] = 0.0


class Painter:
    """Paints one zone.

    Args:
        rng: Source of all draws.
        uses: Land use of each parcel.
        n: Edge in pixels.
        grain: How fine it is.
    """

    def __init__(self, rng: np.random.Generator, uses: Sequence[str], n: int, grain: Grain) -> None:
        self.rng, self.uses, self.n, self.grain = rng, uses, n, grain
        self.y, self.x = np.mgrid[:n, :n].astype(np.float32)
        self.fine, self.medium, self.broad = (smooth_noise(rng, n, sigma) for sigma in (0.8, 4.0, 16.0))
        blank = np.zeros((n, n), np.float32)
        self.land = Land(blank.astype(np.uint8), blank.copy(), blank.astype(np.uint8), blank.copy(), blank + 1)

    def paint(self) -> Land:
        """The zone, all things on it."""
        parcels, centres = self._parcels()
        kinds = {"meadow": self._meadow, "field": self._field, "vineyard": self._vineyard, "forest": self._forest}
        kinds |= {"soil": self._soil, "water": self._water, "urban": self._meadow}
        for i, use in enumerate(self.uses):
            kinds[use](parcels == i)
        self._road()
        for i, use in enumerate(self.uses):
            if use == "urban":
                self._house(parcels == i, centres[i])
        self._crowns(np.isin(self.land.labels, (HERBACEOUS,)), 0.0009)
        rough = np.where(self.land.labels == WATER, 0.3, 1.0) * self.grain.rough
        texture = 0.06 * self.fine + 0.06 * self.medium + 0.05 * self.broad
        self.land.bright *= np.clip(1 + rough * texture, 0.5, 1.6)
        return self.land

    def _parcels(self) -> tuple[np.ndarray, np.ndarray]:
        """(N, N) number of the nearest of jittered centres, with crooked borders; (P, 2) centres (row, column)."""
        from scipy.spatial import cKDTree

        side = int(np.ceil(np.sqrt(len(self.uses))))
        at = np.stack(np.divmod(np.arange(len(self.uses)), side), 1) + 0.5
        centres = (at + self.rng.uniform(-0.3, 0.3, at.shape)) * self.n / side
        crooked = np.stack([self.y + 1.5 * self.medium, self.x + 1.5 * self.broad], -1)
        _, nearest = cKDTree(centres).query(crooked.reshape(-1, 2))
        return nearest.reshape(self.n, self.n), centres

    def _rows(self, distance: float) -> np.ndarray:
        """(N, N) in [0, 1]: 1 on top of rows of plants, in a direction of its own."""
        angle = self.rng.uniform(0, np.pi)
        across = self.x * np.cos(angle) + self.y * np.sin(angle) + 0.6 * self.medium
        rows: np.ndarray = 0.5 + 0.5 * np.cos(2 * np.pi * across / (distance * self.grain.rows))
        return rows

    def _meadow(self, where: np.ndarray) -> None:
        cover = np.clip(0.88 + 0.08 * self.medium, 0, 1)
        self.land.paint(where, HERBACEOUS, "grass", cover, self.rng.uniform(0.9, 1.1))

    def _field(self, where: np.ndarray) -> None:
        cover = self.rng.uniform(0.45, 0.8) * (0.35 + 0.65 * self._rows(self.rng.uniform(4.0, 6.0)))
        self.land.paint(where, FIELD, "crop", np.clip(cover + 0.05 * self.broad, 0, 1), self.rng.uniform(0.9, 1.1))

    def _vineyard(self, where: np.ndarray) -> None:
        rows = self._rows(self.rng.uniform(9.0, 11.0))
        self.land.paint(where, VINEYARD, "vine", np.clip(3 * rows - 1.4, 0.1, 1), self.rng.uniform(0.9, 1.1))
        self.land.height[where] = 1.4 * (rows[where] > 0.6)

    def _soil(self, where: np.ndarray) -> None:
        self.land.paint(where, SOIL, "soil", 1.0, self.rng.uniform(0.85, 1.15))

    def _water(self, where: np.ndarray) -> None:
        self.land.paint(where, WATER, "water", 1.0, self.rng.uniform(0.9, 1.1))

    def _forest(self, where: np.ndarray) -> None:
        self.land.paint(where, DECIDUOUS, "tree", 1.0, 0.75)
        self._crowns(where, 0.012)

    def _crowns(self, where: np.ndarray, density: float) -> None:
        """Domes of leaves, centres in ``where``, ``density`` a pixel."""
        rows, columns = np.nonzero(where)
        chosen = self.rng.permutation(len(rows))[: self.rng.poisson(density * len(rows))]
        for row, column in zip(rows[chosen], columns[chosen], strict=True):
            radius = self.rng.uniform(4.0, 9.0) * self.grain.crowns
            reach = int(np.ceil(radius)) + 1
            box = np.s_[max(0, row - reach) : row + reach + 1, max(0, column - reach) : column + reach + 1]
            inside = 1 - ((self.y[box] - row) ** 2 + (self.x[box] - column) ** 2) / radius**2
            dome = self.rng.uniform(4, 12) * np.sqrt(np.clip(inside, 0, None))
            top = (dome > self.land.height[box]) & ~np.isin(self.land.labels[box], (BUILDING, IMPERVIOUS, WATER))
            self.land.labels[box][top], self.land.material[box][top] = DECIDUOUS, MATERIALS.index("tree")
            self.land.height[box][top], self.land.cover[box][top] = dome[top], 1.0
            self.land.bright[box][top] = (0.75 + 0.4 * inside * self.rng.uniform(0.8, 1.1))[top]

    def _road(self) -> None:
        """One or two bands of asphalt through the zone."""
        for _ in range(int(self.rng.integers(1, 3))):
            angle, width = self.rng.uniform(0, np.pi), self.rng.uniform(10, 16)
            middle = self.rng.uniform(0.25, 0.75, 2) * self.n
            across = (self.x - middle[0]) * np.cos(angle) + (self.y - middle[1]) * np.sin(angle) + 2 * self.broad
            self.land.paint(np.abs(across) < width / 2, IMPERVIOUS, "asphalt", 1.0, self.rng.uniform(0.85, 1.15))

    def _house(self, parcel: np.ndarray, centre: np.ndarray) -> None:
        """A turned rectangle with a gable roof, and a yard before it."""
        angle = self.rng.uniform(0, np.pi)
        dx, dy = self.x - centre[1], self.y - centre[0]
        along, across = dx * np.cos(angle) + dy * np.sin(angle), dy * np.cos(angle) - dx * np.sin(angle)
        length, width = self.rng.uniform(11, 18), self.rng.uniform(8, 12)
        if self.rng.random() < 0.5:
            yard = parcel & (np.abs(along) < length + 5) & (np.abs(across - 4) < width + 4)
            self.land.paint(yard, IMPERVIOUS, "asphalt", 1.0, self.rng.uniform(1.0, 1.3))
        roof = parcel & (np.abs(along) < length) & (np.abs(across) < width)
        slate = self.rng.random() < self.grain.slate
        self.land.paint(roof, BUILDING, "slate" if slate else "tile", 1.0, self.rng.uniform(0.85, 1.15))
        self.land.bright[roof] *= np.where(across[roof] > 0, 1.12, 0.88)
        self.land.height[roof] = self.rng.uniform(3, 6) + 2.5 * (1 - np.abs(across[roof]) / width)


def smooth_noise(rng: np.random.Generator, n: int, sigma: float) -> Floats:
    """(N, N) Gaussian noise of standard deviation 1, smooth over ``sigma`` pixels."""
    from scipy.ndimage import gaussian_filter

    noise = gaussian_filter(rng.normal(size=(n, n)), sigma, mode="reflect")
    scaled: Floats = (noise / noise.std()).astype(np.float32)
    return scaled


def shadows(height: np.ndarray, sun: float, azimuth: float, gsd: float) -> np.ndarray:
    """(N, N) whether something higher stands between a pixel and the sun.

    Args:
        height: (N, N) metres.
        sun: Height of the sun, degrees.
        azimuth: Where it stands, degrees from north, clockwise; rows run south.
        gsd: Metres a pixel.
    """
    rise = np.tan(np.deg2rad(sun)) * gsd
    south, east = -np.cos(np.deg2rad(azimuth)), np.sin(np.deg2rad(azimuth))
    dark = np.zeros(height.shape, bool)
    n = len(height)
    for step in range(1, int(np.ceil(height.max() / rise)) + 1):
        rows, columns = (np.clip(np.arange(n) + round(step * d), 0, n - 1) for d in (south, east))
        dark |= height[np.ix_(rows, columns)] > height + step * rise
    return dark
