"""Windows of .npy files and of data sets in .h5 files, read where they lie."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

H5 = (".h5", ".hdf5")
ARRAYS = (".npy", *H5)


class TileError(ValueError):
    """A raster or an array that is missing, cut short or damaged."""


@contextmanager
def opened_array(path: Path, key: str = "") -> Iterator[Any]:
    """An array (..., H, W) that is read when it is indexed.

    Args:
        path: ``.npy``, ``.h5`` or ``.hdf5``.
        key: Data set in an h5 file.

    Raises:
        TileError: If the file is missing, cut short or damaged, or lacks the data set.
    """
    if not path.exists():
        raise _error(path, "is missing")
    if path.suffix in H5:
        with _dataset(path, key) as found:
            yield found
        return
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise _error(path, f"cannot be read ({error})") from error
    yield array


@contextmanager
def _dataset(path: Path, key: str) -> Iterator[Any]:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            if not isinstance(file.get(key), h5py.Dataset):
                raise _error(path, f"has no data set {key!r}; it has {sorted(file)}")
            yield file[key]
    except OSError as error:
        raise _error(path, f"cannot be read ({error})") from error


def read_array(array: Any, bands: Sequence[int], cut: tuple[tuple[int, int], tuple[int, int]] | None) -> np.ndarray:
    """Some bands and a window of (..., C, H, W), in memory and in the machine's byte order.

    Args:
        array: As :func:`opened_array` gives it.
        bands: Positions.
        cut: First and last row (not included), the same of columns; None = all.
    """
    (top, bottom), (left, right) = cut or ((0, array.shape[-2]), (0, array.shape[-1]))
    part = array[..., top:bottom, left:right]
    values = np.asarray(part[..., list(bands), :, :])
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def _error(path: Path, why: str) -> TileError:
    return TileError(f"{path} {why}: get the file again, or set data.on_corrupt=skip (on_corrupt: skip in a recipe)")
