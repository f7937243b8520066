"""Spatial blocks are the unit of chance: they are drawn, halved and spread over folds whole."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .profiles import Floats, Ints


def _owners(domains: Sequence[Ints], blocks: int) -> list[Ints]:
    """Blocks of each domain (their parcels' block numbers (N,)); one that several lie in is the first one's alone."""
    free = np.ones(blocks, bool)
    found = []
    for mine in domains:
        own = np.unique(mine)
        found.append(own[free[own]])
        free[own] = False
    return found


def redraw(domains: Sequence[Ints], blocks: int, rng: np.random.Generator) -> Floats:
    """(J,) how often each block is drawn when each domain draws, with replacement, as many blocks as it has."""
    factor = np.zeros(blocks)
    for own in _owners(domains, blocks):
        if len(own):
            np.add.at(factor, rng.choice(own, len(own)), 1.0)
    return factor


def spread(domains: Sequence[Ints], blocks: int, folds: int, rng: np.random.Generator) -> Ints:
    """(J,) fold of each block, each domain's blocks spread evenly; -1 where nobody has the block."""
    fold = np.full(blocks, -1, np.int64)
    for own in _owners(domains, blocks):
        fold[rng.permutation(own)] = (np.arange(len(own)) + rng.integers(folds)) % folds
    return fold
