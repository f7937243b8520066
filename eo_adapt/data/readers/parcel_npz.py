"""One npz file of EuroCropsML: its name, its arrays, and what they mean."""

from __future__ import annotations

import re
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..records import Series

BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
MISSING = -999
PATTERN = "<NUTS3>_<parcelid>_<EC_hcat_c>.npz, e.g. EE008_1234567_3301010101.npz"
_NAME = re.compile(r"(?P<nuts>[A-Z]{2}[A-Z0-9]{1,3})_(?P<parcel>[^_]+)_(?P<hcat>\d{10})\.npz")


class FileName(NamedTuple):
    """What the name of a parcel file says: NUTS3 code, parcel id and HCAT3 code."""

    nuts: str
    parcel: str
    hcat: str


def parse_name(path: Path) -> FileName:
    """Split a file name into its three parts.

    Raises:
        ValueError: The name does not follow the publisher's pattern.
    """
    if not (found := _NAME.fullmatch(path.name)):
        raise ValueError(f"{path}: a parcel file is named {PATTERN}; got {path.name!r}. Rename or remove it")
    return FileName(found["nuts"], found["parcel"], found["hcat"])


def list_parcels(root: Path) -> list[Path]:
    """The npz files below ``root``, sorted by name: ``preprocess/S2`` where it exists, else ``preprocess``.

    Raises:
        FileNotFoundError: There is no such folder, or no npz in it.
    """
    folder = root / "preprocess"
    folder = folder / "S2" if (folder / "S2").is_dir() else folder
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder} is missing. Download S2.zip of EuroCropsML (https://doi.org/10.5281/zenodo.10629609), unpack it "
            f"so that {folder} holds the npz files, or name the folder above `preprocess` as root"
        )
    paths = sorted(folder.glob("*.npz"), key=lambda path: path.name)
    if not paths:
        raise FileNotFoundError(f"{folder} holds no file {PATTERN}: unpack the archive there")
    return paths


def load(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Arrays ``data`` (T, 13), ``dates`` (T,) and ``center`` (2,) of one file, as they lie on disk.

    Raises:
        ValueError: The file is truncated, lacks an array, or shapes or dtypes do not fit; the file is named.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            data, dates, center = file["data"], file["dates"], file["center"]
    except KeyError as error:
        raise ValueError(f"{path.name} lacks an array: it needs data, dates and center ({error})") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError) as error:
        raise ValueError(f"{path} is truncated or no npz file; unpack or download it again ({error})") from error
    if data.ndim != 2 or data.shape[1] != len(BANDS) or data.dtype.kind not in "iuf":
        raise ValueError(f"{path.name}: data must be numbers (T, {len(BANDS)}); got {data.dtype} {data.shape}")
    if dates.dtype.kind != "M" or dates.shape != data.shape[:1]:
        raise ValueError(
            f"{path.name}: dates must be datetime64 of length {len(data)}, one a row of data; "
            f"got {dates.dtype} {dates.shape}"
        )
    if center.shape != (2,):
        raise ValueError(f"{path.name}: center must be (longitude, latitude), shape (2,); got {center.shape}")
    return data, dates, center


def to_series(data: np.ndarray, dates: np.ndarray, year: int, path: Path) -> Series:
    """Counts as uint16 in the order of the dates; rows with a missing band are zeroed and marked invalid.

    Args:
        data: (T, 13) counts, reflectance x 10 000; -999 or NaN = missing.
        dates: (T,) datetime64.
        year: Days count from 1 January of this year.
        path: Named in errors.

    Raises:
        ValueError: A count is neither -999 nor within 0 to 65535.
    """
    missing = ~np.isfinite(data) | (data == MISSING)
    counts = np.rint(np.where(missing, 0, data))
    if counts.size and not (counts.min() >= 0 and counts.max() <= np.iinfo(np.uint16).max):
        raise ValueError(
            f"{path.name}: counts lie in [{counts.min():g}, {counts.max():g}]; allowed are 0 to 65535 and {MISSING} "
            "for missing rows"
        )
    valid = ~missing.any(axis=1)
    days = (dates.astype("datetime64[D]") - np.datetime64(f"{year}-01-01")).astype(np.int64)
    order = np.argsort(days, kind="stable")
    counts = np.where(valid[:, None], counts, 0).astype(np.uint16)
    return Series(values=counts[order], days=days[order], valid=valid[order])
