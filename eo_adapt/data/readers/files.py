"""Files of raw data opened so that a missing, foreign or cut-off one is an error that names it."""

from __future__ import annotations

import csv
import difflib
import json
import math
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd


def need(path: Path, source: str) -> Path:
    """``path``, if it is there.

    Raises:
        FileNotFoundError: If not; says what was looked for and how far the path exists.
    """
    if path.exists():
        return path
    there = next(parent for parent in (*path.parents, Path()) if parent.exists())
    raise FileNotFoundError(
        f"looked for {path}, which is not there ({there} is). Fetch {source} and give its unpacked folder as raw=..."
    )


def damaged(path: Path, error: BaseException | str) -> ValueError:
    """The error of a file that cannot be read."""
    what = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
    return ValueError(f"{path} cannot be read ({what}); it seems cut short or of another kind: fetch it again")


def check_columns(path: Path, present: Iterable[str], wanted: Mapping[str, str]) -> None:
    """Make sure that a table has its columns.

    Args:
        path: The table.
        present: Its columns.
        wanted: What a column is for -> its name.

    Raises:
        ValueError: If one is missing; names it, the nearest ones and all there are.
    """
    names = list(present)
    for use, column in wanted.items():
        if column not in names:
            near = difflib.get_close_matches(column, names, n=3)
            raise ValueError(
                f"{path} has no column {column!r} (for {use}); nearest: {near or 'none'}; all columns: {names}. "
                "Correct the reader's columns"
            )


def check_csv(path: Path) -> None:
    """Make sure that every row of a comma-separated file has all its fields and that the last one is complete.

    Raises:
        ValueError: If not; names the line.
    """
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - 1))
        if file.read(1) not in (b"\n", b"\r"):
            raise damaged(path, "the last line does not end with a line break")
    with path.open(newline="", encoding="utf-8-sig") as text:
        rows = csv.reader(text)
        try:
            width = len(next(rows, []))
            for row in rows:
                if row and len(row) != width:
                    raise damaged(path, f"line {rows.line_num} has {len(row)} fields, the header has {width}")
        except (csv.Error, UnicodeDecodeError) as error:
            raise damaged(path, error) from error


def read_csv(path: Path, **options: Any) -> pd.DataFrame:
    """A whole comma-separated file; ``options`` are those of :func:`pandas.read_csv`."""
    import pandas as pd

    check_csv(path)
    try:
        frame: pd.DataFrame = pd.read_csv(path, **options)
    except ValueError as error:  # also parser errors
        raise damaged(path, error) from error
    return frame


def read_zarr(path: Path, shape: tuple[int, ...], dtype: str, source: str) -> np.ndarray:
    """A whole zarr v2 array; ``source`` is where it comes from, for the error if it is not there.

    zarr itself fills missing chunks with zeros, and a chunk packed by blosc that was cut off is unpacked to garbage
    without an error; both are found here by their sizes.

    Raises:
        FileNotFoundError: If it is not there.
        ValueError: If it is damaged or of another shape or type.
    """
    import zarr

    need(path / ".zarray", source)
    try:
        about = json.loads((path / ".zarray").read_text())
        array = zarr.open_array(path, mode="r", zarr_format=2)
        if array.shape != shape or array.dtype != np.dtype(dtype):
            raise ValueError(f"it holds {array.dtype} {array.shape}; the metadata say {dtype} {shape}")
        _check_chunks(path, about)
        values = array[...]
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        raise damaged(path, error) from error
    return np.asarray(values)


def _check_chunks(path: Path, about: Mapping[str, Any]) -> None:
    chunks = [p for p in path.rglob("*") if p.is_file() and not p.name.startswith(".")]
    expected = math.prod(-(-n // c) for n, c in zip(about["shape"], about["chunks"], strict=True))
    if len(chunks) != expected:
        raise ValueError(f"{len(chunks)} of {expected} chunks are there")
    packer = (about["compressor"] or {}).get("id", "")
    for chunk in chunks:
        size = chunk.stat().st_size
        if packer == "blosc":  # bytes 12-15 of its header: length of the packed chunk
            with chunk.open("rb") as file:
                head = file.read(16)
            whole = struct.unpack("<I", head[12:])[0] if len(head) == 16 else 16
        else:
            whole = size if packer else math.prod(about["chunks"]) * np.dtype(about["dtype"]).itemsize
        if size != whole:
            raise ValueError(f"chunk {chunk.name} has {size} of {whole} bytes")
