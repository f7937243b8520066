"""Points on a grid: every band against plain numpy, units, places, and files that do not do."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import laspy
import numpy as np
import pytest
import rasterio
from pyproj import Transformer
from scans import CRS, EAST, NORTH, copc, frame, made_up

from eo_adapt.data.lidar.cloud import Cloud, read
from eo_adapt.data.lidar.frame import Frame, to_frame
from eo_adapt.data.lidar.rasterise import BANDS, rasterise
from eo_adapt.data.lidar.write import NODATA, write_bands
from eo_adapt.data.scenes.raster import grid_of, read_image
from eo_adapt.data.scenes.records import Imagery, Raster
from eo_adapt.data.synthetic.lidar import write_cloud


def by_hand(points: dict[str, Any], grid: Frame) -> dict[str, np.ndarray]:
    """A loop over pixels and nothing else."""
    keep = ~np.isin(points["kind"], (7, 18)) & (points["withheld"] == 0)
    x, y, z = points["xyz"][keep].T
    kind, ratio = points["kind"][keep], (points["number"] / points["returns"])[keep]
    size, left, top = grid.transform[0], grid.transform[2], grid.transform[5]
    out = {name: np.full((grid.height, grid.width), np.nan) for name in BANDS}
    for i in range(grid.height):
        for j in range(grid.width):
            inside = (x >= left + j * size) & (x < left + (j + 1) * size)
            inside &= (y <= top - i * size) & (y > top - (i + 1) * size)
            out["density"][i, j] = inside.sum() / size**2
            if not inside.any():
                continue
            out["dsm"][i, j] = z[inside].max()
            out["intensity"][i, j] = points["intensity"][keep][inside].mean()
            out["return_ratio"][i, j] = ratio[inside].mean()
            out["height_spread"][i, j] = z[inside].std()
            if (inside & (kind == 2)).any():
                out["dtm"][i, j] = z[inside & (kind == 2)].mean()
    out["ndsm"] = out["dsm"] - out["dtm"]
    return out


@pytest.mark.parametrize("pixel", [1.0, 2.0, 3.5])
def test_every_band_is_what_a_loop_over_pixels_gives(tmp_path: Path, pixel: float) -> None:
    points, grid = made_up(), frame(pixel)
    write_cloud(tmp_path / "a.laz", **points, crs=CRS)
    found = rasterise([Cloud(tmp_path / "a.laz")], grid, groups={"ground": [2], "roof or tree": [5, 6]})
    wanted = by_hand(points, grid)
    assert found.names == BANDS
    assert not found.filtered
    for name in BANDS:
        known = np.isfinite(wanted[name])
        np.testing.assert_allclose(found.band(name)[known], wanted[name][known], atol=2e-4, rtol=1e-5, err_msg=name)
    assert known.any()
    np.testing.assert_array_equal(found.seen, wanted["density"] > 0)
    assert found.votes.sum() == (np.isin(points["kind"], (2, 5, 6)) & (points["withheld"] == 0)).sum()


def test_many_files_and_many_chunks_are_one_cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points, grid = made_up(), frame()
    write_cloud(tmp_path / "all.laz", **points, crs=CRS)
    first = np.arange(len(points["kind"])) % 3 == 0
    for name, some in (("one", first), ("two", ~first)):
        write_cloud(tmp_path / f"{name}.las", **{k: v[some] for k, v in points.items()}, crs=CRS)
    whole = list(read(Cloud(tmp_path / "all.laz"), grid))
    pieces = list(read(Cloud(tmp_path / "all.laz"), grid, 7))
    assert (len(whole), len(pieces)) == (1, -(-4000 // 7))
    np.testing.assert_array_equal(np.concatenate([p.z for p in pieces]), whole[0].z)
    together = rasterise([Cloud(tmp_path / "all.laz")], grid)
    apart = rasterise([Cloud(tmp_path / "one.las"), Cloud(tmp_path / "two.las")], grid)
    np.testing.assert_allclose(apart.values, together.values, rtol=1e-5, atol=1e-4)


def test_heights_in_feet_become_metres_on_a_grid_in_metres(tmp_path: Path) -> None:
    """Oregon Lambert, EPSG:2994, counts international feet; the grid is UTM."""
    turn = Transformer.from_crs("EPSG:32610", "EPSG:2994", always_xy=True)
    rng = np.random.default_rng(0)
    x, y = rng.uniform(490_000, 490_020, 2000), rng.uniform(4_877_000, 4_877_020, 2000)
    roof = (x > 490_008) & (x < 490_012)
    z = 100 + 7.0 * roof
    feet = np.column_stack([*turn.transform(x, y), z / 0.3048])
    write_cloud(tmp_path / "a.laz", feet, np.where(roof, 6, 2), crs="EPSG:2994")
    grid = Frame.around((490_000, 4_877_000, 490_019.9, 4_877_019.9), "EPSG:32610", 1.0)
    found = rasterise([Cloud(tmp_path / "a.laz")], grid)
    np.testing.assert_allclose(found.band("ndsm")[1:-1, 9:11], 7.0, atol=0.02)
    np.testing.assert_allclose(found.band("ndsm")[1:-1, 2:7][found.seen[1:-1, 2:7]], 0.0, atol=0.02)
    assert found.band("density")[1:-1, 1:-1].mean() == pytest.approx(5.0, rel=0.1)  # a square metre, not a square foot
    declared = rasterise([Cloud(tmp_path / "a.laz", unit="metre")], grid, ("dsm",))
    assert np.nanmax(declared.values) == pytest.approx(107 / 0.3048, abs=0.05)
    with pytest.raises(ValueError, match="one of \\['metre', 'foot', 'us-survey-foot'\\]"):
        Cloud(tmp_path / "a.laz", unit="feet")


def test_a_compound_crs_tells_the_unit_of_heights(tmp_path: Path) -> None:
    write_cloud(tmp_path / "a.laz", np.array([[EAST + 1, NORTH + 1, 100.0]]), [2], crs="EPSG:2154+5720")
    assert Cloud(tmp_path / "a.laz").about().scale == 1.0
    feet = "EPSG:26918+6360"  # NAVD88 height in US survey feet
    write_cloud(tmp_path / "b.laz", np.array([[500_000.0, 4_300_000, 100]]), [2], crs=feet)
    assert Cloud(tmp_path / "b.laz").about().scale == pytest.approx(1200 / 3937)


def test_gaps_are_filled_within_reach_and_said_to_be_gaps(tmp_path: Path) -> None:
    x = EAST + np.array([0.5, 9.5])
    write_cloud(tmp_path / "a.laz", np.column_stack([x, [NORTH + 0.5] * 2, [5.0, 9.0]]), [2, 2], crs=CRS)
    grid = Frame.around((EAST, NORTH, EAST + 9.9, NORTH + 0.9), CRS, 1.0)
    bare, filled = (rasterise([Cloud(tmp_path / "a.laz")], grid, ("dsm", "density"), fill=fill) for fill in (0, 3))
    wanted = [5, *[np.nan] * 8, 9], [5, 5, 5, 5, np.nan, np.nan, 9, 9, 9, 9]
    for found, row in zip((bare, filled), wanted, strict=True):
        np.testing.assert_array_equal(found.band("dsm")[0], np.array(row, np.float32))
        np.testing.assert_array_equal(found.band("density")[0], [1, 0, 0, 0, 0, 0, 0, 0, 0, 1])
        np.testing.assert_array_equal(found.seen[0], [True, *[False] * 8, True])


def test_the_grid_may_be_that_of_an_image_even_a_turned_one(tmp_path: Path) -> None:
    turn = rasterio.Affine.translation(EAST, NORTH) * rasterio.Affine.rotation(30) * rasterio.Affine.scale(0.5, -0.5)
    with rasterio.open(
        tmp_path / "image.tif", "w", height=20, width=30, count=1, dtype="uint8", crs=CRS, transform=turn
    ) as file:
        file.write(np.zeros((1, 20, 30), np.uint8))
    grid = Frame.of(grid_of(tmp_path, Raster("image.tif", (2, 4, 10, 12))))
    assert (grid.height, grid.width, grid.pixel_area) == (10, 12, pytest.approx(0.25))
    x, y = turn * (4 + 7.5, 2 + 3.5)  # the middle of the window's row 3, column 7
    write_cloud(tmp_path / "a.laz", np.array([[x, y, 12.0]]), [2], crs=CRS)
    seen = rasterise([Cloud(tmp_path / "a.laz")], grid, ("dsm",)).seen
    assert np.argwhere(seen).tolist() == [[3, 7]]


def test_a_scene_folder_reads_what_is_written(tmp_path: Path) -> None:
    write_cloud(tmp_path / "a.laz", **made_up(60), crs=CRS)
    found = rasterise([Cloud(tmp_path / "a.laz")], frame(1.0), ("ndsm", "density"))
    write_bands(tmp_path / "out" / "a.tif", found)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["a.tif"]
    with rasterio.open(tmp_path / "out" / "a.tif") as file:
        assert (file.descriptions, file.units, file.nodata) == (("ndsm", "density"), ("metre", "points/m2"), NODATA)
        assert file.crs.to_epsg() == 2154
    values, seen = read_image(tmp_path, Raster("out/a.tif"), Imagery(("ndsm", "density"), dtype="float32"), [0, 1])
    np.testing.assert_array_equal(seen, found.seen)
    np.testing.assert_array_equal(values[:, seen], found.values[:, seen])


def test_windows_of_cloud_optimised_files_are_read_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = made_up()
    copc(tmp_path / "a.copc.laz", {**points, "crs": CRS})
    write_cloud(tmp_path / "b.laz", **points, crs=CRS)
    assert Cloud(tmp_path / "a.copc.laz").about().copc
    grid = Frame.around((EAST + 3, NORTH + 2, EAST + 6.9, NORTH + 5.9), CRS, 1.0)
    asked: list[Any] = []
    query = laspy.CopcReader.query
    monkeypatch.setattr(laspy.CopcReader, "query", lambda self, box: asked.append(box) or query(self, box))
    one, other = (rasterise([Cloud(tmp_path / n)], grid).values for n in ("a.copc.laz", "b.laz"))
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-4)
    (box,) = asked
    west, south, east, north = grid.bounds()
    np.testing.assert_allclose([*box.mins, *box.maxs], [west - 1, south - 1, east + 1, north + 1])


@pytest.mark.parametrize(("crs", "pixel"), [(CRS, 1.0), (CRS, 0.7), ("EPSG:32631", 1.0)])
def test_chunks_of_cloud_optimised_files_are_rows_that_share_no_point(tmp_path: Path, crs: str, pixel: float) -> None:
    points = made_up()
    points["xyz"][:200, 1] = np.round(points["xyz"][:200, 1])  # on the edges of rows
    copc(tmp_path / "a.copc.laz", {**points, "crs": CRS})
    write_cloud(tmp_path / "b.laz", **points, crs=CRS)
    area = (EAST + 2, NORTH + 1, EAST + 9.9, NORTH + 8.9)
    turn = to_frame(CRS, crs)
    grid = Frame.around(area if turn is None else turn.transform_bounds(*area), crs, pixel)
    chunks = list(read(Cloud(tmp_path / "a.copc.laz"), grid, 500))
    assert 4 <= len(chunks) <= grid.height
    assert max(len(chunk.z) for chunk in chunks) < 700
    ends = [(np.floor(chunk.row.min()), np.floor(chunk.row.max())) for chunk in chunks]
    assert all(last < first for (_, last), (first, _) in pairwise(ends))
    one, other = (
        np.column_stack([np.concatenate(values) for values in zip(*parts, strict=True)])
        for parts in (chunks, read(Cloud(tmp_path / "b.laz"), grid, 500))
    )
    np.testing.assert_array_equal(*(x[np.lexsort(x.T)] for x in (one, other)))


# -- what a person gets wrong ----------------------------------------------------------------------------------------
