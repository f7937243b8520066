"""Bootstrap over spatial blocks: parcels of one village are no independent evidence."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def by_block(block: Ints, rng: np.random.Generator) -> Ints:
    """Rows of as many blocks as there are, drawn with replacement; a block drawn twice comes twice.

    Args:
        block: (N,) number of the block of each row.
        rng: Source of the draw.
    """
    order = np.argsort(block, kind="stable")
    _, first, count = np.unique(block[order], return_index=True, return_counts=True)
    drawn = rng.integers(len(first), size=len(first))
    return np.concatenate([order[first[i] : first[i] + count[i]] for i in drawn])


def interval(draws: Floats, level: float = 0.95) -> Floats:
    """Percentile interval over the first axis: (..., 2)."""
    tail = (1 - level) / 2
    return np.moveaxis(np.quantile(np.asarray(draws, float), [tail, 1 - tail], axis=0), 0, -1)
