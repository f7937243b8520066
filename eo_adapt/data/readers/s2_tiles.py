"""Where a Sentinel-2 tile lies, from its name alone.

A tile carries the name of a 100 km square of the military grid (MGRS) and starts at that square's upper left corner;
the published corners differ from it by at most 60 m (tile 33UVP starts at easting 399960, not 400000).
"""

from __future__ import annotations

import re
from functools import cache

_COLUMNS = "ABCDEFGHJKLMNPQRSTUVWXYZ"  # eight letters a zone, repeating every three zones
_ROWS = "ABCDEFGHJKLMNPQRSTUV"  # repeating every 2,000 km, from A in odd zones and from F in even ones
_BANDS = "CDEFGHJKLMNPQRSTUVWX"  # eight degrees of latitude each, from 80 degrees south


@cache
def tile_corner(tile: str) -> tuple[str, float, float]:
    """CRS, easting and northing (m) of a tile's upper left corner, to 60 m.

    Args:
        tile: Name such as ``"32VNH"``.

    Raises:
        ValueError: If no tile can have this name.
    """
    match = re.fullmatch(rf"(\d\d)([{_BANDS}])([{_COLUMNS}])([{_ROWS}])", tile)
    zone = int(match[1]) if match else 0
    column = _COLUMNS.index(match[3]) if match else 0
    if match is None or not 1 <= zone <= 60 or column // 8 != (zone - 1) % 3:
        raise ValueError(f"{tile!r} is not the name of a Sentinel-2 tile; expected something like '32VNH'")
    from pyproj import Transformer

    south = -80 + 8 * _BANDS.index(match[2])
    crs = f"EPSG:{326 if south >= 0 else 327}{zone:02d}"
    edge = Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(6 * zone - 183, south)[1]
    northing = 1e5 * ((_ROWS.index(match[4]) - (0 if zone % 2 else 5)) % 20)
    while northing < edge - 1e5:
        northing += 2e6
    return crs, 1e5 * (column % 8 + 1), northing + 1e5


@cache
def pixel_lonlat(tile: str, column: float, row: float) -> tuple[float, float]:
    """Longitude and latitude of a place in a tile, counted in 10 m pixels from its upper left corner."""
    from pyproj import Transformer

    crs, east, north = tile_corner(tile)
    lon, lat = Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform(east + 10 * column, north - 10 * row)
    return float(lon), float(lat)
