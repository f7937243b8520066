"""Maximum mean discrepancy with a mixture of Gaussian kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from .base import PAIRS, Alignment, Pairing, Step, Views, check_choice, pairs

Estimator = Literal["u", "v"]
ESTIMATORS = ("u", "v")


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """(N, M) squared Euclidean distances, after removing the joint mean (keeps float32 digits of offset features)."""
    centre = torch.cat([x, y]).mean(0)
    x, y = x - centre, y - centre
    return (x.square().sum(1)[:, None] + y.square().sum(1)[None] - 2 * x @ y.T).clamp_min(0)


def median_bandwidth(distances: Tensor, x: Tensor) -> Tensor:
    """Median off-diagonal squared distance (N, N) of rows x (N, D), detached.

    Never below what rounding makes of such rows: it grows with their scale as the distances do, so a collapsed batch
    gives no huge gradient and features in small units are not taken for a collapsed batch.
    """
    n, eps = len(x), torch.finfo(distances.dtype).eps
    off = distances.detach()[~torch.eye(n, dtype=torch.bool, device=distances.device)]
    rounding = eps * x.detach().square().sum(1).mean()
    return torch.maximum(off.median(), rounding).clamp_min(eps**2)


def mmd(
    source: Tensor, target: Tensor, scales: Sequence[float] = (0.25, 0.5, 1.0, 2.0, 4.0), estimator: Estimator = "u"
) -> Tensor:
    """Squared MMD under the mean of Gaussian kernels k(x, y) = exp(-|x - y|^2 / (scale * m)).

    m is the median squared distance between different rows of the joint sample, without gradient, so the value does
    not change when all features are multiplied by one number.

    Args:
        source: Feature rows, (N, D), N >= 2.
        target: Feature rows, (M, D), M >= 2; M need not equal N.
        scales: Factors of the median bandwidth, each > 0.
        estimator: ``u`` leaves out the diagonals: unbiased, 0 on average under equal distributions, may be negative.
            ``v`` keeps them: never negative, exactly 0 on identical samples, biased upwards.

    Returns:
        Scalar.

    Source: Gretton et al. 2012 (JMLR 13), eq. 3 (u) and eq. 5 (v); kernels as in Long et al. 2015
    (arXiv:1502.02791), averaged here, not summed.
    """
    check_choice("estimator", estimator, ESTIMATORS)
    n, m = len(source), len(target)
    if min(n, m) < 2:
        raise ValueError(f"MMD needs at least 2 rows a side; got {n} and {m} (raise data.batch_size)")
    joint = torch.cat([source, target])
    distances = squared_distances(joint, joint)
    bandwidth = median_bandwidth(distances, joint)
    kernel = torch.stack([torch.exp(-distances / (scale * bandwidth)) for scale in scales]).mean(0)
    within_s, within_t, across = kernel[:n, :n], kernel[n:, n:], kernel[:n, n:]
    if estimator == "v":
        return within_s.mean() + within_t.mean() - 2 * across.mean()
    u_s = (within_s.sum() - within_s.diagonal().sum()) / (n * (n - 1))
    u_t = (within_t.sum() - within_t.diagonal().sum()) / (m * (m - 1))
    return u_s + u_t - 2 * across.mean()


class MMD(Alignment):
    """Multi-kernel MMD on the aligned feature map.

    Args:
        weight: Factor of the term.
        scales: See :func:`mmd`.
        estimator: See :func:`mmd`.
        pairing: ``pooled`` compares all sources with all targets, ``each`` averages over all source-target pairs.
        max_rows: At most this many rows a side, drawn at random: memory grows with their square (maps have many).
    """

    needs_target = True

    def __init__(
        self,
        weight: float = 1.0,
        scales: Sequence[float] = (0.25, 0.5, 1.0, 2.0, 4.0),
        estimator: Estimator = "u",
        pairing: Pairing = "pooled",
        max_rows: int = 2048,
    ) -> None:
        super().__init__(weight)
        check_choice("mmd.estimator", estimator, ESTIMATORS)
        check_choice("mmd.pairing", pairing, PAIRS)
        if not scales or min(scales) <= 0:
            raise ValueError(f"mmd.scales needs at least one factor, all > 0; got {list(scales)}")
        if max_rows < 2:
            raise ValueError(f"mmd.max_rows must be >= 2; got {max_rows}")
        self.scales, self.estimator, self.pairing, self.max_rows = tuple(scales), estimator, pairing, max_rows

    def loss(self, sources: Views, targets: Views, step: Step) -> dict[str, Tensor]:
        gaps = [
            mmd(self._draw(s), self._draw(t), self.scales, self.estimator)
            for s, t in pairs(sources, targets, self.pairing)
        ]
        return {"mmd": torch.stack(gaps).mean()}

    def _draw(self, x: Tensor) -> Tensor:
        return x if len(x) <= self.max_rows else x[torch.randperm(len(x), device=x.device)[: self.max_rows]]
