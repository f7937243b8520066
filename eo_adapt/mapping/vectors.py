"""A class map -> polygons of its patches, or the class of each parcel of a layer."""

from __future__ import annotations

import json
import logging
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .paint import NODATA, TOP
from .patches import merged
from .work import held

if TYPE_CHECKING:
    import geopandas as gpd

FORMATS = (".gpkg", ".parquet")


def polygons(
    source: Path | str, output: Path | str, minimum: float = 0.0, simplify: float = 0.0, overwrite: bool = False
) -> int:
    """Outline the patches of a class map.

    Columns: class, number (its byte in the map), area_m2, geometry. The whole map is in memory, at 1 byte a pixel, and
    5 more with a minimum.

    Args:
        source: A map that predict made.
        output: A ``.gpkg`` or ``.parquet``.
        minimum: Smallest patch, square metres; smaller ones go to the neighbour with the longest common border.
        simplify: Tolerance of simplification (Visvalingam and Whyatt 1993), metres: edges that neighbours share stay
            shared; 0 = the pixels' edges.
        overwrite: Whether a file that is there may be replaced.

    Returns:
        Number of polygons.

    Raises:
        FileExistsError: If the file is there and may not be replaced.
        ValueError: If it is no map of predict, or an option is out of range.
    """
    import geopandas as gpd
    import rasterio
    import shapely

    output = _free(output, overwrite)
    if minimum < 0 or simplify < 0:
        raise ValueError(f"minimum (square metres) and simplify (metres) are at least 0; got {minimum} and {simplify}")
    with rasterio.open(source) as file:
        names, crs, transform = legend_of(source, file.tags()), file.crs, file.transform
        classes, metres = file.read(1), _pixel(file)
    least = math.ceil(minimum / metres**2 - 1e-9)
    classes = merged(classes, least)
    numbers, shaped = outlined(classes, simplify / metres)
    area = shapely.area(shaped) * metres**2
    a, b, c, d, e, f = tuple(transform)[:6]
    shaped = shapely.transform(shaped, lambda xy: xy @ np.array([[a, d], [b, e]]) + (c, f))
    columns = {"class": [names[n] for n in numbers], "number": numbers, "area_m2": area}
    _write(gpd.GeoDataFrame(columns, geometry=list(shaped), crs=crs), output)
    return len(numbers)


def outlined(classes: np.ndarray, tolerance: float) -> tuple[list[int], np.ndarray]:
    """Number and outline of each patch of a class map, in pixels; outlines of neighbours have the same corners.

    Outlines as GDAL draws them lack the corners at which a neighbour's neighbour begins. So all corners of pixels are
    put in, and those that no outline needs are taken out again, of all outlines alike.

    Args:
        classes: (H, W) uint8, 255 = nothing.
        tolerance: Pixels; a corner goes where its triangle is smaller than the square of it.
    """
    import shapely
    from rasterio import Affine
    from rasterio.features import shapes

    found = list(shapes(classes, classes != NODATA, connectivity=4, transform=Affine.identity()))
    if not found:
        return [], np.zeros(0, object)
    rough = np.array([shapely.geometry.shape(outline) for outline, _ in found], object)
    corners = shapely.transform(shapely.segmentize(rough, 1.0), np.round)
    return [int(number) for _, number in found], shapely.coverage_simplify(corners, max(tolerance, 1e-6))


def per_parcel(
    source: Path | str,
    parcels: Path | str,
    output: Path | str,
    probabilities: Path | str = "",
    overwrite: bool = False,
) -> int:
    """The class that covers most of each parcel of a layer; pixels that lie in it by half count by half.

    Columns: those of the layer, then class ("" where the map shows nothing, and of rows without a polygon), share (of
    the parcel's mapped area that the class covers), mapped (share of the parcel that the map shows), and with
    probabilities p_<class>, their means.

    Args:
        source: A map that predict made.
        parcels: Polygons, anything that geopandas reads; brought into the CRS of the map.
        output: A ``.gpkg`` or ``.parquet``.
        probabilities: Those of the map; "" = none.
        overwrite: Whether a file that is there may be replaced.

    Returns:
        Number of parcels.

    Raises:
        FileExistsError: If the file is there and may not be replaced.
        ImportError: If exactextract is not installed; says how.
        ValueError: If the layer or the map has no CRS, the map is rotated or none of predict, or a column of the
            result is there already.
    """
    import geopandas as gpd
    import rasterio

    output = _free(output, overwrite)
    if output.resolve() == Path(parcels).resolve():
        raise ValueError(f"{output} is the layer itself; it would be replaced: set another output=")
    layer = gpd.read_parquet(parcels) if Path(parcels).suffix == ".parquet" else gpd.read_file(parcels)
    with rasterio.open(source) as file:
        names, crs, transform = legend_of(source, file.tags()), file.crs, file.transform
    columns = ["class", "share", "mapped", *[f"p_{name}" for name in names if probabilities]]
    _check_layer(parcels, layer, source, crs, transform, columns)
    placed = layer.to_crs(crs)
    there = placed.geom_type.isin(["Polygon", "MultiPolygon"]).to_numpy() & ~placed.is_empty.to_numpy()
    rows, shaped = np.flatnonzero(there), placed[there]
    found = _extract(source, shaped, ["unique", "frac", "count"])
    classes, share, mapped = np.full(len(layer), "", object), np.full(len(layer), np.nan), np.zeros(len(layer))
    for row, numbers, fractions in zip(rows, found["unique"], found["frac"], strict=True):
        if len(fractions):
            best = int(np.argmax(fractions))
            classes[row], share[row] = names[int(numbers[best])], fractions[best]
    pixel = abs(transform.a * transform.e)
    mapped[there] = (found["count"].to_numpy(float) * pixel / shaped.area.to_numpy()).clip(0, 1)
    layer["class"], layer["share"], layer["mapped"] = classes, share, mapped
    if probabilities:
        means = np.full((len(layer), len(names)), np.nan)
        means[there] = _extract(probabilities, shaped, ["mean"]).to_numpy(float)
        for i, name in enumerate(names):
            layer[f"p_{name}"] = means[:, i] / (TOP if np.nanmax(means, initial=0.0) > 1 else 1)
    _write(layer, output)
    return len(layer)


