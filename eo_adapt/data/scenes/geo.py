"""Where a patch, or a part of it, lies: projected metres and degrees."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np


@lru_cache(maxsize=64)
def transformer(crs: str) -> Any:
    """From a projected CRS to longitude and latitude.

    Raises:
        ValueError: If there is no such CRS, no way to WGS 84, or its axes are no metres.
    """
    from pyproj import CRS, Transformer
    from pyproj.exceptions import CRSError, ProjError

    try:
        known = CRS.from_user_input(crs)
        found = Transformer.from_crs(known, "EPSG:4326", always_xy=True)
        found.transform(*_somewhere(known), errcheck=True)
    except (CRSError, ProjError) as error:
        raise ValueError(
            f"the CRS {crs!r} has no transformation to longitude and latitude ({error}); give a projected CRS such as "
            "'EPSG:2154', or '' where the place is not known"
        ) from error
    if known.is_geographic:
        raise ValueError(f"the CRS {crs!r} counts in degrees; x and y are metres: give a projected CRS")
    return found


def _somewhere(crs: Any) -> tuple[float, float]:
    """A point inside the CRS's own area of use, in its coordinates."""
    from pyproj import Transformer

    area = crs.area_of_use
    if area is None:
        return 0.0, 0.0
    middle = (area.west + area.east) / 2, (area.south + area.north) / 2
    x, y = Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(*middle)
    return float(x), float(y)


def to_lonlat(x: np.ndarray, y: np.ndarray, crs: np.ndarray) -> np.ndarray:
    """(N,) metres of their own CRS each -> (N, 2) float64 degrees; nan where the place is not known."""
    out = np.full((len(x), 2), np.nan)
    for name in set(crs.tolist()) - {""}:
        at = crs == name
        out[at, 0], out[at, 1] = transformer(name).transform(x[at], y[at])
    return out


def centres(
    x: np.ndarray, y: np.ndarray, gsd: np.ndarray, size: np.ndarray, parts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Centres of parts of patches, in metres; rows of images run to the south.

    Args:
        x: (N,) centre of each patch.
        y: See ``x``.
        gsd: (N,) pixel size, metres.
        size: (N, 2) height and width of each patch, pixels.
        parts: (N, 4) first row, first column, height, width.
    """
    down = parts[:, 0] + parts[:, 2] / 2 - size[:, 0] / 2
    right = parts[:, 1] + parts[:, 3] / 2 - size[:, 1] / 2
    return x + gsd * right, y - gsd * down


def footprints(x: np.ndarray, y: np.ndarray, gsd: np.ndarray, size: np.ndarray, crs: np.ndarray) -> list[bytes | None]:
    """Outline of each patch as WKB in EPSG:4326; None where the place is not known."""
    import shapely

    corners = []
    for right, down in ((-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)):
        corners.append(to_lonlat(x + right * gsd * size[:, 1], y - down * gsd * size[:, 0], crs))
    rings = np.stack(corners, 1)
    placed = np.isfinite(rings).all((1, 2))
    outlines: list[bytes | None] = [None] * len(x)
    for i in np.flatnonzero(placed):
        outlines[i] = shapely.to_wkb(shapely.polygons(rings[i]))
    return outlines
