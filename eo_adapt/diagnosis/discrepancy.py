"""Squared distance of two domains from sums over spatial blocks.

Parcels of one block share weather, soil, farmer and image dates. Pairs of one block therefore do not count: the
estimate is 0 on average where both domains draw their blocks from one population, however alike the parcels of a block
are. It may be negative.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls
from scipy.sparse import csr_matrix

from .profiles import Floats, Ints


@dataclass(frozen=True)
class Sums:
    """Kernel features of a domain, summed over the parcels of each (block, class) that occurs: a cell.

    Attributes:
        features: (Q, F) sums.
        counts: (Q,) parcels.
        block: (Q,) block number, below ``blocks``.
        label: (Q,) class number, below ``classes``.
        blocks: J.
        classes: K.
    """

    features: npt.NDArray[np.float32]
    counts: Floats
    block: Ints
    label: Ints
    blocks: int
    classes: int

    @classmethod
    def of(cls, features: Floats, block: Ints, label: Ints, blocks: int, classes: int) -> Sums:
        """Sum rows (N, F) by block (N,) and class (N,)."""
        cell, at = np.unique(block * classes + label, return_inverse=True)
        pick = csr_matrix((np.ones(len(at)), (at, np.arange(len(at)))), (len(cell), len(at)))
        summed = np.asarray(pick @ features).astype(np.float32)  # dozens of these are held at once
        return cls(summed, np.bincount(at).astype(float), cell // classes, cell % classes, blocks, classes)

    def only(self, factor: Floats) -> Sums:
        """The blocks with a factor (J,) above 0."""
        keep = factor[self.block] > 0
        return replace(
            self, features=self.features[keep], counts=self.counts[keep], block=self.block[keep], label=self.label[keep]
        )

    def means(self, factor: Floats | None = None) -> tuple[Floats, Floats]:
        """Class means (K, F), 0 for a class without parcels, and parcels of each class (K,).

        Args:
            factor: (J,) how often each block counts: 0 = left out, 2 = drawn twice.
        """
        by = np.ones(len(self.block)) if factor is None else factor[self.block]
        n = np.asarray(np.bincount(self.label, self.counts * by, minlength=self.classes), np.float64)
        return self._sum(self.label, by, self.classes) / np.maximum(n, 1e-12)[:, None], n

    def mass(self, shares: Floats | None = None, factor: Floats | None = None) -> Mass:
        """Block sums and block weights of all parcels, or of classes at given shares (K,).

        Args:
            shares: Shares of the classes; None = as they are.
            factor: As in :meth:`means`.
        """
        by = np.ones(len(self.block)) if factor is None else factor[self.block]
        if shares is not None:
            n = np.asarray(np.bincount(self.label, self.counts * by, minlength=self.classes), np.float64)
            by = by * np.where(n > 0, shares / np.maximum(n, 1e-12), 0.0)[self.label]
        weight = np.asarray(np.bincount(self.block, self.counts * by, minlength=self.blocks), np.float64)
        return Mass(self._sum(self.block, by, self.blocks), weight)

    def _sum(self, to: Ints, by: Floats, size: int) -> Floats:
        return np.asarray(csr_matrix((by, (to, np.arange(len(to)))), (size, len(to))) @ self.features)


class Mass(NamedTuple):
    """A weighted sample: kernel features summed by block (J, F), and weight of each block (J,)."""

    features: Floats
    weight: Floats

    def mean(self) -> Floats:
        """(F,) mean feature."""
        return np.asarray(self.features.sum(0) / max(self.weight.sum(), 1e-12))

    def times(self, factor: Floats) -> Mass:
        """Blocks repeated (J,)."""
        return Mass(self.features * factor[:, None], self.weight * factor)


def squared_distance(a: Mass, b: Mass) -> float:
    """Unbiased squared maximum mean discrepancy of two weighted samples; pairs of one block are left out.

    Gretton et al. 2012, eq. 3, with blocks for samples. ``nan`` where a side has fewer than two blocks.

    Args:
        a: One domain; see :meth:`Sums.mass`.
        b: The other, blocks in the same order.
    """
    value = _pairs(a, a) + _pairs(b, b) - 2 * _pairs(a, b)
    return float(value)


def _pairs(a: Mass, b: Mass) -> float:
    """Mean kernel value over pairs of different blocks."""
    every = a.weight.sum() * b.weight.sum()
    weight = every - a.weight @ b.weight
    if weight <= 1e-9 * max(1e-300, every):
        return float("nan")
    return float((a.features.sum(0) @ b.features.sum(0) - (a.features * b.features).sum()) / weight)


def mix(means: Floats, present: Floats, goal: Floats, hold: float = 0.0) -> Floats:
    """Shares on the simplex whose mixture of class means comes closest to ``goal``: kernel mean matching of classes.

    min over w of ||sum_c w_c mean_c - goal||^2 + hold * sum_c (w_c - p_c)^2 / p_c, p the present shares. Without the
    second term: Zhang et al. 2013, eq. 6; Iyer et al. 2014, eq. 5.

    Args:
        means: (K, F).
        present: (K,) parcels of each class; a class without any gets share 0.
        goal: (F,).
        hold: How strongly shares are held to the present ones.
    """
    use = present > 0
    m, p = means[use], present[use] / present[use].sum()
    value, vector = np.linalg.eigh(m @ m.T + hold * np.diag(1 / p))
    value = np.maximum(value, 1e-9 * value.max())
    root = np.sqrt(value)[:, None] * vector.T
    heavy = 1e3 * np.sqrt(value.max())  # the row that makes the shares sum to one
    right = vector.T @ (m @ goal + hold) / np.sqrt(value)
    found, _ = nnls(np.vstack([root, np.full((1, len(m)), heavy)]), np.append(right, heavy))
    shares = np.zeros(len(means))
    shares[use] = found / found.sum()
    return shares
