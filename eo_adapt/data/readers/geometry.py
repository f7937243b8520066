"""Parcel outlines from a vector file, joined to other data by id."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .files import check_columns, damaged, need

if TYPE_CHECKING:
    import geopandas
    import pandas as pd


class Shape(NamedTuple):
    """A parcel's outline and centre in EPSG:4326."""

    lon: float
    lat: float
    wkb: bytes


def as_keys(column: pd.Series, path: Path, first: int = 1) -> np.ndarray:
    """Ids as text, the same for 12, 12.0 and "12"; ``first`` is the number of the row whose index is 0.

    Raises:
        ValueError: If a row has no id.
    """
    if (missing := np.flatnonzero(column.isna())).size:
        row = first + int(column.index[missing[0]])
        raise ValueError(f"{path}: {missing.size} rows have no id in column {column.name!r}, first row {row}")
    if column.dtype.kind == "f" and (column == column.round()).all():
        column = column.astype("int64")
    return column.astype(str).to_numpy(object)


def read_shapes(
    path: Path, id_column: str, wanted: Collection[str], crs: str = "", layer: str = ""
) -> dict[str, Shape]:
    """Outlines of the parcels ``wanted``, reprojected to EPSG:4326.

    Args:
        path: GeoPackage, Shapefile, GeoJSON or GeoParquet.
        id_column: Its column of parcel ids.
        wanted: Ids of the parcels that need an outline; others are passed over.
        crs: CRS of a file that states none.
        layer: Layer of a GeoPackage; "" = its only one.

    Raises:
        FileNotFoundError: If the file is missing.
        ValueError: If it is damaged, states no CRS, or misses or repeats a wanted id.
    """
    import shapely

    frame = _read(need(path, "the parcel outlines"), layer)
    check_columns(path, frame.columns, {"parcel id": id_column})
    frame = frame.assign(**{id_column: as_keys(frame[id_column], path)})
    frame = frame[frame[id_column].isin(list(wanted))]
    if len(twice := frame[id_column][frame[id_column].duplicated()].unique()):
        raise ValueError(f"{path}: {len(twice)} parcel ids have two outlines, first {list(twice[:5])}; keep one each")
    if lacking := sorted(set(wanted) - set(frame[id_column])):
        raise ValueError(f"{path} has no outline of {len(lacking)} parcels, first {lacking[:5]} (column {id_column!r})")
    if frame.crs is None:
        if not crs:
            raise ValueError(f"{path} states no CRS; say which one it is in, e.g. crs: EPSG:4326 or crs: EPSG:2154")
        frame = frame.set_crs(crs)
    outlines = frame.geometry.to_crs("EPSG:4326").to_numpy()
    centres = shapely.centroid(outlines)
    lon, lat = shapely.get_x(centres), shapely.get_y(centres)
    if not np.isfinite(lon + lat).all():
        bad = frame[id_column].to_numpy()[~np.isfinite(lon + lat)]
        raise ValueError(f"{path}: {len(bad)} parcels have an empty or misplaced outline, first {list(bad[:5])}")
    wkb = shapely.to_wkb(outlines)
    return {key: Shape(*rest) for key, *rest in zip(frame[id_column], lon.tolist(), lat.tolist(), wkb, strict=True)}


def _read(path: Path, layer: str) -> geopandas.GeoDataFrame:
    import geopandas
    import pyogrio

    try:
        if path.suffix in (".parquet", ".geoparquet"):
            return geopandas.read_parquet(path)
        layers = [str(name) for name, _ in pyogrio.list_layers(path)]
        if layer not in layers and (layer or len(layers) != 1):
            raise ValueError(f"layer {layer!r} is asked for; the file has the layers {layers}: name one")
        return geopandas.read_file(path, layer=layer or layers[0])
    except (OSError, ValueError, RuntimeError) as error:  # pyogrio's errors are RuntimeErrors
        raise damaged(path, error) from error
