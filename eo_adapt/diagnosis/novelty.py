"""Target parcels that resemble no source parcel: what a class that the source lacks may look like."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .blocks import redraw
from .profiles import Floats, Ints
from .space import squares

QUANTILE = 0.95
DRAWS = 100


class Novelty(NamedTuple):
    """Share of target parcels that lie too far from every source parcel, its 95 % interval, and what chance gives."""

    share: float
    low: float
    high: float
    expected: float


def nearest_distance(points: Floats, block: Ints, others: Floats, other_block: Ints) -> Floats:
    """(N,) distance of each point (N, D) to the nearest of the others (M, D) in another block."""
    far = squares(points, others)
    far[block[:, None] == other_block] = np.inf
    return np.asarray(np.sqrt(far.min(1)))


def novelty(source: Floats, target: Floats, block: Ints, other_block: Ints, seed: int) -> Novelty:
    """Share of target parcels farther from every source parcel than 95 % of source parcels are from other villages.

    It sees classes that lie apart from all others. A class between two known ones has near neighbours in both and stays
    unseen: that looks like a change of shares, and only the names of the classes tell.

    Args:
        source: (N, D) points.
        target: (M, D).
        block: (N,) block numbers; the target's continue the same numbering.
        other_block: (M,).
        seed: Of the draws.
    """
    own = nearest_distance(source, block, source, block)
    new = nearest_distance(target, other_block, source, block) > np.quantile(own, QUANTILE)
    rng = np.random.default_rng(seed)
    blocks = int(other_block.max()) + 1
    found = []
    for _ in range(DRAWS):
        weight = redraw([other_block], blocks, rng)[other_block]
        found.append(float(weight @ new / max(weight.sum(), 1e-12)))
    low, high = np.quantile(found, [0.025, 0.975])
    return Novelty(float(new.mean()), float(low), float(high), 1 - QUANTILE)
