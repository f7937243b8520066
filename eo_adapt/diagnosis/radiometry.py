"""How far apart the values of each band lie, in units of the source's standard deviation."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .blocks import redraw
from .profiles import Floats, Ints

DRAWS = 60
LEVELS = np.linspace(0.005, 0.995, 100)
MOST = 5000  # values of a band and side that quantiles are taken of


class Band(NamedTuple):
    """One band, target against source.

    Attributes:
        distance: Wasserstein-1 distance / source standard deviation, and its 95 % interval ``low``, ``high``.
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
    thin = [max(1, x.shape[0] * x.shape[1] // MOST) for x in (source, target)]
    factors = [redraw([block, other_block], blocks, rng) for _ in range(draws)]
    mine = np.unique(block)
    flips = [np.isin(block, rng.permutation(mine)[: len(mine) // 2]) for _ in range(draws)]
    ratio = np.sqrt((1 / len(mine) + 1 / len(np.unique(other_block))) * len(mine) / 4)
    found = []
    for band in range(source.shape[2]):
        a, b = source[..., band], target[..., band]
        std = max(float(a.std()), 1e-12)

        def between(x: Floats, y: Floats, std: float = std) -> float:
            return wasserstein(x.ravel()[:: thin[0]], y.ravel()[:: thin[1]]) / std

        boot = [
            between(np.repeat(a, f[block].astype(int), 0), np.repeat(b, f[other_block].astype(int), 0)) for f in factors
        ]
        null = ratio * np.array([between(a[half], a[~half]) for half in flips])
        low, high = np.quantile(boot, [0.025, 0.975])
        found.append(
            Band(
                between(a, b),
                float(low),
                float(high),
                float(b.mean() - a.mean()) / std,
                float(b.std()) / std,
                float(np.quantile(null, 0.95)),
            )
        )
    return found
