"""Any table of parcels with their time series: Parquet, CSV or GeoPackage, wide or long.

Wide: one row a parcel, columns such as ``ndvi_doy001``, ``B2|2020-11-01`` or ``NDVI_t00`` (with the first and last date
in two more columns); read in pieces. Long: one row a parcel and date; read whole. Which column means what is said by a
small spec; see data_recipes/cawa.yaml (wide, by day of the year, outlines in a second file) and
data_recipes/brazil_matogrosso.yaml (wide, by step).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..records import Record, Sensor, Series
from .files import check_columns
from .geometry import Shape, as_keys, read_shapes
from .parcel_rows import Long, groups
from .parcel_values import Wide, days_since_new_year
from .tables import numbers, table_columns, table_pieces

if TYPE_CHECKING:
    import pandas as pd

DOMAIN = ("country", "region", "year", "sensor", "split", "hcat")
FIELDS = ("id", "label", "lon", "lat", *DOMAIN)


@dataclass(frozen=True)
class Outlines:
    """Where the outlines of the parcels are: in the table itself (GeoPackage, GeoParquet) or in a second file.

    Attributes:
        file: Path below the root; "" = the table itself.
        id: Column of parcel ids; "" = called as in the table.
        crs: CRS of a file that states none, e.g. "EPSG:2154".
        layer: Layer of a GeoPackage with several.
    """

    file: str = ""
    id: str = ""
    crs: str = ""
    layer: str = ""


@dataclass(frozen=True)
class ParcelTable:
    """Reads one table.

    Attributes:
        file: Path below the root.
        columns: What -> column: id and label, and as far as there are any lon, lat (degrees WGS 84), country, region,
            year (a number, or a date whose year is taken), sensor, split, hcat.
        series: Sensor -> :class:`Wide` or :class:`Long` (one kind a table).
        constants: country, region, year, sensor, split or hcat where the whole table has the same.
        outlines: Outlines of the parcels; lon, lat are their centres if the table has no such columns.
        drop: Column -> value(s); rows holding one are left out. ``null`` is a missing value.
        labels: Class name in the table -> class name to use; the others stay.
        hcat: Class name -> HCAT3 code, if the table has no such column.
        attributes: Columns of numbers of a parcel that are not series.
        layer: Layer of a GeoPackage with several.
    """

    file: str
    columns: Mapping[str, str]
    series: Mapping[str, Wide | Long]
    constants: Mapping[str, Any] = field(default_factory=dict)
    outlines: Outlines | None = None
    drop: Mapping[str, Any] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    hcat: Mapping[str, str] = field(default_factory=dict)
    attributes: Sequence[str] = ()
    layer: str = ""

    def __post_init__(self) -> None:
        for name in ("columns", "series", "constants", "drop", "labels", "hcat"):
            object.__setattr__(self, name, dict(getattr(self, name)))
        given = {**self.columns, **self.constants}
        if odd := (set(self.columns) - set(FIELDS)) | (set(self.constants) - set(DOMAIN)):
            raise ValueError(f"columns are of {list(FIELDS)}, constants of {list(DOMAIN)}; got {sorted(odd)}")
        needs = {"id", "label", *([] if self.outlines else ["lon", "lat"])}
        if any(getattr(s, "axis", "date" if getattr(s, "date", "") else "doy") != "doy" for s in self.series.values()):
            needs.add("year")
        if lacking := needs - set(given):
            raise ValueError(f"the table {self.file} needs columns for {sorted(lacking)}; got {sorted(given)}")
        if len({type(values) for values in self.series.values()}) != 1:
            raise ValueError(f"series are all Wide or all Long; got {self.series}")

    @property
    def sensors(self) -> Mapping[str, Sensor]:
        """Sensor of each series."""
        return {name: values.sensor for name, values in self.series.items()}

    def read(self, root: Path) -> Iterator[Record]:
        """Yield the parcels in the order of the table.

        Raises:
            FileNotFoundError: If the table or the outlines are missing.
            ValueError: If a file is damaged, a column is missing or holds something else than numbers, an id or a date
                occurs twice, or a label is missing.
        """
        path = Path(root) / self.file
        present = table_columns(path, self.layer)
        extra = {use: column for values in self.series.values() for use, column in values.extra.items()}
        attributes = {f"attribute {column}": column for column in self.attributes}
        rules = {f"drop rule {column}": column for column in self.drop}
        check_columns(path, present, {**self.columns, **extra, **rules, **attributes})
        bands = [c for v in self.series.values() for row in v.grid(path, present)[1] for c in row]
        wanted = [*self.columns.values(), *extra.values(), *self.drop, *self.attributes]
        long = any(isinstance(values, Long) for values in self.series.values())
        shapes = self._shapes(Path(root), path, self._keys(path, unique=not long))
        for first, piece in self._pieces(path, [*wanted, *bands], whole=long):
            if len(piece):
                yield from self._records(path, present, first, piece, shapes)

    def _pieces(self, path: Path, columns: Sequence[str], whole: bool) -> Iterator[tuple[int, pd.DataFrame]]:
        """Pieces without the dropped rows; row numbers in errors count from the first row of the piece."""
        import pandas as pd

        pieces = table_pieces(path, columns, self.layer)
        if whole:
            pieces = iter([(1, pd.concat([piece for _, piece in pieces], ignore_index=True))])
        for first, piece in pieces:
            gone = np.zeros(len(piece), bool)
            for column, values in self.drop.items():
                for value in values if isinstance(values, list | tuple) else [values]:
                    gone |= (piece[column].isna() if value is None else piece[column] == value).to_numpy(bool)
            yield first, piece[~gone]

    def _keys(self, path: Path, unique: bool) -> set[str]:
        """All ids of the table, so that a repeated one is found before anything is written."""
        seen: set[str] = set()
        twice: dict[str, None] = {}
        for _, piece in self._pieces(path, [self.columns["id"], *self.drop], whole=False):
            keys = as_keys(piece[self.columns["id"]], path)
            for key in keys:
                if key in seen:
                    twice[key] = None
                seen.add(key)
        if unique and twice:
            raise ValueError(
                f"{path}: {len(twice)} parcel ids occur more than once, first {list(twice)[:5]}; a parcel could be in "
                "train and test. Drop the duplicates (drop: {column: value}) or name a column of unique ids"
            )
        return seen
