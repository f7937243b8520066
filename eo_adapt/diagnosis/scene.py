"""Profiles and date counts of a source and a target in one space: what repairs and their null are computed from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .discrepancy import Sums
from .profiles import BIN, Floats, Ints, Mask
from .repairs import Comparison, by_block
from .space import NARROW, Kernel, Space, squares
from .table import ParcelTable

FARTHEST, STEP = 60.0, 5.0  # days: candidate moves of the calendar
NULL_MOVES = 20.0  # days: the null tries moves up to this far
SHORTEST = 6  # bins of a season that has a calendar
NEAR = 60  # neighbours kept of each parcel


def candidate_moves(table: ParcelTable) -> Floats:
    """Days that a calendar may be moved: multiples of 5, or of the spacing of composites; 0 alone in a short season.

    Between two composites a moved series is a mean of both, smoother than the other domain's: that is no calendar.
    """
    width = float(table.edges[1] - table.edges[0])
    step = STEP if width <= BIN else width
    most = int(FARTHEST // step) if table.season.sum() >= SHORTEST else 0
    return np.asarray(step * np.arange(-most, most + 1), np.float64)


def matching(source: Floats, target: Floats) -> tuple[Floats, Floats]:
    """Gain (C,) and offset (C,) that give source profiles (N, B, C) each band's mean and deviation of the target."""
    axes = (0, 1)
    gain = target.std(axes) / np.maximum(source.std(axes), 1e-9)
    return np.asarray(gain), np.asarray(target.mean(axes) - gain * source.mean(axes))


def thinned(counts: Ints, pattern: Ints) -> Ints:
    """(N, B) valid dates a bin that are left where both have dates; a parcel that would keep none keeps all."""
    both = np.minimum(counts, pattern)
    return np.where(both.any(1, keepdims=True), both, counts)


@dataclass(frozen=True)
class Dates:
    """Kernel features (N, F) of valid dates a bin, as they are and thinned to dates that both sides have.

    Attributes:
        plain: As they are.
        thin: Thinned by the pattern of a random parcel of the other domain.
        thin_profiles: Kernel features of the profiles, read at the thinned dates.
    """

    plain: Floats
    thin: Floats
    thin_profiles: Floats


class Scene:
    """A source and a target of one shift.

    Args:
        source: All source parcels, labelled.
        target: The target's parcels.
        absent: Source classes that the target is known not to have.
        private: Whether the target is known to have classes that the source lacks.
        seed: Of random features and pairings.
    """

    def __init__(
        self, source: ParcelTable, target: ParcelTable, absent: frozenset[str], private: bool, seed: int
    ) -> None:
        rng = np.random.default_rng(seed)
        self.source, self.goal, self.private = source, target, private
        names, self.label = np.unique(source.labels.astype(str), return_inverse=True)
        self.names = tuple(names.tolist())
        self.absent = np.isin(names, sorted(absent))
        number = np.unique(np.concatenate([source.block, target.block]), return_inverse=True)[1].astype(np.int64)
        self.block, self.target_block = number[: len(source)], number[len(source) :]
        self.blocks = int(number.max()) + 1
        self.profiles, self.target_profiles = source.profiles(), target.profiles()
        self.space = Space.fit(self.profiles, self.label, self.target_profiles)
        self.points, self.target_points = self.space(self.profiles), self.space(self.target_profiles)
        self.kernel = Kernel.fit(np.concatenate([self.points, self.target_points]), NARROW, rng)
        self.features, self.target_features = self.kernel(self.points), self.kernel(self.target_points)
        self.moves = candidate_moves(source)
        gain, offset = matching(self.profiles, self.target_profiles)
        moved = [source.profiles(move) for move in self.moves]
        self.plain = [self.sums(self.kernel(self.space(p))) for p in moved]
        self.matched = [self.sums(self.kernel(self.space(p * gain + offset))) for p in moved]
        self._dates(rng)

    def sums(self, features: Floats) -> Sums:
        """Kernel features (N, F) of the source's parcels, summed."""
        return Sums.of(features, self.block, self.label, self.blocks, len(self.names))

    def _dates(self, rng: np.random.Generator) -> None:
        a, b = self.source.counts, self.goal.counts
        std = np.maximum(a.std(0), 0.3)  # where all parcels have as many dates there is no scale
        kernel = Kernel.fit(np.concatenate([a, b]) / std, 1.0, rng)

        def make(table: ParcelTable, pattern: Ints) -> Dates:
            thin = thinned(table.counts, pattern[rng.integers(len(pattern), size=len(table))])
            profiles = self.kernel(self.space(table.profiles(counts=thin)))
            return Dates(kernel(table.counts / std), kernel(thin / std), profiles)

        self.dates, self.target_dates, self.own_dates = make(self.source, b), make(self.goal, a), make(self.source, a)

    # -- comparisons -------------------------------------------------------------------------------------------------

    def comparison(self) -> Comparison:
        """The source against the target."""
        near, around = None, None
        if self.private:
            best = min(range(len(self.moves)), key=lambda i: self._gap(self.plain[i]))
            moved = self.space(self.source.profiles(float(self.moves[best])))
            block = np.concatenate([self.block, self.target_block])
            near = nearest(self.target_points, self.target_block, np.concatenate([moved, self.target_points]), block)
            around = (block, np.arange(len(block)) >= len(self.block))
        return Comparison(
            self.moves, self.plain, self.matched, self.target_features, self.target_block, self.absent, near, around
        )

    def _gap(self, source: Sums) -> float:
        mean = source.mass().mean() - by_block(self.target_features, self.target_block, self.blocks).mean()
        return float(mean @ mean)

    def null(self, half: Mask) -> Comparison:
        """Some of the source's blocks (J,) in the part of the target, against the source's others."""
        there = half[self.block]
        gain, offset = matching(self.profiles[~there], self.profiles[there])
        few = np.flatnonzero(np.abs(self.moves) <= NULL_MOVES)
        matched = self.kernel(self.space(self.profiles * gain + offset))
        keep = (~half).astype(float)
        near = self.near_source[there] if self.private else None
        return Comparison(
            self.moves[few],
            [self.plain[i].only(keep) for i in few],
            [self.sums(matched).only(keep)],
            self.features[there],
            self.block[there],
            np.zeros(len(self.names), bool),
            near,
            None if near is None else (self.block, there),
        )

    @property
    def near_source(self) -> Ints:
        """(N, P) nearest source parcels of other blocks of each source parcel; computed once."""
        if not hasattr(self, "_near_source"):
            self._near_source = nearest(self.points, self.block, self.points, self.block)
        return self._near_source


def nearest(points: Floats, block: Ints, others: Floats, other_block: Ints, most: int = NEAR) -> Ints:
    """(N, P) numbers of the nearest of ``others`` in other blocks, nearest first; P at most ``most``.

    Args:
        points: (N, D).
        block: (N,) their blocks.
        others: (M, D).
        other_block: (M,) theirs.
        most: Neighbours wanted.
    """
    far = squares(points, others)
    far[block[:, None] == other_block] = np.inf
    most = min(most, len(others))
    at = np.argpartition(far, most - 1, 1)[:, :most]
    order = np.argsort(np.take_along_axis(far, at, 1), 1, kind="stable")
    return np.asarray(np.take_along_axis(at, order, 1))
