"""Distances from block sums against double loops; shares against known mixtures."""

from __future__ import annotations

import numpy as np
import pytest

from eo_adapt.diagnosis.blocks import redraw, spread
from eo_adapt.diagnosis.discrepancy import Sums, mix, squared_distance
from eo_adapt.diagnosis.repairs import by_block
from eo_adapt.diagnosis.space import Kernel, Space, class_directions, within_covariance


def brute(x: np.ndarray, y: np.ndarray, bx: np.ndarray, by: np.ndarray) -> float:
    def mean(a: np.ndarray, b: np.ndarray, p: np.ndarray, q: np.ndarray) -> float:
        pairs = [a[i] @ b[j] for i in range(len(a)) for j in range(len(b)) if p[i] != q[j]]
        return float(np.mean(pairs))

    return mean(x, x, bx, bx) + mean(y, y, by, by) - 2 * mean(x, y, bx, by)


def test_squared_distance_counts_pairs_of_different_blocks_only() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(12, 5)), rng.normal(size=(9, 5)) + 0.5
    bx, by = rng.integers(0, 4, 12), rng.integers(2, 7, 9)  # blocks 2 and 3 lie in both
    sums = Sums.of(x, bx, rng.integers(0, 3, 12), 7, 3)
    assert squared_distance(sums.mass(), by_block(y, by, 7)) == pytest.approx(brute(x, y, bx, by), rel=1e-5)


def test_it_is_zero_on_average_however_alike_a_village_is() -> None:
    rng = np.random.default_rng(1)
    found, naive = [], []
    for _ in range(300):
        village = rng.normal(size=(20, 3))
        rows = np.repeat(village, 10, axis=0) + 0.1 * rng.normal(size=(200, 3))
        block = np.repeat(np.arange(20), 10)
        a, b = by_block(rows[:100], block[:100], 20), by_block(rows[100:], block[100:], 20)
        found.append(squared_distance(a, b))
        naive.append(float(np.square(a.mean() - b.mean()).sum()))
    error = np.std(found) / np.sqrt(len(found))
    assert abs(np.mean(found)) < 3 * error
    assert np.mean(naive) > 10 * error


def test_a_side_with_one_block_has_no_distance() -> None:
    one = by_block(np.ones((3, 2)), np.zeros(3, int), 2)
    assert np.isnan(squared_distance(one, by_block(np.ones((3, 2)), np.ones(3, int), 2)))


def test_sums_of_classes_at_given_shares() -> None:
    rng = np.random.default_rng(2)
    x, block, label = rng.normal(size=(30, 4)), rng.integers(0, 5, 30), rng.integers(0, 3, 30)
    sums = Sums.of(x, block, label, 5, 3)
    means, n = sums.means()
    for k in range(3):
        assert means[k] == pytest.approx(x[label == k].mean(0), rel=1e-5)
        assert n[k] == (label == k).sum()
    shares = np.array([0.2, 0.5, 0.3])
    assert sums.mass(shares).mean() == pytest.approx(shares @ means, rel=1e-5)
    twice = np.array([2.0, 0, 1, 1, 1])
    rows = np.concatenate([np.flatnonzero(block == j) for j in (0, 0, 2, 3, 4)])
    assert sums.mass(None, twice).mean() == pytest.approx(x[rows].mean(0), rel=1e-5)
    assert sums.only((block == 0)[:5] * 0 + np.array([1.0, 0, 0, 0, 0])).counts.sum() == (block == 0).sum()


def test_mix_finds_the_shares_of_a_mixture() -> None:
    rng = np.random.default_rng(3)
    means, shares = rng.normal(size=(4, 50)), np.array([0.1, 0.0, 0.6, 0.3])
    assert mix(means, np.ones(4), shares @ means) == pytest.approx(shares, abs=1e-4)
    absent = mix(means, np.array([1, 1, 0, 1]), shares @ means)
    assert absent[2] == 0
    assert absent.sum() == pytest.approx(1)
    present = np.array([1.0, 2, 3, 4])
    assert mix(means, present, shares @ means, hold=1e6) == pytest.approx(present / 10, abs=1e-3)


def test_kernel_features_approach_the_gaussian() -> None:
    rng = np.random.default_rng(4)
    rows = rng.normal(size=(40, 3))
    square = ((rows[:, None] - rows) ** 2).sum(-1)
    kernel = Kernel.fit(rows, 1.0, rng, features=20_000)
    gauss = np.exp(-square / (2 * np.median(square[np.triu_indices(40, 1)])))
    assert kernel(rows) @ kernel(rows).T == pytest.approx(gauss, abs=0.05)


def test_the_space_does_not_mind_units_and_measures_in_spreads_of_a_class() -> None:
    rng = np.random.default_rng(5)
    label = rng.integers(0, 8, 400)
    x = rng.normal(size=(400, 6, 2)) + rng.normal(size=(8, 6, 2))[label] * 2
    y = rng.normal(size=(300, 6, 2)) + 0.3
    a, b = Space.fit(x, label, y), Space.fit(x * [1, 1000], label, y * [1, 1000])
    assert np.abs(a(x)) == pytest.approx(np.abs(b(x * [1, 1000])), abs=1e-5)
    within = within_covariance(a(x), label, shrink=0.0)
    assert np.diag(within) == pytest.approx(np.ones(a(x).shape[1]), abs=0.35)
    assert a(x).shape[1] == 7
    assert a(x, wide=True).shape[1] == 12
    lead = class_directions(a(x), label)
    assert lead.T @ lead == pytest.approx(np.eye(7), abs=1e-9)


def test_blocks_are_drawn_and_spread_whole() -> None:
    rng = np.random.default_rng(6)
    a, b = np.repeat([0, 1, 2, 3], 5), np.repeat([2, 3, 4, 5, 6], 5)  # 2 and 3 lie in both: the first owns them
    factor = redraw([a, b], 8, rng)
    assert factor[:4].sum() == 4
    assert factor[4:7].sum() == 3
    assert factor[7] == 0
    fold = spread([a, b], 8, 2, rng)
    assert sorted(np.bincount(fold[:4]).tolist()) == [2, 2]
    assert fold[7] == -1
