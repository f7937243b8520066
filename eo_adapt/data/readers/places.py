"""Where a raster, or a window of it, lies on Earth: degrees, projected metres, pixel size."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from ..scenes.raster import opened
from ..scenes.records import Window


@dataclass(frozen=True)
class Place:
    """A footprint.

    Attributes:
        lon: Longitude of the centre, degrees WGS 84; nan where the file does not say.
        lat: See ``lon``.
        x: Centre in metres of ``crs``; nan where the file does not say.
        y: See ``x``.
        crs: Projected CRS in metres; "" where the file does not say.
        gsd: Pixel size in metres on the ground; nan where the file does not say.
    """

    lon: float = math.nan
    lat: float = math.nan
    x: float = math.nan
    y: float = math.nan
    crs: str = ""
    gsd: float = math.nan


@dataclass(frozen=True)
class Header:
    """What a raster says of itself.

    Attributes:
        height: Rows.
        width: Columns.
        crs: CRS of the file; None = none.
        transform: Column, row -> coordinates of the CRS.
        path: The file, for messages.
    """

    height: int
    width: int
    crs: Any
    transform: Any
    path: str = ""

    def assuming(self, crs: str) -> Header:
        """The same in ``crs``, where the file is georeferenced (by a world file, say) but states no CRS."""
        import rasterio

        if self.crs is not None or tuple(self.transform)[:6] == (1.0, 0.0, 0.0, 0.0, 1.0, 0.0):
            return self
        return replace(self, crs=rasterio.CRS.from_user_input(crs))

    def windows(self, size: int, multiple: int = 1) -> Iterator[tuple[int, int, Window | None]]:
        """Number of row and column of each window, and the window; None where it is the whole image.

        Args:
            size: Pixels; windows at the lower and right edge are smaller. 0 = one window.
            multiple: What is over at the lower and right edge beyond a multiple of so many pixels is left out.
        """
        if not self.height:  # a damaged image, see SceneFolder
            yield 0, 0, None
            return
        height, width = (n // multiple * multiple or n for n in (self.height, self.width))
        step = size or max(height, width)
        for row, top in enumerate(range(0, height, step)):
            for column, left in enumerate(range(0, width, step)):
                cut = (top, left, min(step, height - top), min(step, width - left))
                yield row, column, None if cut == (0, 0, self.height, self.width) else cut

    def place(self, window: Window | None = None, crs: str = "") -> Place:
        """Where a window lies.

        Args:
            window: First row, first column, height, width; None = all.
            crs: Projected CRS for x and y. "" = the file's own where that counts metres, else the UTM zone of the
                centre (Web Mercator does not: its metres are stretched by 1 / cos(latitude)).

        Raises:
            ValueError: If the file's CRS cannot be transformed to longitude and latitude; names the file.
        """
        if self.crs is None:
            return Place()
        row, column, height, width = window or (0, 0, self.height, self.width)
        corners = [(column + width / 2 + dx, row + height / 2 + dy) for dx, dy in ((0, 0), (1, 0), (0, 1))]
        a, b, c, d, e, f = tuple(self.transform)[:6]
        east, north = zip(*((a * u + b * v + c, d * u + e * v + f) for u, v in corners), strict=True)
        (lon, *_), (lat, *_) = _warp(self, "EPSG:4326", east, north)
        name = crs or _metric(self.crs) or utm(lon, lat)
        xs, ys = _warp(self, name, east, north)
        steps = [math.hypot(xs[i] - xs[0], ys[i] - ys[0]) for i in (1, 2)]
        return Place(lon, lat, xs[0], ys[0], name, round(math.sqrt(steps[0] * steps[1]), 6))


def check_windows(window: int, multiple: int) -> None:
    """Make sure that windows of ``window`` pixels, cut to multiples of ``multiple``, make sense.

    Raises:
        ValueError: If not.
    """
    if window < 0 or multiple < 1 or window % multiple:
        raise ValueError(
            f"window is a number of pixels (0 = whole images) and a multiple of the option multiple (1 = no pixel is "
            f"left out); got window={window}, multiple={multiple}"
        )


def header(path: Path) -> Header:
    """Size and place of a raster.

    Raises:
        TileError: If it cannot be opened.
    """
    with opened(path) as file:
        return Header(file.height, file.width, file.crs, file.transform, str(path))


def utm(lon: float, lat: float) -> str:
    """The WGS 84 / UTM zone of a place; its distances are true to 0.1 % within the zone."""
    zone = min(60, int((lon + 180) // 6) + 1)
    return f"EPSG:{(32600 if lat >= 0 else 32700) + zone}"


def _metric(crs: Any) -> str:
    """The CRS by its code where it is projected, in metres, and not Web Mercator; else ""."""
    code = crs.to_epsg()
    if not crs.is_projected or code in (None, 3857) or crs.linear_units_factor[1] != 1.0:
        return ""
    return f"EPSG:{code}"


def _warp(header: Header, target: str, xs: tuple[float, ...], ys: tuple[float, ...]) -> tuple[list[float], list[float]]:
    from pyproj.exceptions import ProjError

    try:
        east, north = _transformer(header.crs.to_wkt(), target).transform(list(xs), list(ys), errcheck=True)
    except ProjError as error:  # also CRSError
        raise ValueError(
            f"{header.path}: its CRS {header.crs} has no transformation to {target} ({error}); give the images another "
            "CRS, or none"
        ) from error
    return east, north


@cache
def _transformer(source: str, target: str) -> Any:
    from pyproj import Transformer

    return Transformer.from_crs(source, target, always_xy=True)