def _check_layer(
    parcels: Path | str, layer: gpd.GeoDataFrame, source: Path | str, crs: Any, transform: Any, columns: list[str]
) -> None:
    """Refuse a layer, or a map, whose pixels cannot be counted."""
    if layer.crs is None:
        raise ValueError(f"{parcels} has no CRS: say in the layer where its polygons lie")
    if crs is None:
        raise ValueError(f"the map {source} has no CRS, so nothing says where the polygons of {parcels} lie on it")
    if transform.b or transform.d:
        raise ValueError(f"the map {source} is turned against its CRS: warp it first (gdalwarp -r near), keep its tags")
    if taken := [name for name in columns if name in layer.columns]:
        raise ValueError(f"{parcels} has columns {taken}, which the result would replace: rename them in the layer")


def legend_of(path: Path | str, tags: dict[str, str]) -> list[str]:
    """Names of the classes of a map, by their byte.

    Raises:
        ValueError: If it is no map of predict.
    """
    if "EO_ADAPT_LEGEND" not in tags:
        raise ValueError(f"{path} says no legend (tag EO_ADAPT_LEGEND): give a class map that predict has made")
    return [name for name, _ in json.loads(tags["EO_ADAPT_LEGEND"]).values()]


def _extract(raster: Path | str, layer: gpd.GeoDataFrame, operations: list[str]) -> Any:
    try:
        from exactextract import exact_extract
    except ImportError as error:
        raise ImportError("classes of parcels need exactextract: pip install 'eo_adapt[scale]'") from error
    return exact_extract(str(raster), layer[[layer.geometry.name]], operations, output="pandas")


def _pixel(file: Any) -> float:
    """Metres a pixel of an open raster on the ground."""
    from ..data.readers.places import Header

    found = Header(file.height, file.width, file.crs, file.transform, file.name).place().gsd
    return found if math.isfinite(found) else math.hypot(file.transform.a, file.transform.d)


def _free(output: Path | str, overwrite: bool) -> Path:
    output = Path(output)
    if output.suffix not in FORMATS:
        raise ValueError(f"vectors are written as one of {list(FORMATS)}; got output={output}")
    if output.exists() and not overwrite:
        raise FileExistsError(f"{output} is there already; overwrite=true replaces it once the new one is whole")
    return output


def own_columns(names: list[str]) -> dict[str, str]:
    """What a GeoPackage calls the two columns that it adds by itself, so that they are none of the layer's."""
    taken, found = {name.lower() for name in names}, {}
    for option, name in (("FID", "fid"), ("GEOMETRY_NAME", "geom")):
        while name in taken:
            name += "_"
        found[option] = name
    return found


def _write(frame: gpd.GeoDataFrame, output: Path) -> None:
    """Under a temporary name, then renamed."""
    temporary = output.with_name(f".{output.stem}.{os.getpid()}{output.suffix}")
    with held(output.with_name(f".{output.name}.part")):
        try:
            if output.suffix == ".parquet":
                frame.to_parquet(temporary)
            else:
                logging.getLogger("pyogrio").setLevel(logging.WARNING)  # it tells how many rows it writes
                own = own_columns(list(frame.columns))
                frame.to_file(temporary, layer=output.stem, driver="GPKG", engine="pyogrio", layer_options=own)
            os.replace(temporary, output)
        finally:
            temporary.unlink(missing_ok=True)
