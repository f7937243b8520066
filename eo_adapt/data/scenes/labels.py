"""Masks -> class numbers, by name: (colour ->) id of the publisher -> class name -> position in a legend."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from .colour_codes import decode
from .raster import Grid, grid_of, read_band, read_colours
from .records import Classes, Raster, Vectors, Window

UNKNOWN = 255  # in maps of 8-bit labels: no class, or none of the legend
UNLISTED = 254  # an id that the data set does not have


@dataclass(frozen=True)
class Remap:
    """Ids of masks -> positions in a legend.

    Attributes:
        classes: What the ids mean.
        numbers: Class name -> position in the legend, below 254; a name that is not there becomes ``UNKNOWN``.
        first: Smallest id that is known.
        table: (ids,) uint8: position of id ``first + i``, ``UNKNOWN`` or ``UNLISTED``.
    """

    classes: Classes
    numbers: Mapping[str, int]
    first: int
    table: np.ndarray

    @classmethod
    def to(cls, classes: Classes, legend: Sequence[str], names: Mapping[str, str] | None = None) -> Remap:
        """To the classes of a legend, in its order.

        Args:
            classes: What the ids mean.
            legend: Class names.
            names: Class name of the data set -> name in the legend; None = they are the same.
        """
        if len(legend) >= UNLISTED:
            raise ValueError(f"a legend of maps holds at most {UNLISTED - 1} classes; got {len(legend)}")
        names = {name: name for name in classes.names.values()} if names is None else names
        numbers = {name: legend.index(new) for name, new in names.items() if new in legend}
        first = min((*classes.names, *classes.ignored))
        table = np.full(max((*classes.names, *classes.ignored)) - first + 1, UNLISTED, np.uint8)
        for number, name in classes.names.items():
            table[number - first] = numbers.get(name, UNKNOWN)
        table[[number - first for number in classes.ignored]] = UNKNOWN
        return cls(classes, numbers, first, table)

    def __call__(self, ids: np.ndarray, nodata: float | None, where: Path | str) -> np.ndarray:
        """Ids (H, W) -> uint8 positions (H, W).

        Args:
            ids: As the file holds them.
            nodata: What the file declares; ``UNKNOWN`` unless it is the id of a class.
            where: File, for messages.

        Raises:
            ValueError: If there is an id that the data set does not have; names file and ids.
        """
        if ids.dtype.kind not in "iu":
            raise ValueError(f"{where} holds {ids.dtype}; a mask holds whole numbers: ids of classes")
        at = ids.astype(np.int64) - self.first
        inside = (at >= 0) & (at < len(self.table))
        found = np.where(inside, self.table[np.where(inside, at, 0)], np.uint8(UNLISTED))
        if nodata is not None and not self._lists(nodata):
            found[ids == nodata] = UNKNOWN
        if (bad := found == UNLISTED).any():
            raise ValueError(
                f"{where} holds ids {np.unique(ids[bad])[:5].tolist()} in {int(bad.sum())} pixels; the data set has "
                f"{dict(sorted(self.classes.names.items()))} and ignores {sorted(self.classes.ignored)}: correct the "
                "mask, or list the ids in the reader's classes"
            )
        return found

    def _lists(self, number: float) -> bool:
        return number == int(number) and int(number) in {*self.classes.names, *self.classes.ignored}


def joined_names(classes: Classes, join: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Class name of the data set -> what it is called once classes are joined.

    Raises:
        ValueError: If a class to join is unknown.
    """
    names = list(dict.fromkeys(classes.names.values()))
    for new, old in join.items():
        if wrong := sorted(set(old) - set(names)):
            raise ValueError(f"data.join.{new} names {wrong}; the data have {sorted(names)}")
    new_names = {name: new for new, old in join.items() for name in old}
    return {name: new_names.get(name, name) for name in names}


def read_labels(
    root: Path, mask: Raster | Vectors, image: Raster, remap: Remap, part: Window | None = None
) -> np.ndarray:
    """Class numbers of a patch, (H, W) uint8; ``UNKNOWN`` where there is none.

    Args:
        root: Raw folder.
        mask: A raster on the grid of ``image``, or polygons.
        image: The first sensor's raster.
        remap: Ids -> class numbers.
        part: First row, first column, height, width within the patch; None = all of it.
    """
    if not isinstance(mask, Raster):
        return _burn(root, mask, grid_of(root, image), remap, part)
    path, codes = root / mask.path, remap.classes.codes
    if codes:  # a nodata value of one band says nothing of a colour
        return remap(decode(read_colours(root, mask, part), codes, path), None, path)
    return remap(*read_band(root, mask, part), path)


def _burn(root: Path, mask: Vectors, grid: Grid, remap: Remap, part: Window | None) -> np.ndarray:
    """Classes of polygons on a grid."""
    known, path = set(remap.classes.names.values()), root / mask.path
    rest = remap.classes.names.get(0)
    fill = UNKNOWN if rest is None else remap.numbers.get(rest, UNKNOWN)

    def numbers(near: Any) -> list[int]:
        if wrong := sorted(set(near[mask.column].astype(str)) - known):
            raise ValueError(f"{path} has {wrong} in column {mask.column!r}; the classes are {sorted(known)}")
        return [remap.numbers.get(str(name), UNKNOWN) for name in near[mask.column]]

    return burn(path, mask, grid, part, numbers, fill, np.uint8)


