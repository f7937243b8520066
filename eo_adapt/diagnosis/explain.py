"""How much of the distance between two domains each cause accounts for, and how much it would among random villages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np

from .discrepancy import squared_distance
from .profiles import Floats, Mask
from .repairs import CALENDAR, PRIORS, PRIVATE, RADIOMETRY, Comparison, Half, Repair, by_block, fit, halves, judge
from .scene import Dates, Scene

GAPS = "gaps"
FOLDS = 4  # random halvings of the blocks
NULLS = 40
Left = Mapping[frozenset[str], float]  # repairs -> distance that they leave


@dataclass(frozen=True)
class Cause:
    """What one repair removes of the distance.

    Attributes:
        alone: Distance it removes when nothing else is repaired.
        value: Its Shapley value: the mean of what it removes, over all orders in which causes may be repaired.
        null_alone: 95 % quantile of ``alone`` between random halves of the source's blocks.
        null_value: The same of ``value``.
    """

    alone: float
    value: float
    null_alone: float
    null_value: float


@dataclass(frozen=True)
class Explanation:
    """The distance between source and target, and its causes.

    Attributes:
        profiles: Squared distance of the bands' profiles; about 0 where domains are alike, may be negative.
        dates: Squared distance of the numbers of valid dates a bin.
        null_profiles: 95 % quantile of it between random halves of the source's blocks, for this many blocks.
        null_dates: The same for ``dates``.
        classes: Mean squared distance of two source classes, to compare with.
        causes: Cause -> what its repair removes.
        left: Distance of the profiles that all repairs together leave.
        shares: Source class -> share with which the source comes closest to the target, everything else repaired too.
        removed: Share of the target's parcels taken out as classes that the source lacks.
    """

    profiles: float
    dates: float
    null_profiles: float
    null_dates: float
    classes: float
    causes: Mapping[str, Cause]
    left: float
    shares: Mapping[str, float]
    removed: float

    @property
    def distance(self) -> float:
        """Both distances together."""
        return self.profiles + self.dates

    @property
    def found(self) -> bool:
        """Whether the domains differ more than halves of the source do."""
        return self.profiles > self.null_profiles or self.dates > self.null_dates


def explain(scene: Scene, seed: int, folds: int = FOLDS, nulls: int = NULLS) -> Explanation:
    """Fit every set of repairs, on half of the blocks, and judge it on the other half.

    Args:
        scene: The two domains.
        seed: Of the halves.
        folds: Random halvings of the blocks.
        nulls: Random halvings of the source's blocks for the null.
    """
    rng = np.random.default_rng(seed)
    players = [CALENDAR, RADIOMETRY, PRIORS, PRIVATE]
    players = [p for p, there in zip(players, _possible(scene), strict=True) if there]
    c = scene.comparison()
    left, repairs = leave(c, players, [halves([scene.block, scene.target_block], scene.blocks, rng) for _ in range(folds)])
    profiles = squared_distance(c.source(c.home, False).mass(), by_block(c.target, c.block, scene.blocks))
    dates, gaps = thin_out(scene.dates, scene.target_dates, scene.block, scene.target_block, scene.blocks, profiles)
    null = null_of(scene, players, rng, nulls)
    whole = [r for r in repairs if r[0] == frozenset(players)]
    causes = {
        p: Cause(left[frozenset()] - left[frozenset({p})], value, *(null[p, what] for what in ("alone", "value")))
        for p, value in shapley(players, left).items()
    }
    return Explanation(
        profiles,
        dates,
        null["distance", "profiles"],
        null["distance", "dates"],
        class_distance(scene),
        {**causes, GAPS: Cause(gaps, gaps, null[GAPS, "alone"], null[GAPS, "alone"])},
        left[frozenset(players)],
        dict(zip(scene.names, np.mean([r.shares for _, r in whole], 0).tolist(), strict=True)),
        float(np.mean([r.removed for _, r in whole])),
    )


def _possible(scene: Scene) -> tuple[bool, bool, bool, bool]:
    """Which of calendar, radiometry, priors, private classes can be repaired at all."""
    return len(scene.moves) > 1, True, len(scene.names) > 1, scene.private or bool(scene.absent.any())


def leave(c: Comparison, players: Sequence[str], folds: Sequence[np.ndarray]) -> tuple[Left, list[tuple[frozenset[str], Repair]]]:
    """Distance that each set of repairs leaves, mean over folds and halves; and what was fitted."""
    sets = [frozenset(s) for n in range(len(players) + 1) for s in combinations(players, n)]
    found: dict[frozenset[str], list[float]] = {s: [] for s in sets}
    repairs = []
    for fold in folds:
        parts = [Half(c, fold, part) for part in (0, 1)]
        for s in sets:
            for one, other in (parts, parts[::-1]):
                fitted = fit(one, s)
                repairs.append((s, fitted))
                found[s].append(judge(other, s, fitted))
    return {s: float(np.nanmean(v)) for s, v in found.items()}, repairs


def shapley(players: Sequence[str], left: Left) -> dict[str, float]:
    """Player -> its Shapley value of ``left[no repair] - left[repairs]``; the values sum to what all remove together."""
    n = len(players)
    values = {}
    for p in players:
        others = [q for q in players if q != p]
        values[p] = sum(
            (left[frozenset(s)] - left[frozenset({*s, p})]) / (n * comb(n - 1, size))
            for size in range(n)
            for s in combinations(others, size)
        )
    return values


def thin_out(a: Dates, b: Dates, block_a: Mask, block_b: Mask, blocks: int, profiles: float) -> tuple[float, float]:
    """Distance of date counts, and what thinning both sides to common dates removes of it and of the profiles'."""

    def between(x: Floats, y: Floats) -> float:
        return squared_distance(by_block(x, block_a, blocks), by_block(y, block_b, blocks))

    dates = between(a.plain, b.plain)
    return dates, dates - between(a.thin, b.thin) + profiles - between(a.thin_profiles, b.thin_profiles)


