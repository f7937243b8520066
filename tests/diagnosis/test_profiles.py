"""Bins, interpolation and moves, each against a loop."""

from __future__ import annotations

import numpy as np
import pytest

from eo_adapt.diagnosis.profiles import (
    bin_edges,
    bin_series,
    interpolate,
    shape_of,
    typical_step,
    vegetation_index,
)


@pytest.fixture
def series() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    days = np.sort(rng.integers(0, 360, (6, 30)), axis=1)
    valid = rng.random((6, 30)) < 0.7
    return rng.normal(size=(6, 30, 2)), days, valid


def test_bins_are_means_over_valid_dates(series: tuple[np.ndarray, ...]) -> None:
    values, days, valid = series
    edges = np.arange(0, 361, 40.0)
    means, centre, counts = bin_series(values, days, valid, edges)
    for i in range(6):
        for b in range(9):
            here = valid[i] & (days[i] >= edges[b]) & (days[i] < edges[b + 1])
            assert counts[i, b] == here.sum()
            if here.any():
                assert means[i, b] == pytest.approx(values[i, here].mean(0))
                assert centre[i, b] == pytest.approx(days[i, here].mean())


def test_invalid_dates_have_no_influence(series: tuple[np.ndarray, ...]) -> None:
    values, days, valid = series
    edges = np.arange(0, 361, 40.0)
    spoilt = np.where(valid[..., None], values, 1e9)
    for a, b in zip(bin_series(values, days, valid, edges), bin_series(spoilt, days, valid, edges), strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize("move", [0.0, 17.0, -30.0])
def test_profiles_are_lines_between_bins(series: tuple[np.ndarray, ...], move: float) -> None:
    values, days, valid = series
    edges, at = np.arange(0, 361, 20.0), np.arange(5.0, 360, 11)
    means, centre, counts = bin_series(values, days, valid, edges)
    found = interpolate(means, centre, counts, at, move)
    for i in range(6):
        there = counts[i] > 0
        for band in range(2):
            line = np.interp(at, centre[i, there] + move, means[i, there, band])
            assert found[i, :, band] == pytest.approx(line)


def test_a_parcel_without_dates_is_refused() -> None:
    with pytest.raises(ValueError, match="1 parcels have no valid date"):
        interpolate(np.zeros((1, 3, 1)), np.zeros((1, 3)), np.zeros((1, 3), int), np.array([1.0]))


def test_composites_keep_their_spacing_and_dense_series_get_bins_of_15_days() -> None:
    composites = np.tile(np.arange(0, 360, 16), (4, 1))
    assert typical_step(composites, np.ones_like(composites, bool)) == 16
    edges = bin_edges(composites.ravel(), 16)
    assert np.bincount(np.searchsorted(edges, composites[0]) - 1).tolist() == [1] * 23
    assert np.diff(bin_edges(np.arange(365), 5))[0] == 15
    assert typical_step(composites[:, :1], np.ones((4, 1), bool)) == 0


def test_indices_and_shapes() -> None:
    values = np.array([[[0.1, 0.3]]])
    assert vegetation_index(values, ("B04", "B08"))[0] == pytest.approx(0.5)
    assert vegetation_index(values, ("ndvi", "x"))[1] == "NDVI"
    assert vegetation_index(values, ("VV", "VH"))[1] == "VV"
    assert shape_of(np.array([[1.0, 3.0, 2.0]])).tolist() == [[0, 1, 0.5]]
    assert np.isfinite(shape_of(np.ones((1, 3)))).all()