def burn(
    path: Path,
    vectors: Vectors,
    grid: Grid,
    part: Window | None,
    numbers: Callable[[Any], Sequence[int]],
    fill: int,
    dtype: type[np.unsignedinteger[Any] | np.signedinteger[Any]],
) -> np.ndarray:
    """Polygons on a grid, (H, W), later ones over earlier ones.

    Args:
        path: Their file.
        vectors: Its column and layer.
        grid: The image's.
        part: First row, first column, height, width within the patch; None = all of it.
        numbers: Rows of polygons that may touch the part -> what to draw for each.
        fill: What stands where there is no polygon.
        dtype: Of the result.

    Raises:
        ValueError: If the image states no CRS, or the file cannot be laid over it.
        LookupError: If the file lacks the column.
    """
    from affine import Affine
    from rasterio.features import rasterize

    if not grid.crs:
        raise ValueError(f"{path} cannot be drawn on an image that states no CRS; georeference the image")
    row, column, height, width = part or (0, 0, grid.height, grid.width)
    transform = Affine(*grid.transform) @ Affine.translation(column, row)
    polygons = _polygons(path, vectors.column, vectors.layer, grid.crs)
    corners = [transform @ corner for corner in ((0, 0), (width, 0), (0, height), (width, height))]
    (west, east), (south, north) = ((min(c), max(c)) for c in zip(*corners, strict=True))
    near = polygons.iloc[np.sort(polygons.sindex.query(_box(west, south, east, north)))]
    pairs = zip(near.geometry, numbers(near), strict=True)
    shapes = [(shape, number) for shape, number in pairs if shape is not None and not shape.is_empty]
    if not shapes:
        return np.full((height, width), fill, dtype)
    drawn: np.ndarray = rasterize(shapes, (height, width), fill=fill, transform=transform, dtype=np.dtype(dtype).name)
    return drawn


def _box(west: float, south: float, east: float, north: float) -> Any:
    from shapely.geometry import box

    return box(west, south, east, north)


@lru_cache(maxsize=8)
def _polygons(path: Path, column: str, layer: str, crs: str) -> Any:
    """A vector file in some CRS; kept, because neighbouring patches share it."""
    import geopandas
    from pyogrio.errors import DataLayerError, DataSourceError
    from pyproj.exceptions import ProjError

    if not path.exists():
        raise FileNotFoundError(f"no vector labels at {path}")
    try:
        frame = geopandas.read_file(path, **({"layer": layer} if layer else {}))
    except (DataSourceError, DataLayerError) as error:
        raise ValueError(
            f"{path} cannot be read ({error}): get the file again, or correct the layer of the reader's mask"
        ) from error
    if column not in frame.columns:
        raise LookupError(f"{path} has no column {column!r}; it has {sorted(set(frame.columns) - {'geometry'})}")
    if frame.crs is None:
        raise ValueError(f"{path} states no CRS; its polygons cannot be laid over images")
    try:
        return frame.reset_index(drop=True).to_crs(crs)
    except ProjError as error:  # also CRSError
        raise ValueError(
            f"the polygons of {path} cannot be laid over images: no transformation from {frame.crs.name!r} to the "
            f"images' CRS ({error})"
        ) from error


def same_grid(root: Path, mask: Raster, grid: Grid) -> str:
    """How a mask's grid differs from the image's; "" if it does not. A mask without a place is taken by its size."""
    found = grid_of(root, mask)
    if (found.height, found.width) != (grid.height, grid.width):
        return f"has {found.height} x {found.width} pixels, the image {grid.height} x {grid.width}"
    if not (found.crs and grid.crs):
        return ""
    pixel = max(abs(grid.transform[0]), abs(grid.transform[1]))
    if max(abs(a - b) for a, b in zip(found.transform, grid.transform, strict=True)) > 0.1 * pixel:
        return f"lies at {found.transform}, the image at {grid.transform} (a, b, c, d, e, f)"
    return _other_crs(found, grid)


def other_footprint(grid: Grid, first: Grid) -> str:
    """How the ground that a further sensor's image covers differs from the first's, by more than a pixel; "" if not.

    Images that do not say where they lie are taken for the same ground; then their sides must be in proportion.
    """
    if not (grid.crs and first.crs):
        if abs(grid.width * first.height / first.width - grid.height) < 1:
            return ""
        return (
            f"has {grid.height} x {grid.width} pixels, that of the first sensor {first.height} x {first.width}: no "
            "size of a pixel makes them the same ground"
        )
    if problem := _other_crs(grid, first):
        return problem
    here, there = _corners(grid), _corners(first)
    pixel = max(abs(step) for g in (grid, first) for step in (g.transform[0], g.transform[1]))
    if max(abs(a - b) for a, b in zip(here, there, strict=True)) > pixel:
        return f"covers {here}, the image of the first sensor {there} (x, y of the first corner, x, y of the last)"
    return ""


def _corners(grid: Grid) -> tuple[float, float, float, float]:
    a, b, c, d, e, f = grid.transform
    return c, f, a * grid.width + b * grid.height + c, d * grid.width + e * grid.height + f


def _other_crs(grid: Grid, other: Grid) -> str:
    import rasterio

    differ = rasterio.CRS.from_wkt(grid.crs) != rasterio.CRS.from_wkt(other.crs)
    return "is in another CRS than the image" if differ else ""
