"""What every prepared dataset has: store.json, which says what it is, and index.parquet, a row a sample."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor


class StoreError(ValueError):
    """A store that cannot be read: not there, of another format, or damaged."""


class Prepared:
    """A prepared dataset, opened for reading; parcels and images add where their values lie.

    Args:
        path: The store's folder.

    Raises:
        FileNotFoundError: If there is no store; says which command prepares one.
        StoreError: If it is of another kind or format, or a file is missing or cut short.
    """

    kind: ClassVar[str]
    version: ClassVar[int]

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        about = self.path / "store.json"
        if not about.is_file():
            raise FileNotFoundError(
                f"no prepared store at {self.path}; make one with `python -m eo_adapt.prepare recipe=<name> "
                f"raw=<folder of the raw files> out={self.path}`"
            )
        self.about: dict[str, Any] = read_about(about)
        self.expect(self.kind)
        again = (
            f"prepare it again with `python -m eo_adapt.prepare recipe={self.about.get('recipe')} "
            f"raw=<folder of the raw files> out={self.path} force=true`"
        )
        if self.about.get("format") != self.version:
            raise StoreError(
                f"the store at {self.path} has format {self.about.get('format')}, this version reads format "
                f"{self.version}; {again}"
            )
        for name, size in self.about["files"].items():
            file = self.path / name
            found = file.stat().st_size if file.is_file() else None
            if found != size:
                state = "is missing" if found is None else f"has {found} bytes instead of {size}"
                raise StoreError(f"the store at {self.path} is damaged: {name} {state}; {again}")

    def expect(self, kind: str) -> None:
        """Refuse data that are of another kind than somebody can use.

        Raises:
            StoreError: If they are.
        """
        found = self.about.get("kind", "parcels")
        if found != kind:
            raise StoreError(
                f"the store at {self.path} holds {found}, these data are {kind}; choose task= and data= alike"
            )

    def __len__(self) -> int:
        return int(self.about["parcels"])

    @cached_property
    def index(self) -> pd.DataFrame:
        """One row a sample, without the geometry (that needs no geo stack)."""
        import pyarrow.parquet as pq

        file = pq.ParquetFile(self.path / "index.parquet")
        frame: pd.DataFrame = file.read(columns=[c for c in file.schema_arrow.names if c != "geometry"]).to_pandas()
        return frame

    @cached_property
    def lonlat(self) -> Tensor:
        """(N, 2) float32 degrees, of the sample's centre."""
        return torch.tensor(self.index[["lon", "lat"]].to_numpy(np.float32))

    def rows(self, select: Mapping[str, Any]) -> np.ndarray:
        """Positions of the samples that a query admits, ascending.

        Args:
            select: Column -> admitted value, list of values, or range ``{min: a, max: b}`` of numbers: a <= value < b,
                either end may be left out. A missing number lies in no range.

        Raises:
            LookupError: If a column does not exist.
            ValueError: If a range has unknown keys, ends that are no numbers or admit nothing, or the column has no
                numbers.
        """
        return matching(self.index, select)


def matching(index: pd.DataFrame, select: Mapping[str, Any]) -> np.ndarray:
    """Positions of the rows of an index that a query admits; see :meth:`Prepared.rows`."""
    keep = np.ones(len(index), bool)
    for column, admitted in select.items():
        if column not in index.columns:
            raise LookupError(f"the index has no column {column!r}; it has {list(index.columns)}")
        if isinstance(admitted, Mapping):
            keep &= _within(index[column], admitted)
            continue
        values = admitted if isinstance(admitted, Sequence) and not isinstance(admitted, str) else [admitted]
        keep &= index[column].isin(list(values)).to_numpy()
    return np.flatnonzero(keep)


def _within(column: pd.Series, ends: Mapping[str, Any]) -> np.ndarray:
    """(N,) whether each number lies in the half-open range ``{min: a, max: b}``; see :meth:`Prepared.rows`."""
    where = f"select.{column.name}={dict(ends)}"
    if not ends or set(ends) - {"min", "max"}:
        raise ValueError(f"{where} is no range; a range has min, max or both: {{min: a, max: b}} admits a <= value < b")
    for name, end in ends.items():
        if isinstance(end, bool) or not isinstance(end, int | float) or end != end:
            raise ValueError(f"{where}: {name} must be a number; got {end!r}")
    if not pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
        raise ValueError(
            f"{where}: column {column.name!r} has no numbers ({column.dtype}); give a value or a list of them"
        )
    low, high = ends.get("min", -np.inf), ends.get("max", np.inf)
    if low >= high:
        raise ValueError(f"{where} admits nothing: min must be below max (min <= value < max)")
    return ((column >= low) & (column < high)).to_numpy(bool)


def read_about(about: Path) -> dict[str, Any]:
    """What a store says of itself."""
    try:
        found: dict[str, Any] = json.loads(about.read_text())
    except json.JSONDecodeError as error:
        raise StoreError(
            f"the store at {about.parent} is damaged: {about.name} is cut short or no JSON ({error}); prepare it again "
            "with `python -m eo_adapt.prepare` and force=true"
        ) from error
    return found
