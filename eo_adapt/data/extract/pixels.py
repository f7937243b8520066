"""Pixel sets: the pixels that belong to a parcel, the same for all dates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .coverage import Coverage
from .grid import Block, Grid


@dataclass(frozen=True)
class PixelSets:
    """Chosen pixels of the parcels of a tile, on its finest grid.

    Attributes:
        counts: (n,) pixels of each parcel; their pixels lie one after the other.
        down: (p,) row of each pixel.
        across: (p,) column of each pixel.
    """

    counts: np.ndarray
    down: np.ndarray
    across: np.ndarray

    def on(self, fine: Grid, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
        """(row, column) of the pixel of a grid that holds each pixel's centre.

        Raises:
            ValueError: If the grids do not cover the same ground.
        """
        ratio = grid.ratio(fine)
        if ratio is None or ratio < 1:
            raise ValueError(
                f"pixel sets need bands on the same ground in whole ratios of pixel sizes; got {fine} and {grid}"
            )
        return self.down // int(ratio), self.across // int(ratio)

    def save(self, path: Path) -> None:
        """Write to an npz."""
        with path.open("wb") as file:
            np.savez(file, counts=self.counts, down=self.down, across=self.across)

    @classmethod
    def load(cls, path: Path) -> PixelSets:
        """What :meth:`save` wrote."""
        with np.load(path) as arrays:
            return cls(arrays["counts"], arrays["down"], arrays["across"])


def choose(coverage: Coverage, least: float, most: int) -> PixelSets:
    """Pixels that a parcel covers by at least ``least``; of a large parcel ``most`` of them, evenly spaced.

    A parcel that covers no pixel so far gets the one that it covers most.

    Args:
        coverage: Weights on the finest grid.
        least: Fraction of a pixel, 0..1.
        most: Pixels a parcel.
    """
    parcels, down, across = coverage.entry_parcels(), [], []
    for part in coverage.parts():
        rows, columns = np.divmod(part.pixels, part.block.shape[1])
        down.append((rows + part.block.top)[part.matrix.indices])
        across.append((columns + part.block.left)[part.matrix.indices])
    if not down:
        empty = np.zeros(0, np.int32)
        return PixelSets(np.zeros(len(coverage), np.int64), empty, empty)
    rows, columns, weights = np.concatenate(down), np.concatenate(across), coverage.weights
    order = np.lexsort((columns, rows, parcels))
    parcels, rows, columns, weights = parcels[order], rows[order], columns[order], weights[order]
    best = np.zeros(len(coverage))
    np.maximum.at(best, parcels, weights)
    there = np.flatnonzero(weights >= np.minimum(least, best)[parcels])
    counts = np.bincount(parcels[there], minlength=len(coverage))
    first = np.concatenate([[0], counts.cumsum()[:-1]])
    rank = np.arange(len(there)) - first[parcels[there]]
    many = np.maximum(counts[parcels[there]], 1)
    # rank r of n is one of `most` evenly spaced ones if r * most // n steps up there
    take = (many <= most) | (rank * most // many != (rank - 1) * most // many)
    there = there[take]
    return PixelSets(np.bincount(parcels[there], minlength=len(coverage)), rows[there], columns[there])


def by_block(grid: Grid, down: np.ndarray, across: np.ndarray) -> Iterator[tuple[Block, np.ndarray]]:
    """Blocks of a grid that hold some of these pixels, and which."""
    for block in grid.blocks():
        inside = (down >= block.top) & (down < block.bottom) & (across >= block.left) & (across < block.right)
        if inside.any():
            yield block, np.flatnonzero(inside)
