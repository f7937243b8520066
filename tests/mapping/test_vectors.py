"""Polygons of a class map and classes of parcels, against what can be counted by hand."""

from __future__ import annotations

from pathlib import Path

import echo
import geopandas as gpd
import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from eo_adapt.mapping.maps import Settings, map_scene
from eo_adapt.mapping.patches import merged
from eo_adapt.mapping.vectors import per_parcel, polygons


def mapped(folder: Path, image: np.ndarray) -> Path:
    """A map of these classes; 9 = nodata."""
    echo.write(folder / "in.tif", image, nodata=9)
    how = Settings(tile=32, overlap=0, probabilities=True)
    map_scene(echo.mapper(), folder / "in.tif", folder / "map.tif", how)
    return folder / "map.tif"


def sizes(classes: np.ndarray) -> list[int]:
    """Of all patches that touch another class."""
    found = []
    for number in np.unique(classes[classes != 255]):
        labels, count = ndimage.label(classes == number)
        for i in range(1, count + 1):
            mine = labels == i
            around = ndimage.binary_dilation(mine) & ~mine
            if (classes[around] != 255).any():
                found.append(int(mine.sum()))
    return found


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 14), st.integers(1, 14), st.integers(0, 2**31), st.integers(0, 12))
def test_no_small_patch_is_left_and_large_ones_keep_their_class(height: int, width: int, seed: int, least: int) -> None:
    rng = np.random.default_rng(seed)
    image = rng.choice([0, 1, 2, 255], (height, width), p=[0.5, 0.3, 0.1, 0.1]).astype(np.uint8)
    found = merged(image, least)
    assert all(size >= least for size in sizes(found))
    np.testing.assert_array_equal(found == 255, image == 255)
    assert set(np.unique(found)) <= set(np.unique(image))
    if not sizes(image) or min(sizes(image)) >= least:
        np.testing.assert_array_equal(found, image)


def test_a_small_patch_goes_where_its_border_is_longest() -> None:
    image = np.zeros((6, 8), np.uint8)
    image[:, 4:] = 1
    image[2:4, 3] = 2  # borders: 4 edges of class 0, 2 of class 1
    assert (merged(image, 3)[2:4, 3] == 0).all()
    assert (merged(image, 2)[2:4, 3] == 2).all()


def test_polygons_cover_the_map_and_share_their_edges(tmp_path: Path) -> None:
    image = np.kron(echo.classes(8, 6), np.ones((1, 7, 9), np.uint8))
    image[:, :7, :9] = 9
    image[:, 30, 30] = (image[:, 30, 31] + 1) % 5  # one pixel
    path = mapped(tmp_path, image)
    for suffix in ("gpkg", "parquet"):
        polygons(path, tmp_path / f"all.{suffix}")
    frame = gpd.read_file(tmp_path / "all.gpkg")
    assert pyogrio.read_info(tmp_path / "all.gpkg")["geometry_type"] == "Polygon"
    assert len(gpd.read_parquet(tmp_path / "all.parquet")) == len(frame)
    for number in range(5):
        here = frame[frame["class"] == f"class {number}"]
        assert here.area.sum() == pytest.approx(100 * (image == number).sum())
        assert here["area_m2"].sum() == pytest.approx(100 * (image == number).sum(), rel=2e-3)
    assert shapely.coverage_is_valid(frame.geometry.to_numpy())
    count = polygons(path, tmp_path / "fewer.gpkg", minimum=300, simplify=25)
    fewer = gpd.read_file(tmp_path / "fewer.gpkg")
    assert count == len(fewer) == len(frame) - 1
    assert shapely.coverage_is_valid(fewer.geometry.to_numpy())
    assert (
        shapely.get_num_coordinates(fewer.geometry.to_numpy()).sum()
        < shapely.get_num_coordinates(frame.geometry.to_numpy()).sum()
    )
    assert fewer.area.sum() == pytest.approx(frame.area.sum(), rel=0.02)


def test_parcels_get_the_class_that_covers_most_of_them(tmp_path: Path) -> None:
    image = np.zeros((1, 40, 40), np.uint8)
    image[:, :, 20:] = 3
    image[:, 30:, :] = 9
    path = mapped(tmp_path, image)
    boxes = [
        shapely.box(600_050, 5_599_800, 600_250, 5_599_900),  # 15 of 20 columns are class 0
        shapely.box(600_155, 5_599_800, 600_355, 5_599_900),  # 4.5 columns of class 0, 15.5 of class 3
        shapely.box(600_000, 5_599_650, 600_100, 5_599_750),  # half of it is nodata
        shapely.box(700_000, 5_599_650, 700_100, 5_599_750),  # elsewhere
    ]
    layer = gpd.GeoDataFrame({"id": list("abcd")}, geometry=boxes, crs=echo.UTM).to_crs("EPSG:4326")
    layer.to_file(tmp_path / "parcels.gpkg")
    assert (
        per_parcel(path, tmp_path / "parcels.gpkg", tmp_path / "out.parquet", tmp_path / "map_probabilities.tif") == 4
    )
    found = gpd.read_parquet(tmp_path / "out.parquet")
    assert found["class"].tolist() == ["class 0", "class 3", "class 0", ""]
    np.testing.assert_allclose(found["share"], [0.75, 0.775, 1.0, np.nan], atol=2e-3)
    np.testing.assert_allclose(found["mapped"], [1.0, 1.0, 0.5, 0.0], atol=5e-3)
    np.testing.assert_allclose(found["p_class 3"], [0.25, 0.775, 0.0, np.nan], atol=2e-3)
    assert found["id"].tolist() == list("abcd")


