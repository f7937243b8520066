"""Scores of maps against numpy, torchmetrics and a bootstrap written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional.classification import multiclass_jaccard_index

from eo_adapt.data.scenes.flair_classes import flair_classes
from eo_adapt.metrics import FLAIR12, confusion, flair_scores, iou_interval, map_scores, mean_iou

RNG = np.random.default_rng(0)


def ious(matrix: np.ndarray, classes: list[int]) -> list[float]:
    """Intersection over union, one class after the other."""
    return [
        matrix[k, k] / (matrix[k].sum() + matrix[:, k].sum() - matrix[k, k])
        for k in classes
        if matrix[k].sum() + matrix[:, k].sum()
    ]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=50))
@settings(deadline=None, max_examples=40)
def test_mean_iou_is_that_of_numpy_and_torchmetrics(pairs: list[tuple[int, int]]) -> None:
    truth, guess = np.array(pairs).T
    there = sorted(set(truth.tolist()))
    each = [((truth == k) & (guess == k)).sum() / ((truth == k) | (guess == k)).sum() for k in there]
    matrix = confusion(torch.tensor(truth), torch.tensor(guess), 4)
    assert mean_iou(matrix) == pytest.approx(np.mean(each))
    theirs = multiclass_jaccard_index(torch.tensor(guess), torch.tensor(truth), 4, average="none")
    assert mean_iou(matrix) == pytest.approx(float(theirs[there].mean()), abs=1e-6)


def test_closed_iou_looks_at_pixels_of_shared_classes_only() -> None:
    truth, guess = torch.tensor([0, 0, 1, 2, 2]), torch.tensor([0, 1, 1, 0, 2])
    matrices = confusion(truth, guess, 3)[None]
    got = map_scores(matrices, ["z"], ["a", "b", "private"], ["a", "b"])
    assert got["closed_miou"] == pytest.approx((1 / 2 + 1 / 2) / 2)
    assert got["miou"] == pytest.approx((1 / 3 + 1 / 2 + 1 / 2) / 3)
    assert got["n"] == 5
    assert math.isnan(got["closed_miou_interval"]["lower"])  # one zone tells nothing of its variation
    assert math.isnan(mean_iou(torch.zeros(2, 2)))


def test_the_interval_draws_zones_not_patches() -> None:
    matrices = torch.from_numpy(RNG.integers(0, 30, (12, 3, 3)))
    zones = [f"z{i // 3}" for i in range(12)]
    found = iou_interval(matrices, zones, draws=4000)
    summed = matrices.numpy().reshape(4, 3, 3, 3).sum(1)
    mine = [np.mean(ious(summed[RNG.integers(0, 4, 4)].sum(0), [0, 1, 2])) for _ in range(4000)]
    np.testing.assert_allclose([found["lower"], found["upper"]], np.quantile(mine, [0.025, 0.975]), atol=0.006)
    assert found["zones"] == 4
    assert found == iou_interval(matrices, zones, draws=4000), "the same numbers give the same interval"
    whole = mean_iou(matrices.sum(0))
    assert found["lower"] < whole < found["upper"]


def test_alike_patches_of_few_zones_say_less_than_they_seem() -> None:
    zone = torch.from_numpy(RNG.integers(0, 30, (5, 3, 3)))
    copies, names = zone.repeat_interleave(20, 0), [str(i // 20) for i in range(100)]
    by_zone, by_patch = iou_interval(copies, names), iou_interval(copies, list(map(str, range(100))))
    assert by_zone["upper"] - by_zone["lower"] > 2 * (by_patch["upper"] - by_patch["lower"])


def test_classes_beside_the_twelve_are_joined_before_they_are_scored() -> None:
    all19, joined = flair_classes("flair19").names, flair_classes("flair13").names
    names13 = tuple(dict.fromkeys(joined.values()))
    matrix = RNG.integers(0, 50, (19, 19))
    place = [names13.index(joined[number]) for number in all19]
    small = np.zeros((13, 13), matrix.dtype)
    for i in range(19):
        for j in range(19):
            small[place[i], place[j]] += matrix[i, j]
    whole = flair_scores(torch.from_numpy(matrix), tuple(all19.values()))
    assert set(whole) == {"miou_12", "miou_13", "miou_flair1"}
    assert whole == pytest.approx(flair_scores(torch.from_numpy(small), names13))


def test_flair_protocols_by_numpy() -> None:
    names = tuple(dict.fromkeys(flair_classes("flair13").names.values()))
    order = tuple(RNG.permutation(names).tolist())  # joined by name, wherever a class stands
    matrix = RNG.integers(0, 50, (13, 13))
    snowless = order.index("water")
    matrix[snowless], matrix[:, snowless] = 0, 0  # nowhere: left out
    twelve, other = [order.index(n) for n in FLAIR12], order.index("other")
    forgiven = matrix.copy()
    forgiven[other], forgiven[:, other] = 0, 0
    got = flair_scores(torch.from_numpy(matrix), order)
    assert got["miou_12"] == pytest.approx(np.mean(ious(matrix, twelve)))
    assert got["miou_13"] == pytest.approx(np.mean(ious(matrix, [*twelve, other])))
    assert got["miou_flair1"] == pytest.approx(np.mean(ious(forgiven, twelve)))
    assert got["miou_flair1"] > got["miou_12"]
    kept = np.ix_([order.index(n) for n in FLAIR12], [order.index(n) for n in FLAIR12])
    assert flair_scores(torch.from_numpy(matrix[kept]), FLAIR12) == pytest.approx({"miou_flair1": got["miou_flair1"]})
    assert flair_scores(torch.from_numpy(matrix[:11, :11]), FLAIR12[:11]) == {}
