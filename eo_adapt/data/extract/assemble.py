"""Finished parts -> one record a parcel, in the order of the layer, a bounded number of parcels at a time.

A pass is seen by several tiles. A parcel that lies wholly within some of them takes the one that saw most of it; the
pieces of a parcel that crosses tiles are put together by the area that was clear in each:

    mean = sum(a mean) / sum(a),  variance = sum(a (variance + (mean of the piece - mean)^2)) / sum(a)

with a = share clear x area covered. Medians cannot be put together: that of the piece with most clear area is taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np

from .coverage import Coverage
from .grid import Grid
from .manifest import Manifest, Unit
from .pixels import PixelSets
from .tiles import Tile
from .unit import Task

CELLS = 4_000_000  # parcels x dates x bands that are put together at a time
Place = tuple[str, str]


@dataclass
class Looks:
    """What one series saw of a chunk of parcels.

    Attributes:
        seen: (n, A) bool, whether a part exists.
        values: (n, A, S, C) float64, NaN = not clear.
        share: (n, A, C) of the whole parcel that is clear.
    """

    seen: np.ndarray
    values: np.ndarray
    share: np.ndarray


@dataclass(frozen=True)
class Series:
    """The passes of one series, sorted by time.

    Attributes:
        name: Of the series.
        passes: What tells them apart, see :attr:`.images.Acquisition.when`.
        units: Place -> (pass number, unit) of finished units.
        bands: Number of bands.
        family: The sensor before series were kept apart.
    """

    name: str
    passes: Sequence[tuple[str, str, str]]
    units: Mapping[Place, Sequence[tuple[int, Unit]]]
    bands: int
    family: str


def series_of(units: Sequence[Unit]) -> list[Series]:
    """Series of the units that are done, sorted by name."""
    made = []
    for name in sorted({unit.acquisition.sensor for unit in units}):
        mine = [unit for unit in units if unit.acquisition.sensor == name]
        passes = sorted({unit.acquisition.when for unit in mine})
        number = {when: i for i, when in enumerate(passes)}
        places: dict[Place, list[tuple[int, Unit]]] = {}
        for unit in mine:
            places.setdefault(unit.place, []).append((number[unit.acquisition.when], unit))
        made.append(Series(name, passes, places, len(mine[0].acquisition.bands), mine[0].acquisition.family))
    return made


@dataclass
class Assembly:
    """Puts parts together.

    Attributes:
        manifest: Where the parts are.
        tiles: Tiles and their parcels.
        tasks: Of each tile.
        statistics: Names, in the order of the parts.
    """

    manifest: Manifest
    tiles: Sequence[Tile]
    tasks: Mapping[Place, Task]
    statistics: Sequence[str]
    _area: dict[Place, np.ndarray] = field(default_factory=dict)

    def chunks(self, parcels: int, series: Sequence[Series]) -> Iterator[tuple[int, int]]:
        """(first, end) of parcels to be put together at a time."""
        width = sum(len(one.passes) * one.bands * (len(self.statistics) + 1) for one in series)
        step = max(1, CELLS // max(1, width))
        for start in range(0, parcels, step):
            yield start, min(start + step, parcels)

    def looks(self, series: Series, start: int, end: int) -> Looks:
        """What a series saw of parcels [start, end)."""
        count, dates, bands, stats = end - start, len(series.passes), series.bands, len(self.statistics)
        seen = np.zeros((count, dates), bool)
        values, area = np.full((count, dates, stats, bands), np.nan), np.zeros((count, dates, bands))
        total, largest = np.zeros((count, bands)), np.zeros_like(area)
        for tile in self.tiles:
            low, high = np.searchsorted(tile.rows, [start, end])
            if tile.place not in series.units or low == high:
                continue
            rows, whole = tile.rows[low:high] - start, tile.whole[low:high]
            covered = self._covered(tile, series.units[tile.place][0][1])[low:high]
            total[rows] = np.where(whole[:, None], np.maximum(total[rows], covered), total[rows] + covered)
            for number, unit in series.units[tile.place]:
                part = _mapped(self.manifest.part(unit))[low:high].astype(np.float64)
                part = part.reshape(len(part), stats + 1, bands)
                fresh = part[:, -1] * covered
                old, before = values[rows, number], area[rows, number]
                better = whole[:, None] & (fresh.min(1) > before.min(1))[:, None]
                merged, sums = self._merged(old, before, part[:, :-1], fresh, largest[rows, number])
                largest[rows, number] = np.maximum(largest[rows, number], fresh)
                values[rows, number] = np.where(
                    whole[:, None, None], np.where(better[:, None], part[:, :-1], old), merged
                )
                area[rows, number] = np.where(whole[:, None], np.where(better, fresh, before), sums)
                seen[rows, number] = True
        share = np.divide(area, total[:, None], out=np.zeros_like(area), where=total[:, None] > 0)
        return Looks(seen, values, np.minimum(share, 1))

    def _merged(
        self, old: np.ndarray, before: np.ndarray, new: np.ndarray, fresh: np.ndarray, largest: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The pieces so far and one more put together: (n, S, C) statistics and (n, C) areas."""
        sums = before + fresh
        both = (before > 0) & (fresh > 0)
        part = np.divide(fresh, sums, out=np.zeros_like(fresh), where=sums > 0)
        found = np.where((fresh > largest)[:, None], new, old)
        if "mean" in self.statistics:
            m = self.statistics.index("mean")
            apart = new[:, m] - old[:, m]
            found[:, m] = np.where(both, old[:, m] + part * apart, np.where(fresh > 0, new[:, m], old[:, m]))
            if "variance" in self.statistics:
                v = self.statistics.index("variance")
                joined = (1 - part) * old[:, v] + part * new[:, v] + part * (1 - part) * apart**2
                found[:, v] = np.where(both, joined, np.where(fresh > 0, new[:, v], old[:, v]))
        return found, sums

    def _covered(self, tile: Tile, unit: Unit) -> np.ndarray:
        """(n, C) area of each parcel that a tile covers, in units of its CRS."""
        if tile.place not in self._area:
            task = self.tasks[tile.place]
            totals = [Coverage(Path(folder)).totals for folder in task.coverages]
            grids = [task.grids[band] for band in unit.acquisition.bands]
            self._area[tile.place] = np.stack([totals[g] * _pixel(task.known[g]) for g in grids], 1)
        return self._area[tile.place]


