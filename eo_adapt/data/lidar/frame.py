"""The grid that points are put on: size, place, CRS in metres or feet."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from ..scenes.raster import Grid


@dataclass(frozen=True)
class Frame:
    """A grid of pixels on the ground.

    Attributes:
        height: Rows.
        width: Columns.
        crs: Projected CRS, as pyproj reads it (a code or WKT).
        transform: (a, b, c, d, e, f): x = a column + b row + c, y = d column + e row + f.
    """

    height: int
    width: int
    crs: str
    transform: tuple[float, ...]

    def __post_init__(self) -> None:
        a, b, _, d, e, _ = self.transform
        if self.height < 1 or self.width < 1 or a * e == b * d:
            raise ValueError(f"a grid has rows, columns and a transform that can be inverted; got {self}")
        if not self.crs:
            raise ValueError("the grid states no CRS: nobody knows where points fall. Give the image one")
        known = parse_crs(self.crs, "the grid")
        if not known.is_projected:
            raise ValueError(
                f"the grid's CRS {known.name!r} counts in degrees: density and slopes need metres. Give a projected one"
            )

    @classmethod
    def of(cls, grid: Grid) -> Frame:
        """The grid of an image, e.g. of :func:`..scenes.raster.grid_of`."""
        return cls(grid.height, grid.width, grid.crs, tuple(grid.transform))

    @classmethod
    def around(cls, bounds: tuple[float, float, float, float], crs: str, pixel: float) -> Frame:
        """The grid of square pixels that covers (west, south, east, north); edges are multiples of ``pixel``.

        A pixel owns its upper and left edge, so the grid reaches beyond its southernmost and easternmost point.

        Args:
            bounds: In units of the CRS.
            crs: Projected CRS.
            pixel: Side of a pixel, in units of the CRS.
        """
        if not pixel > 0:
            raise ValueError(f"a pixel's side is a positive length; got {pixel}")
        west, east = math.floor(bounds[0] / pixel), math.floor(bounds[2] / pixel) + 1
        south, north = math.ceil(bounds[1] / pixel) - 1, math.ceil(bounds[3] / pixel)
        transform = (pixel, 0.0, west * pixel, 0.0, -pixel, north * pixel)
        return cls(north - south, east - west, crs, transform)

    @cached_property
    def metres(self) -> float:
        """Metres per unit of the CRS."""
        return float(parse_crs(self.crs, "the grid").axis_info[0].unit_conversion_factor)

    @property
    def pixel_area(self) -> float:
        """Square metres."""
        a, b, _, d, e, _ = self.transform
        return abs(a * e - b * d) * self.metres**2

    @property
    def pixel(self) -> float:
        """Side of a pixel in metres; of pixels that are not square, the root of their area."""
        return math.sqrt(self.pixel_area)

    def bounds(self) -> tuple[float, float, float, float]:
        """West, south, east, north, in units of the CRS."""
        a, b, c, d, e, f = self.transform
        xs, ys = zip(
            *((a * u + b * v + c, d * u + e * v + f) for u in (0, self.width) for v in (0, self.height)), strict=True
        )
        return min(xs), min(ys), max(xs), max(ys)

    def place(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Coordinates of the CRS -> column and row, float64; 0.5 is the middle of the first pixel."""
        a, b, c, d, e, f = self.transform
        det = a * e - b * d
        x, y = x - c, y - f
        return (e * x - b * y) / det, (a * y - d * x) / det


def parse_crs(crs: str, whose: str) -> Any:
    """A CRS of pyproj.

    Raises:
        ValueError: If there is no such CRS; says whose it is.
    """
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    try:
        return CRS.from_user_input(crs)
    except CRSError as error:
        raise ValueError(
            f"{whose} has a CRS that pyproj does not know, {crs!r}: give a code such as EPSG:2154"
        ) from error


def horizontal(crs: Any) -> Any:
    """The CRS without its vertical part."""
    return crs.sub_crs_list[0] if crs.is_compound else crs


@lru_cache(maxsize=64)
def to_frame(source: str, target: str) -> Any:
    """Transformation of x, y from one CRS to another; None where they are the same."""
    from pyproj import Transformer

    here, there = (horizontal(parse_crs(crs, "the cloud or the grid")) for crs in (source, target))
    return None if here.equals(there, ignore_axis_order=True) else Transformer.from_crs(here, there, always_xy=True)
