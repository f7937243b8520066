"""Choose by deep embedded validation: target risk from weighted source-val samples, with less variance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from .ratio import pair, require_effective
from .weighted import Weighted

Loss = Literal["zero_one", "cross_entropy"]
LOSSES = ("zero_one", "cross_entropy")


@dataclass(frozen=True)
class DevRisk:
    """What deep embedded validation estimates.

    Attributes:
        risk: Mean loss on the target.
        ess: Effective sample size of the weights, (sum w)^2 / sum w^2.
        eta: Factor of the control variate.
    """

    risk: float
    ess: float
    eta: float


def dev(weights: Tensor, losses: Tensor, least: float = 30.0) -> DevRisk:
    """Target risk: mean(w l) + eta mean(w) - eta, with eta = -cov(w l, w) / var(w).

    A true density ratio has mean 1, so how far mean(w) is from it tells how far mean(w l) is likely to be off.

    Args:
        weights: p_target / p_source at each source sample, (N,).
        losses: Of the same samples, (N,) >= 0. Shapes (N, 1) are refused: mixed with (N,) they broadcast to (N, N).
        least: Smallest effective sample size.

    Returns:
        The risk, which may be negative (the control variate has no bounds), and what it rests on. Equal weights have no
        variance: eta is 0.

    Raises:
        SelectionError: If shapes do not fit, or the weights stand for too few samples.

    Source: You et al. 2019 (ICML, "Towards Accurate Model Selection in Deep Unsupervised Domain Adaptation"); sample
    covariance and variance with N - 1 as in the authors' code. Deviations: see :func:`.ratio.density_ratio`; eta = 0
    without variance; refusal of few effective samples.
    """
    w, loss = pair(weights, losses, "losses")
    ess = require_effective(w, least, "dev")
    weighted = w * loss
    off, both = w - w.mean(), weighted - weighted.mean()
    variance, covariance = float(off.square().sum()), float((off * both).sum())  # N - 1 cancels
    eta = -covariance / variance if variance > 1e-20 * float(w.square().sum()) else 0.0
    return DevRisk(float(weighted.mean()) + eta * float(w.mean()) - eta, ess, eta)


class DEV(Weighted):
    """Minus the target risk by deep embedded validation.

    Args:
        loss: ``zero_one`` (1 for a wrong prediction) or ``cross_entropy``, which sees
            confidence, too, and has no upper bound.
        least: See :class:`.weighted.Weighted`.
        folds: See :class:`.weighted.Weighted`.
        seed: See :class:`.weighted.Weighted`.
    """

    def __init__(self, loss: Loss = "zero_one", least: float = 30.0, folds: int = 5, seed: int = 0) -> None:
        super().__init__(least, folds, seed)
        if loss not in LOSSES:
            raise ValueError(f"dev.loss must be one of {list(LOSSES)}; got {loss!r}")
        self.loss = loss

    def estimate(self, weights: Tensor, logits: Tensor, labels: Tensor) -> float:
        if self.loss == "cross_entropy":
            losses = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
        else:
            losses = (logits.argmax(1) != labels).double()
        return -dev(weights, losses, self.least).risk
