"""The space in which domains are compared: the directions in which the source's classes lie apart.

Raw bins are mostly noise that all parcels share, and a distance in them sees little else; much of what it sees costs a
classifier nothing. So: standardise each band, keep the leading directions of all parcels together, scale them by the
spread *within* the source's classes (one unit is then what parcels of one class differ by), and of these keep the ones
that tell the classes apart (Fisher 1936; Rao 1948).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .profiles import Floats, Ints

DIRECTIONS = 20  # leading ones; with 40, domains that differ in nothing began to look different
FEWEST = 5  # with fewer directions between classes than this, leading ones are taken as they are
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
        wide: (B * C, E) the leading directions, scaled, whether they tell classes apart or not.
    """

    mean: Floats
    std: Floats
    centre: Floats
    turn: Floats
    wide: Floats

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
        classes = len(np.unique(labels))
        if classes <= FEWEST:
            kept = min(kept, FEWEST)
        lead = axes[:kept].T
        rows = (flat[0] - centre) @ lead
        value, vector = np.linalg.eigh(within_covariance(rows, labels))
        scaled = vector / np.sqrt(np.maximum(value, FLOOR * value.mean()))
        apart = class_directions(rows @ scaled, labels)[:, : max(classes - 1, FEWEST)]
        return cls(mean, std, centre, lead @ scaled @ apart, lead @ scaled)

    def __call__(self, profiles: Floats, wide: bool = False) -> Floats:
        """(N, B, C) -> (N, D), or (N, E) in all leading directions."""
        flat = ((profiles - self.mean) / self.std).reshape(len(profiles), -1)
        return np.asarray((flat - self.centre) @ (self.wide if wide else self.turn))


def class_directions(rows: Floats, labels: Ints) -> Floats:
    """(D, D) orthonormal columns, those along which the class means spread most first."""
    classes, at, n = np.unique(labels, return_inverse=True, return_counts=True)
    means = np.stack([rows[at == k].mean(0) for k in range(len(classes))]) - rows.mean(0)
    return np.asarray(np.linalg.eigh((means * n[:, None]).T @ means)[1][:, ::-1])


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