@lru_cache(maxsize=512)  # files held open
def _mapped(path: Path) -> np.ndarray:
    array: np.ndarray = np.load(path, mmap_mode="r")
    return array


def _pixel(grid: Grid) -> float:
    return grid.resolution[0] * grid.resolution[1]


@dataclass
class PixelAssembly:
    """Puts pixel sets together; each parcel's come from one tile, the first that holds most of it.

    Attributes:
        manifest: Where the parts are.
        tiles: Tiles and their parcels.
        tasks: Of each tile.
    """

    manifest: Manifest
    tiles: Sequence[Tile]
    tasks: Mapping[Place, Task]

    def __post_init__(self) -> None:
        self._sets = {tile.place: PixelSets.load(Path(self.tasks[tile.place].pixels)).counts for tile in self.tiles}
        self._first = {place: np.concatenate([[0], counts.cumsum()]) for place, counts in self._sets.items()}
        self._home: dict[tuple[str, int], tuple[int, Tile, int]] = {}
        for tile in self.tiles:
            for position, (row, whole) in enumerate(zip(tile.rows.tolist(), tile.whole.tolist(), strict=True)):
                many = int(self._sets[tile.place][position]) + (1 << 30 if whole else 0)
                if many > self._home.get((tile.family, row), (0, tile, 0))[0]:
                    self._home[tile.family, row] = (many, tile, position)

    def pixels(self, series: Series, row: int) -> tuple[list[int], np.ndarray]:
        """Numbers of the passes that saw a parcel, and (S, T, C) values, NaN = not clear."""
        found = self._home.get((series.family, row))
        if found is None or found[1].place not in series.units:
            return [], np.zeros((1, 0, series.bands))
        _, tile, position = found
        first, end = self._first[tile.place][position : position + 2]
        mine = sorted(series.units[tile.place], key=lambda pair: pair[0])
        parts = [_mapped(self.manifest.part(unit))[first:end] for _, unit in mine]
        return [number for number, _ in mine], np.stack(parts, 1).astype(np.float64)
