"""Made-up data in the raw layout of ISPRS Potsdam and Vaihingen; see :mod:`eo_adapt.data.readers.isprs`."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..readers.isprs import CITIES, ORTHOS
from ..scenes.land_cover import ISPRS_BOUNDARY, ISPRS_COLOURS
from .aerial_departments import Grain, Light
from .aerial_land import BUILDING, DECIDUOUS, FIELD, HERBACEOUS, IMPERVIOUS, SOIL, VINEYARD, WATER, Painter
from .aerial_light import counts, reflectance

# class of the painted land -> position in the contest's six, from 1; cars are painted on roads
IDS = {IMPERVIOUS: 1, BUILDING: 2, HERBACEOUS: 3, FIELD: 3, VINEYARD: 3, DECIDUOUS: 4, SOIL: 6, WATER: 6}
CAR = 5
USES = {"Potsdam": ("urban", "urban", "urban", "meadow", "soil", "water"), "Vaihingen": ("urban", "meadow", "forest")}
LIGHTS = {"Potsdam": Light(dry=0.15, haze=0.04), "Vaihingen": Light((1.1, 0.95, 0.9, 1.1), dry=0.45, haze=0.09)}
# tiles in the order of writing: training ones, the validating one, testing ones
TILES = {
    "Potsdam": ("2_10", "2_11", "3_10", "7_10", "2_13", "2_14"),
    "Vaihingen": ("1", "3", "5", "30", "2", "4"),
}
CORNERS = {"Potsdam": (366_676.0, 5_808_416.0), "Vaihingen": (496_900.0, 5_419_600.0)}  # metres, upper left
BOUNDARY = 2  # pixels on either side that noBoundary masks leave out


@dataclass(frozen=True)
class Tile:
    """One tile in memory.

    Attributes:
        city: Folder.
        name: As in the file names.
        image: (4, H, W) uint8: R, G, B, IR.
        ids: (H, W) uint8: 1..6 in the contest's order.
        inner: (H, W) bool: away from boundaries.
    """

    city: str
    name: str
    image: npt.NDArray[np.uint8]
    ids: npt.NDArray[np.uint8]
    inner: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class IsprsWorld:
    """Generator of data like ISPRS Potsdam and Vaihingen.

    Potsdam's tiles have world files and a CRS, their masks none, Vaihingen's tiles neither, as published ones do in
    several copies. Tiles of Vaihingen differ in size.

    Attributes:
        cities: Which of them.
        tiles: How many of the six known tiles of each; 5 are needed for one that tests.
        size: Edge of a tile of Potsdam, pixels (6000 in the contest).
        seed: Seed of all draws.
    """

    cities: Sequence[str] = tuple(CITIES)
    tiles: int = 6
    size: int = 128
    seed: int = 0

    def write(self, root: Path) -> None:
        """Write all files below ``root``."""
        self.write_known(root)

    def write_known(self, root: Path) -> list[Tile]:
        """Write all files and return what is in them."""
        made = []
        for city in self.cities:
            rng = np.random.default_rng([self.seed, list(CITIES).index(city)])
            for i, name in enumerate(TILES[city][: self.tiles]):
                width = self.size - (8 * i if city == "Vaihingen" else 0)
                made.append(self._tile(rng, city, name, width))
                _write_tile(Path(root) / city, made[-1], i)
        return made

    def _tile(self, rng: np.random.Generator, city: str, name: str, width: int) -> Tile:
        parcels = max(9, (self.size // 36) ** 2)
        uses = rng.permutation([USES[city][i % len(USES[city])] for i in range(parcels)]).tolist()
        land = Painter(rng, uses, self.size, Grain()).paint()
        image = counts(rng, reflectance(land, LIGHTS[city]), LIGHTS[city], 0.5)
        ids = np.zeros_like(land.labels)
        for label, number in IDS.items():
            ids[land.labels == label] = number
        _park(rng, image, ids)
        return Tile(city, name, image[..., :width], ids[:, :width], _inner(ids)[:, :width])


def _park(rng: np.random.Generator, image: np.ndarray, ids: np.ndarray) -> None:
    """Cars of 5 x 9 pixels on some sealed places."""
    rows, columns = np.nonzero(ids == 1)
    for at in rng.integers(len(rows), size=min(len(rows), 8)).tolist():
        here = np.s_[..., rows[at] : rows[at] + 5, columns[at] : columns[at] + 9]
        image[here] = rng.integers(20, 250, (4, 1, 1))
        ids[here] = CAR


def _inner(ids: np.ndarray) -> npt.NDArray[np.bool_]:
    """Where nothing of another class lies within two pixels."""
    from scipy.ndimage import maximum_filter, minimum_filter

    width = 2 * BOUNDARY + 1
    return np.asarray(maximum_filter(ids, width) == minimum_filter(ids, width))


def _drawn(ids: np.ndarray, colours: Mapping[int, str]) -> npt.NDArray[np.uint8]:
    """(3, H, W) colours of ids."""
    table = np.zeros((max(colours) + 1, 3), np.uint8)
    for number, colour in colours.items():
        table[number] = list(bytes.fromhex(colour[1:]))
    return np.ascontiguousarray(table[ids].transpose(2, 0, 1))


def _write_tile(folder: Path, tile: Tile, number: int) -> None:
    """Image, mask and mask without boundaries; of Potsdam all orthophotos."""
    city = CITIES[tile.city]
    order = dict(zip(("red", "green", "blue", "nir"), tile.image, strict=True))
    placed = tile.city == "Potsdam"
    corner = CORNERS[tile.city][0] + 1000.0 * number, CORNERS[tile.city][1]
    for ortho, (end, bands) in ORTHOS.items() if placed else [("", ("", city.bands))]:
        path = folder / city.images.format(ortho=ortho, end=end, tile=tile.name)
        _write(path, np.stack([order[band] for band in bands]), corner, city.gsd, city.crs if placed else "")
        if placed:
            _world_file(path, corner, city.gsd)
    colours = {0: ISPRS_BOUNDARY, **dict(enumerate(ISPRS_COLOURS.values(), start=1))}
    full, eroded = (folder / path.format(tile=tile.name) for path in (city.masks, city.eroded))
    _write(full, _drawn(tile.ids, colours))
    _write(eroded, _drawn(np.where(tile.inner, tile.ids, 0), colours))


def _write(
    path: Path, values: np.ndarray, corner: tuple[float, float] = (0, 0), gsd: float = 1.0, crs: str = ""
) -> None:
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning
    from rasterio.transform import from_origin

    path.parent.mkdir(parents=True, exist_ok=True)
    bands, rows, columns = values.shape
    place = {"crs": crs, "transform": from_origin(*corner, gsd, gsd)} if crs else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(
            path, "w", driver="GTiff", width=columns, height=rows, count=bands, dtype="uint8", **place
        ) as file:
            file.write(values)


def _world_file(path: Path, corner: tuple[float, float], gsd: float) -> None:
    """Six lines beside an image: pixel size, turns, centre of the upper left pixel."""
    lines = (gsd, 0.0, 0.0, -gsd, corner[0] + gsd / 2, corner[1] - gsd / 2)
    path.with_suffix(".tfw").write_text("".join(f"{value:.12f}\n" for value in lines))
