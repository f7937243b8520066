"""How much of the distance between two domains each cause accounts for, and how much it would among random villages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from .blocks import spread
from .discrepancy import squared_distance
from .profiles import Floats, Ints, Mask
from .repairs import CALENDAR, PRIORS, PRIVATE, RADIOMETRY, Comparison, Half, Repair, by_block, fit, judge
from .scene import Dates, Scene

GAPS = "gaps"
FOLDS = 5  # random halvings of the blocks
NULLS = 40
SMALL = 0.01  # of the distance of two classes: less is real, perhaps, but costs nothing
SMALL_DATES = 0.03  # of at most 2: the orbits over twenty villages differ by up to 0.02 by chance
SIMPLER = 0.75  # of what the best repair removes is enough for one with fewer free numbers to be preferred
PLAIN_FIRST = (CALENDAR, PRIVATE, RADIOMETRY, PRIORS)  # free numbers: 1; at most 1; 2 a band; 1 a class


@dataclass(frozen=True)
class Cause:
    """What one repair removes of the distance.

    Attributes:
        alone: Distance it removes when nothing else is repaired.
        null: 95 % quantile of it between random halves of the source's blocks.
        step: 1 = the first repair chosen, 2 = the second; 0 = not chosen: it removes no more than the null once those
            that were chosen are made.
        extra: Distance that it removes at its step; 0 when not chosen.
    """

    alone: float
    null: float
    step: int
    extra: float


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
        left: Distance of the profiles that the chosen repairs leave together.
        move: Days that the source calendar is moved when it is repaired alone.
        shares: Source class -> share at which the source comes closest to the target, with the other chosen repairs.
        removed: Share of the target's parcels taken out as classes that the source lacks.
    """

    profiles: float
    dates: float
    null_profiles: float
    null_dates: float
    classes: float
    causes: Mapping[str, Cause]
    left: float
    move: float
    shares: Mapping[str, float]
    removed: float

    @property
    def distance(self) -> float:
        """Both distances together."""
        return max(self.profiles, 0.0) + max(self.dates, 0.0)


class Repairs:
    """Sets of repairs, fitted on half of the blocks and judged on the other half, over several halvings.

    Args:
        comparison: What is compared.
        folds: (J,) part of each block, one array a halving.
    """

    def __init__(self, comparison: Comparison, folds: Sequence[Ints]) -> None:
        self.halves = [[Half(comparison, fold, part) for part in (0, 1)] for fold in folds]
        self._known: dict[frozenset[str], tuple[float, list[Repair]]] = {}

    def __call__(self, *repairs: str) -> tuple[float, list[Repair]]:
        """Mean distance that a set of repairs leaves, and what was fitted on each half."""
        key = frozenset(repairs)
        if key not in self._known:
            fitted = [(other, fit(one, key)) for pair in self.halves for one, other in (pair, pair[::-1])]
            left = [judge(half, key, repair) for half, repair in fitted]
            self._known[key] = float(np.nanmean(left)), [repair for _, repair in fitted]
        return self._known[key]

    def left(self, *repairs: str) -> float:
        """Mean distance that a set of repairs leaves."""
        return self(*repairs)[0]


def explain(scene: Scene, seed: int, folds: int = FOLDS, nulls: int = NULLS) -> Explanation:
    """Choose repairs one by one, as long as they remove more than they do between random halves of the source.

    Args:
        scene: The two domains.
        seed: Of the halves.
        folds: Random halvings of the blocks.
        nulls: Random halvings of the source's blocks for the null.
    """
    rng = np.random.default_rng(seed)
    c = scene.comparison()
    there = {
        CALENDAR: len(scene.moves) > 1,
        PRIVATE: scene.private or bool(scene.absent.any()),
        RADIOMETRY: True,
        PRIORS: len(scene.names) > 1,
    }
    possible = [cause for cause in PLAIN_FIRST if there[cause]]
    repairs = Repairs(c, [spread([scene.block, scene.target_block], scene.blocks, 2, rng) for _ in range(folds)])
    null = null_of(scene, possible, rng, nulls)
    profiles = squared_distance(c.source(c.home, False).mass(), by_block(c.target, c.block, scene.blocks))
    dates, gaps = thin_out(scene.dates, scene.target_dates, scene.block, scene.target_block, scene.blocks, profiles)
    classes = class_distance(scene)
    least = {cause: max(null[cause], SMALL * classes) for cause in possible}
    chosen = choose(repairs, possible, least) if profiles > max(null["profiles"], SMALL * classes) else {}
    gaps_count = dates > max(null["dates"], SMALL_DATES) and gaps > max(null[GAPS], SMALL_DATES)
    extra = {**chosen, **({GAPS: gaps} if gaps_count else {})}
    order = sorted(extra, key=lambda cause: -extra[cause])
    alone = {cause: repairs.left() - repairs.left(cause) for cause in possible} | {GAPS: gaps}
    causes = {
        cause: Cause(value, null[cause], order.index(cause) + 1 if cause in extra else 0, extra.get(cause, 0.0))
        for cause, value in alone.items()
    }
    whole = repairs(*{*chosen, *({PRIORS} if PRIORS in possible else {})})[1]
    move = float(np.mean([scene.moves[r.move] for r in repairs(CALENDAR)[1]])) if CALENDAR in possible else 0.0
    return Explanation(
        profiles,
        dates,
        null["profiles"],
        null["dates"],
        classes,
        causes,
        repairs.left(*chosen),
        move,
        dict(zip(scene.names, np.mean([r.shares for r in whole], 0).tolist(), strict=True)),
        float(np.mean([r.removed for r in repairs(*chosen)[1]])),
    )


