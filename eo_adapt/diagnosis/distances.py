"""How far two samples are apart: MMD and CORAL without their bias."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def mmd(a: Floats, b: Floats) -> float:
    """Unbiased squared maximum mean discrepancy with a Gaussian kernel; 0 on average where nothing differs.

    The bandwidth is the median distance of all pairs. Source: Gretton et al. 2012 (JMLR 13), eq. 3.

    Args:
        a: (N, D), N >= 2.
        b: (M, D), M >= 2.
    """
    from scipy.spatial.distance import cdist

    _enough(a, b, 2)
    both = np.concatenate([a, b])
    square = cdist(both, both, "sqeuclidean")
    scale = np.median(square[np.triu_indices(len(both), 1)])
    kernel = np.exp(-square / max(float(scale), 1e-12))
    n, m = len(a), len(b)
    xx, yy, xy = kernel[:n, :n], kernel[n:, n:], kernel[:n, n:]
    return float((xx.sum() - np.trace(xx)) / (n * (n - 1)) + (yy.sum() - np.trace(yy)) / (m * (m - 1)) - 2 * xy.mean())


def coral(a: Floats, b: Floats, seed: int = 0, halvings: int = 10) -> float:
    """Squared Frobenius distance of two covariances over 4 D^2, without the bias of small samples.

    Each sample is cut in two; the product of the two halves' differences has the right mean, where the square of one
    difference has noise on top: even between equal distributions it is 2 (D^2 + D) / (n - 1) for unit variances.

    Args:
        a: (N, D), N >= 4.
        b: (M, D), M >= 4.
        seed: Of the halvings.
        halvings: Averaged over.

    Source: Sun & Saenko 2016 (arXiv:1607.01719), eq. 1, for the distance.
    """
    _enough(a, b, 4)
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(halvings):
        parts = []
        for x in (a, b):
            order = rng.permutation(len(x))
            parts.append([np.cov(x[half], rowvar=False) for half in (order[::2], order[1::2])])
        (a1, a2), (b1, b2) = parts
        found.append(float(np.sum((a1 - b1) * (a2 - b2))))
    return float(np.mean(found)) / (4 * a.shape[1] ** 2)


def _enough(a: Floats, b: Floats, least: int) -> None:
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < least:
        raise ValueError(f"a distance needs (N, D), (M, D) with at least {least} rows each; got {a.shape}, {b.shape}")
