"""The space in which domains are compared: where classes lie apart and parcels of one class lie close together.

Raw bins are mostly noise that all parcels share, and a distance in them sees little else. So: standardise each band,
keep the leading directions of all parcels together (also those that only the target has), and scale them by the
spread *within* the source's classes. One unit is then what parcels of one class differ by.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .profiles import Floats, Ints

DIRECTIONS = 20  # more add noise: with 40, domains that differ in nothing began to look different
FLOOR = 0.5  # of the mean spread: where the source happens not to vary, the target may
SHRINK = 0.1  # of the within-class covariance towards its diagonal
RANDOM_FEATURES = 256
NARROW = 0.25  # of the median squared distance: narrow enough to see classes, not only means
MEDIAN_OF = 600  # parcels whose distances give the median


@dataclass(frozen=True)
class Space:
    """An affine map of profiles (N, B, C) to (N, D).

    Attributes:
        mean: (C,) of the source.
        std: (C,) of the source.
        centre: (B * C,) subtracted after standardising.
        turn: (B * C, D) the directions, scaled.
    """

    mean: Floats
    std: Floats
    centre: Floats
    turn: Floats

    @classmethod
    def fit(cls, source: Floats, labels: Ints, target: Floats, directions: int = DIRECTIONS) -> Space:
        """Fit on profiles.

        Args:
            source: (N, B, C).
            labels: (N,) integer classes of the source.
            target: (M, B, C).
            directions: Largest number D.
        """
        mean, std = source.mean((0, 1)), np.maximum(source.std((0, 1)), 1e-9)
        flat = [((x - mean) / std).reshape(len(x), -1) for x in (source, target)]
        together = np.concatenate(flat)
        centre = together.mean(0)
        _, size, axes = np.linalg.svd(together - centre, full_matrices=False)
        kept = min(directions, int((size > 1e-6 * size[0]).sum()))
        lead = axes[:kept].T
        spread = within_covariance((flat[0] - centre) @ lead, labels)
        value, vector = np.linalg.eigh(spread)
        return cls(mean, std, centre, lead @ vector / np.sqrt(np.maximum(value, FLOOR * value.mean())))

    def __call__(self, profiles: Floats) -> Floats:
        """(N, B, C) -> (N, D)."""
        flat = ((profiles - self.mean) / self.std).reshape(len(profiles), -1)
        return np.asarray((flat - self.centre) @ self.turn)


def within_covariance(rows: Floats, labels: Ints, shrink: float = SHRINK) -> Floats:
    """(D, D) covariance around the means of the classes, shrunk towards its diagonal."""
    classes = np.unique(labels)
    rest = rows.copy()
    for k in classes:
        rest[labels == k] -= rows[labels == k].mean(0)
    cov = rest.T @ rest / max(1, len(rows) - len(classes))
    return np.asarray((1 - shrink) * cov + shrink * np.diag(np.diag(cov)))


@dataclass(frozen=True)
class Kernel:
    """Random Fourier features of a Gaussian kernel (Rahimi & Recht 2007): k(x, y) = <f(x), f(y)>.

    Finitely many features are a kernel of their own, positive definite, so distances need no claim of approximation.

    Attributes:
        weight: (D, F).
        phase: (F,).
    """

    weight: Floats
    phase: Floats

    @classmethod
    def fit(cls, rows: Floats, scale: float, rng: np.random.Generator, features: int = RANDOM_FEATURES) -> Kernel:
        """Bandwidth: ``scale`` times the median squared distance of some of the rows (N, D)."""
        bandwidth = scale * median_square(rows[rng.permutation(len(rows))[:MEDIAN_OF]])
        weight = rng.normal(size=(rows.shape[1], features)) / np.sqrt(bandwidth)
        return cls(weight, rng.uniform(0, 2 * np.pi, features))

    def __call__(self, rows: Floats) -> Floats:
        """(N, D) -> (N, F)."""
        return np.asarray(np.sqrt(2 / len(self.phase)) * np.cos(rows @ self.weight + self.phase))


def squares(a: Floats, b: Floats) -> Floats:
    """(N, M) squared distances, never negative."""
    found = (a * a).sum(1)[:, None] + (b * b).sum(1) - 2 * a @ b.T
    return np.asarray(np.maximum(found, 0.0))


def median_square(rows: Floats) -> float:
    """Median squared distance of different rows, kept away from 0."""
    found = squares(rows, rows)[np.triu_indices(len(rows), 1)]
    return float(max(np.median(found), 1e-6 * (rows * rows).mean(), 1e-12)) if len(found) else 1.0
