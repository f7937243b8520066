"""From the rows of a parcel table to records, as its spec says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..records import Record
from .geometry import Shape, as_keys
from .parcel_rows import groups
from .tables import numbers, table_pieces

if TYPE_CHECKING:
    import pandas as pd

    from .parcel_table import ParcelTable


def kept_pieces(
    table: ParcelTable, path: Path, columns: Sequence[str], whole: bool
) -> Iterator[tuple[int, pd.DataFrame]]:
    """Pieces of a table without the rows that its drop rules take out; row numbers stay as in the file."""
    import pandas as pd

    text = {column for what, column in table.columns.items() if what not in ("lon", "lat", "year")}
    pieces = table_pieces(path, columns, table.layer, text=text)
    if whole:
        pieces = iter([(1, pd.concat([piece for _, piece in pieces], ignore_index=True))])
    for first, piece in pieces:
        gone = np.zeros(len(piece), bool)
        for column, values in table.drop.items():
            for value in [values] if values is None or isinstance(values, str | bool | int | float) else values:
                spelt = str(value) if column in text and piece[column].dtype.kind in "OUT" else value
                gone |= (piece[column].isna() if value is None else piece[column] == spelt).to_numpy(bool)
        yield first, piece[~gone]


def table_keys(table: ParcelTable, path: Path) -> set[str]:
    """All ids of a table.

    Raises:
        ValueError: If one occurs twice in a wide table, before any record is made.
    """
    seen: set[str] = set()
    twice: dict[str, None] = {}
    for first, piece in kept_pieces(table, path, [table.columns["id"], *table.drop], whole=False):
        for key in as_keys(piece[table.columns["id"]], path, first):
            if key in seen:
                twice[key] = None
            seen.add(key)
    if twice and not table.long:
        raise ValueError(
            f"{path}: {len(twice)} parcel ids occur more than once, first {list(twice)[:5]}; a parcel could be in "
            "train and test. Drop the duplicates (drop: {column: value}) or name a column of unique ids"
        )
    return seen


def records(
    table: ParcelTable, path: Path, present: Sequence[str], first: int, piece: pd.DataFrame, shapes: Mapping[str, Shape]
) -> Iterator[Record]:
    """Records of the parcels of a piece, in its order."""
    keys = as_keys(piece[table.columns["id"]], path, first)
    years = _years(table, path, first, piece, keys)
    parts = {name: values.read(path, present, piece, first, keys, years) for name, values in table.series.items()}
    heads = np.array([rows[0] for rows in groups(keys)])
    if table.long:
        _check_constant(table, path, piece, keys, heads)
    piece, keys, years = piece.iloc[heads], keys[heads], years[heads]
    labels = _labels(table, path, first, piece, keys)
    places = {c: numbers(piece, table.columns[c], path, first, keys) for c in ("lon", "lat") if c in table.columns}
    more = [numbers(piece, column, path, first, keys) for column in table.attributes]
    texts = {name: _texts(table, name, piece) for name in ("country", "region", "sensor", "split", "hcat")}
    for n, key in enumerate(keys):
        shape = shapes.get(key)
        label = labels[n]
        yield Record(
            key=key,
            label=label,
            lon=float(places["lon"][n]) if "lon" in places or shape is None else shape.lon,
            lat=float(places["lat"][n]) if "lat" in places or shape is None else shape.lat,
            series={name: part[n] for name, part in parts.items()},
            year=int(years[n]),
            geometry=shape.wkb if shape else None,
            attributes=np.array([column[n] for column in more], np.float32) if more else None,
            **{
                **{name: column[n] for name, column in texts.items()},
                "hcat": texts["hcat"][n] or table.hcat.get(label, ""),
            },
        )


def _labels(table: ParcelTable, path: Path, first: int, piece: pd.DataFrame, keys: np.ndarray) -> list[str]:
    column = piece[table.columns["label"]]
    missing = np.flatnonzero(column.isna())
    if missing.size and not table.unlabelled:
        raise ValueError(
            f"{path}: row {first + int(piece.index[missing[0]])} (parcel {keys[missing[0]]}) has no label in column "
            f"{column.name!r}; label it, leave such rows out with drop: {{{column.name}: null}}, or keep them as "
            "a target without labels with unlabelled: true"
        )
    known = iter(as_keys(column[column.notna()], path, first))
    names = ["" if nothing else next(known) for nothing in column.isna()]
    return [str(table.labels.get(name, name)) for name in names]


def _texts(table: ParcelTable, name: str, piece: pd.DataFrame) -> list[str]:
    if name not in table.columns:
        return [str(table.constants.get(name, ""))] * len(piece)
    return ["" if value is None or value != value else str(value) for value in piece[table.columns[name]].tolist()]


def _years(table: ParcelTable, path: Path, first: int, piece: pd.DataFrame, keys: np.ndarray) -> np.ndarray:
    import pandas as pd

    if "year" not in table.columns:
        return np.full(len(piece), int(table.constants.get("year", 0)), np.int64)
    column = piece[table.columns["year"]]
    if column.dtype.kind not in "iu":
        dates = pd.to_datetime(column.astype(str), format="ISO8601", errors="coerce")
        if dates.notna().all():
            return dates.dt.year.to_numpy(np.int64)
    years: Any = numbers(piece, table.columns["year"], path, first, keys)
    if np.isnan(years).any():
        raise ValueError(f"{path}: {np.isnan(years).sum()} rows have no year in column {column.name!r}")
    return np.asarray(years, np.int64)


def _check_constant(table: ParcelTable, path: Path, piece: pd.DataFrame, keys: np.ndarray, heads: np.ndarray) -> None:
    column = piece[table.columns["label"]].astype(str).to_numpy(object)
    labels = dict(zip(keys[heads], column[heads], strict=True))
    if odd := list(dict.fromkeys(key for key, label in zip(keys, column, strict=True) if label != labels[key])):
        raise ValueError(f"{path}: {len(odd)} parcels have more than one label, first {odd[:5]}; keep one a parcel")
