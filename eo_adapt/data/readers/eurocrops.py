"""EuroCrops: declared parcels of European countries with harmonised crops (Schneider et al. 2023, Scientific Data 10).

Raw layout (Zenodo record 8229128), one shapefile a country and year, in its archive or unpacked::

    <root>/LV_2021.zip     holding LV_2021/LV_2021_EC21.shp (.dbf, .shx, .prj), or the files without a folder
    <root>/LV_2021/LV_2021_EC21.shp

Columns: those of the national agency, and EC_trans_n (crop in English), EC_hcat_n, EC_hcat_c (HCAT name and code, ten
digits as text) and EC_NUTS3, which is approximate. A row without a code is left out: it is a parcel of several crops,
or one that nobody mapped. So are rows without an outline; invalid outlines are repaired, and what is then no polygon is
left out. Archives are read where they are.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..layers import COLUMNS, Layer
from .files import check_columns, damaged

if TYPE_CHECKING:
    import geopandas

NAME = re.compile(r"(?P<country>[A-Z]{2})(_(?P<region>[A-Z]+))?(_(?P<year>\d{4}|ny))?(_EC\d*)?")
WANTED = {"crop in English": "EC_trans_n", "HCAT name": "EC_hcat_n", "HCAT code": "EC_hcat_c"}
SOURCE = "EuroCrops (https://zenodo.org/records/8229128)"


@dataclass(frozen=True)
class EuroCrops:
    """Reads EuroCrops.

    Attributes:
        layers_of: Names to read, e.g. ``[LV_2021, SI_2021]``; () = all that are there.
        ids: Layer -> its column of parcel ids; of a layer that is not named, country, year and row number make the id.
        crs: Layer -> CRS where its file states none, e.g. ``{CZ_2023: "EPSG:5514"}``.
    """

    layers_of: Sequence[str] = ()
    ids: Mapping[str, str] = field(default_factory=dict)
    crs: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if isinstance(self.layers_of, str):
            raise ValueError(f"layers_of is a list of names as LV_2021; got {self.layers_of!r}")
        object.__setattr__(self, "layers_of", tuple(self.layers_of))

    def layers(self, root: Path) -> Iterator[Layer]:
        """Yield the layers, by name.

        Raises:
            FileNotFoundError: If there is no shapefile, or one that is asked for is missing.
            ValueError: If a file is damaged, lacks columns or a CRS, or holds an id twice.
        """
        there = _shapefiles(Path(root))
        if not there:
            raise FileNotFoundError(
                f"looked for shapefiles *_EC*.shp, or archives of them, below {root}; fetch {SOURCE}: "
                "python -m eo_adapt.prepare recipe=eurocrops parts=[LV_2021]"
            )
        if lacking := sorted(set(self.layers_of) - set(there)):
            raise FileNotFoundError(f"no layers {lacking} below {root}; there are {sorted(there)}")
        for name in self.layers_of or sorted(there):
            yield self._layer(name, *there[name])

    def _layer(self, name: str, path: Path, inside: str) -> Layer:
        import numpy as np
        import pandas as pd

        frame = _read(path, inside)
        check_columns(path, frame.columns, WANTED)
        frame = self._placed(name, path, frame)
        match = NAME.fullmatch(name)
        facts = match.groupdict(default="") if match else {}
        year = int(facts["year"]) if facts.get("year", "").isdecimal() else 0
        ids = self._ids(name, path, frame)
        codes = frame["EC_hcat_c"].astype("string").str.strip().fillna("").to_numpy(object)
        geometry, bad = _polygons(frame.geometry)
        digits = np.array([bool(re.fullmatch(r"\d{10}", code)) for code in codes])
        reason = np.where(bad, "no polygon", np.where(digits, "", "no HCAT code"))
        keep = reason == ""
        text = {c: frame[c].astype("string").fillna("").to_numpy(object) for c in ("EC_hcat_n", "EC_trans_n")}
        nuts = frame["EC_NUTS3"].astype("string").fillna("").to_numpy(object) if "EC_NUTS3" in frame else ""
        made = frame.assign(
            id=ids,
            hcat=codes,
            hcat_name=text["EC_hcat_n"],
            crop=text["EC_trans_n"],
            country=facts.get("country", ""),
            region=nuts,
            year=year,
            crs=_spelled(frame.crs),
        ).set_geometry(geometry)
        made = made.rename_geometry("geometry") if made.geometry.name != "geometry" else made
        dropped = pd.DataFrame({"id": ids[~keep], "reason": reason[~keep]})
        return Layer(name, made.loc[keep, list(COLUMNS)].reset_index(drop=True), dropped)

    def _placed(self, name: str, path: Path, frame: geopandas.GeoDataFrame) -> geopandas.GeoDataFrame:
        if frame.crs is not None:
            return frame
        if name not in self.crs:
            raise ValueError(f"{path} states no CRS; say which in the reader's crs, e.g. crs: {{{name}: EPSG:5514}}")
        return frame.set_crs(self.crs[name])

    def _ids(self, name: str, path: Path, frame: geopandas.GeoDataFrame) -> Any:
        import pandas as pd

        if name not in self.ids:
            return pd.Series(range(len(frame))).map(lambda row: f"{name}-{row}").to_numpy(object)
        check_columns(path, frame.columns, {"parcel id": self.ids[name]})
        keys = frame[self.ids[name]].astype("string").to_numpy(object)
        if len(twice := frame[self.ids[name]][frame[self.ids[name]].duplicated()].unique()):
            raise ValueError(
                f"{path}: {len(twice)} ids of column {self.ids[name]!r} occur twice, first {list(twice[:5])}; choose "
                "another column, or none: then rows are numbered"
            )
        return keys


def _shapefiles(root: Path) -> dict[str, tuple[Path, str]]:
    """Layer -> shapefile, or archive and the shapefile in it; an unpacked one goes first."""
    found: dict[str, tuple[Path, str]] = {}
    for path in sorted(root.glob("*.zip")):
        try:
            with zipfile.ZipFile(path) as packed:
                inside = [n for n in packed.namelist() if n.lower().endswith(".shp") and "__MACOSX" not in n]
        except (zipfile.BadZipFile, OSError) as error:
            raise damaged(path, error) from error
        for name in inside:
            found[_name(name)] = path, name
    for path in sorted(p for p in root.rglob("*.shp") if ".eo_adapt" not in p.parts):
        found[_name(path.name)] = path, ""
    return found


def _name(path: str) -> str:
    stem = path.rsplit("/", 1)[-1].removesuffix(".shp").removesuffix(".SHP")
    return re.sub(r"_EC\d*$", "", stem)


def _read(path: Path, inside: str) -> geopandas.GeoDataFrame:
    import pyogrio

    try:
        return pyogrio.read_dataframe(f"/vsizip/{path.resolve()}/{inside}" if inside else path)
    except (OSError, ValueError, RuntimeError) as error:  # pyogrio's errors are RuntimeErrors
        raise damaged(path, error) from error


def _polygons(shapes: geopandas.GeoSeries) -> tuple[geopandas.GeoSeries, Any]:
    """Outlines that are valid polygons, and which are none. Repaired by the structure of their rings (GEOS)."""
    import numpy as np
    import shapely

    array = np.asarray(shapes.array, object).copy()
    there = ~shapely.is_missing(array)
    broken = there & ~shapely.is_valid(array)
    if broken.any():
        array[broken] = shapely.make_valid(array[broken], method="structure", keep_collapsed=False)
    flat = np.isin(shapely.get_type_id(array), (3, 6)) & ~shapely.is_empty(array)
    return type(shapes)(array, crs=shapes.crs, index=shapes.index), ~flat


def _spelled(crs: Any) -> str:
    code = crs.to_epsg()
    return f"EPSG:{code}" if code else str(crs.to_wkt())
