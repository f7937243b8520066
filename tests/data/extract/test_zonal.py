"""Sums, medians and masks against exactextract and against plain loops."""

from __future__ import annotations

from pathlib import Path

import geopandas
import numpy as np
import pytest
import shapely
from exactextract import exact_extract
from exactextract.raster import NumPyRasterSource
from hypothesis import given, settings
from hypothesis import strategies as st
from small_tiles import CORNER, CRS, small_grid

from eo_adapt.data.extract import coverage as module
from eo_adapt.data.extract import grid as grid_module
from eo_adapt.data.extract.coverage import Coverage, build, key
from eo_adapt.data.extract.grid import Grid
from eo_adapt.data.extract.pixels import choose
from eo_adapt.data.extract.statistics import medians, sums, weighted_medians

KINDS = ("triangle", "hole", "multi", "sliver", "touching", "outside", "all", "tiny")


def shape(kind: str, rng: np.random.Generator, grid: Grid) -> shapely.Geometry:
    """A polygon of one awkward kind; coordinates are of any phase with the pixels."""
    x, y = CORNER
    wide, high = grid.width * 10, grid.height * 10
    cx, cy = x + rng.uniform(0, wide), y - rng.uniform(0, high)
    if kind == "triangle":
        return shapely.Polygon(np.array([cx, cy]) + rng.uniform(-150, 150, (3, 2)))
    if kind == "hole":
        return shapely.difference(
            shapely.Point(cx, cy).buffer(60), shapely.Point(cx + 5, cy).buffer(rng.uniform(5, 40))
        )
    if kind == "multi":
        return shapely.union_all([shapely.Point(cx + d, cy).buffer(rng.uniform(3, 30)) for d in (-80, 0, 70)])
    if kind == "sliver":
        return shapely.box(cx, cy, cx + rng.uniform(50, 200), cy + rng.uniform(0.01, 0.5))
    if kind == "touching":  # edges on edges of pixels
        left, top = x + 10 * rng.integers(0, 30), y - 10 * rng.integers(0, 30)
        return shapely.box(left, top - 10 * rng.integers(1, 9), left + 10 * rng.integers(1, 9), top)
    if kind == "outside":  # partly
        return shapely.box(x - 40, y - 40, x + rng.uniform(5, 90), y + 60)
    if kind == "all":
        return shapely.box(x, y - high, x + wide, y)
    return shapely.Point(cx, cy).buffer(rng.uniform(0.1, 2))


