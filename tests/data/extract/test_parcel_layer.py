"""Parcel layers: what is repaired, what is left out, and what stops the work."""

from __future__ import annotations

from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pytest
import shapely
from small_tiles import CORNER, boxes, extract, write_dates

from eo_adapt.data.extract.parcels import areas, read_parcels, text

BOWTIE = shapely.Polygon([(0, 0), (100, 100), (100, 0), (0, 100)])
SPIKE = shapely.Polygon([(0, 0), (50, 0), (50, 50), (0, 50), (0, 0), (-20, -20), (0, 0)])


def layer(path: Path, shapes: list, crs: str | None = "EPSG:32633", **columns: list) -> Path:
    made = {"id": [f"p{i}" for i in range(len(shapes))], **columns}
    geopandas.GeoDataFrame(made, geometry=shapes, crs=crs).to_parquet(path)
    return path


def test_broken_outlines_are_repaired_and_empty_ones_left_out(tmp_path: Path) -> None:
    shapes = [shapely.box(0, 0, 10, 10), BOWTIE, None, shapely.Polygon(), SPIKE, shapely.LineString([(0, 0), (1, 1)])]
    found = read_parcels(layer(tmp_path / "p.parquet", shapes), {"id": "id"})
    assert found.frame["key"].tolist() == ["p0", "p1", "p4"]
    assert sorted(found.left_out) == [("p2", "empty geometry"), ("p3", "empty geometry"), ("p5", "no area")]
    assert [key for key, _ in found.repaired] == ["p1", "p4"]
    assert "Self-intersection" in dict(found.repaired)["p1"]
    assert found.frame.geometry.is_valid.all()
    assert found.frame.geometry[1].area == pytest.approx(5000)  # both wings
    assert found.frame.geometry[2].equals(shapely.box(0, 0, 50, 50))


def test_of_collections_the_polygons_are_kept(tmp_path: Path) -> None:
    box, point = shapely.box(0, 0, 10, 10), shapely.Point(3, 3)
    shapes = [
        shapely.GeometryCollection([box, point]),
        shapely.GeometryCollection([point]),
        shapely.MultiPolygon([box]),
    ]
    found = read_parcels(layer(tmp_path / "p.parquet", shapes), {"id": "id"})
    assert found.frame["key"].tolist() == ["p0", "p2"]
    assert found.frame.geometry[0].equals(box)
    assert set(found.frame.geom_type) <= {"Polygon", "MultiPolygon"}
    assert found.left_out == [("p1", "no area")]
    assert found.repaired == [("p0", "collection of geometries")]


def test_a_layer_without_crs(tmp_path: Path) -> None:
    path = layer(tmp_path / "p.parquet", [shapely.box(0, 0, 1, 1)], None)
    with pytest.raises(ValueError, match=r"p\.parquet states no CRS; .* parcels_crs=EPSG:4326"):
        read_parcels(path, {"id": "id"})
    assert read_parcels(path, {"id": "id"}, "EPSG:3794").frame.crs.to_epsg() == 3794


def test_ids_that_occur_twice(tmp_path: Path) -> None:
    path = layer(tmp_path / "p.parquet", [shapely.box(0, 0, 1, 1)] * 3, other=[1, 2, 1])
    with pytest.raises(ValueError, match=r"1 ids in column 'other' occur more than once, first \['1'\].*with id="):
        read_parcels(path, {"id": "other"})


def test_parcels_without_a_label_are_left_out(tmp_path: Path) -> None:
    path = layer(tmp_path / "p.parquet", [shapely.box(0, 0, 1, 1)] * 3, crop=["maize", None, " "])
    found = read_parcels(path, {"id": "id", "label": "crop"})
    assert found.left_out == [("p1", "no label"), ("p2", "no label")]


def test_layers_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no parcel layer .*none\.gpkg"):
        read_parcels(tmp_path / "none.gpkg", {"id": "id"})
    (tmp_path / "p.gpkg").write_bytes(b"no layer")
    with pytest.raises(ValueError, match=r"p\.gpkg cannot be read"):
        read_parcels(tmp_path / "p.gpkg", {"id": "id"})
    frame = geopandas.GeoDataFrame({"id": ["a"]}, geometry=[shapely.box(0, 0, 1, 1)], crs="EPSG:32633")
    for name in ("one", "two"):
        frame.to_file(tmp_path / "q.gpkg", layer=name, driver="GPKG")
    with pytest.raises(ValueError, match=r"has the layers \['one', 'two'\]: name one with layer="):
        read_parcels(tmp_path / "q.gpkg", {"id": "id"})
    assert len(read_parcels(tmp_path / "q.gpkg", {"id": "id"}, layer="two")) == 1
    with pytest.raises(ValueError, match=r"has no column 'ID' \(for id=\)"):
        read_parcels(tmp_path / "q.gpkg", {"id": "ID"}, layer="two")


def test_columns_as_text() -> None:
    assert text(pd.Series([3301010600.0, np.nan])).tolist() == ["3301010600", ""]
    assert text(pd.Series([" maize ", None])).tolist() == ["maize", ""]


def test_shapes_of_parcels() -> None:
    frame = boxes((0, 0, 100, 50))
    area, perimeter, ratio, fill = areas(frame)[0]
    assert (area, perimeter) == pytest.approx((5000, 300), rel=2e-3)  # scale of the projection
    assert (ratio, fill) == pytest.approx((perimeter / area, 1), rel=1e-2)


def test_a_store_lists_what_was_left_out(tmp_path: Path) -> None:
    """Repaired, empty, far away and masked parcels, each named; the rest is there."""
    x, y = CORNER
    bowtie = shapely.affinity.translate(BOWTIE, x + 100, y - 300)
    shapes = [shapely.box(x + 10, y - 100, x + 100, y - 10), bowtie, shapely.Polygon(), shapely.box(0, 0, 90, 90)]
    shapes.append(shapely.box(x + 400, y - 400, x + 440, y - 360))
    frame = geopandas.GeoDataFrame({"id": list("abcde"), "crop": ["maize"] * 5}, geometry=shapes, crs="EPSG:32633")
    image = np.full((50, 60), 1500, np.uint16)
    image[36:40, 40:44] = 0  # no data under parcel e
    write_dates(tmp_path, frame, {"A_20210501_B04": image})
    store = extract(tmp_path, label="crop")
    assert store.index["parcel_id"].tolist() == ["a", "b"]
    dropped = pd.read_csv(store.path / "dropped.csv").sort_values("parcel_id")
    reasons = dict(zip(dropped["parcel_id"], dropped["reason"], strict=True))
    assert reasons == {"c": "empty geometry", "d": "outside the images", "e": "no valid date"}
    assert pd.read_csv(store.path / "repaired.csv")["parcel_id"].tolist() == ["b"]
    assert store.about["dropped"] == 3


def test_parcels_that_all_lie_elsewhere(tmp_path: Path) -> None:
    write_dates(tmp_path, boxes((90_000, 0, 90_100, 100)), {"A_20210501_B04": np.ones((50, 60), np.uint16)})
    with pytest.raises(
        ValueError, match=r"none of 1 parcels lies on an image. Parcels: lon 16\.1.* to .*the first of 1 tiles"
    ):
        extract(tmp_path)
    assert not (tmp_path / "store").exists()


def test_a_table_without_outlines_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "fields.csv"
    path.write_text("id,x,y\n1,500000,5500000\n")
    with pytest.raises(ValueError, match=r"no layer in it has geometries.*make outlines"):
        read_parcels(path, {"id": "id"})
