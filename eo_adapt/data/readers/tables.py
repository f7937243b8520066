"""Parquet, CSV and GeoPackage attribute tables, read in pieces."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .files import check_csv, damaged, need

if TYPE_CHECKING:
    import pandas as pd

MISSING = ["", "NA", "N/A", "n/a", "NaN", "nan", "null", "NULL", "None", "<NA>"]  # of numbers in a CSV
KINDS = (".parquet", ".geoparquet", ".csv", ".gpkg")


def table_columns(path: Path, layer: str = "") -> list[str]:
    """Names of a table's columns, without its geometry (GeoPackage).

    Raises:
        FileNotFoundError: If it is missing.
        ValueError: If it is damaged or of a kind that is not read.
    """
    if path.suffix not in KINDS:
        raise ValueError(f"{path} is of no kind that is read; these are: {list(KINDS)}")
    need(path, "the table")
    try:
        if path.suffix == ".csv":
            check_csv(path)
            import pandas as pd

            return [str(name) for name in pd.read_csv(path, nrows=0).columns]
        if path.suffix == ".gpkg":
            import pyogrio

            return [str(name) for name in pyogrio.read_info(path, layer=layer or None)["fields"]]
        import pyarrow.parquet as pq

        return [str(name) for name in pq.read_schema(path).names]
    except (OSError, ValueError, RuntimeError) as error:
        raise damaged(path, error) from error


def table_pieces(
    path: Path, columns: Sequence[str], layer: str = "", rows: int = 20_000, text: Collection[str] = ()
) -> Iterator[tuple[int, pd.DataFrame]]:
    """Yield the rows of some columns in pieces, each with the number of its first row (from 1, without the header).

    Columns in ``text`` stay text in a CSV: a type guessed piece by piece would spell one region "12" and "12.0", take
    the leading zeros of ids and make a missing value of Namibia's code NA.

    Raises:
        ValueError: If the file is damaged.
    """
    import pandas as pd

    wanted = list(dict.fromkeys(columns))
    read = partial(_csv, text=text) if path.suffix == ".csv" else _gpkg if path.suffix == ".gpkg" else _parquet
    first = 1
    try:
        for piece in read(path, wanted, layer, rows):
            frame: pd.DataFrame = piece[wanted].reset_index(drop=True)
            yield first, frame
            first += len(frame)
    except (OSError, pd.errors.ParserError, UnicodeDecodeError, RuntimeError) as error:
        raise damaged(path, error) from error


def _csv(path: Path, columns: list[str], layer: str, rows: int, text: Collection[str]) -> Iterator[pd.DataFrame]:
    import pandas as pd

    nothing = {column: [""] if column in text else MISSING for column in columns}
    types = {column: "str" for column in columns if column in text}
    with pd.read_csv(
        path, usecols=columns, chunksize=rows, low_memory=False, dtype=types, na_values=nothing, keep_default_na=False
    ) as pieces:
        yield from pieces


def _gpkg(path: Path, columns: list[str], layer: str, rows: int) -> Iterator[pd.DataFrame]:
    import pyogrio

    count = pyogrio.read_info(path, layer=layer or None, force_feature_count=True)["features"]
    for skip in range(0, count, rows):
        yield pyogrio.read_dataframe(
            path, layer=layer or None, columns=columns, read_geometry=False, skip_features=skip, max_features=rows
        )


def _parquet(path: Path, columns: list[str], layer: str, rows: int) -> Iterator[pd.DataFrame]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(rows, columns=columns):
            yield batch.to_pandas()


def numbers(frame: pd.DataFrame, column: str, path: Path, first: int, keys: np.ndarray) -> np.ndarray:
    """A column as float64, NaN where a value is missing.

    Args:
        frame: A piece of the table.
        column: Its column.
        path: The table, for the error.
        first: Number of the row whose index is 0.
        keys: Parcel ids of the piece.

    Raises:
        ValueError: If a value is no number; names row, parcel and column.
    """
    import pandas as pd

    values = pd.to_numeric(frame[column], errors="coerce").to_numpy(np.float64, na_value=np.nan)
    if (bad := np.flatnonzero(np.isnan(values) & frame[column].notna().to_numpy())).size:
        row = int(bad[0])
        number = first + int(frame.index[row])
        raise ValueError(
            f"{path}: row {number} (parcel {keys[row]}), column {column!r} holds {frame[column].iloc[row]!r}, which "
            f"is no number ({bad.size} such rows so far); correct it or leave it empty"
        )
    return values