def whole(values: np.ndarray, good: np.ndarray):
    """Reads parts out of (C, rows, columns) arrays, two bands at a time."""

    def read(part):
        b = part.block
        v = values[:, b.top : b.bottom, b.left : b.right].reshape(len(values), -1)[:, part.pixels]
        g = good[:, b.top : b.bottom, b.left : b.right].reshape(len(values), -1)[:, part.pixels]
        for start in range(0, len(values), 2):
            yield slice(start, start + 2), v[start : start + 2].astype(float), g[start : start + 2].copy()

    return read


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parcels cross blocks in both directions."""
    for where in (module, grid_module):
        monkeypatch.setattr(where, "ROWS", 16)
        monkeypatch.setattr(where, "COLUMNS", 24)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=8), gaps=st.booleans())
def test_means_variances_and_shares_are_those_of_exactextract(
    seed: int, kinds: list[str], gaps: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rng, grid = np.random.default_rng(seed), small_grid()
    shapes = [shape(kind, rng, grid) for kind in kinds]
    values = rng.integers(0, 10_000, (3, grid.height, grid.width)).astype(float)
    good = rng.random(values.shape) > (0.4 if gaps else -1)
    if seed % 3 == 0:
        good[:] = good[:1]  # one mask for all bands
    found = Coverage(build(grid, [bytes(shapely.to_wkb(s)) for s in shapes], tmp_path_factory.mktemp("c")))
    ours = sums(found, 3, whole(values, good), squares=True)
    frame = geopandas.GeoDataFrame(geometry=shapes, crs=CRS)
    for band in range(3):
        masked = np.where(good[band], values[band], np.nan)  # their masked arrays lose the mask of a single row
        raster = NumPyRasterSource(masked, *grid.bounds, srs_wkt=frame.crs.to_wkt())
        plain = NumPyRasterSource(values[band], *grid.bounds, srs_wkt=frame.crs.to_wkt())
        theirs = exact_extract(raster, frame, ["mean", "variance", "count"], output="pandas")
        total = exact_extract(plain, frame, ["count"], output="pandas")["count"].to_numpy()
        count = theirs["count"].to_numpy()
        share = np.divide(count, total, out=np.zeros_like(count), where=total > 0)
        np.testing.assert_allclose(ours.share[:, band], share, rtol=1e-6, atol=1e-7)
        seen = count > 1e-4 * total  # below, their float32 fractions of fractions carry no digits
        assert np.isnan(ours.mean[count == 0, band]).all()
        np.testing.assert_allclose(ours.mean[seen, band], theirs["mean"].to_numpy(float)[seen], rtol=1e-6)
        spread = theirs["variance"].to_numpy(float)[seen]
        np.testing.assert_allclose(ours.variance[seen, band], spread, rtol=1e-6, atol=1e-2)  # of 1e7


def test_sums_by_hand(tmp_path: Path) -> None:
    """A box over 1.5 x 1 pixels: weights 1 and 0.5."""
    grid = small_grid(2, 1)
    box = shapely.box(CORNER[0], CORNER[1] - 10, CORNER[0] + 15, CORNER[1])
    found = Coverage(build(grid, [bytes(shapely.to_wkb(box))], tmp_path))
    values = np.array([[[4.0, 10.0]]])
    all_good = sums(found, 1, whole(values, np.ones((1, 1, 2), bool)), squares=True)
    assert all_good.mean[0, 0] == pytest.approx((4 + 5) / 1.5)
    assert all_good.variance[0, 0] == pytest.approx((16 + 50) / 1.5 - 36)
    half = sums(found, 1, whole(values, np.array([[[True, False]]])))
    assert (half.mean[0, 0], half.share[0, 0]) == pytest.approx((4.0, 2 / 3))
    none = sums(found, 1, whole(values, np.zeros((1, 1, 2), bool)), squares=True)
    assert np.isnan(none.mean[0, 0])
    assert np.isnan(none.variance[0, 0])
    assert none.share[0, 0] == 0
    with pytest.raises(ValueError, match="squares were not summed"):
        _ = half.variance


def test_variance_of_large_numbers_does_not_cancel(tmp_path: Path) -> None:
    grid = small_grid(20, 20)
    box = shapely.box(CORNER[0] + 3, CORNER[1] - 177, CORNER[0] + 183, CORNER[1] - 2)
    found = Coverage(build(grid, [bytes(shapely.to_wkb(box))], tmp_path))
    values = 1e9 + np.random.default_rng(0).random((1, 20, 20))
    got = sums(found, 1, whole(values, np.ones_like(values, bool)), squares=True).variance[0, 0]
    assert got == pytest.approx(1 / 12, rel=0.2)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), size=st.integers(0, 60), groups=st.integers(1, 7))
def test_weighted_medians_are_those_of_a_loop(seed: int, size: int, groups: int) -> None:
    rng = np.random.default_rng(seed)
    group, value = rng.integers(0, groups, size), rng.integers(0, 6, size).astype(float)
    value[rng.random(size) < 0.2] = np.nan
    weight = rng.choice([0.25, 0.5, 1.0], size)
    got = weighted_medians(group, value, weight, groups)
    for g in range(groups):
        pairs = sorted((v, w) for v, w, k in zip(value, weight, group, strict=True) if k == g and v == v)
        running, expected = 0.0, np.nan
        for v, w in pairs:
            running += w
            if running >= sum(w for _, w in pairs) / 2:
                expected = v
                break
        assert got[g] == expected or (np.isnan(got[g]) and np.isnan(expected))


def test_medians_of_parcels_across_blocks(tmp_path: Path) -> None:
    rng, grid = np.random.default_rng(3), small_grid()
    shapes = [shape(kind, rng, grid) for kind in ("triangle", "hole", "multi", "all", "sliver")]
    values, good = rng.random((1, grid.height, grid.width)), rng.random((1, grid.height, grid.width)) > 0.3
    got = medians(Coverage(build(grid, [bytes(shapely.to_wkb(s)) for s in shapes], tmp_path)), whole(values, good))
    frame = geopandas.GeoDataFrame(geometry=shapes, crs=CRS)
    raster = NumPyRasterSource(np.where(good[0], values[0], -1), *grid.bounds, srs_wkt=frame.crs.to_wkt())
    rows = exact_extract(raster, frame, ["values", "coverage"], output="pandas")
    for i, (v, w) in enumerate(zip(rows["values"], rows["coverage"], strict=True)):
        there = v >= 0
        order = np.argsort(v[there])
        cumulated = np.cumsum(w[there][order])
        assert got[i] == v[there][order][np.searchsorted(cumulated, cumulated[-1] / 2)]


def test_weights_are_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grid, wkb = small_grid(), [bytes(shapely.to_wkb(shapely.Point(CORNER[0] + 99, CORNER[1] - 99).buffer(30)))]
    first = build(grid, wkb, tmp_path)
    monkeypatch.setattr(module, "_matrix", lambda *_: pytest.fail("computed again"))
    assert build(grid, wkb, tmp_path) == first
    assert sorted(p.name for p in tmp_path.iterdir()) == [first.name]


def test_keys_tell_grids_and_parcels_apart() -> None:
    a, b = (bytes(shapely.to_wkb(shapely.Point(0, 0).buffer(r))) for r in (1, 2))
    keys = {key(small_grid(), [a]), key(small_grid(), [b]), key(small_grid(), [a, b]), key(small_grid(pixel=20), [a])}
    assert len(keys) == 4


def test_no_parcel_makes_an_empty_matrix(tmp_path: Path) -> None:
    far = bytes(shapely.to_wkb(shapely.box(0, 0, 10, 10)))
    found = Coverage(build(small_grid(), [far], tmp_path))
    assert list(found.parts()) == []
    assert found.totals.tolist() == [0]
    assert sums(found, 2, whole(np.zeros((2, 50, 60)), np.ones((2, 50, 60), bool))).share.tolist() == [[0, 0]]
    assert choose(found, 0.5, 4).counts.tolist() == [0]


def test_pixel_sets_hold_the_pixels_a_parcel_covers_most(tmp_path: Path) -> None:
    x, y = CORNER
    shapes = [
        shapely.box(x + 2, y - 40, x + 40, y),  # first column by 0.8
        shapely.box(x + 106, y - 10, x + 124, y),  # 0.4, 1, 0.4
        shapely.box(x + 203, y - 2, x + 205, y - 1),  # less than half of its only pixel
    ]
    found = Coverage(build(small_grid(), [bytes(shapely.to_wkb(s)) for s in shapes], tmp_path))
    chosen = choose(found, 0.5, 100)
    assert chosen.counts.tolist() == [16, 1, 1]
    assert list(zip(chosen.down[:5], chosen.across[:5], strict=True)) == [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0)]
    assert (chosen.down[16], chosen.across[16], chosen.across[17]) == (0, 11, 20)
    some = choose(found, 0.5, 5)
    assert some.counts.tolist() == [5, 1, 1]
    places = some.down[:5] * 4 + some.across[:5]
    assert len(set(places.tolist())) == 5
    assert np.diff(places).max() <= 4  # spread over all sixteen
    down, across = chosen.on(small_grid(), small_grid(30, 25, 20.0))
    assert (down[4], across[3]) == (0, 1)
    with pytest.raises(ValueError, match="whole ratios of pixel sizes"):
        chosen.on(small_grid(), small_grid(40, 30, 15.0))
