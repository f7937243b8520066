"""Any table of parcels with their time series: Parquet, CSV or GeoPackage, wide or long.

Wide: one row a parcel, columns such as ``ndvi_doy001``, ``B2|2020-11-01`` or ``NDVI_t00`` (with the first and last date
in two more columns); read in pieces. Long: one row a parcel and date; read whole. Which column means what is said by a
small spec; see data_recipes/cawa.yaml (wide, by day of the year, outlines in a second file) and
data_recipes/brazil_matogrosso.yaml (wide, by step).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..records import Record, Sensor
from .files import check_columns
from .geometry import Shape, read_shapes
from .parcel_records import kept_pieces, records, table_keys
from .parcel_rows import Long
from .parcel_spec import Outlines, build, build_values
from .tables import table_columns

DOMAIN = ("country", "region", "year", "sensor", "split", "hcat")
FIELDS = ("id", "label", "lon", "lat", *DOMAIN)


@dataclass(frozen=True)
class ParcelTable:
    """Reads one table.

    Attributes:
        file: Path below the root.
        columns: What -> column: id and label, and as far as there are any lon, lat (degrees WGS 84), country, region,
            year (a number, or a date whose year is taken), sensor, split, hcat.
        series: Sensor -> :class:`Wide` or :class:`Long` (one kind a table), or a mapping of its arguments that also has
            ``layout: wide`` or ``layout: long``.
        constants: country, region, year, sensor, split or hcat where the whole table has the same.
        outlines: :class:`Outlines` of the parcels, or a mapping of its arguments; lon, lat are their centres if the
            table has no such columns.
        drop: Column -> value(s); rows holding one are left out. ``null`` is a missing value.
        labels: Class name in the table -> class name to use; the others stay.
        hcat: Class name -> HCAT3 code, if the table has no such column.
        attributes: Columns of numbers of a parcel that are not series.
        layer: Layer of a GeoPackage with several.
        unlabelled: Keep parcels without a label (a target nobody has surveyed); otherwise they are an error.
    """

    file: str
    columns: Mapping[str, str]
    series: Mapping[str, Any]
    constants: Mapping[str, Any] = field(default_factory=dict)
    outlines: Any = None
    drop: Mapping[str, Any] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    hcat: Mapping[str, str] = field(default_factory=dict)
    attributes: Sequence[str] = ()
    layer: str = ""
    unlabelled: bool = False

    def __post_init__(self) -> None:
        for name in ("columns", "constants", "drop"):
            object.__setattr__(self, name, dict(getattr(self, name)))
        series = {str(name): build_values(spec, f"series {name}") for name, spec in self.series.items()}
        object.__setattr__(self, "series", series)
        if self.outlines is not None:
            object.__setattr__(self, "outlines", build(Outlines, self.outlines, "outlines"))
        object.__setattr__(self, "labels", {str(old): str(new) for old, new in self.labels.items()})
        object.__setattr__(self, "hcat", {str(name): str(code) for name, code in self.hcat.items()})
        given = {**self.columns, **self.constants}
        if odd := (set(self.columns) - set(FIELDS)) | (set(self.constants) - set(DOMAIN)):
            raise ValueError(f"columns are of {list(FIELDS)}, constants of {list(DOMAIN)}; got {sorted(odd)}")
        needs = {"id", "label", *([] if self.outlines else ["lon", "lat"])}
        if any(values.needs_year for values in self.series.values()):
            needs.add("year")
        if lacking := needs - set(given):
            raise ValueError(f"the table {self.file} needs columns for {sorted(lacking)}; got {sorted(given)}")
        if len({type(values) for values in self.series.values()}) != 1:
            raise ValueError(f"series are all Wide or all Long; got {self.series}")

    @property
    def long(self) -> bool:
        """Whether dates lie one below the other."""
        return all(isinstance(values, Long) for values in self.series.values())

    @property
    def sensors(self) -> Mapping[str, Sensor]:
        """Sensor of each series."""
        return {name: values.sensor for name, values in self.series.items()}

    def read(self, root: Path) -> Iterator[Record]:
        """Yield the parcels in the order of the table.

        Raises:
            FileNotFoundError: If the table or the outlines are missing.
            ValueError: If a file is damaged, a column is missing or holds something else than numbers, an id or a date
                occurs twice, or a label is missing and ``unlabelled`` is false.
        """
        path = Path(root) / self.file
        present = table_columns(path, self.layer)
        bands = [c for values in self.series.values() for row in values.grid(path, present)[1] for c in row]
        extra = {f"{name} {use}": c for name, values in self.series.items() for use, c in values.extra.items()}
        plain = {f"attribute {column}": column for column in self.attributes}
        rules = {f"drop rule {column}": column for column in self.drop}
        wanted = {**self.columns, **extra, **plain, **rules}
        check_columns(path, present, wanted)
        keys = table_keys(self, path)
        shapes: Mapping[str, Shape] = {}
        if out := self.outlines:
            file, column = (Path(root) / out.file if out.file else path), out.id or self.columns["id"]
            shapes = read_shapes(file, column, keys, out.crs, out.layer or (self.layer if file == path else ""))
        for first, piece in kept_pieces(self, path, [*wanted.values(), *bands], whole=self.long):
            if len(piece):
                yield from records(self, path, present, first, piece, shapes)


@dataclass(frozen=True)
class ParcelTables:
    """Several tables of one data set, one after the other, e.g. one file a sensor.

    Attributes:
        tables: Tables whose sensors are alike, or mappings of their arguments.
    """

    tables: Sequence[Any]

    def __post_init__(self) -> None:
        tables = tuple(build(ParcelTable, table, f"table {n}") for n, table in enumerate(self.tables))
        object.__setattr__(self, "tables", tables)
        if not self.tables or any(table.sensors != self.tables[0].sensors for table in self.tables):
            raise ValueError(f"tables need the same sensors; got {[dict(table.sensors) for table in self.tables]}")

    @property
    def sensors(self) -> Mapping[str, Sensor]:
        """Sensors of the tables."""
        sensors: Mapping[str, Sensor] = self.tables[0].sensors
        return sensors

    def read(self, root: Path) -> Iterator[Record]:
        """Yield the parcels of all tables; errors as of :meth:`ParcelTable.read`."""
        for table in self.tables:
            yield from table.read(root)
