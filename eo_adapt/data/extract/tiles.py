"""Which tile gives which parcel: whole from every tile that holds it, or in pieces that never overlap."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .errors import BadImageError
from .grid import Grid
from .images import Acquisition
from .raster import opened

if TYPE_CHECKING:
    import geopandas

PROBES = 5  # images of a tile that are looked at to learn its grid


@dataclass(frozen=True)
class Tile:
    """A tile of one sensor, and the parcels on it.

    Attributes:
        family: Sensor, such as ``s2``.
        name: Tile.
        grids: Band -> grid.
        rows: (n,) parcels on it, ascending.
        whole: (n,) bool, whether the tile holds all of the parcel.
        shapes: WKB of each parcel, or of the piece of it that this tile gives, in the CRS of the grids.
    """

    family: str
    name: str
    grids: Mapping[str, Grid]
    rows: np.ndarray
    whole: np.ndarray
    shapes: Sequence[bytes]

    @property
    def place(self) -> tuple[str, str]:
        """(sensor, tile)."""
        return self.family, self.name

    @property
    def finest(self) -> Grid:
        """Grid of the smallest pixels."""
        return finest(self.grids)


def finest(grids: Mapping[str, Grid]) -> Grid:
    """The grid of the smallest pixels."""
    return min(grids.values(), key=lambda grid: grid.resolution)


def learn_grids(acquisitions: Iterable[Acquisition]) -> dict[str, Grid]:
    """Band -> the grid that most images of a tile have.

    Images spread over time are opened until a few of a band are known; those on another grid come up one by one later.

    Raises:
        BadImageError: If none of a band can be opened.
    """
    found: dict[str, Counter[Grid]] = {}
    known = list(acquisitions)
    step = max(1, len(known) // PROBES)
    error: BadImageError | None = None
    for one in [*known[::step], *known]:  # all of them only where the first few cannot be opened
        for band, image in one.bands.items():
            counts = found.setdefault(band, Counter())
            if counts.total() >= min(PROBES, len(known)):
                continue
            try:
                with opened(image) as raster:
                    counts[raster.grid] += 1
            except BadImageError as problem:
                error = problem
    if lost := [band for band, counts in found.items() if not counts]:
        raise BadImageError(
            f"no image of {lost} of tile {known[0].tile} can be used; the last error was: {error}"
        ) from error
    return {band: counts.most_common(1)[0][0] for band, counts in found.items()}


def assign(frame: geopandas.GeoDataFrame, tiles: Mapping[tuple[str, str], Mapping[str, Grid]]) -> list[Tile]:
    """Share out the parcels.

    A parcel that lies wholly within one or more tiles is computed in each of them; later the one that saw most of it is
    taken, date by date. Any other parcel is cut: what lies in several tiles belongs to the one that holds most of the
    parcel, so that no ground counts twice.

    Args:
        frame: Parcels, in any CRS.
        tiles: (sensor, tile) -> band -> grid.

    Returns:
        Tiles that hold a parcel, sorted by place.
    """
    done = []
    for family in sorted({family for family, _ in tiles}):
        mine = {name: grids for (other, name), grids in sorted(tiles.items()) if other == family}
        done += _assign(frame, family, mine)
    return done


@dataclass(frozen=True)
class _Local:
    """Parcels that may lie on a tile: rows ascending, outlines in the tile's CRS, share of each that lies on it."""

    grid: Grid
    rows: np.ndarray
    shapes: np.ndarray
    share: np.ndarray  # 2.0 = wholly, whatever rounding says of its area

    def at(self, row: int) -> int:
        """Position of a parcel; -1 if it is not here."""
        position = int(np.searchsorted(self.rows, row))
        there = position < len(self.rows) and self.rows[position] == row and self.share[position] > 0
        return position if there else -1


def _local(frame: geopandas.GeoDataFrame, grid: Grid) -> _Local:
    import shapely

    rows = _candidates(frame, grid)
    shapes = frame.geometry.iloc[rows].to_crs(grid.crs).to_numpy().copy()
    box = shapely.box(*grid.bounds)
    share = shapely.area(shapely.intersection(shapes, box)) / shapely.area(shapes)
    share[shapely.covered_by(shapes, box)] = 2.0
    return _Local(grid, rows, shapes, share)


def _assign(frame: geopandas.GeoDataFrame, family: str, tiles: Mapping[str, Mapping[str, Grid]]) -> list[Tile]:
    import shapely

    known = {name: _local(frame, finest(grids)) for name, grids in tiles.items()}
    whole = np.zeros(len(frame), bool)
    for local in known.values():
        whole[local.rows[local.share == 2]] = True
    pieces = {name: np.where(whole[x.rows], x.share == 2, x.share > 0) for name, x in known.items()}
    cut = np.zeros(len(frame), bool)
    for name, local in known.items():
        cut[local.rows[pieces[name] & (local.share < 2)]] = True
    for row in np.flatnonzero(cut):
        _cut(int(row), known, pieces)
    done = []
    for name, local in known.items():
        here = pieces[name]
        if here.any():
            wkb = [bytes(x) for x in shapely.to_wkb(local.shapes[here])]
            done.append(Tile(family, name, tiles[name], local.rows[here], whole[local.rows[here]], wkb))
    return done


def _candidates(frame: geopandas.GeoDataFrame, grid: Grid) -> np.ndarray:
    """Parcels whose bounding box meets the tile's."""
    from rasterio.warp import transform_bounds

    left, bottom, right, top = transform_bounds(grid.crs, frame.crs.to_wkt(), *grid.bounds, densify_pts=21)
    bounds = frame.bounds.to_numpy()
    met = (bounds[:, 0] <= right) & (bounds[:, 2] >= left) & (bounds[:, 1] <= top) & (bounds[:, 3] >= bottom)
    return np.flatnonzero(met)


def _cut(row: int, known: Mapping[str, _Local], pieces: Mapping[str, np.ndarray]) -> None:
    """Give each tile its piece of a parcel that no tile holds whole; the tile with most of it comes first."""
    import geopandas
    import shapely

    places = {name: position for name, local in known.items() if (position := local.at(row)) >= 0}
    order = sorted(places, key=lambda name: (-known[name].share[places[name]], name))
    for number, name in enumerate(order):
        local, position = known[name], places[name]
        piece = shapely.intersection(local.shapes[position], shapely.box(*local.grid.bounds))
        for before in order[:number]:
            other = known[before].grid
            taken = geopandas.GeoSeries([shapely.box(*other.bounds)], crs=other.crs)
            if other.crs != local.grid.crs:  # straight edges of one zone are curves of the next
                taken = taken.segmentize(min(other.resolution) * 50).to_crs(local.grid.crs)
            piece = shapely.difference(piece, taken.iloc[0])
        polygons = [part for part in shapely.get_parts(piece) if part.geom_type == "Polygon" and part.area > 0]
        pieces[name][position] = bool(polygons)
        if polygons:
            local.shapes[position] = shapely.multipolygons(polygons)
