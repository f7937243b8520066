"""The ground: what lies between its points, and what the filter takes for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import LinearNDInterpolator
from scipy.spatial import QhullError

from eo_adapt.data.lidar.cloud import Cloud
from eo_adapt.data.lidar.frame import Frame
from eo_adapt.data.lidar.ground import GroundFilter, between, nearest
from eo_adapt.data.lidar.rasterise import rasterise
from eo_adapt.data.synthetic.lidar import LidarSite, scan, write_cloud


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 999), share=st.floats(0.02, 0.98), size=st.tuples(st.integers(1, 40), st.integers(1, 40)))
def test_gaps_in_a_plane_are_filled_with_the_plane(seed: int, share: float, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(seed)
    there = rng.random(size) < share
    there[0, 0] = True
    plane = np.add.outer(0.3 * np.arange(size[0]), 7 - 0.2 * np.arange(size[1]))
    found = between(np.where(there, plane, 9e9), there)
    assert found.shape == size
    np.testing.assert_array_equal(found[there], plane[there])
    corners = np.argwhere(there)
    try:
        wanted = LinearNDInterpolator(corners, plane[there])(np.argwhere(~there))
    except QhullError:  # no triangle: the nearest one then
        wanted = np.full((~there).sum(), np.nan)
    known = np.isfinite(wanted)
    np.testing.assert_allclose(found[~there][known], plane[~there][known], atol=1e-9)
    assert np.isfinite(found).all()
    assert found.max() <= plane[there].max() + 1e-9


def test_scattered_corners_give_the_same_surface_as_scipys_triangles() -> None:
    """With few pixels no four corners lie on a circle, so there is one triangulation."""
    rng = np.random.default_rng(1)
    there = rng.random((90, 70)) < 0.02
    heights = rng.random((90, 70))
    wanted = LinearNDInterpolator(np.argwhere(there), heights[there])(np.argwhere(~there))
    known = np.isfinite(wanted)
    close = np.isclose(between(heights, there)[~there][known], wanted[known])
    assert close.mean() > 0.99


def test_nothing_to_go_by_is_an_error_and_one_pixel_is_enough() -> None:
    with pytest.raises(ValueError, match="no pixel to interpolate from"):
        between(np.zeros((2, 2)), np.zeros((2, 2), bool))
    one = np.zeros((3, 3), bool)
    one[1, 1] = True
    np.testing.assert_array_equal(between(np.arange(9.0).reshape(3, 3), one), np.full((3, 3), 4.0))
    np.testing.assert_array_equal(nearest(np.arange(9.0).reshape(3, 3), one), np.full((3, 3), 4.0))


def test_the_filter_lifts_a_house_off_a_slope_but_not_the_slope() -> None:
    slope = np.add.outer(0.2 * np.arange(80), np.zeros(80))
    lowest = slope.copy()
    lowest[30:45, 20:40] += 6.0
    lowest[60, 60] = np.inf
    found = GroundFilter().surface(lowest, 1.0)
    np.testing.assert_allclose(found, slope, atol=0.25)
    narrow = GroundFilter(widest=5.0).surface(lowest, 1.0)
    assert narrow[37, 30] - slope[37, 30] > 5  # wider than the widest window: stays


def test_the_filter_needs_sensible_options() -> None:
    for wrong in ({"cell": 0.0}, {"slope": -1.0}, {"most": 0.1}, {"widest": 2.0}):
        with pytest.raises(ValueError, match="a ground filter needs cell, slope, first > 0"):
            GroundFilter(**wrong)


@pytest.mark.parametrize("density", [1.0, 12.0])
def test_the_filter_finds_the_simulated_ground(tmp_path: Path, density: float) -> None:
    site = LidarSite(density=density, trees=60.0, relief=8.0)
    cloud = scan(site, 96.0, np.random.default_rng(0))
    cloud["xyz"] += [7e5, 6.6e6, 0]
    write_cloud(tmp_path / "a.laz", **cloud, crs="EPSG:2154")
    frame = Frame.around((7e5, 6.6e6, 7e5 + 95.9, 6.6e6 + 95.9), "EPSG:2154", 1.0)
    known, found = (rasterise([Cloud(tmp_path / "a.laz")], frame, ("dtm",), how) for how in ("class", "filter"))
    assert (known.filtered, found.filtered) == (False, True)
    error = np.abs(known.band("dtm") - found.band("dtm"))
    assert np.median(error) < 0.1
    assert (error < 0.5).mean() > 0.9
