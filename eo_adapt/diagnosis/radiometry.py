"""How far apart the values of each band lie, in units of the source's standard deviation."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .blocks import redraw
from .profiles import Floats, Ints

DRAWS = 60
LEVELS = np.linspace(0.005, 0.995, 100)


class Band(NamedTuple):
    """One band, target against source.

    Attributes:
        distance: Wasserstein-1 distance / source standard deviation, and its 95 % interval ``low``, ``high`` over draws
            of blocks. Near 0 draws lie above the estimate; the interval is widened to hold it.
        mean: (target mean - source mean) / source standard deviation.
        std: target standard deviation / source standard deviation.
        null: 95 % quantile of ``distance`` between random halves of the source's blocks.
    """

    distance: float
    low: float
    high: float
    mean: float
    std: float
    null: float


def wasserstein(a: Floats, b: Floats) -> float:
    """Wasserstein-1 distance of two samples (N,) and (M,): mean distance of their quantiles at 100 levels.

    Deviation: the levels leave out the outer half percent, so that one outlier makes no distance.
    """
    return float(np.abs(np.quantile(a, LEVELS) - np.quantile(b, LEVELS)).mean())


class Sorted:
    """One band's profiles (N, B), sorted once: quantiles of any weighting of the parcels are then a running sum.

    All bins of a parcel share its weight. Nothing is thinned: a stride through (parcel, bin) would meet some bins more
    often than others, and the season would look like a difference of the domains.
    """

    def __init__(self, values: Floats) -> None:
        order = np.argsort(values, axis=None)
        self.values, self.parcel, self.size = values.ravel()[order], order // values.shape[1], len(values)

    def quantiles(self, weight: Floats | None = None) -> Floats:
        """(100,) quantiles at ``LEVELS``, each parcel counted ``weight`` (N,) times; None = once."""
        mass = np.cumsum((np.ones(self.size) if weight is None else weight)[self.parcel])
        return np.asarray(self.values[np.searchsorted(mass, LEVELS * mass[-1])])


def compare_bands(
    source: Floats, target: Floats, block: Ints, other_block: Ints, seed: int, draws: int = DRAWS
) -> list[Band]:
    """Compare every band of profiles (N, B, C) and (M, B, C); all bins of the season together.

    Args:
        source: The source's profiles.
        target: The target's.
        block: (N,) block numbers; the target's continue the same numbering.
        other_block: (M,).
        seed: Of the draws.
        draws: Bootstrap samples, and halvings of the null.
    """
    rng = np.random.default_rng(seed)
    blocks = int(max(block.max(), other_block.max())) + 1
    factors = [redraw([block, other_block], blocks, rng) for _ in range(draws)]
    mine = np.unique(block)
    halves = [np.isin(block, rng.permutation(mine)[: len(mine) // 2]).astype(float) for _ in range(draws)]
    ratio = np.sqrt((1 / len(mine) + 1 / len(np.unique(other_block))) * len(mine) / 4)
    found = []
    for band in range(source.shape[2]):
        values = source[..., band], target[..., band]
        std = max(float(values[0].std()), 1e-12)
        a, b = (Sorted(x) for x in values)

        def apart(x: Floats, y: Floats, std: float = std) -> float:
            return float(np.abs(x - y).mean()) / std

        boot = [apart(a.quantiles(f[block]), b.quantiles(f[other_block])) for f in factors]
        null = ratio * np.array([apart(a.quantiles(half), a.quantiles(1 - half)) for half in halves])
        distance = apart(a.quantiles(), b.quantiles())
        low, high = np.quantile(boot, [0.025, 0.975])
        found.append(
            Band(
                distance,
                min(float(low), distance),
                max(float(high), distance),
                float(values[1].mean() - values[0].mean()) / std,
                float(values[1].std()) / std,
                float(np.quantile(null, 0.95)),
            )
        )
    return found
