"""Proxy A-distance: how well can a classifier tell two domains apart, at places it has not seen?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .blocks import redraw

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Probe = Literal["linear", "trees"]
DRAWS = 200


@dataclass(frozen=True)
class ADistance:
    """Proxy A-distance in [0, 2], and the 95 % interval of drawing other villages to be told apart."""

    value: float
    low: float
    high: float


def a_distance(
    a: Floats,
    b: Floats,
    block_a: Ints | None = None,
    block_b: Ints | None = None,
    probe: Probe = "linear",
    folds: int = 5,
    repeats: int = 5,
    seed: int = 0,
) -> ADistance:
    """2 (1 - 2 error) of a probe, its balanced error cross-validated and cut off at one half.

    With blocks, a block is in one fold as a whole: a probe must not learn a village by heart and be praised for
    recognising it. The interval comes from drawing blocks of each domain with replacement and scoring the held-out
    guesses of their rows again; the probes are not fitted anew, so what another training set would change is not in it.

    Args:
        a: (N, D) one domain.
        b: (M, D) the other.
        block_a: (N,) spatial blocks; None = each row by itself.
        block_b: (M,) theirs; numbers are shared with ``block_a`` where places are.
        probe: ``linear``: ridge classifier on standardised features. ``trees``: extremely randomised trees.
        folds: Parts of the cross-validation; fewer where a side has fewer blocks.
        repeats: With other folds each.
        seed: Of the folds.

    Returns:
        nan where a side has fewer than two blocks.

    Source: Ben-David et al. 2007 (NIPS); balanced error instead of error, because domains differ in size.
    """
    x = np.concatenate([a, b])
    side = np.repeat([0, 1], [len(a), len(b)])
    mine = np.arange(len(a)) if block_a is None else np.asarray(block_a)
    theirs = len(a) + np.arange(len(b)) if block_b is None else np.asarray(block_b)
    group = np.unique(np.concatenate([mine, theirs]), return_inverse=True)[1]
    parts = min(folds, len(np.unique(mine)), len(np.unique(theirs)))
    if parts < 2:
        return ADistance(float("nan"), float("nan"), float("nan"))
    rng = np.random.default_rng(seed)
    right = np.array([_guess(x, side, _folds(group, side, parts, rng), probe) == side for _ in range(repeats)])
    sides = [group[side == which] for which in (0, 1)]
    drawn = [redraw(sides, int(group.max()) + 1, rng)[group] for _ in range(DRAWS)]
    both = [weight for weight in drawn if weight[side == 0].any() and weight[side == 1].any()]
    low, high = np.quantile([_distance(right, side, weight) for weight in both], [0.025, 0.975])
    value = _distance(right, side, np.ones(len(x)))
    return ADistance(value, min(float(low), value), max(float(high), value))


def _distance(right: NDArray[np.bool_], side: Ints, weight: Floats) -> float:
    """Mean over repeats of 2 (1 - 2 error), error balanced and at most one half; right (R, N), weight (N,)."""
    recall = [right[:, side == which] @ weight[side == which] / weight[side == which].sum() for which in (0, 1)]
    error = np.minimum(0.5, 1 - np.mean(recall, 0))
    return float(np.mean(2 * (1 - 2 * error)))


def _folds(group: Ints, side: Ints, parts: int, rng: np.random.Generator) -> Ints:
    """Fold of each row: blocks of each side are dealt out in random order, so that every fold has both sides."""
    fold: dict[int, int] = {}
    for which in (0, 1):
        fresh = [g for g in rng.permutation(np.unique(group[side == which])).tolist() if g not in fold]
        fold |= {g: i % parts for i, g in enumerate(fresh)}
    return np.array([fold[g] for g in group.tolist()])


def _guess(x: Floats, side: Ints, fold: Ints, probe: Probe) -> Ints:
    """(N,) side that each row is taken for by a probe fitted on the other folds."""
    guess = np.empty(len(x), dtype=np.int64)
    for part in np.unique(fold):
        seen, left = fold != part, fold == part
        if len(np.unique(side[seen])) < 2:
            guess[left] = side[seen][0]
            continue
        guess[left] = _classifier(probe).fit(x[seen], side[seen]).predict(x[left])
    return guess


def _classifier(probe: Probe) -> Any:
    from sklearn.ensemble import ExtraTreesClassifier
    from sklearn.linear_model import RidgeClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if probe == "linear":
        return make_pipeline(StandardScaler(), RidgeClassifier(class_weight="balanced"))
    if probe == "trees":
        # Boosted histograms with class weights take seconds a fit: they bin by weighted percentiles.
        return ExtraTreesClassifier(50, min_samples_leaf=3, class_weight="balanced", random_state=0)
    raise ValueError(f"probe must be one of ['linear', 'trees']; got {probe!r}")
