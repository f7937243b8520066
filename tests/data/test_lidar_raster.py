"""Points on a grid: every band against plain numpy, units, places, and files that do not do."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import laspy
import numpy as np
import pytest
import rasterio
from pyproj import Transformer

from eo_adapt.data.lidar import cloud as clouds
from eo_adapt.data.lidar.cloud import Cloud, read
from eo_adapt.data.lidar.frame import Frame
from eo_adapt.data.lidar.rasterise import BANDS, Gridded, rasterise
from eo_adapt.data.lidar.write import NODATA, ndsm, write_bands, write_raster
from eo_adapt.data.scenes.raster import TileError, grid_of, read_image
from eo_adapt.data.scenes.records import Imagery, Raster
from eo_adapt.data.synthetic.lidar import write_cloud

CRS = "EPSG:2154"
EAST, NORTH = 700_000.0, 6_600_000.0


def made_up(n: int = 4000, seed: int = 0) -> dict[str, Any]:
    """Points over 12 x 10 m, a third of them ground, some noise, some withheld."""
    rng = np.random.default_rng(seed)
    xyz = np.column_stack(
        [rng.uniform(EAST + 0.1, EAST + 11.9, n), rng.uniform(NORTH + 0.1, NORTH + 9.9, n), rng.uniform(50, 70, n)]
    )
    returns = rng.integers(1, 5, n)
    return {
        "xyz": np.round(xyz, 2),
        "kind": rng.choice([1, 2, 5, 6, 7, 18], n, p=[0.2, 0.35, 0.2, 0.2, 0.03, 0.02]),
        "intensity": rng.integers(0, 5000, n),
        "number": np.ceil(returns * rng.uniform(0.01, 1, n)).astype(int),
        "returns": returns,
        "withheld": (rng.random(n) < 0.02).astype(int),
    }


def frame(pixel: float = 2.0) -> Frame:
    return Frame.around((EAST, NORTH + 0.1, EAST + 11.9, NORTH + 9.9), CRS, pixel)


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


def copc(path: Path, points: dict[str, Any]) -> None:
    """A cloud-optimised file of one node: LAZ 1.4 whose first record says where the octree lies (copc.io, 1.0)."""
    write_cloud(path, **points)
    plain = path.read_bytes()
    head = laspy.open(path).header
    data, count = head.offset_to_point_data, len(points["kind"])
    (table,) = struct.unpack("<q", plain[data : data + 8])
    record = struct.pack("<H16sHH32s", 0, b"copc", 1, 160, b"")
    moved = len(record) + 160
    xyz = points["xyz"]
    half = float(np.ptp(xyz, axis=0).max()) / 2 + 1
    end = len(plain) + moved
    info = struct.pack("<5d2Q2d", *(xyz.min(0) + half - 0.5), half, half / 64, end + 60, 32, 0, 0) + bytes(88)
    node = struct.pack("<4iQ2i", 0, 0, 0, 0, data + moved + 8, table - data - 8, count)
    listed = struct.pack("<H16sHQ32s", 0, b"copc", 1000, 32, b"") + node
    body = bytearray(plain)
    body[96:100] = struct.pack("<I", data + moved)
    body[100:104] = struct.pack("<I", struct.unpack("<I", plain[100:104])[0] + 1)
    body[235:247] = struct.pack("<QI", end, 1)
    body[data : data + 8] = struct.pack("<q", table + moved)
    path.write_bytes(bytes(body[:375]) + record + info + bytes(body[375:]) + listed)


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
    assert [list(box.mins) + list(box.maxs) for box in asked] == [list(grid.bounds())[:2] + list(grid.bounds())[2:]]


# -- what a person gets wrong ----------------------------------------------------------------------------------------


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
