"""Boundary scores against a walk over all pixels and scipy's exact distances."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt

from eo_adapt.boundaries import COUNTS, boundary_counts, boundary_scores, outlines


def blobs(shape: tuple[int, int, int], classes: int, seed: int, unknown: float = 0.0) -> np.ndarray:
    """Maps of blocks of two pixels, with single pixels that are not known."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, classes, (shape[0], -(-shape[1] // 2), -(-shape[2] // 2)))
    large = small.repeat(2, 1).repeat(2, 2)[:, : shape[1], : shape[2]]
    return np.where(rng.random(shape) < unknown, -1, large)


def outline(classes: np.ndarray, k: int) -> np.ndarray:
    """(H, W) pixels of class k beside a known pixel of another class, one after the other."""
    height, width = classes.shape
    found = np.zeros((height, width), bool)
    for i in range(height):
        for j in range(width):
            beside = [(i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)]
            others = [classes[a, b] for a, b in beside if 0 <= a < height and 0 <= b < width]
            found[i, j] = classes[i, j] == k and any(c not in (-1, k) for c in others)
    return found


def counted(truth: np.ndarray, guess: np.ndarray, k: int, tolerance: int) -> list[int]:
    """The four counts of one class in one patch, with exact distances."""
    mine, its = outline(truth, k), outline(np.where(truth < 0, -1, guess), k)
    far = np.full(truth.shape, np.inf)
    to_its, to_mine = (distance_transform_edt(~x) if x.any() else far for x in (its, mine))
    return [mine.sum(), (mine & (to_its <= tolerance)).sum(), its.sum(), (its & (to_mine <= tolerance)).sum()]


@given(st.integers(1, 3), st.integers(1, 13), st.integers(1, 13), st.integers(1, 4), st.integers(0, 99))
@settings(deadline=None, max_examples=40)
def test_counts_are_those_of_a_walk_over_all_pixels(b: int, height: int, width: int, tolerance: int, seed: int) -> None:
    truth, guess = blobs((b, height, width), 3, seed, 0.15), blobs((b, height, width), 3, seed + 1)
    got = boundary_counts(torch.from_numpy(truth), torch.from_numpy(guess), 4, tolerance)
    want = [[counted(t, g, k, tolerance) for k in range(4)] for t, g in zip(truth, guess, strict=True)]
    assert got.tolist() == want


def test_scores_are_ratios_of_summed_counts() -> None:
    counts = torch.tensor([[40, 30, 50, 20], [0, 0, 10, 0], [8, 0, 0, 0], [0, 0, 0, 0]])
    got = boundary_scores(counts, ["field", "pool", "road", "lava"], 2)
    assert got["per_class"]["field"] == {
        "true": 40, "predicted": 50, "precision": 0.4, "recall": 0.75, "f1": pytest.approx(2 / (1 / 0.4 + 1 / 0.75)),
    }  # fmt: skip
    for name in ("pool", "road", "lava"):
        assert got["per_class"][name]["f1"] == got["per_class"][name]["precision"] == 0
    assert got["f1"] == pytest.approx((got["per_class"]["field"]["f1"] + 0) / 2)  # field and road have true outlines
    assert got["tolerance_px"] == 2
    assert math.isnan(boundary_scores(counts[3:], ["lava"], 2)["f1"])
    assert len(COUNTS) == 4


def test_a_moved_edge_is_forgiven_up_to_the_tolerance() -> None:
    truth = torch.zeros(1, 8, 20, dtype=torch.long)
    truth[..., 10:] = 1
    for moved in (0, 1, 2, 3, 4):
        guess = torch.zeros_like(truth)
        guess[..., 10 - moved :] = 1
        counts = boundary_counts(truth, guess, 2, 3).sum(0)
        f1 = boundary_scores(counts, ["a", "b"], 3)["f1"]
        assert f1 == (1 if moved <= 3 else 0)


def test_what_is_not_labelled_is_left_out_of_both_maps() -> None:
    truth = torch.zeros(1, 6, 12, dtype=torch.long)
    truth[..., 6:] = -1
    guess = torch.zeros_like(truth)
    guess[..., 5:] = 1  # its edge lies between labelled pixels
    assert boundary_counts(truth, guess, 2, 1)[0].tolist() == [[0, 0, 6, 0], [0, 0, 6, 0]]
    guess = torch.zeros_like(truth)
    guess[..., 8:] = 1  # where nobody knows
    assert boundary_counts(truth, guess, 2, 1).sum() == 0
    assert not outlines(torch.full((2, 3, 3), -1)).any()


def test_a_tolerance_of_no_pixel_is_refused() -> None:
    with pytest.raises(ValueError, match="pixels >= 1; got 0"):
        boundary_counts(torch.zeros(1, 2, 2), torch.zeros(1, 2, 2), 2, 0)
