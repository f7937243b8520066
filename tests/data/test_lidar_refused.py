"""Clouds of points and grids that do not do: all are named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import laspy
import numpy as np
import pytest
from pyproj import Transformer
from scans import CRS, EAST, NORTH, frame, made_up

from eo_adapt.data.lidar import cloud as clouds
from eo_adapt.data.lidar.cloud import Cloud
from eo_adapt.data.lidar.frame import Frame
from eo_adapt.data.lidar.rasterise import Gridded, rasterise
from eo_adapt.data.lidar.write import NODATA, ndsm, write_raster
from eo_adapt.data.scenes.raster import TileError
from eo_adapt.data.synthetic.lidar import write_cloud


def test_a_cloud_must_say_where_it_lies_and_not_twice_differently(tmp_path: Path) -> None:
    write_cloud(tmp_path / "none.laz", **made_up(50))
    with pytest.raises(ValueError, match=r"none.laz states no CRS.*Cloud\(crs='EPSG:2154'\)"):
        rasterise([Cloud(tmp_path / "none.laz")], frame())
    assert rasterise([Cloud(tmp_path / "none.laz", crs=CRS)], frame()).seen.any()
    with pytest.raises(ValueError, match=r"none.laz has a CRS that pyproj does not know, 'EPSG:1'"):
        rasterise([Cloud(tmp_path / "none.laz", crs="EPSG:1")], frame())
    write_cloud(tmp_path / "said.laz", **made_up(50), crs=CRS)
    with pytest.raises(ValueError, match=r"states the CRS .*Lambert-93.* declared as .*UTM zone 31N"):
        rasterise([Cloud(tmp_path / "said.laz", crs="EPSG:32631")], frame())


def test_a_foreign_crs_is_transformed(tmp_path: Path) -> None:
    points = made_up()
    write_cloud(tmp_path / "a.laz", **points, crs=CRS)
    turn = Transformer.from_crs(CRS, "EPSG:32631", always_xy=True)
    moved = np.column_stack([*turn.transform(*points["xyz"].T[:2]), points["xyz"][:, 2]])
    write_cloud(tmp_path / "b.laz", **{**points, "xyz": moved}, crs="EPSG:32631")
    one, other = (rasterise([Cloud(tmp_path / n)], frame(), ("dsm", "density")) for n in ("a.laz", "b.laz"))
    # Places are rounded to centimetres in another direction, so a few points fall beside an edge.
    assert np.isclose(one.band("dsm"), other.band("dsm"), atol=1e-3).mean() > 0.9
    assert np.abs(one.band("density") - other.band("density")).max() < 2


def test_a_grid_elsewhere_is_an_error_that_says_where_both_lie(tmp_path: Path) -> None:
    write_cloud(tmp_path / "a.laz", **made_up(50), crs=CRS)
    elsewhere = Frame.around((0, 0, 10, 10), CRS, 1.0)
    with pytest.raises(ValueError, match=r"no point of a.laz falls on the grid \[0, -1, 11, 10\].*cover a.laz: \[7000"):
        rasterise([Cloud(tmp_path / "a.laz")], elsewhere)


def test_without_classified_ground_the_form_tells_or_it_is_refused(tmp_path: Path) -> None:
    points = {**made_up(), "kind": np.ones(4000, int)}
    points["xyz"][:, 2] = np.where(np.arange(4000) % 4, 55.0, 50.0)
    write_cloud(tmp_path / "a.laz", **points, crs=CRS)
    cloud = Cloud(tmp_path / "a.laz")
    with pytest.raises(ValueError, match=r"a.laz on this grid is classified as ground \(class 2\): use ground=filter"):
        rasterise([cloud], frame(), ground="class")
    found = rasterise([cloud], frame())
    assert found.filtered
    np.testing.assert_allclose(found.band("ndsm"), 5.0, atol=1e-4)
    assert not rasterise([cloud], frame(), ("dsm", "density"), ground="class").filtered  # needs no ground


def test_files_cut_short_or_missing_are_named(tmp_path: Path) -> None:
    write_cloud(tmp_path / "a.laz", **made_up(), crs=CRS)
    write_cloud(tmp_path / "a.las", **made_up(), crs=CRS)
    for name in ("a.laz", "a.las"):
        whole = (tmp_path / name).read_bytes()
        for share in (0.02, 0.4, 0.9):
            (tmp_path / f"cut-{name}").write_bytes(whole[: int(len(whole) * share)])
            with pytest.raises(
                TileError,
                match=rf"cut-{name} (cannot be read|ends before its first point|holds \d+ of the 4000 points).*get the",
            ):
                rasterise([Cloud(tmp_path / f"cut-{name}")], frame())
    head = laspy.open(tmp_path / "a.las").header
    whole = (tmp_path / "a.las").read_bytes()
    (tmp_path / "even.las").write_bytes(whole[: head.offset_to_point_data + 100 * head.point_format.size])
    with pytest.raises(TileError, match=r"even\.las holds 100 of the 4000 points that its header promises: get the"):
        rasterise([Cloud(tmp_path / "even.las")], frame())
    with pytest.raises(TileError, match=r"gone\.laz is missing"):
        rasterise([Cloud(tmp_path / "gone.laz")], frame())
    (tmp_path / "text.laz").write_text("no points")
    with pytest.raises(TileError, match=r"text\.laz cannot be read"):
        rasterise([Cloud(tmp_path / "text.laz")], frame())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bands": ("height",)}, "bands of a cloud are of"),
        ({"bands": ()}, "bands of a cloud are of"),
        ({"ground": "csf"}, r"ground is one of \['auto', 'class', 'filter'\]; got 'csf'"),
        ({"fill": -1}, "fill is a distance in metres"),
    ],
)
def test_options_out_of_range_are_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rasterise([Cloud(tmp_path / "a.laz")], frame(), **options)


def test_grids_without_metres_are_refused() -> None:
    with pytest.raises(ValueError, match="states no CRS"):
        Frame(2, 2, "", (1, 0, 0, 0, -1, 0))
    with pytest.raises(ValueError, match="'WGS 84' counts in degrees"):
        Frame(2, 2, "EPSG:4326", (1, 0, 0, 0, -1, 0))
    with pytest.raises(ValueError, match="can be inverted"):
        Frame(2, 2, CRS, (1, 1, 0, 1, 1, 0))
    with pytest.raises(ValueError, match="positive length"):
        Frame.around((0, 0, 1, 1), CRS, 0)


def test_heights_of_two_rasters_need_one_grid(tmp_path: Path) -> None:
    grid = Frame(3, 4, CRS, (1, 0, EAST, 0, -1, NORTH))
    top, low = np.full((1, 3, 4), 30.0, np.float32), np.full((1, 3, 4), 28.5, np.float32)
    top[0, 0, 0], low[0, 2, 3] = NODATA, NODATA
    for name, values in (("dsm", top), ("dtm", low)):
        write_raster(tmp_path / f"{name}.tif", values, grid, NODATA, (name,))
    found: Gridded = ndsm(tmp_path / "dsm.tif", tmp_path / "dtm.tif")
    wanted = np.full((3, 4), 1.5)
    wanted[0, 0] = wanted[2, 3] = np.nan
    np.testing.assert_array_equal(found.band("ndsm"), wanted)
    np.testing.assert_array_equal(found.seen, np.isfinite(wanted))
    with pytest.raises(LookupError, match=r"no band 'dsm'; there are \['ndsm'\]"):
        found.band("dsm")
    moved = Frame(3, 4, CRS, (1, 0, EAST + 0.5, 0, -1, NORTH))
    write_raster(tmp_path / "moved.tif", low, moved, NODATA, ("dtm",))
    with pytest.raises(ValueError, match="lie on different grids"):
        ndsm(tmp_path / "dsm.tif", tmp_path / "moved.tif")


def test_vertical_units_in_geotiff_keys_count() -> None:
    class Key:
        id, value_offset = 4099, 9003

    class Record:
        geo_keys = (Key(),)

    class Head:
        vlrs = (Record(),)

    assert clouds._keyed(Head()) == pytest.approx(1200 / 3937)


def test_a_wrong_crs_is_told_by_coordinates_that_are_nowhere(tmp_path: Path) -> None:
    write_cloud(tmp_path / "a.laz", **made_up(50), crs="")
    with pytest.raises(ValueError, match=r"a.laz: x and y from \(700.* nowhere on Earth in the CRS 'WGS 84'"):
        Cloud(tmp_path / "a.laz", crs="EPSG:4326").about()
