"""Choose by importance-weighted accuracy on source-val."""

from __future__ import annotations

from torch import Tensor

from .ratio import pair, require_effective
from .weighted import Weighted


def importance_weighted_accuracy(weights: Tensor, hits: Tensor, least: float = 30.0) -> float:
    """sum(w hit) / sum(w), in [0, 1]: accuracy on the target, if target and source differ in p(x) alone.

    Args:
        weights: p_target / p_source at each source sample, (N,).
        hits: 1 where the prediction is right, else 0, (N,).
        least: Smallest effective sample size.

    Raises:
        SelectionError: If shapes do not fit, or the weights stand for too few samples.

    Source: Sugiyama et al. 2007 (JMLR 8, "Covariate Shift Adaptation by Importance Weighted Cross Validation").
    Deviations: divided by sum(w) instead of N, so that it stays in [0, 1]; ratio from :func:`.ratio.density_ratio` on
    features, where skada takes kernel densities of raw inputs.
    """
    w, hit = pair(weights, hits, "hits")
    require_effective(w, least, "iw")
    return float((w * hit).sum() / w.sum())


class IW(Weighted):
    """Importance-weighted accuracy on source-val. Options: see :class:`.weighted.Weighted`."""

    def estimate(self, weights: Tensor, logits: Tensor, labels: Tensor) -> float:
        return importance_weighted_accuracy(weights, (logits.argmax(1) == labels).double(), self.least)