def test_what_does_not_fit_is_said(tmp_path: Path) -> None:
    path = mapped(tmp_path, echo.classes(20, 20))
    with pytest.raises(ValueError, match="says no legend"):
        polygons(tmp_path / "in.tif", tmp_path / "x.gpkg")
    with pytest.raises(ValueError, match=r"one of \['.gpkg', '.parquet'\]; got output=.*x.shp"):
        polygons(path, tmp_path / "x.shp")
    with pytest.raises(ValueError, match="are at least 0"):
        polygons(path, tmp_path / "x.gpkg", minimum=-1)
    gpd.GeoDataFrame(geometry=[shapely.box(0, 0, 1, 1)]).to_file(tmp_path / "nowhere.gpkg")
    with pytest.raises(ValueError, match=r"nowhere.gpkg has no CRS"):
        per_parcel(path, tmp_path / "nowhere.gpkg", tmp_path / "x.gpkg")
    (tmp_path / "x.gpkg").write_text("mine")
    with pytest.raises(FileExistsError, match="overwrite=true"):
        polygons(path, tmp_path / "x.gpkg")


def test_layers_as_they_come(tmp_path: Path) -> None:
    image = np.zeros((1, 40, 40), np.uint8)
    image[:, :, 20:] = 3
    path = mapped(tmp_path, image)
    here = shapely.box(600_050, 5_599_800, 600_100, 5_599_900)
    shapes = [None, here, shapely.Polygon(), here.boundary, shapely.MultiPolygon([here])]
    layer = gpd.GeoDataFrame({"fid": list("abcde"), "geom": range(5)}, geometry=shapes, crs=echo.UTM)
    layer.to_parquet(tmp_path / "layer.parquet")
    for suffix in ("parquet", "gpkg"):
        probabilities = tmp_path / "map_probabilities.tif"
        assert per_parcel(path, tmp_path / "layer.parquet", tmp_path / f"out.{suffix}", probabilities) == 5
    for found in (gpd.read_parquet(tmp_path / "out.parquet"), gpd.read_file(tmp_path / "out.gpkg")):
        assert found["fid"].tolist() == list("abcde")
        assert found["class"].tolist() == ["", "class 0", "", "", "class 0"]
        np.testing.assert_allclose(found["mapped"], [0, 1, 0, 0, 1])
        np.testing.assert_allclose(found["p_class 0"], [np.nan, 1, np.nan, np.nan, 1])


def test_layers_and_maps_that_do_not_go_together(tmp_path: Path) -> None:
    image = echo.classes(20, 20)
    layer, here = tmp_path / "layer.gpkg", shapely.box(600_050, 5_599_850, 600_100, 5_599_900)
    gpd.GeoDataFrame({"class": ["wheat"]}, geometry=[here], crs=echo.UTM).to_file(layer)
    path = mapped(tmp_path, image)
    with pytest.raises(ValueError, match=r"has columns \['class'\], which the result would replace: rename them"):
        per_parcel(path, layer, tmp_path / "x.gpkg")
    before = layer.read_bytes()
    with pytest.raises(ValueError, match=r"layer.gpkg is the layer itself; it would be replaced: set another output="):
        per_parcel(path, layer, layer, overwrite=True)
    assert layer.read_bytes() == before
    turned = rasterio.Affine.translation(6e5, 56e5) @ rasterio.Affine.rotation(30) @ rasterio.Affine.scale(10, -10)
    for name, place, message in (
        ("turned", {"transform": turned}, r"turned.tif is turned against its CRS: warp it first \(gdalwarp"),
        ("bare", {"crs": None}, r"bare.tif has no CRS, so nothing says where the polygons"),
    ):
        echo.write(tmp_path / "in2.tif", image, **place)
        map_scene(echo.mapper(), tmp_path / "in2.tif", tmp_path / f"{name}.tif", Settings(tile=32))
        with pytest.raises(ValueError, match=message):
            per_parcel(tmp_path / f"{name}.tif", layer, tmp_path / "x.gpkg")
