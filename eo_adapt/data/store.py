"""The one prepared form of every dataset: index.parquet (GeoParquet) + flat memory-mapped arrays.

Why flat arrays: docs/architecture.md has the measurement. The layout of the arrays is in :mod:`.ragged`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..types import Inputs, Observation
from .ragged import Ragged
from .records import Sensor
from .scenes.records import Imagery

if TYPE_CHECKING:
    from .scenes.store import SceneStore

FORMAT = 1
DOMAIN_COLUMNS = ("country", "region", "year", "sensor")


class StoreError(ValueError):
    """A store that cannot be read: not there, of another format, or damaged."""


class Store:
    """A prepared dataset, opened for reading.

    Args:
        path: The store's folder.

    Raises:
        FileNotFoundError: If there is no store; says which command prepares one.
        StoreError: If its format is another one or a file is missing or cut short.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        about = self.path / "store.json"
        if not about.is_file():
            raise FileNotFoundError(
                f"no prepared store at {self.path}; make one with `python -m eo_adapt.prepare recipe=<name> "
                f"raw=<folder of the raw files> out={self.path}`"
            )
        self.about: dict[str, Any] = read_about(about)
        if self.about.get("kind", "parcels") != "parcels":
            raise StoreError(
                f"the store at {self.path} holds images, these data are parcels; choose task= and data= alike"
            )
        if self.about.get("format") != FORMAT:
            raise StoreError(
                f"the store at {self.path} has format {self.about.get('format')}, this version reads format {FORMAT}; "
                f"prepare it again: python -m eo_adapt.prepare recipe={self.about.get('recipe')} "
                f"raw=<folder of the raw files> out={self.path} force=true"
            )
        self._check_sizes()
        self.sensors = {
            name: Sensor(**{**spec, "bands": tuple(spec["bands"])}) for name, spec in self.about["sensors"].items()
        }

    def _check_sizes(self) -> None:
        for name, size in self.about["files"].items():
            path = self.path / name
            found = path.stat().st_size if path.is_file() else None
            if found != size:
                state = "is missing" if found is None else f"has {found} bytes instead of {size}"
                raise StoreError(
                    f"the store at {self.path} is damaged: {name} {state}; prepare it again with "
                    f"`python -m eo_adapt.prepare recipe={self.about.get('recipe')} raw=<folder of the raw files> "
                    f"out={self.path} force=true`"
                )

    def __len__(self) -> int:
        return int(self.about["parcels"])

    def __reduce__(self) -> tuple[type[Store], tuple[Path]]:
        return Store, (self.path,)  # a worker process maps the files itself instead of receiving a copy

    @cached_property
    def index(self) -> pd.DataFrame:
        """One row a parcel, without the geometry (that needs no geo stack)."""
        import pyarrow.parquet as pq

        file = pq.ParquetFile(self.path / "index.parquet")
        frame: pd.DataFrame = file.read(columns=[c for c in file.schema_arrow.names if c != "geometry"]).to_pandas()
        return frame

    @cached_property
    def lonlat(self) -> Tensor:
        """(N, 2) float32 degrees."""
        return torch.tensor(self.index[["lon", "lat"]].to_numpy(np.float32))

    @cached_property
    def attributes(self) -> Tensor | None:
        """(N, A) float32 parcel attributes, or None."""
        path = self.path / "attributes.npy"
        return torch.from_numpy(np.load(path)) if path.exists() else None

    @cached_property
    def fingerprint(self) -> str:
        """What these data are, in 16 hex digits: parcels, labels, sensors, sizes, and a sample of the values.

        Results are only compared when their data agree.
        """
        sizes = {name: size for name, size in self.about["files"].items() if name.endswith(".bin")}
        found = hashlib.sha256(json.dumps([self.about["sensors"], sizes], sort_keys=True).encode())
        found.update(pd.util.hash_pandas_object(self.index, index=False).to_numpy().tobytes())
        for ragged in self.arrays.values():
            flat = ragged.values.flatten()
            found.update(flat[:: max(1, len(flat) // 10_000)].numpy().tobytes())
        return found.hexdigest()[:16]

    @cached_property
    def arrays(self) -> dict[str, Ragged]:
        """Sensor name -> arrays, mapped on first use."""
        return {name: Ragged.open(self.path / name, sensor) for name, sensor in self.sensors.items()}

    def rows(self, select: Mapping[str, Any]) -> np.ndarray:
        """Positions of the parcels that a query admits, ascending.

        Args:
            select: Column -> admitted value, list of values, or range ``{min: a, max: b}`` of numbers: a <= value < b,
                either end may be left out. A missing number lies in no range.

        Raises:
            LookupError: If a column does not exist.
            ValueError: If a range has unknown keys, ends that are no numbers or admit nothing, or the column has no
                numbers.
        """
        return matching(self.index, select)

    def gather(
        self,
        rows: Tensor,
        bands: Mapping[str, Sequence[str]],
        pixels: int = 32,
        generator: torch.Generator | None = None,
        arrays: Mapping[str, Ragged] | None = None,
    ) -> Inputs:
        """Inputs of some parcels.

        Args:
            rows: (B,) int64.
            bands: Sensor -> band names wanted, in order.
            pixels: Pixels drawn a parcel, for pixel sets.
            generator: Source of that draw; None = the same evenly spaced pixels every time.
            arrays: Resident arrays to read instead of the mapped files.
        """
        inputs: dict[str, Observation] = {}
        for name, wanted in bands.items():
            ragged = (arrays or self.arrays)[name]
            numbers = band_numbers(self.sensors[name], wanted, name)
            chosen = ragged.draw_pixels(rows, pixels, generator) if ragged.is_pixel_set else None
            inputs[name] = ragged.gather(rows, numbers, chosen)
        if self.attributes is not None:
            inputs["attributes"] = Observation(self.attributes[rows.cpu()].to(rows.device))
        return inputs


def matching(index: pd.DataFrame, select: Mapping[str, Any]) -> np.ndarray:
    """Positions of the rows of an index that a query admits; see :meth:`Store.rows`."""
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
    """(N,) whether each number lies in the half-open range ``{min: a, max: b}``; see :meth:`Store.rows`."""
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


def of_parcels(store: Store | SceneStore) -> Store:
    """The same store.

    Raises:
        StoreError: If it holds images.
    """
    if not isinstance(store, Store):
        raise StoreError(
            f"the store at {store.path} holds images, these data are parcels; choose task= and data= alike"
        )
    return store


def band_numbers(sensor: Sensor | Imagery, wanted: Sequence[str], name: str = "sensor") -> list[int]:
    """Positions of bands asked for by name.

    Raises:
        LookupError: Naming the missing bands and those that exist.
    """
    if missing := [band for band in wanted if band not in sensor.bands]:
        raise LookupError(f"{name} has no band {missing}; it has {list(sensor.bands)}")
    return [sensor.bands.index(band) for band in wanted]
