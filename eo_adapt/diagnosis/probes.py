"""Proxy A-distance: how well can a classifier tell two domains apart, at places it has not seen?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Probe = Literal["linear", "trees"]


@dataclass(frozen=True)
class ADistance:
    """Proxy A-distance in [0, 2] and its interval: 95 % t interval over repeats with other folds."""

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
    recognising it.

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
    group = np.concatenate([mine, theirs])
    parts = min(folds, len(np.unique(mine)), len(np.unique(theirs)))
    if parts < 2:
        return ADistance(float("nan"), float("nan"), float("nan"))
    rng = np.random.default_rng(seed)
    found = np.array([_once(x, side, _folds(group, side, parts, rng), probe) for _ in range(repeats)])
    half = 0.0 if repeats < 2 else _t(repeats) * found.std(ddof=1) / np.sqrt(repeats)
    value = float(found.mean())
    return ADistance(value, max(0.0, value - half), min(2.0, value + half))


def _t(n: int) -> float:
    from scipy import stats

    return float(stats.t.ppf(0.975, n - 1))


def _folds(group: Ints, side: Ints, parts: int, rng: np.random.Generator) -> Ints:
    """Fold of each row: blocks of each side are dealt out in random order, so that every fold has both sides."""
    fold: dict[int, int] = {}
    for which in (0, 1):
        fresh = [g for g in rng.permutation(np.unique(group[side == which])).tolist() if g not in fold]
        fold |= {g: i % parts for i, g in enumerate(fresh)}
    return np.array([fold[g] for g in group.tolist()])


def _once(x: Floats, side: Ints, fold: Ints, probe: Probe) -> float:
    guess = np.empty(len(x), dtype=np.int64)
    for part in np.unique(fold):
        seen, left = fold != part, fold == part
        if len(np.unique(side[seen])) < 2:
            guess[left] = side[seen][0]
            continue
        guess[left] = _classifier(probe).fit(x[seen], side[seen]).predict(x[left])
    recall = [float((guess[side == which] == which).mean()) for which in (0, 1)]
    error = min(0.5, 1 - float(np.mean(recall)))
    return 2 * (1 - 2 * error)


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
