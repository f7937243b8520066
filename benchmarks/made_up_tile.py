"""A tile of Sentinel-2's size and parcels on it, for the benchmark of extraction."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import rasterio
import shapely
from affine import Affine

from eo_adapt.data.extract.grid import Grid

CORNER, CRS = (300000.0, 5100000.0), "EPSG:32633"


def grid_of(size: int) -> Grid:
    """A tile of 10 m pixels."""
    return Grid(CRS, (10.0, 0.0, CORNER[0], 0.0, -10.0, CORNER[1]), size, size)


def write_tile(folder: Path, size: int, bands: int, compress: str) -> list[Path]:
    """One GeoTIFF a band."""
    paths = []
    rng = np.random.default_rng(0)
    options: dict[str, Any] = {"tiled": True, "blockxsize": 1024, "blockysize": 1024}
    if compress != "none":
        options |= {"compress": compress, "predictor": 2, ("zstd_level" if compress == "zstd" else "zlevel"): 1}
    across, noise = np.cos(np.arange(size) / 70), rng.integers(-30, 31, (1024, size)).astype(np.float32)
    for band in range(bands):
        path = folder / f"B{band:02d}.tif"
        with rasterio.open(
            path, "w", driver="GTiff", width=size, height=size, count=1, dtype="uint16", nodata=0, crs=CRS,
            transform=Affine(10, 0, CORNER[0], 0, -10, CORNER[1]), **options,
        ) as file:  # fmt: skip
            for top in range(0, size, 1024):
                rows = min(1024, size - top)
                down = 1500 * np.sin(np.arange(top, top + rows) / 90 + band)
                noisy = np.outer(down, across) + 3000 + np.roll(noise, 97 * band + top, 1)[:rows]
                file.write(noisy.astype(np.uint16), 1, window=rasterio.windows.Window(0, top, size, rows))
        paths.append(path)
    return paths


def make_parcels(size: int, count: int) -> geopandas.GeoDataFrame:
    """Rectangles of 0.5 to 8 ha in any direction."""
    rng = np.random.default_rng(1)
    area = np.exp(rng.uniform(np.log(0.5e4), np.log(8e4), count))
    long = np.sqrt(area * rng.uniform(1, 4, count))
    corners = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]]) * np.stack([long, area / long], 1)[:, None]
    turn = rng.uniform(0, np.pi, count)
    turned = np.stack(
        [
            corners[..., 0] * np.cos(turn)[:, None] - corners[..., 1] * np.sin(turn)[:, None],
            corners[..., 0] * np.sin(turn)[:, None] + corners[..., 1] * np.cos(turn)[:, None],
        ],
        -1,
    )
    centre = rng.uniform(300, size * 10 - 300, (count, 2)) * [1, -1] + CORNER
    return geopandas.GeoDataFrame(
        {"id": np.arange(count)}, geometry=shapely.polygons(turned + centre[:, None]), crs=CRS
    )
