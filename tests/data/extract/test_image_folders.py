"""Folders of GeoTIFFs: names taken apart, bands in files, dates twice, and what cannot be understood."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.control import GroundControlPoint
from rasterio.warp import transform
from small_tiles import PATTERN, small_grid, write_tif

from eo_adapt.data.extract.errors import BadImageError
from eo_adapt.data.extract.folder import Layout, read_folder
from eo_adapt.data.extract.grid import Block, Grid
from eo_adapt.data.extract.images import Image
from eo_adapt.data.extract.raster import opened

GRID = small_grid(4, 3)
BLANK = np.zeros((3, 4), np.uint16)


def test_names_are_taken_apart(tmp_path: Path) -> None:
    for name in ("A_20210501_B04", "A_20210501_SCL", "B_20210501_B04", "A_20210501T101112_B04"):
        write_tif(tmp_path / "deep" / f"{name}.tif", BLANK, GRID)
    (tmp_path / "readme.txt").touch()
    write_tif(tmp_path / "overview.tif", BLANK, GRID)
    layout = Layout(PATTERN, mask_band="SCL", scale=1e-4, offset=-0.1, nodata=(0.0,))
    found = read_folder(tmp_path, layout, "s2")
    assert [(one.tile, one.moment, sorted(one.bands), one.mask is None) for one in found] == [
        ("A", "2021-05-01", ["B04"], False),
        ("A", "2021-05-01T10:11:12", ["B04"], True),
        ("B", "2021-05-01", ["B04"], True),
    ]
    assert found[0].bands["B04"] == Image(str(tmp_path / "deep/A_20210501_B04.tif"), 1, (0.0,), 1e-4, -0.1)
    assert found[0].mask == Image(str(tmp_path / "deep/A_20210501_SCL.tif"))


def test_groups_of_orbits_and_baselines(tmp_path: Path) -> None:
    pattern = r"(?P<platform>S2.)_R(?P<orbit>\d+)_(?P<direction>[AD])_N(?P<baseline>\d{4})_"
    pattern += r"(?P<date>\d{8})_(?P<time>\d{6})\.tif"
    for name in ("S2A_R022_D_N0301_20211201_101010", "S2B_R065_A_N0400_20220201_102030"):
        write_tif(tmp_path / f"{name}.tif", BLANK, GRID)
    old, new = read_folder(tmp_path, Layout(pattern, file_bands=["B04"], scale=1e-4, offset="baseline"), "s2")
    assert (old.platform, old.orbit, old.direction, old.moment) == ("S2A", "022", "desc", "2021-12-01T10:10:10")
    assert (old.bands["B04"].offset, new.bands["B04"].offset) == (0, pytest.approx(-0.1))
    with pytest.raises(ValueError, match=r"nothing says the processing baseline of .*offset=-1000"):
        read_folder(tmp_path, Layout(r"(?P<date>\d{8})_\d", file_bands=["B04"], offset="baseline"), "s2")


def test_bands_within_files(tmp_path: Path) -> None:
    cube = np.arange(24, dtype=np.uint16).reshape(2, 3, 4)
    write_tif(tmp_path / "x_20210501.tif", cube, GRID, names=["B02", "B04"])
    (one,) = read_folder(tmp_path, Layout(r"(?P<date>\d{8})"), "s2")
    assert {name: image.band for name, image in one.bands.items()} == {"B02": 1, "B04": 2}
    (one,) = read_folder(tmp_path, Layout(r"(?P<date>\d{8})", file_bands=["red", "nir"]), "s2")
    assert list(one.bands) == ["red", "nir"]
    with opened(one.bands["nir"]) as raster:
        np.testing.assert_array_equal(raster.read(Block(1, 3, 0, 4)), cube[1, 1:])


def test_dates_within_files(tmp_path: Path) -> None:
    names = ["B2|2020-11-01", "B4|2020-11-01", "B2|2020-12-01", "terrain"]
    write_tif(tmp_path / "stack.tif", np.zeros((4, 3, 4), np.uint16), GRID, names=names)
    found = read_folder(tmp_path, Layout("tif$", r"(?P<band>\w+)\|(?P<date>[\d-]+)"), "s2")
    assert [(one.moment, {b: i.band for b, i in one.bands.items()}) for one in found] == [
        ("2020-11-01", {"B2": 1, "B4": 2}),
        ("2020-12-01", {"B2": 3}),
    ]


def test_files_without_names_of_bands(tmp_path: Path) -> None:
    write_tif(tmp_path / "x_20210501.tif", BLANK, GRID)
    with pytest.raises(ValueError, match=r"1 bands without names: say file_bands=\[...\]"):
        read_folder(tmp_path, Layout(r"(?P<date>\d{8})"), "s2")
    (tmp_path / "x_20210502.tif").write_bytes(b"II*\0 no tif")
    with pytest.raises(BadImageError, match=r"x_20210502\.tif cannot be read"):
        read_folder(tmp_path, Layout(r"(?P<date>2021050[2])"), "s2")


def test_a_band_of_a_date_twice(tmp_path: Path) -> None:
    for folder in ("first", "second"):
        write_tif(tmp_path / folder / "A_20210501_B04.tif", BLANK, GRID)
    with pytest.raises(ValueError, match=r"band B04 of 2021-05-01 occurs twice: .*first.* and .*second.*twice=latest"):
        read_folder(tmp_path, Layout(PATTERN), "s2")
    (one,) = read_folder(tmp_path, Layout(PATTERN), "s2", "latest")
    assert "second" in one.bands["B04"].path


def test_of_two_processings_the_higher_baseline_is_the_latest(tmp_path: Path) -> None:
    for name in ("z/A_20210501_N0301_B04", "a/A_20210501_N0500_B04"):
        write_tif(tmp_path / f"{name}.tif", BLANK, GRID)
    pattern = r"(?P<tile>[A-Z]+)_(?P<date>\d{8})_N(?P<baseline>\d{4})_(?P<band>\w+)\.tif$"
    (one,) = read_folder(tmp_path, Layout(pattern, offset="baseline"), "s2", "latest")
    assert "N0500" in one.bands["B04"].path
    assert one.bands["B04"].offset == -1000
    assert one.baseline == "0500"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pattern": "(?P<date>"}, "is no regular expression"),
        ({"pattern": r"(?P<day>\d+)"}, r"pattern has groups \['day'\]; they are of \['date'"),
        ({"pattern": r"(?P<band>\w+)"}, r"has no group \(\?P<date>...\)"),
    ],
)
def test_patterns_that_cannot_be_meant(arguments: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Layout(**arguments)


@pytest.mark.parametrize(("name", "message"), [("A_20211301_B04", "is no date"), ("A_202105_B04", "no image below")])
def test_names_without_a_date(name: str, message: str, tmp_path: Path) -> None:
    write_tif(tmp_path / f"{name}.tif", BLANK, GRID)
    with pytest.raises(ValueError, match=message):
        read_folder(tmp_path, Layout(PATTERN), "s2")


# -- single files ----------------------------------------------------------------------------------------------------


def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadImageError, match=r"gone\.tif is not there"), opened(Image(str(tmp_path / "gone.tif"))):
        pass
    path = write_tif(tmp_path / "a.tif", BLANK, GRID)
    with pytest.raises(BadImageError, match="has 1 bands; band number 2"), opened(Image(str(path), 2)):
        pass
    bare = tmp_path / "bare.tif"
    points = [
        GroundControlPoint(0, 0, 10.0, 45.0),
        GroundControlPoint(3, 4, 11.0, 44.0),
        GroundControlPoint(0, 4, 11.0, 45.0),
    ]
    with rasterio.open(bare, "w", driver="GTiff", width=4, height=3, count=1, dtype="uint16") as file:
        file.write(BLANK, 1)
        file.gcps = (points, "EPSG:4326")
    with (
        pytest.raises(BadImageError, match="no CRS but ground control points: calibrate and terrain-correct"),
        opened(Image(str(bare))),
    ):
        pass


def test_a_file_cut_short_is_found_where_it_is_read(tmp_path: Path) -> None:
    grid = small_grid(400, 300)
    path = write_tif(tmp_path / "a.tif", np.ones((300, 400), np.uint16), grid)
    path.write_bytes(path.read_bytes()[:120_000])
    with (
        opened(Image(str(path))) as raster,
        pytest.raises(BadImageError, match=r"a\.tif cannot be read .*fetch it again"),
    ):
        raster.read(Block(0, 300, 0, 400))


def test_an_image_in_another_crs_is_warped_only_when_asked(tmp_path: Path) -> None:
    """The same ground in EPSG:32634: a plane of its easting in zone 33 comes back."""
    grid = small_grid(30, 20)
    (x,), (y,) = transform("EPSG:32633", "EPSG:32634", [500000.0], [5100000.0])
    other = Grid("EPSG:32634", (10.0, 0.0, x - 100, 0.0, -10.0, y + 200), 70, 60)
    down, across = np.mgrid[:60, :70]
    east = other.transform[2] + (across + 0.5) * 10
    north = other.transform[5] - (down + 0.5) * 10
    back, _ = transform("EPSG:32634", "EPSG:32633", east.ravel(), north.ravel())
    path = write_tif(tmp_path / "a.tif", np.array(back, np.float32).reshape(60, 70) - 500000, other, nodata=-99999)
    with (
        pytest.raises(BadImageError, match=r"lies on another grid \(EPSG:32634.*reproject=nearest"),
        opened(Image(str(path)), grid),
    ):
        pass
    with opened(Image(str(path)), grid, "bilinear") as raster:
        got = raster.read(Block(0, 20, 0, 30))
    np.testing.assert_allclose(got, np.tile((np.arange(30) + 0.5) * 10, (20, 1)), atol=1.0)
    counts = write_tif(tmp_path / "b.tif", np.ones((60, 70), np.uint16), other)
    with pytest.raises(BadImageError, match="declares no nodata"), opened(Image(str(counts)), grid, "nearest"):
        pass
