"""BreizhCrops: Sentinel-2 parcel means of Brittany, 2017, nine classes (Rußwurm et al. 2020, arXiv:1905.11893).

Raw layout (breizhcrops/datasets/breizhcrops.py of the original)::

    <root>/classmapping.csv               ,id,classname,code          code = CODE_CULTU of the French declaration (RPG)
    <root>/codes.csv                      names of all codes; not read
    <root>/<year>/<level>/<region>.csv    index: id, CODE_CULTU, path, idx, sequencelength, meanQA60
    <root>/<year>/<level>/<region>.h5     key = path of the index -> float64 (T, bands), reflectance x 10 000
    <root>/<year>/<region>.shp            parcels: ID, EPSG:2154 (a download of its own)

An archive of level L2A unpacks the h5 to ``data/BreizhCrops/L2A_img/data/<year>/L2A/`` below the level's folder; it is
found there, too. Columns of the arrays: :data:`.breizhcrops_arrays.COLUMNS`. "doa" is the date of acquisition in
nanoseconds since 1970; QA60 is 1024 where the whole parcel is under opaque cloud; CLD, EDG and SAT are shares of it.
L1C files are in the order of the letters, by the code that wrote them; some other readers take them to be in the order
of the numbers. B10 (cirrus, near zero) tells them apart: a file of another order than ``order`` is refused.

Parcels whose code is in no class and parcels without a date are left out, as in the original. Ids are unique in a
region only; the key is region and id. The index has no coordinates: centre and polygon come from the shapefile.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..records import Record, Sensor, Series
from .breizhcrops_arrays import BANDS, COLUMNS, FLAGS, check_order, read_array, sensor, to_series
from .files import check_columns, damaged, need, read_csv
from .geometry import Shape, read_shapes

if TYPE_CHECKING:
    import pandas as pd

SPLITS = {"frh01": "train", "frh02": "train", "frh03": "val", "frh04": "test"}
SOURCE = "BreizhCrops (https://breizhcrops.s3.eu-central-1.amazonaws.com)"


@dataclass(frozen=True)
class BreizhCrops:
    """Reads BreizhCrops.

    Attributes:
        level: "L1C" (top of atmosphere, 13 bands) or "L2A" (surface, 10 bands).
        regions: Regions to read, of frh01 to frh04 and belle-ile.
        year: Label year.
        geometry: Whether centre and polygon are read from the shapefiles; without, lon and lat are NaN.
        order: Column order of the L1C arrays, "letters" or "numbers".
        flags: Quality columns that make a date invalid; None = QA60 (L1C), or CLD, EDG and SAT (L2A).
        max_flagged: Share of the parcel that may be flagged on a valid date, 0 to 1.
        hcat: CODE_CULTU -> HCAT3 code.
    """

    level: str = "L1C"
    regions: Sequence[str] = tuple(SPLITS)
    year: int = 2017
    geometry: bool = True
    order: str = "letters"
    flags: Sequence[str] | None = None
    max_flagged: float = 0.0
    hcat: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.level not in BANDS or self.order not in ("letters", "numbers"):
            raise ValueError(
                f"level is one of {list(BANDS)}, order 'letters' or 'numbers'; got {self.level!r}, {self.order!r}"
            )
        if isinstance(self.regions, str) or set(self.regions) - {*SPLITS, "belle-ile"}:
            raise ValueError(f"regions is a list of {[*SPLITS, 'belle-ile']}; got {self.regions!r}")
        object.__setattr__(self, "regions", tuple(self.regions))
        object.__setattr__(self, "flags", tuple(FLAGS[self.level] if self.flags is None else self.flags))
        if unknown := set(self.flags or ()) - set(FLAGS[self.level]):
            raise ValueError(f"level {self.level} has the flags {list(FLAGS[self.level])}; got {sorted(unknown)}")

    @property
    def sensors(self) -> Mapping[str, Sensor]:
        """One sensor, ``s2``, bands in the order of the numbers, names as "B02"."""
        return {"s2": sensor(self.level)}

    def read(self, root: Path) -> Iterator[Record]:
        """Yield the parcels of all regions.

        Raises:
            FileNotFoundError: If the class mapping, an index, an h5 file or (``geometry``) a shapefile is missing.
            ValueError: If a file is damaged, lacks columns or keys, or holds an id twice.
        """
        path = need(Path(root) / "classmapping.csv", SOURCE)
        mapping = read_csv(path, dtype=str)
        check_columns(path, mapping.columns, {"class name": "classname", "crop code": "code"})
        classes = dict(zip(mapping["code"], mapping["classname"], strict=True))
        for region in self.regions:
            yield from self._region(Path(root), region, classes)

    def _region(self, root: Path, region: str, classes: Mapping[str, str]) -> Iterator[Record]:
        import h5py

        folder = root / str(self.year) / self.level
        index = self._index(need(folder / f"{region}.csv", SOURCE), classes)
        shapes = self._shapes(root / str(self.year) / f"{region}.shp", set(index["id"]))
        nested = folder / "data" / "BreizhCrops" / f"{self.level}_img" / "data" / str(self.year) / self.level
        path = need(nested / f"{region}.h5" if (nested / f"{region}.h5").exists() else folder / f"{region}.h5", SOURCE)
        try:
            file = h5py.File(path, "r")
        except OSError as error:
            raise damaged(path, error) from error
        with file:
            for n, row in enumerate(index.itertuples(index=False)):
                array = read_array(file, path, str(row.path), COLUMNS[self.level, self.order])
                if n == 0:
                    check_order(array, path, self.level, self.order, self.year)
                series = to_series(array, self.level, self.order, self.year, self.flags or (), self.max_flagged)
                yield self._record(region, row, classes[str(row.CODE_CULTU)], series, shapes.get(str(row.id)))

    def _index(self, path: Path, classes: Mapping[str, str]) -> pd.DataFrame:
        index = read_csv(path, dtype={"CODE_CULTU": str, "path": str})
        wanted = {"crop code": "CODE_CULTU", "key in the h5 file": "path", "number of dates": "sequencelength"}
        check_columns(path, index.columns, wanted)
        index = index[index["CODE_CULTU"].isin(list(classes)) & (index["sequencelength"] > 0)]
        index = index.assign(id=[Path(key).stem for key in index["path"]])
        if len(twice := index["id"][index["id"].duplicated()].unique()):
            raise ValueError(f"{path}: {len(twice)} parcel ids occur twice, first {list(twice[:5])}; fetch it again")
        return index

    def _shapes(self, path: Path, ids: set[str]) -> Mapping[str, Shape]:
        if not self.geometry:
            return {}
        if not path.exists():
            raise FileNotFoundError(
                f"looked for the parcels {path}, which are not there; fetch the region's shapefile (.shp, .shx, .dbf, "
                ".prj), or set geometry: false, which leaves lon and lat empty"
            )
        return read_shapes(path, "ID", wanted=ids)

    def _record(self, region: str, row: Any, label: str, series: Series, shape: Shape | None) -> Record:
        return Record(
            key=f"{region}-{row.id}",
            label=label,
            lon=shape.lon if shape else math.nan,
            lat=shape.lat if shape else math.nan,
            series={"s2": series},
            hcat=str(self.hcat.get(row.CODE_CULTU, "")),
            country="FR",
            region=region,
            year=self.year,
            sensor="s2",
            split=SPLITS.get(region, ""),
            geometry=shape.wkb if shape else None,
        )
