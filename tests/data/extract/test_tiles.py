"""Parcels across tiles: shared out so that no ground counts twice, put together by what was clear."""

from __future__ import annotations

from pathlib import Path

import geopandas
import numpy as np
import pytest
import shapely
from exactextract import exact_extract
from exactextract.raster import NumPyRasterSource
from small_tiles import CORNER, CRS, boxes, extract, small_grid, values_of, write_dates

from eo_adapt.data.extract.grid import Grid
from eo_adapt.data.extract.tiles import assign

X, Y = CORNER
WIDE = small_grid(90, 50)  # the mosaic of A and B, which share 30 columns
A, B = small_grid(60, 50), small_grid(60, 50, corner=(X + 300, Y))


def exact(values: np.ndarray, grid: Grid, frame: geopandas.GeoDataFrame, *statistics: str) -> np.ndarray:
    raster = NumPyRasterSource(values, *grid.bounds, srs_wkt=frame.crs.to_wkt())
    return exact_extract(raster, frame, list(statistics), output="pandas").to_numpy(float)


def wide_parcels(rng: np.random.Generator, count: int = 12) -> geopandas.GeoDataFrame:
    """Some within A, some within B, some within both, some only within the mosaic, one beyond it."""
    left = rng.uniform(0, 500, count)
    made = boxes(
        *[
            (x, t, x + w, t + 120)
            for x, t, w in zip(left, rng.uniform(0, 350, count), rng.uniform(20, 350, count), strict=True)
        ]
    )
    far = boxes((100, 100, 1200, 300))
    return geopandas.GeoDataFrame(
        {"id": [f"p{i}" for i in range(count + 1)]}, geometry=[*made.geometry, *far.geometry], crs=CRS
    )


def test_pieces_of_overlapping_tiles_make_the_mosaic(tmp_path: Path, rng: np.random.Generator) -> None:
    """Mean, variance and share of parcels across tiles are those of the joined image, with gaps and all."""
    frame = wide_parcels(rng)
    mosaic = rng.integers(1, 5000, (50, 90)).astype(np.float32)
    mosaic[rng.random(mosaic.shape) < 0.3] = 0
    images = {"A_20210501_B04": mosaic[:, :60], "B_20210501_B04": mosaic[:, 30:]}
    write_dates(tmp_path, frame, images, A=A, B=B)
    store = extract(tmp_path, scale=1.0, units="1", statistics=["mean", "variance", "share"], min_share=0)
    theirs = exact(np.where(mosaic == 0, np.nan, mosaic), WIDE, frame, "mean", "variance", "count")
    total = exact(mosaic, WIDE, frame, "count")[:, 0]
    got = np.stack([values_of(store, band)[0][:, 0] for band in ("B04", "B04_variance", "valid_share")], 1)
    np.testing.assert_allclose(got[:, 0], theirs[:, 0], rtol=1e-6)
    np.testing.assert_allclose(got[:, 1], theirs[:, 1], rtol=1e-5)
    np.testing.assert_allclose(got[:, 2], theirs[:, 2] / total, rtol=1e-5)
    assert store.index["n_dates"].tolist() == [1] * len(frame)


def test_the_median_across_four_tiles_is_that_of_the_largest_piece(tmp_path: Path) -> None:
    """Whatever the order of tiles, and though the pieces before it are larger in all."""
    corners = {"A": (0, 0), "B": (200, 0), "C": (0, 200), "D": (200, 200)}
    tiles = {n: small_grid(20, 20, 10.0, (CORNER[0] + x, CORNER[1] - y)) for n, (x, y) in corners.items()}
    images = {f"{name}_20210501_B04": np.full((20, 20), 100 * i, np.uint16) for i, name in enumerate(tiles, 1)}
    write_dates(tmp_path, boxes((120, 110, 290, 310), (130, 110, 330, 290)), images, **tiles)
    store = extract(tmp_path, scale=1.0, units="1", statistics=["mean", "median"])
    np.testing.assert_array_equal(values_of(store, "B04_median")[0][:, 0], [400, 200])


