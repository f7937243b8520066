"""Opening and reading images block by block; what is wrong with one is said by name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .errors import BadImageError, UnreadableError
from .grid import Block, Grid
from .images import Image


@dataclass(frozen=True)
class Raster:
    """An open band on the grid that its tile has.

    Attributes:
        image: What it is.
        dataset: rasterio's.
        grid: Its grid, after reprojection if there was one.
    """

    image: Image
    dataset: Any
    grid: Grid

    def read(self, block: Block) -> np.ndarray:
        """(rows, columns) raw numbers.

        Raises:
            BadImageError: If the file is damaged there.
        """
        from rasterio.errors import RasterioError

        try:
            values: np.ndarray = self.dataset.read(self.image.band, window=block.window)
        except (RasterioError, OSError) as error:
            raise damaged(self.image.path, error) from error
        return values

    @property
    def empty(self) -> tuple[float, ...]:
        """Numbers that mean nothing."""
        own = self.dataset.nodatavals[self.image.band - 1]
        return tuple({*self.image.nodata, *([] if own is None else [float(own)])})


def damaged(path: str, error: BaseException) -> UnreadableError:
    """The error of an image that cannot be read."""
    cause = error.__cause__ or error
    return UnreadableError(f"{path} cannot be read ({cause}); it seems cut short or no image: fetch it again")


def filled(values: np.ndarray, empty: tuple[float, ...]) -> np.ndarray:
    """(rows, columns) bool, where an image has data: not one of the ``empty`` numbers, not NaN."""
    there = np.isfinite(values) if values.dtype.kind == "f" else np.ones(values.shape, bool)
    for number in empty:
        if number == number:
            there &= values != number
    return there


@contextmanager
def opened(image: Image, grid: Grid | None = None, reproject: str = "") -> Iterator[Raster]:
    """Open one band; with a grid, it must lie on that grid or is warped to it.

    Args:
        image: Which.
        grid: Grid that the tile's band has; None = take it as it is.
        reproject: Resampling (``nearest``, ``bilinear``) of an image on another grid; "" = such an image is an error.

    Raises:
        BadImageError: If it cannot be opened, lacks that band, is not georeferenced, or lies on another grid.
    """
    import rasterio
    from rasterio.errors import RasterioError
    from rasterio.vrt import WarpedVRT
    from rasterio.warp import Resampling

    if "://" not in image.path and not image.path.startswith("/vsi") and not Path(image.path).exists():
        raise BadImageError(f"{image.path} is not there")
    try:
        dataset = rasterio.open(image.path)
    except (RasterioError, OSError) as error:
        raise damaged(image.path, error) from error
    with dataset:
        own = _own_grid(dataset, image)
        if grid is None or own == grid:
            yield Raster(image, dataset, own)
            return
        if not reproject:
            raise BadImageError(
                f"{image.path} lies on another grid ({own}) than the other images of its tile ({grid}). "
                "reproject=nearest or reproject=bilinear warps it; without, it is left out"
            )
        where = {"crs": grid.crs, "transform": grid.affine, "width": grid.width, "height": grid.height}
        nodata = image.nodata[0] if image.nodata else dataset.nodata
        if nodata is None and np.dtype(dataset.dtypes[image.band - 1]).kind != "f":
            raise BadImageError(
                f"{image.path} declares no nodata, so nothing tells its edge from data once warped: set nodata="
            )
        nodata = np.nan if nodata is None else nodata
        with WarpedVRT(dataset, resampling=Resampling[reproject], src_nodata=nodata, nodata=nodata, **where) as warped:
            yield Raster(image, warped, grid)


def _own_grid(dataset: Any, image: Image) -> Grid:
    if not 1 <= image.band <= dataset.count:
        raise BadImageError(f"{image.path} has {dataset.count} bands; band number {image.band} is wanted")
    if dataset.crs is None:
        points = " but ground control points: calibrate and terrain-correct it first" if dataset.gcps[0] else ""
        raise BadImageError(
            f"{image.path} has no CRS{points}; images must be on a map grid (GeoTIFF with CRS and transform)"
        )
    if dataset.transform.b or dataset.transform.d or dataset.transform.a <= 0 or dataset.transform.e >= 0:
        raise BadImageError(
            f"{image.path} is rotated or not north-up ({tuple(dataset.transform)[:6]}): warp it first (gdalwarp)"
        )
    return Grid.of(dataset)
