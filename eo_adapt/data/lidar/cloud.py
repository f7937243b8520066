"""Files of points (LAS, LAZ, COPC), read in chunks: metres, on the pixels of a grid, without noise."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..scenes.raster import TileError
from .frame import Frame, horizontal, parse_crs, to_frame

CHUNK = 1_000_000  # points
NOISE = (7, 18)  # ASPRS classes: low and high noise
FOOT, US_FOOT = 0.3048, 1200 / 3937
UNITS = {"metre": 1.0, "foot": FOOT, "us-survey-foot": US_FOOT}
VERTICAL_UNITS = {9001: 1.0, 9002: FOOT, 9003: US_FOOT}  # values of the GeoTIFF key VerticalUnits
BROKEN = "get the file again, or leave it out"


class Points(NamedTuple):
    """N points that fall on a grid.

    Attributes:
        column: (N,) float64, pixels from the grid's left edge.
        row: (N,) float64, pixels from its upper edge.
        z: (N,) float64 metres above the vertical datum of the file.
        intensity: (N,) float32, as the sensor counts.
        ratio: (N,) float32, number of the return over number of returns of its pulse, 0..1; 1 = the last, or the only
            one. Files that number no returns (0 of 0) get 1.
        kind: (N,) uint8 class of ASPRS: 1 unclassified, 2 ground, 3 to 5 vegetation, 6 building.
    """

    column: np.ndarray
    row: np.ndarray
    z: np.ndarray
    intensity: np.ndarray
    ratio: np.ndarray
    kind: np.ndarray

    def cells(self, width: int) -> np.ndarray:
        """(N,) int64 number of the pixel that each falls into, row by row."""
        return self.row.astype(np.int64) * width + self.column.astype(np.int64)


@dataclass(frozen=True)
class Cloud:
    """A file of points, and what it does not say itself.

    Attributes:
        path: LAS, LAZ or COPC.
        crs: CRS of x and y (and of z, where it is a compound one); "" = as the file states. One that contradicts the
            file is refused.
        unit: Unit of z: ``metre``, ``foot``, ``us-survey-foot``; "" = as the CRS states, else that of x and y (so the
            LAS specification), else metre.
        drop: Classes whose points are left out; points that are flagged as withheld always are.
    """

    path: Path
    crs: str = ""
    unit: str = ""
    drop: tuple[int, ...] = NOISE

    def __post_init__(self) -> None:
        if self.unit and self.unit not in UNITS:
            raise ValueError(f"the unit of z is one of {list(UNITS)}, or '' = as the file says; got {self.unit!r}")

    def about(self) -> Header:
        """What the file's header says.

        Raises:
            TileError: If it cannot be read.
            ValueError: If neither the file nor :attr:`crs` says where it lies, or they say different things.
        """
        with opened(self.path) as file:
            head = file.header
        if head.point_count and self.path.stat().st_size <= head.offset_to_point_data:
            raise TileError(f"{self.path} ends before its first point: {BROKEN}")
        crs, scale = self._crs(head)
        copc = any(v.user_id == "copc" and v.record_id == 1 for v in head.vlrs)
        (west, south), (east, north) = ((float(v) for v in corner[:2]) for corner in (head.mins, head.maxs))
        self._check_place((west, south, east, north), crs)
        return Header(int(head.point_count), (west, south, east, north), crs, scale, copc)

    def _check_place(self, bounds: tuple[float, float, float, float], crs: str) -> None:
        """Refuse coordinates that are nowhere on Earth in this CRS."""
        turn = to_frame(crs, "EPSG:4326")
        corners = (bounds[0::2], bounds[1::2])
        lon, lat = np.abs(corners if turn is None else turn.transform(*corners))  # inf where there is no such place
        if not ((lon <= 180).all() and (lat <= 90).all()):
            raise ValueError(
                f"{self.path}: x and y from {bounds[:2]} to {bounds[2:]} are nowhere on Earth in the CRS "
                f"{parse_crs(crs, str(self.path)).name!r}: declare the right one (the reader's crs)"
            )

    def _crs(self, head: Any) -> tuple[str, float]:
        """CRS of x and y, and metres per unit of z."""
        stated = _stated(head, self.path)
        if not self.crs and stated is None:
            raise ValueError(
                f"{self.path} states no CRS: nobody knows where its points lie. Give it (the reader's crs, or "
                "Cloud(crs='EPSG:2154'))"
            )
        known = parse_crs(self.crs, str(self.path)) if self.crs else stated
        if stated is not None and not horizontal(known).equals(horizontal(stated), ignore_axis_order=True):
            raise ValueError(
                f"{self.path} states the CRS {stated.name!r}, it was declared as {known.name!r}: leave the declaration "
                "out, or correct the file"
            )
        if self.unit:
            return known.to_wkt(), UNITS[self.unit]
        return known.to_wkt(), _vertical(known) or (stated and _vertical(stated)) or _keyed(head) or _flat(known)


class Header(NamedTuple):
    """What a file of points says of itself.

    Attributes:
        points: How many.
        bounds: West, south, east, north, in units of ``crs``.
        crs: WKT.
        scale: Metres per unit of z.
        copc: Whether it is a cloud-optimised one, of which windows can be read.
    """

    points: int
    bounds: tuple[float, float, float, float]
    crs: str
    scale: float
    copc: bool

    def bounds_in(self, crs: str) -> tuple[float, float, float, float]:
        """The bounds in another CRS, densified along the edges."""
        turn = to_frame(self.crs, crs)
        return self.bounds if turn is None else tuple(turn.transform_bounds(*self.bounds, errcheck=True))


def read(cloud: Cloud, frame: Frame, size: int = CHUNK) -> Iterator[Points]:
    """The points of a cloud that fall on a grid, chunk by chunk; what a grid's edge cuts belongs to the next pixel.

    Args:
        cloud: The file.
        frame: The grid.
        size: Points of a chunk. Of cloud-optimised files a chunk is a band of the grid's rows that would hold about as
            many if points lay evenly, at least one row.

    Raises:
        TileError: If the file is missing, cut short or damaged.
        ValueError: If its CRS is not known, or cannot be transformed to the grid's.
    """
    about = cloud.about()
    if not _overlap(about.bounds_in(frame.crs), frame.bounds()):
        return
    turn = to_frame(about.crs, frame.crs)
    for raw, rows in _chunks(cloud.path, about, frame, size):
        points = _on(raw, frame, rows, turn, about.scale, cloud.drop)
        if len(points.z):
            yield points


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """A file of points, open for reading.

    Raises:
        TileError: If it is missing, cut short or no file of points.
    """
    import laspy
    import lazrs

    if not path.is_file():
        raise TileError(f"{path} is missing: {BROKEN}")
    try:
        with laspy.open(path) as file:
            yield file
    except (laspy.errors.LaspyException, lazrs.LazrsError, OSError, EOFError, ValueError) as error:
        if isinstance(error, TileError):
            raise
        raise TileError(f"{path} cannot be read ({type(error).__name__}: {error}): {BROKEN}") from error


def _chunks(path: Path, about: Header, frame: Frame, size: int) -> Iterator[tuple[Any, tuple[int, int]]]:
    """Points, and of which rows of the grid (first, end) they are to be taken."""
    if about.copc:
        yield from _bands(path, about, frame, size)
        return
    got = 0
    with opened(path) as file:
        for raw in file.chunk_iterator(size):
            got += len(raw)
            yield raw, (0, frame.height)
        if got != about.points:
            raise TileError(f"{path} holds {got} of the {about.points} points that its header promises: {BROKEN}")


def _bands(path: Path, about: Header, frame: Frame, size: int) -> Iterator[tuple[Any, tuple[int, int]]]:
    """Points in the octree's nodes that a band of rows touches, some of them beside it, and which rows these are."""
    import laspy
    import lazrs

    step = max(1, frame.height // max(1, math.ceil(_expected(about, frame) / size)))
    try:
        with laspy.CopcReader.open(path) as file:
            for first in range(0, frame.height, step):
                end = min(first + step, frame.height)
                yield file.query(_box(about, frame, first, end)), (first, end)
    except (laspy.errors.LaspyException, lazrs.LazrsError, OSError, EOFError, ValueError) as error:
        raise TileError(f"{path} cannot be read ({type(error).__name__}: {error}): {BROKEN}") from error


def _expected(about: Header, frame: Frame) -> float:
    """Points on a grid, if they lay evenly."""
    west, south, east, north = about.bounds
    left, low, right, high = _bounds(about, frame)
    area = (east - west) * (north - south)
    shared = max(0.0, min(east, right) - max(west, left)) * max(0.0, min(north, high) - max(south, low))
    return about.points * (shared / area if area > 0 else 1.0)


def _box(about: Header, frame: Frame, first: int, end: int) -> Any:
    """Bounds of some rows and a pixel around them (edges bend between CRSs, queries round), in the CRS of the file."""
    import laspy

    a, b, c, d, e, f = frame.transform
    x, y = c - a + b * (first - 1), f - d + e * (first - 1)
    west, south, east, north = _bounds(
        about, replace(frame, height=end - first + 2, width=frame.width + 2, transform=(a, b, x, d, e, y))
    )
    return laspy.copc.Bounds(mins=np.array([west, south]), maxs=np.array([east, north]))


def _bounds(about: Header, frame: Frame) -> tuple[float, ...]:
    """West, south, east, north of a grid, in the CRS of the file."""
    turn = to_frame(frame.crs, about.crs)
    return frame.bounds() if turn is None else tuple(turn.transform_bounds(*frame.bounds()))


def _on(raw: Any, frame: Frame, rows: tuple[int, int], turn: Any, scale: float, drop: tuple[int, ...]) -> Points:
    kind = np.asarray(raw.classification, np.uint8)
    keep = np.asarray(raw.withheld) == 0
    for noise in drop:
        keep &= kind != noise
    x, y = np.asarray(raw.x)[keep], np.asarray(raw.y)[keep]
    if turn is not None:
        x, y = turn.transform(x, y)
    column, row = frame.place(x, y)
    inside = (column >= 0) & (column < frame.width) & (row >= rows[0]) & (row < rows[1])  # False for inf
    at = np.flatnonzero(keep)[inside]
    number, returns = (np.asarray(a, np.float32)[at] for a in (raw.return_number, raw.number_of_returns))
    ratio = np.where(returns > 0, np.minimum(number, returns) / np.maximum(returns, 1), 1).astype(np.float32)
    z = np.asarray(raw.z)[at] * scale
    return Points(column[inside], row[inside], z, np.asarray(raw.intensity)[at].astype(np.float32), ratio, kind[at])


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] <= a[2] and a[1] < b[3] and b[1] <= a[3]


def _stated(head: Any, path: Path) -> Any:
    """The CRS in the file's header; None if there is none."""
    from pyproj.exceptions import CRSError

    try:
        return head.parse_crs()
    except CRSError as error:
        raise ValueError(f"{path} states a CRS that pyproj does not read ({error}): correct the file") from error


def _vertical(crs: Any) -> float | None:
    """Metres per unit of the vertical part of a compound or three-dimensional CRS."""
    axes = crs.sub_crs_list[1].axis_info if crs.is_compound else crs.axis_info[2:]
    return float(axes[0].unit_conversion_factor) if axes else None


def _keyed(head: Any) -> float | None:
    """Metres per unit of z by the GeoTIFF key VerticalUnits (4099)."""
    for vlr in head.vlrs:
        for key in getattr(vlr, "geo_keys", ()):
            if key.id == 4099:
                return VERTICAL_UNITS.get(key.value_offset)
    return None


def _flat(crs: Any) -> float:
    flat = horizontal(crs)
    return float(flat.axis_info[0].unit_conversion_factor) if flat.is_projected else 1.0