def test_a_parcel_within_two_tiles_takes_the_one_that_saw_it(tmp_path: Path) -> None:
    frame = boxes((350, 100, 500, 200))
    full, half, none = (np.full((50, 60), 2000, np.uint16) for _ in range(3))
    half[:] = 4000  # where it was seen
    half[:, :12], none[:] = 0, 0
    images = {
        "A_20210501_B04": none, "B_20210501_B04": full,  # only B saw it
        "A_20210511_B04": full, "B_20210511_B04": half,  # A saw more
        "A_20210521_B04": full,  # B is missing
    }  # fmt: skip
    write_dates(tmp_path, frame, images, A=A, B=B)
    values, days, valid = values_of(extract(tmp_path))
    assert days.tolist() == [[120, 130, 140]]
    assert valid.all()
    np.testing.assert_allclose(values, 0.2, atol=1e-6)


def test_pieces_that_were_not_seen_lower_the_share(tmp_path: Path) -> None:
    """A parcel that crosses A and B, with only one of them on the second date."""
    frame = boxes((200, 100, 800, 200))
    full = np.full((50, 60), 2000, np.uint16)
    images = {"A_20210501_B04": full, "B_20210501_B04": full, "A_20210511_B04": full}
    write_dates(tmp_path, frame, images, A=A, B=B)
    values, _, valid = values_of(extract(tmp_path, statistics=["mean", "share"], min_share=0.7), "valid_share")
    assert values[0, 0] == pytest.approx(1)
    assert valid.tolist() == [[True, False]]
    store = extract(tmp_path, tmp_path / "other", statistics=["mean", "share"], min_share=0.1)
    # B holds more of the parcel and gives 500 of its 600 metres; A, which alone was there, gives the other 100
    assert values_of(store, "valid_share")[0][0, 1] == pytest.approx(1 / 6, rel=1e-5)


def neighbour(grid: Grid, shift: float) -> Grid:
    """A tile of the next UTM zone that begins ``shift`` metres east of a grid's left edge."""
    point = geopandas.GeoSeries([shapely.Point(grid.bounds[0] + shift, grid.bounds[3])], crs=CRS).to_crs("EPSG:32634")[
        0
    ]
    return Grid("EPSG:32634", (10.0, 0.0, round(point.x, -1), 0.0, -10.0, round(point.y, -1) + 200), 90, 90)


def test_zones_are_not_counted_twice(rng: np.random.Generator) -> None:
    """Pieces in two zones add up to the parcel, and do not overlap."""
    east = neighbour(A, 300)
    frame = boxes((100, 100, 900, 200), (10, 10, 90, 90), (650, 100, 900, 200))
    tiles = assign(frame, {("s2", "A"): {"B04": A}, ("s2", "E"): {"B04": east}})
    west, other = tiles
    assert (west.name, west.rows.tolist(), west.whole.tolist()) == ("A", [0, 1], [False, True])
    assert (other.name, other.rows.tolist(), other.whole.tolist()) == ("E", [0, 2], [False, True])
    pieces = [geopandas.GeoSeries(shapely.from_wkb([t.shapes[0]]), crs=t.finest.crs).to_crs(CRS)[0] for t in tiles]
    assert pieces[0].intersection(pieces[1]).area < 1e-3 * pieces[0].area
    assert pieces[0].union(pieces[1]).area == pytest.approx(frame.geometry[0].area, rel=1e-3)


def test_parcels_across_zones_in_a_store(tmp_path: Path) -> None:
    """A constant on each side: the mean is weighed by the area of the pieces."""
    east = neighbour(A, 300)
    frame = boxes((400, 100, 800, 200), (10, 10, 90, 90), (650, 100, 900, 200))
    images = {
        "A_20210501_B04": np.full((50, 60), 1000, np.uint16),
        "E_20210501_B04": np.full((90, 90), 3000, np.uint16),
    }
    write_dates(tmp_path, frame, images, A=A, E=east)
    values, _, valid = values_of(extract(tmp_path))
    assert valid.all()
    # E holds more of parcel 0 (from 300 m on), wholly even: it alone gives it
    np.testing.assert_allclose(values[:, 0], [0.3, 0.1, 0.3], atol=1e-4)


def test_tiles_without_a_parcel_are_left_alone() -> None:
    far = small_grid(60, 50, corner=(X + 50_000, Y))
    tiles = assign(boxes((10, 10, 90, 90)), {("s2", "A"): {"B04": A}, ("s2", "F"): {"B04": far}})
    assert [tile.name for tile in tiles] == ["A"]


def test_sensors_share_out_parcels_on_their_own() -> None:
    tiles = assign(boxes((350, 10, 420, 90)), {("s2", "A"): {"B04": A}, ("s1", "B"): {"VV": B}})
    assert [tile.place for tile in tiles] == [("s1", "B"), ("s2", "A")]
    assert all(tile.whole.all() for tile in tiles)
