"""Scans as patches: labels from the classes of points, tables of points, the doors that images go through."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import laspy
import numpy as np
import pytest
import rasterio
from scanned import EAST, MAKING, NORTH, SMALL, reader, scanned
from scipy.spatial import cKDTree

from eo_adapt.data.lidar.cloud import Cloud, read
from eo_adapt.data.lidar.frame import Frame
from eo_adapt.data.lidar.rasterise import rasterise
from eo_adapt.data.lidar.tiles import POINT_BANDS, Making, labels, made
from eo_adapt.data.recipe import Recipe, make
from eo_adapt.data.scenes.records import Points, Raster
from eo_adapt.data.scenes.store import SceneStore
from eo_adapt.data.synthetic.lidar import LidarWorld, write_cloud


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SceneStore]:
    return scanned(tmp_path_factory.mktemp("world"))


# -- what is made of a file ------------------------------------------------------------------------------------------


def test_a_pixel_is_labelled_where_most_of_its_points_agree(tmp_path: Path) -> None:
    kinds = [[2, 2, 6], [6, 2], [1, 1, 5, 4], [3, 4, 5, 2], [9], [6, 6, 6, 2, 2], [7, 7, 7, 2]]
    x = [EAST + i + 0.5 for i, some in enumerate(kinds) for _ in some]
    xyz = np.column_stack([x, np.full(len(x), NORTH + 0.5), np.full(len(x), 10.0)])
    write_cloud(tmp_path / "a.laz", xyz, [k for some in kinds for k in some], crs="EPSG:2154")
    frame = Frame(1, 8, "EPSG:2154", (1, 0, EAST, 0, -1, NORTH + 1))
    groups = {"ground": [2], "vegetation": [3, 4, 5], "building": [6]}
    gridded = rasterise([Cloud(tmp_path / "a.laz")], frame, groups=groups)
    assert labels(gridded, 0.5)[0].tolist() == [1, 0, 0, 2, 0, 3, 1, 0]
    assert labels(gridded, 0.7)[0].tolist() == [0, 0, 0, 2, 0, 0, 1, 0]


def test_points_are_sorted_by_window_thinned_and_measured_from_the_ground(tmp_path: Path) -> None:
    LidarWorld(**SMALL).write(tmp_path)
    cloud = Cloud(tmp_path / "dense.laz")
    out = made(cloud, "EPSG:2154", MAKING, tmp_path / "made")
    table, first = np.load(out / "points.npy"), np.load(out / "windows.npy")
    with rasterio.open(out / "bands.tif") as file:
        height, width, names, bands = file.height, file.width, file.descriptions, file.read()
        frame = Frame(height, width, "EPSG:2154", tuple(file.transform)[:6])
    down, right = height // 16, width // 16
    assert (len(first), first[0], first[-1]) == (down * right + 1, 0, len(table))
    assert (np.diff(first) > 0).all()
    dtm = bands[names.index("dtm")]
    full = cKDTree(_all(cloud, frame))
    for number in range(down * right):
        row, column = divmod(number, right)
        some = table[first[number] : first[number + 1]].astype(float)
        assert ((some[:, :2] >= 0) & (some[:, :2] < 16)).all()
        pixel = some[:, 1].astype(int) * 16 + some[:, 0].astype(int)
        assert np.bincount(pixel).max() <= 4
        ground = dtm[row * 16 :, column * 16 :][:16, :16]
        np.testing.assert_allclose(some[:, 2] - some[:, 3], ground.ravel()[pixel] - ground.mean(), atol=1e-3)
        z = some[:, 2] + ground.astype(float).mean()
        there = np.column_stack([some[:, 0] + 16 * column, some[:, 1] + 16 * row, z])
        assert full.query(there)[0].max() < 1e-3
    assert made(cloud, "EPSG:2154", MAKING, tmp_path / "made") == out
    other = made(cloud, "EPSG:2154", replace(MAKING, most=0), tmp_path / "made")
    assert sorted(p.name for p in other.iterdir()) == ["bands.tif", "labels.tif"]
    assert len(list((tmp_path / "made").iterdir())) == 2


def _all(cloud: Cloud, frame: Frame) -> np.ndarray:
    parts = list(read(cloud, frame))
    return np.concatenate([np.column_stack([p.column, p.row, p.z]) for p in parts])


def test_the_ground_of_bands_does_not_depend_on_the_labels(tmp_path: Path) -> None:
    """Else the label would be an input."""
    LidarWorld(**SMALL).write(tmp_path)
    las = laspy.read(tmp_path / "dense.laz")
    las.classification = np.where(np.asarray(las.classification) == 2, 1, 2).astype(np.uint8)
    las.write(str(tmp_path / "lied.laz"))
    one, other = (
        rasterio.open(made(Cloud(tmp_path / name), "EPSG:2154", MAKING, tmp_path / "made") / "bands.tif").read()
        for name in ("dense.laz", "lied.laz")
    )
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pixel": 0.0}, "pixel > 0"),
        ({"share": 0.3}, "0.5 <= share < 1"),
        ({"classes": {"a": (2,), "b": (2, 3)}}, "belongs to one class of pixels"),
        ({"classes": {"a": (7,)}}, "none that is dropped"),
    ],
)
def test_what_is_made_has_limits(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Making(**options)


# -- the reader ------------------------------------------------------------------------------------------------------


def test_windows_of_a_scan_are_scenes_in_their_place(world: tuple[Path, SceneStore]) -> None:
    folder, store = world
    scenes = list(reader(folder / "made").read(folder / "raw"))
    assert len(scenes) == len(store) == 2 * 16
    assert {s.region for s in scenes} == {"dense", "sparse"}
    one = next(s for s in scenes if s.key == "dense-1-2")
    assert isinstance(one.images["lidar"], Raster)
    assert isinstance(one.images["points"], Points)
    assert one.images["lidar"].window == (16, 32, 16, 16)
    assert (one.gsd, one.crs) == (1.0, "EPSG:2154")
    assert one.x == pytest.approx(EAST + 40, abs=1)
    assert one.y == pytest.approx(NORTH + 64 - 24, abs=1)
    assert store.names == ("ground", "vegetation", "building")
    assert (store.counts.sum(0) > 0).all()


def test_crs_unit_and_labels_may_come_from_a_table(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("metric", "feet"):
        xyz = np.column_stack([rng.uniform(0, 40, (3000, 2)), rng.uniform(0, 9, 3000)])
        corner = [636_000, 849_000, 400] if name == "feet" else [EAST, NORTH, 100]
        write_cloud(tmp_path / f"{name}.laz", (xyz / (0.3048 if name == "feet" else 1)) + corner, np.full(3000, 2))
    (tmp_path / "sites.csv").write_text("site,epsg\nmetric,2154\nfeet,2994\n")
    table = {"file": "sites.csv", "column": "site", "id": "{site}"}
    scans = reader(tmp_path / "made", crs="EPSG:{epsg}", table=table, unlabelled=("feet",))
    found = {s.key: s for s in scans.read(tmp_path)}
    feet = found["feet-0-0"]
    assert (feet.crs, feet.mask, feet.gsd) == ("EPSG:32610", None, 1.0)
    assert feet.lon == pytest.approx(-123.08, abs=0.05)
    assert isinstance(found["metric-0-0"].mask, Raster)
    with rasterio.open(feet.images["lidar"].path) as file:
        dsm = file.read(file.descriptions.index("dsm") + 1, masked=True)
    assert 400 * 0.3048 < dsm.min() < dsm.max() < 400 * 0.3048 + 9.1
    with pytest.raises(ValueError, match=r"feet.laz states no CRS"):
        list(reader(tmp_path / "made").read(tmp_path))
    (tmp_path / "sites.csv").write_text("site,epsg\nmetric,2154\n")
    with pytest.raises(ValueError, match=r"sites\.csv has no row with site = 'feet'"):
        list(scans.read(tmp_path))


def test_a_folder_without_scans_or_with_other_names_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="files of points that match"):
        list(reader(tmp_path / "made").read(tmp_path))
    write_cloud(tmp_path / "a.laz", np.array([[EAST, NORTH, 1.0]]), [2], crs="EPSG:2154")
    with pytest.raises(ValueError, match=r"'a.laz', found by '\*.laz', does not match"):
        list(reader(tmp_path / "made", path=r"(?P<site>b)\.laz").read(tmp_path))
    with pytest.raises(ValueError, match=r"columns are of .* got \['place'\]"):
        reader(tmp_path, columns={"place": "x"})
    with pytest.raises(ValueError, match="making has no 'pixels', did you mean 'pixel'"):
        reader(tmp_path, making={"pixels": 1.0})


def test_shipped_recipes_build_their_readers() -> None:
    for name in ("lidar", "synthetic_lidar"):
        scans = make(Recipe.load(name).reader)
        assert list(scans.sensors) == ["lidar", "points"]
        assert scans.sensors["points"].bands == POINT_BANDS
        assert list(scans.classes.names.values()) == ["ground", "vegetation", "building"]


# -- points on their way to the network ------------------------------------------------------------------------------


# -- a table of points that does not do ------------------------------------------------------------------------------
