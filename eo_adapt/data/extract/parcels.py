"""The parcel layer: read, checked, repaired where it can be, and said what was left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..readers.files import check_columns, damaged
from ..readers.geometry import as_keys

if TYPE_CHECKING:
    import geopandas
    import pandas as pd


@dataclass
class Parcels:
    """A cleaned layer.

    Attributes:
        frame: Row i is parcel i; ``key``, ``label`` and the columns asked for, geometry in the layer's CRS.
        left_out: (parcel id, reason) of parcels that are not in the frame.
        repaired: (parcel id, what was wrong) of those whose outline was repaired.
    """

    frame: geopandas.GeoDataFrame
    left_out: list[tuple[str, str]] = field(default_factory=list)
    repaired: list[tuple[str, str]] = field(default_factory=list)

    def __len__(self) -> int:
        """Number of parcels."""
        return len(self.frame)

    def keep(self, there: np.ndarray, reason: str) -> Parcels:
        """Those where ``there`` (N,) bool; the others are left out for that reason."""
        gone = [(key, reason) for key in self.frame["key"][~there]]
        return Parcels(self.frame[there].reset_index(drop=True), self.left_out + gone, self.repaired)


def read_parcels(path: Path, columns: Mapping[str, str], crs: str = "", layer: str = "") -> Parcels:
    """Read a layer.

    Invalid outlines are repaired, and of collections the polygons kept; parcels without an area and without a label
    are left out.

    Args:
        path: Anything geopandas reads.
        columns: What -> column, of ``id`` (needed), ``label``, ``hcat``, ``country``, ``region``, ``year``, ``split``.
        crs: CRS of a layer that states none.
        layer: Layer of a file with several; "" = its only one.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read, has no CRS, lacks a column, or two parcels have the same id.
    """
    frame = _read(path, layer)
    check_columns(path, frame.columns, {f"{name}=": column for name, column in columns.items()})
    if frame.crs is None:
        if not crs:
            raise ValueError(f"{path} states no CRS; say which one its coordinates are in, e.g. parcels_crs=EPSG:4326")
        frame = frame.set_crs(crs)
    made: dict[str, Any] = {"key": as_keys(frame[columns["id"]], path)}
    made |= {name: frame[column].to_numpy() for name, column in columns.items() if name != "id"}
    clean = type(frame)(made, geometry=frame.geometry.to_numpy(), crs=frame.crs)
    twice = clean["key"][clean["key"].duplicated()].unique()
    if len(twice):
        raise ValueError(
            f"{path}: {len(twice)} ids in column {columns['id']!r} occur more than once, first {list(twice[:5])}. "
            "Ids must be unique, or a parcel could be in train and test: take another column with id=, or remove the "
            "copies"
        )
    return _labelled(_repaired(Parcels(clean)))


def _read(path: Path, layer: str) -> geopandas.GeoDataFrame:
    import geopandas
    import pyogrio

    if "://" not in str(path) and not path.exists():
        raise FileNotFoundError(f"there is no parcel layer {path}; give one with parcels=<file>")
    try:
        if path.suffix in (".parquet", ".geoparquet"):
            return geopandas.read_parquet(path)
        layers = [str(name) for name, kind in pyogrio.list_layers(path) if kind is not None]
        if not layers:
            raise ValueError("no layer in it has geometries; a table of coordinates is none: make outlines of it first")
        if layer not in layers and (layer or len(layers) != 1):
            raise ValueError(f"layer={layer!r} is asked for; the file has the layers {layers}: name one with layer=")
        return geopandas.read_file(path, layer=layer or layers[0])
    except (OSError, ValueError, RuntimeError) as error:  # pyogrio's errors are RuntimeErrors
        raise damaged(path, error) from error


def _repaired(parcels: Parcels) -> Parcels:
    """Valid polygons only."""
    import shapely

    shapes = parcels.frame.geometry.to_numpy().copy()
    there = ~(shapely.is_missing(shapes) | shapely.is_empty(shapes))
    collection = shapely.get_type_id(shapes) == shapely.GeometryType.GEOMETRYCOLLECTION
    broken = np.flatnonzero(there & (collection | ~shapely.is_valid(shapes)))
    repaired = [(parcels.frame["key"][i], _wrong(shapes[i])) for i in broken]
    shapes[broken] = [_polygons(shapely.make_valid(shape)) for shape in shapes[broken]]
    area = np.where(there, shapely.area(shapes), 0.0)
    finite = np.isfinite(shapely.bounds(shapes)).all(1) | shapely.is_empty(shapes)
    frame = parcels.frame.set_geometry(type(parcels.frame.geometry)(shapes, crs=parcels.frame.crs))
    kept = Parcels(
        frame, parcels.left_out, [r for r, i in zip(repaired, broken, strict=True) if area[i] > 0 and finite[i]]
    )
    reasons = np.where(there, np.where(finite, "no area", "coordinates that are not finite"), "empty geometry")
    for reason in ("empty geometry", "no area", "coordinates that are not finite"):
        bad = (reasons == reason) & ~((area > 0) & finite & there)
        kept, reasons, area, finite, there = (
            kept.keep(~bad, reason),
            *(x[~bad] for x in (reasons, area, finite, there)),
        )
    return kept


def _wrong(shape: Any) -> str:
    """Why an outline cannot be used as it is."""
    import shapely

    return "collection of geometries" if shapely.is_valid(shape) else str(shapely.is_valid_reason(shape))


def _polygons(shape: Any) -> Any:
    """The polygons of a geometry; what make_valid leaves as lines and points has no area."""
    import shapely

    parts = shapely.get_parts(shape)
    parts = shapely.get_parts(parts)  # collections of multi-polygons
    return shapely.union_all([part for part in parts if part.geom_type == "Polygon"])


def _labelled(parcels: Parcels) -> Parcels:
    if "label" not in parcels.frame:
        return parcels
    labels = parcels.frame["label"]
    return parcels.keep((labels.notna() & (labels.astype(str).str.strip() != "")).to_numpy(), "no label")


def centres(frame: geopandas.GeoDataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(lon, lat, geometries) of parcels in EPSG:4326; a centre lies on the parcel."""
    import shapely

    shapes = frame.geometry.to_crs("EPSG:4326").to_numpy()
    points = shapely.point_on_surface(shapes)
    return shapely.get_x(points), shapely.get_y(points), shapes


def areas(frame: geopandas.GeoDataFrame) -> np.ndarray:
    """(N, 4) float32 areas m2, perimeters m, perimeter / area, area / area of the bounding box, on the ellipsoid.

    They are the four geometric features of Garnot et al. (2020, PSE + TAE), not normalised.
    """
    import pyproj
    import shapely

    shapes = frame.geometry.to_crs("EPSG:4326").to_numpy()
    geod = pyproj.Geod(ellps="WGS84")
    both = np.array([geod.geometry_area_perimeter(shape) for shape in shapes]).reshape(-1, 2)
    area, perimeter = np.abs(both[:, 0]), both[:, 1]
    boxes = np.array([geod.geometry_area_perimeter(box)[0] for box in shapely.envelope(shapes)])
    return np.stack([area, perimeter, perimeter / area, area / np.abs(boxes)], 1).astype(np.float32)


def text(column: pd.Series) -> np.ndarray:
    """A column as text: "" for missing, codes such as 3301010600.0 without their ".0"."""
    there = column.notna()
    if column.dtype.kind == "f" and (column[there] == column[there].round()).all():
        column = column.astype("Int64")
    return np.where(there, column.astype(str).str.strip(), "").astype(object)
