"""Small tiles and parcels that the tests of extraction share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import rasterio
import shapely

from eo_adapt.data.extract.grid import Grid

CRS = "EPSG:32633"
CORNER = (500000.0, 5100000.0)


def small_grid(width: int = 60, height: int = 50, pixel: float = 10.0, corner: tuple[float, float] = CORNER) -> Grid:
    return Grid(CRS, (pixel, 0.0, corner[0], 0.0, -pixel, corner[1]), width, height)


def write_tif(path: Path, values: np.ndarray, grid: Grid, nodata: float | None = None, **options: Any) -> Path:
    """One band, or (bands, rows, columns)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cube = values if values.ndim == 3 else values[None]
    with rasterio.open(
        path, "w", driver="GTiff", width=grid.width, height=grid.height, count=len(cube), dtype=cube.dtype,
        crs=options.get("crs", grid.crs), transform=grid.affine, nodata=nodata,
    ) as file:  # fmt: skip
        file.write(cube)
        for number, name in enumerate(options.get("names", ()), 1):
            file.set_band_description(number, name)
    return path


def boxes(*bounds: tuple[float, float, float, float], corner: tuple[float, float] = CORNER, **columns: Any) -> Any:
    """Parcels (left, top, right, bottom) in metres right of and below the corner."""
    x, y = corner
    shapes = [shapely.box(x + left, y - bottom, x + right, y - top) for left, top, right, bottom in bounds]
    made = {"id": [f"p{i}" for i in range(len(shapes))], **columns}
    return geopandas.GeoDataFrame(made, geometry=shapes, crs=CRS)


PATTERN = r"(?P<tile>[A-Z]+)_(?P<date>\d{8}(T\d{6})?)_(?P<band>\w+)\.tif$"


def extract(root: Path, out: Path | None = None, **options: Any) -> Any:
    """A store of GeoTIFFs named as PATTERN says, below root/images, with parcels.gpkg; in this process."""
    from eo_adapt.data.recipe import Recipe

    out = out or root / "store"
    given = {
        "bands": ["B04"], "pattern": PATTERN, "mask": "none", "offset": 0, "label": "", "scheduler": "synchronous",
        "work": f"{out}.work", "year": 2021, **options,
    }  # fmt: skip
    return Recipe.load("sentinel2_parcels").with_options(given).prepare(root, out)


def values_of(store: Any, band: str = "B04", sensor: str = "s2") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(N, T) values, days and valid of one band, padded."""
    import torch

    got = store.gather(torch.arange(len(store)), {sensor: [band]})[sensor]
    return got.values[..., 0].numpy(), got.days.numpy(), got.valid.numpy()


def write_dates(root: Path, frame: Any, images: dict[str, np.ndarray], grid: Grid | None = None, **grids: Grid) -> None:
    """parcels.gpkg, and one GeoTIFF a name (tile_date_band); a tile's own grid by its name."""
    root.mkdir(parents=True, exist_ok=True)
    frame.to_file(root / "parcels.gpkg", driver="GPKG")
    for name, values in images.items():
        write_tif(root / "images" / f"{name}.tif", values, grids.get(name.split("_")[0], grid or small_grid()))
