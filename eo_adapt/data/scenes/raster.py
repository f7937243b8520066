"""Windows of rasters, read where they lie: counts as they are stored, and which pixels hold anything."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .arrays import ARRAYS, opened_array, read_array
from .arrays import TileError as TileError
from .records import Imagery, Raster, Window

if TYPE_CHECKING:
    from rasterio.io import DatasetReader


NOWHERE = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


class Grid(NamedTuple):
    """Size and place of a raster's window.

    Attributes:
        height: Rows.
        width: Columns.
        crs: WKT; "" where the file states none.
        transform: (a, b, c, d, e, f): x = a column + b row + c, y = d column + e row + f.
        dtype: What the file holds.
        bands: Number of bands in the file.
        names: What the file calls each band; "" where it does not say.
    """

    height: int
    width: int
    crs: str
    transform: tuple[float, ...]
    dtype: str
    bands: int
    names: tuple[str, ...] = ()


@contextmanager
def opened(path: Path) -> Iterator[DatasetReader]:
    """A raster, open for reading.

    Raises:
        TileError: If it cannot be opened, or something in it cannot be read.
    """
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning, RasterioError

    # Not in a context: that would be no context of this thread alone.
    warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)
    try:
        with rasterio.open(path) as file:
            yield file
    except RasterioError as error:
        why = "is missing" if not path.exists() else f"cannot be read ({error.__cause__ or error})"
        raise TileError(
            f"{path} {why}: get the file again, or set data.on_corrupt=skip (on_corrupt: skip in a recipe)"
        ) from error


def grid_of(root: Path, raster: Raster) -> Grid:
    """Size and place of a raster's window, from the file's header; arrays have no place."""
    from rasterio.windows import Window as Cut

    path = root / raster.path
    if path.suffix in ARRAYS:
        with opened_array(path) as array:
            if array.ndim not in (2, 3):
                raise ValueError(f"{path} holds an array {array.shape}; a mask is (H, W) or (bands, H, W)")
            row, column, height, width = inside(path, raster.window, array.shape[-2:])
            bands = 1 if array.ndim == 2 else array.shape[0]
            return Grid(height, width, "", NOWHERE, str(array.dtype), bands, ("",) * bands)
    with opened(path) as file:
        row, column, height, width = inside(path, raster.window, file.shape)
        transform = file.window_transform(Cut(column, row, width, height))
        crs = file.crs.to_wkt() if file.crs else ""
        names = tuple(name or "" for name in file.descriptions)
        return Grid(height, width, crs, tuple(transform)[:6], file.dtypes[0], file.count, names)


def inside(path: Path, window: Window | None, size: Sequence[int]) -> Window:
    """The window, or that of the whole file; one that reaches beyond it is refused."""
    row, column, height, width = window or (0, 0, size[0], size[1])
    if row < 0 or column < 0 or row + height > size[0] or column + width > size[1]:
        raise ValueError(
            f"{path} has {size[0]} x {size[1]} pixels; the window {window} (first row, first column, height, width) "
            "reaches beyond them"
        )
    return row, column, height, width


def read_image(
    root: Path, raster: Raster, imagery: Imagery, wanted: Sequence[int], part: Window | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Counts of some bands, and where there are any.

    A pixel of an 8-bit image is empty where all bands are nodata, because 0 in one band may be real; of any other
    image where one of them is, or is not finite; bands that are not wanted count, too, and those that are subtracted
    (:attr:`Imagery.minus`). So does a mask or alpha band in the file, unless that band is read: some writers call the
    fourth of four bands alpha.

    Args:
        root: Raw folder.
        raster: Which file, window and bands.
        imagery: How the numbers are to be read.
        wanted: Positions in ``imagery.bands``.
        part: First row, first column, height, width within the raster's window; None = all of it.

    Returns:
        (C, H, W) in the file's own type, and (H, W) bool.

    Raises:
        TileError: If the file cannot be read.
    """
    with opened(root / raster.path) as file:
        return read_open(file, raster, imagery, wanted, part)


def read_open(
    file: DatasetReader, raster: Raster, imagery: Imagery, wanted: Sequence[int], part: Window | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The same of a file that is open already."""
    numbers = list(raster.bands or range(1, len(imagery.bands) + 1))
    cut = cut_of(raster.window, part)
    nodata = file.nodata if imagery.nodata is None else imagery.nodata
    # Which bands are wanted must not change which pixels are empty.
    needed = list(wanted) if nodata is None and "int" in file.dtypes[0] else list(range(len(numbers)))
    values = file.read([numbers[i] for i in needed], window=cut)
    if less := [(place, imagery.minus[i]) for place, i in enumerate(needed) if imagery.minus and imagery.minus[i]]:
        places, others = zip(*less, strict=True)
        taken = file.read(list(others), window=cut)
        seen = seen_in(np.concatenate([values, taken]), nodata)
        values[list(places)] -= taken
    else:
        seen = seen_in(values, nodata)
    values = values[[needed.index(i) for i in wanted]]
    flags = {flag.name for flag in file.mask_flag_enums[0]}
    alpha = {number for number, kind in enumerate(file.colorinterp, start=1) if kind.name == "alpha"}
    if flags & {"per_dataset", "alpha"} and not alpha & set(numbers):
        seen &= file.dataset_mask(window=cut) > 0
    return values, seen


def read_band(root: Path, raster: Raster, part: Window | None = None) -> tuple[np.ndarray, float | None]:
    """One band as it is stored, (H, W), and what the file declares as nodata."""
    path, number, cut = root / raster.path, (raster.bands or (1,))[0], cut_of(raster.window, part)
    if path.suffix in ARRAYS:
        with opened_array(path) as array:
            return read_array(array if array.ndim == 3 else array[None], [number - 1], cut)[0], None
    with opened(path) as file:
        return file.read(number, window=cut), file.nodata


def read_colours(root: Path, raster: Raster, part: Window | None = None) -> np.ndarray:
    """Red, green and blue of a mask drawn in colours, (3, H, W), as they are stored.

    Raises:
        ValueError: If the file has fewer bands.
    """
    numbers = raster.bands or (1, 2, 3)
    with opened(root / raster.path) as file:
        if len(numbers) != 3 or file.count < max(numbers):
            raise ValueError(
                f"{root / raster.path} has {file.count} bands, of which {list(numbers)} should be red, green and blue: "
                "masks drawn in colours have three. Leave the reader's codes out if masks hold ids"
            )
        return file.read(numbers, window=cut_of(raster.window, part))


def cut_of(window: Window | None, part: Window | None) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """First and last row (not included) and columns of a part of a window, in the file; None = all."""
    if part is None and window is None:
        return None
    top, left = (0, 0) if window is None else window[:2]
    row, column, height, width = part or (0, 0, *window[2:])  # type: ignore[index]
    return (top + row, top + row + height), (left + column, left + column + width)


def seen_in(values: np.ndarray, nodata: float | None) -> np.ndarray:
    """Which pixels (..., H, W) of bands (C, ..., H, W) hold anything; see :func:`read_image`."""
    seen = np.ones(values.shape[1:], bool)
    if nodata is not None and nodata == nodata:
        empty = values == nodata
        seen &= ~(empty.all(0) if values.dtype == np.uint8 else empty.any(0))
    if values.dtype.kind == "f":
        seen &= np.isfinite(values).all(0)
    return seen