def null_of(scene: Scene, players: Sequence[str], rng: np.random.Generator, nulls: int) -> dict[tuple[str, str], float]:
    """95 % quantiles of the same numbers between random halves of the source's blocks.

    Fewer blocks make larger random distances: numbers are scaled by (1 / J_s + 1 / J_t) / (1 / J_1 + 1 / J_2), the
    ratio of the spreads of a distance that is 0 on average.
    """
    mine = np.unique(scene.block)
    sizes = len(mine), len(np.unique(scene.target_block))
    scale = (1 / sizes[0] + 1 / sizes[1]) / (1 / (len(mine) // 2) + 1 / (len(mine) - len(mine) // 2))
    found: dict[tuple[str, str], list[float]] = {}
    for _ in range(nulls):
        half = np.zeros(scene.blocks, bool)
        half[rng.permutation(mine)[: len(mine) // 2]] = True
        for key, value in _null_once(scene, scene.null(half), half, players, rng).items():
            found.setdefault(key, []).append(scale * value)
    return {key: float(np.nanquantile(values, 0.95)) for key, values in found.items()}


def _null_once(
    scene: Scene, c: Comparison, half: Mask, players: Sequence[str], rng: np.random.Generator
) -> dict[tuple[str, str], float]:
    there = half[scene.block]
    left, _ = leave(c, players, [halves([scene.block[~there], scene.block[there]], scene.blocks, rng)])
    profiles = squared_distance(c.source(c.home, False).mass(), by_block(c.target, c.block, scene.blocks))
    pick: Callable[[Dates, Mask], Dates] = lambda d, m: Dates(d.plain[m], d.thin[m], d.thin_profiles[m])  # noqa: E731
    own = scene.own_dates
    block = scene.block
    dates, gaps = thin_out(pick(own, ~there), pick(own, there), block[~there], block[there], scene.blocks, profiles)
    found = {("distance", "profiles"): profiles, ("distance", "dates"): dates, (GAPS, "alone"): gaps}
    for p, value in shapley(players, left).items():
        found[p, "value"] = value
        found[p, "alone"] = left[frozenset()] - left[frozenset({p})]
    return found


def class_distance(scene: Scene, most: int = 10) -> float:
    """Mean squared distance of two source classes, over pairs of the most frequent ones."""
    sums = scene.plain[int(np.argmin(np.abs(scene.moves)))]
    n = sums.means()[1]
    chosen = np.argsort(-n)[:most]
    one = [sums.mass((np.arange(len(n)) == k).astype(float)) for k in chosen if n[k] > 1]
    return float(np.nanmean([squared_distance(a, b) for a, b in combinations(one, 2)] or [np.nan]))
