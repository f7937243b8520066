"""Numbers that tell the things of a mask apart: which pixels are one parcel."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .labels import burn
from .raster import grid_of, read_band
from .records import Raster, Vectors, Window

LARGEST = np.iinfo(np.int32).max


def read_instances(
    root: Path, where: Raster | Vectors, image: Raster | None = None, part: Window | None = None
) -> np.ndarray:
    """Number of the instance of each pixel, (H, W) int32; 0 = none, which nodata is, too.

    Args:
        root: Raw folder.
        where: Where the numbers lie, whole ones of any type; or polygons, of which each is a thing, by the number of
            its row in the file, from 1.
        image: The first sensor's raster, which polygons are drawn on.
        part: First row, first column, height, width within the patch; None = all of it.

    Raises:
        TileError: If the file cannot be read.
        ValueError: If they are no whole numbers from 0 to 2,147,483,647.
    """
    if isinstance(where, Vectors):
        assert image is not None  # noqa: S101  (polygons have no grid of their own)
        return burn(root / where.path, where, grid_of(root, image), part, lambda near: near.index + 1, 0, np.int32)
    values, nodata = read_band(root, where, part)
    if nodata is not None:
        values = np.where(values == nodata, 0, values)
    kind = values.dtype.kind
    if kind not in "iuf" or (kind == "f" and not (values == np.rint(values)).all()):
        raise ValueError(f"{root / where.path} holds {values.dtype}; instances are told apart by whole numbers")
    if values.size and not 0 <= values.min() <= values.max() <= LARGEST:
        raise ValueError(
            f"{root / where.path} holds numbers from {values.min()} to {values.max()}; those of instances lie between "
            f"0 (none) and {LARGEST}: number them anew"
        )
    return values.astype(np.int32)
