"""What may be wrong between two domains, as repairs of the source: each is fitted on some blocks, judged on others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.sparse import csr_matrix

from .discrepancy import Mass, Sums, mix, squared_distance
from .profiles import Floats, Ints, Mask

CALENDAR, RADIOMETRY, PRIORS, PRIVATE = "phenology", "radiometry", "priors", "private_class"
NEIGHBOURS = 15  # whose domains tell how much of a parcel's surroundings is the target's
REMOVED = (0.0, 0.03, 0.06, 0.1, 0.15, 0.2, 0.25, 0.3)  # shares of the target that may be called a class of its own


@dataclass(frozen=True)
class Comparison:
    """A source against a target, ready to be repaired.

    Attributes:
        moves: (D,) days that the source calendar may be moved; 0 among them.
        plain: Source at each move.
        matched: Source with gain and offset of each band matched, at each move, or at 0 alone.
        target: (M, F) kernel features of the target's parcels.
        block: (M,) their block numbers.
        absent: (K,) source classes that the target is known not to have.
        near: (M, P) numbers of the nearest parcels of other blocks, nearest first; None = no target parcel is ever
            taken out.
        around: Block number (Q,) of each parcel that ``near`` may name, and whether it is the target's (Q,).
    """

    moves: Floats
    plain: Sequence[Sums]
    matched: Sequence[Sums]
    target: Floats
    block: Ints
    absent: Mask
    near: Ints | None = None
    around: tuple[Ints, Mask] | None = None

    def source(self, move: int, matched: bool) -> Sums:
        """The source at a move, by number."""
        return self.plain[move] if not matched else self.matched[move if len(self.matched) > 1 else 0]

    @property
    def home(self) -> int:
        """Number of the move by 0 days."""
        return int(np.argmin(np.abs(self.moves)))


@dataclass(frozen=True)
class Repair:
    """What was fitted: number of the move, class shares (K,), share of the target's parcels taken out."""

    move: int
    shares: Floats
    removed: float


class Half:
    """The blocks of one part, on which repairs are fitted or judged; means are kept, they serve many repairs.

    Args:
        comparison: What is compared.
        fold: (J,) part of each block.
        part: Which part.
    """

    def __init__(self, comparison: Comparison, fold: Ints, part: int) -> None:
        self.c, self.fold, self.part = comparison, fold, part
        self.inside = (fold == part).astype(float)
        self.mine = fold[comparison.block] == part
        self._means: dict[tuple[int, bool], tuple[Floats, Floats]] = {}
        self._goals: dict[float, Mass] = {}

    def means(self, move: int, matched: bool) -> tuple[Floats, Floats]:
        """Source class means (K, F) and sizes (K,)."""
        if (move, matched) not in self._means:
            self._means[move, matched] = self.c.source(move, matched).means(self.inside)
        return self._means[move, matched]

    def goal(self, removed: float) -> Mass:
        """The target, without the share of parcels that have the most target company."""
        if removed not in self._goals:
            rows = self.mine.copy()
            rows[self._lonely[: round(removed * len(self._lonely))]] = False
            self._goals[removed] = by_block(self.c.target[rows], self.c.block[rows], len(self.fold))
        return self._goals[removed]

    @cached_property
    def _lonely(self) -> Ints:
        """This part's target parcels, those with the most target company first."""
        at = np.flatnonzero(self.mine)
        if self.c.near is None:
            return at
        return np.asarray(at[np.argsort(-company(self.c, self.fold != self.part)[at], kind="stable")])


def by_block(features: Floats, block: Ints, blocks: int) -> Mass:
    """Rows (M, F) summed by block number (M,)."""
    pick = csr_matrix((np.ones(len(block)), (block, np.arange(len(block)))), (blocks, len(block)))
    return Mass(np.asarray(pick @ features), np.bincount(block, minlength=blocks).astype(float))


def company(c: Comparison, other: Mask) -> Floats:
    """(M,) share of target parcels among each target parcel's nearest neighbours, both domains counted as equals.

    Only neighbours in blocks of ``other`` (J,) count, so that a parcel is judged by parcels it is not scored with.
    """
    assert c.near is not None and c.around is not None  # noqa: S101, PT018  (asked for where they are known)
    block, target = c.around
    usable = (other[block] & ~target, other[block] & target)
    weight = usable[0] / max(1, usable[0].sum()) + usable[1] / max(1, usable[1].sum())
    found = weight[c.near]
    found = np.where(np.cumsum(found > 0, 1) <= NEIGHBOURS, found, 0.0)
    return np.asarray((found * target[c.near]).sum(1) / np.maximum(found.sum(1), 1e-12))


def fit(half: Half, repairs: frozenset[str]) -> Repair:
    """Fit a set of repairs. The calendar is chosen first, with shares fitted at each move; then what to take out."""
    c, matched = half.c, RADIOMETRY in repairs
    goal = half.goal(0.0).mean()
    tries = []
    for move in range(len(c.moves)) if CALENDAR in repairs else [c.home]:
        means, n = half.means(move, matched)
        shares = _shares(c, repairs, means, n, goal)
        tries.append((float(np.square(shares @ means - goal).sum()), move, shares))
    _, move, shares = min(tries, key=lambda x: x[0])
    if PRIVATE not in repairs or c.near is None:
        return Repair(move, shares, 0.0)
    source, (means, n) = c.source(move, matched), half.means(move, matched)
    best = []
    for removed in REMOVED:
        shares = _shares(c, repairs, means, n, half.goal(removed).mean())
        best.append((squared_distance(source.mass(shares, half.inside), half.goal(removed)), removed, shares))
    _, removed, shares = min(best, key=lambda x: x[0])
    return Repair(move, shares, removed)


def _shares(c: Comparison, repairs: frozenset[str], means: Floats, n: Floats, goal: Floats) -> Floats:
    allowed = np.where(c.absent, 0.0, n) if PRIVATE in repairs else n
    if not allowed.any():  # the target is said to have none of the source's classes
        allowed = n
    return mix(means, allowed, goal) if PRIORS in repairs else allowed / allowed.sum()


def judge(half: Half, repairs: frozenset[str], fitted: Repair) -> float:
    """Squared distance that a fitted repair leaves."""
    source = half.c.source(fitted.move, RADIOMETRY in repairs)
    means, n = half.means(fitted.move, RADIOMETRY in repairs)
    shares = np.where(n > 0, fitted.shares, 0.0) if PRIORS in repairs else _shares(half.c, repairs, means, n, n)
    shares = shares if shares.sum() > 0 else n
    return squared_distance(source.mass(shares / shares.sum(), half.inside), half.goal(fitted.removed))