def choose(repairs: Repairs, possible: Sequence[str], least: Mapping[str, float]) -> dict[str, float]:
    """Cause -> what its repair removes at its step, in the order of choice.

    At each step the repair with fewest free numbers is taken among those that remove more than the ``least`` that
    counts and at least ``SIMPLER`` of what the best does: many shares can imitate a moved calendar, a moved calendar
    cannot imitate them.
    """
    chosen: dict[str, float] = {}
    while True:
        now = repairs.left(*chosen)
        gains = {cause: now - repairs.left(*chosen, cause) for cause in possible if cause not in chosen}
        gains = {cause: gain for cause, gain in gains.items() if gain > least[cause]}
        if not gains:
            return chosen
        enough = SIMPLER * max(gains.values())
        best = next(cause for cause in possible if gains.get(cause, -np.inf) >= enough)
        chosen[best] = gains[best]


def thin_out(a: Dates, b: Dates, block_a: Ints, block_b: Ints, blocks: int, profiles: float) -> tuple[float, float]:
    """Distance of date counts, and what thinning both sides to common dates removes of it and of the profiles'."""

    def between(x: Floats, y: Floats) -> float:
        return squared_distance(by_block(x, block_a, blocks), by_block(y, block_b, blocks))

    dates = between(a.plain, b.plain)
    return dates, dates - between(a.thin, b.thin) + profiles - between(a.thin_profiles, b.thin_profiles)


def null_of(scene: Scene, possible: Sequence[str], rng: np.random.Generator, nulls: int) -> dict[str, float]:
    """95 % quantiles of both distances, and of what each repair removes, between random halves of the source's blocks.

    Fewer blocks make larger random distances: numbers are scaled by (1 / J_s + 1 / J_t) / (1 / J_1 + 1 / J_2), the
    ratio of the spreads of a distance that is 0 on average.
    """
    mine = np.unique(scene.block)
    cut = len(mine) // 2
    scale = (1 / len(mine) + 1 / len(np.unique(scene.target_block))) / (1 / cut + 1 / (len(mine) - cut))
    found: dict[str, list[float]] = {}
    for _ in range(nulls):
        half = np.zeros(scene.blocks, bool)
        half[rng.permutation(mine)[:cut]] = True
        for key, value in _null_once(scene, half, possible, rng).items():
            found.setdefault(key, []).append(scale * value)
    return {key: float(np.nanquantile(values, 0.95)) for key, values in found.items()}


def _null_once(scene: Scene, half: Mask, possible: Sequence[str], rng: np.random.Generator) -> dict[str, float]:
    c, there, block = scene.null(half), half[scene.block], scene.block
    repairs = Repairs(c, [spread([block[~there], block[there]], scene.blocks, 2, rng)])
    profiles = squared_distance(c.source(c.home, False).mass(), by_block(c.target, c.block, scene.blocks))

    def pick(mask: Mask) -> Dates:
        own = scene.own_dates
        return Dates(own.plain[mask], own.thin[mask], own.thin_profiles[mask])

    dates, gaps = thin_out(pick(~there), pick(there), block[~there], block[there], scene.blocks, profiles)
    removed = {cause: repairs.left() - repairs.left(cause) for cause in possible}
    return {"profiles": profiles, "dates": dates, GAPS: gaps, **removed}


def class_distance(scene: Scene, most: int = 10) -> float:
    """Mean squared distance of two source classes, over pairs of the most frequent ones."""
    sums = scene.plain[int(np.argmin(np.abs(scene.moves)))]
    n = sums.means()[1]
    chosen = np.argsort(-n)[:most]
    one = [sums.mass((np.arange(len(n)) == k).astype(float)) for k in chosen if n[k] > 1]
    return float(np.nanmean([squared_distance(a, b) for a, b in combinations(one, 2)] or [np.nan]))
