"""Bands of a cloud as a GeoTIFF that scene folders read, and heights above ground from two surface models."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..scenes.raster import Grid, grid_of, opened
from ..scenes.records import Raster
from .frame import Frame
from .rasterise import UNITS, Gridded

NODATA = -9999.0


def write_bands(path: Path, gridded: Gridded) -> None:
    """Write all bands as float32, nodata -9999, each band described by its name and unit.

    The file appears under its name once it is whole.
    """
    values = np.where(np.isfinite(gridded.values), gridded.values, np.float32(NODATA))
    units = [UNITS.get(name, "metre") for name in gridded.names]
    write_raster(path, values, gridded.frame, NODATA, gridded.names, units)


def write_raster(
    path: Path,
    values: np.ndarray,
    frame: Frame,
    nodata: float | None,
    names: Sequence[str],
    units: Sequence[str] = (),
) -> None:
    """Write (C, H, W) as a compressed GeoTIFF under a temporary name and rename it."""
    import rasterio

    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {"height": frame.height, "width": frame.width, "count": len(values), "dtype": values.dtype.name}
    place = {"crs": frame.crs, "transform": rasterio.Affine(*frame.transform), "nodata": nodata}
    packed = {"driver": "GTiff", "compress": "deflate", "predictor": 3 if values.dtype.kind == "f" else 1}
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tif", dir=path.parent)
    os.close(handle)
    try:
        with rasterio.open(temporary, "w", **packed, **profile, **place) as file:
            file.write(values)
            file.descriptions = tuple(names)
            if units:
                file.units = tuple(units)
        Path(temporary).chmod(0o644)
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def ndsm(dsm: Path, dtm: Path) -> Gridded:
    """Heights above ground, dsm - dtm, of two rasters of metres on one grid; unknown where one of them is.

    Raises:
        TileError: If one cannot be read.
        ValueError: If they lie on different grids.
    """
    grids = [grid_of(path.parent, Raster(path.name)) for path in (dsm, dtm)]
    if problem := _differ(*grids):
        raise ValueError(f"{dsm} and {dtm} lie on different grids ({problem}): warp one onto the other first")
    surfaces = []
    for path in (dsm, dtm):
        with opened(path) as file:
            surfaces.append(file.read(1, masked=True).astype(np.float64).filled(np.nan))
    height = (surfaces[0] - surfaces[1]).astype(np.float32)
    none = np.zeros((0, *height.shape), np.int32)
    return Gridded(Frame.of(grids[0]), ("ndsm",), height[None], np.isfinite(height), none, False)


def _differ(a: Grid, b: Grid) -> str:
    if (a.height, a.width) != (b.height, b.width):
        return f"{a.height} x {a.width} and {b.height} x {b.width} pixels"
    if not np.allclose(a.transform, b.transform, rtol=0, atol=1e-3 * abs(a.transform[0])):
        return f"transforms {a.transform} and {b.transform}"
    return "" if a.crs == b.crs else "CRS"
