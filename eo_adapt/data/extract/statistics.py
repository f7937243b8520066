"""Exact statistics of parcels: sums of weights, values and squares as sparse products, medians by one grouped sort.

With w the fraction of a pixel that a parcel covers, v its value and m = 1 where it is clear and not nodata:

    mean        sum(w v m) / sum(w m)
    variance    sum(w (v - mean)^2 m) / sum(w m), the population's, computed from values shifted by a constant
    share       sum(w m) / sum(w)
    median      weighted: the smallest v at which the weights w m of values up to v reach half of sum(w m)

Where nothing is clear, mean, variance and median are NaN and the share is 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from .coverage import Coverage, Part

# bands, values (c, p) float64 and what is good of them (c, p) bool, of a part's covered pixels, a few bands at a time
Read = Callable[[Part], Iterable[tuple[slice, np.ndarray, np.ndarray]]]


@dataclass
class Sums:
    """Sums over the parcels of one grid, gathered part by part.

    Attributes:
        coverage: Weights.
        bands: Number of bands C.
        squares: Whether squares are summed, for the variance.
    """

    coverage: Coverage
    bands: int
    squares: bool = False

    def __post_init__(self) -> None:
        shape = (len(self.coverage), self.bands)
        self.weight, self.first = np.zeros(shape), np.zeros(shape)
        self.second = np.zeros(shape) if self.squares else None
        self.shift = np.full(self.bands, np.nan)

    def add(self, part: Part, at: slice, values: np.ndarray, good: np.ndarray) -> None:
        """Add one part.

        Args:
            part: The block's matrix.
            at: Which bands.
            values: (c, p) float64 of these bands; overwritten.
            good: (c, p) bool.
        """
        values[~good] = 0
        fresh = np.isnan(self.shift[at]) & good.any(1)  # near the values: squares of large numbers do not cancel then
        self.shift[at] = np.where(fresh, values.sum(1) / np.maximum(good.sum(1), 1), self.shift[at])
        values -= np.nan_to_num(self.shift[at])[:, None]
        values[~good] = 0
        same = bool((good == good[:1]).all())
        weight = _product(part, (good[:1] if same else good).astype(np.float64))
        self.weight[part.parcels, at] += weight  # one column is added to all bands
        self.first[part.parcels, at] += _product(part, values)
        if self.second is not None:
            self.second[part.parcels, at] += _product(part, np.square(values, out=values))

    @property
    def mean(self) -> np.ndarray:
        """(N, C) float64."""
        return self._divide(self.first) + np.nan_to_num(self.shift)

    @property
    def variance(self) -> np.ndarray:
        """(N, C) float64."""
        if self.second is None:
            raise ValueError("squares were not summed")
        return np.maximum(self._divide(self.second) - self._divide(self.first) ** 2, 0)

    @property
    def share(self) -> np.ndarray:
        """(N, C) float64."""
        total = self.coverage.totals[:, None]
        return np.divide(self.weight, total, out=np.zeros_like(self.weight), where=total > 0)

    def _divide(self, sums: np.ndarray) -> np.ndarray:
        return np.divide(sums, self.weight, out=np.full(sums.shape, np.nan), where=self.weight > 0)


def _product(part: Part, rows: np.ndarray) -> np.ndarray:
    """(q, c) sums over the parcels of a part; row by row, for turning (c, p) around costs more than it brings."""
    return np.stack([part.matrix @ row for row in rows], 1)


def sums(coverage: Coverage, bands: int, read: Read, squares: bool = False) -> Sums:
    """Sums over all parcels of a grid.

    Args:
        coverage: Weights.
        bands: Number of bands C.
        read: Gives values and what is good of them, of a part's pixels.
        squares: For the variance.
    """
    gathered = Sums(coverage, bands, squares)
    for part in coverage.parts():
        for bands_and_values in read(part):
            gathered.add(part, *bands_and_values)
    return gathered


def medians(coverage: Coverage, read: Read) -> np.ndarray:
    """(N,) weighted medians of one band; ``read`` gives C = 1. Memory: the covered pixels."""
    values = np.full(coverage.entries, np.nan)
    for part in coverage.parts():
        chosen = part.matrix.indices
        for _, found, good in read(part):
            values[part.first : part.first + len(chosen)] = np.where(good[0], found[0], np.nan)[chosen]
    return weighted_medians(coverage.entry_parcels(), values, coverage.weights, len(coverage))


def weighted_medians(groups: np.ndarray, values: np.ndarray, weights: np.ndarray, size: int) -> np.ndarray:
    """(size,) median of each group, NaN for a group without a value.

    Args:
        groups: (E,) group of each value, 0 to size - 1.
        values: (E,); NaN does not count.
        weights: (E,) above 0.
        size: Number of groups.
    """
    there = np.isfinite(values) & (weights > 0)
    groups, values, weights = groups[there], values[there], weights[there].astype(np.float64)
    order = np.lexsort((values, groups))
    groups, values, weights = groups[order], values[order], weights[order]
    found = np.full(size, np.nan)
    present, first = np.unique(groups, return_index=True)
    if not len(present):
        return found
    half = np.add.reduceat(weights, first) / 2
    running = np.cumsum(weights)
    before = np.concatenate([[0.0], running])[first]
    lengths = np.diff(np.append(first, len(groups)))
    reached = running - np.repeat(before, lengths) >= np.repeat(half * (1 - 1e-6), lengths)
    places = np.where(reached, np.arange(len(groups)), len(groups))
    found[present] = values[np.minimum.reduceat(places, first)]
    return found
