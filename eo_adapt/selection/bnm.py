"""Choose by the nuclear norm of target predictions: sure, and of many classes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .base import Criterion, Outputs
from .check import mean_over, probabilities, sound


def nuclear_norm(logits: Tensor) -> float:
    """Sum of singular values of the softmax (N, K) over its upper bound sqrt(N min(N, K)), in (0, 1].

    1 for sure predictions spread evenly over all classes, 1 / sqrt(K) if all are surely one class, 1 / K if all are
    uniform (N >= K).

    Args:
        logits: (N, K), N >= 1.

    Returns:
        nan if a logit is not finite.

    Source: Cui et al. 2020 (arXiv:2003.12237); as a validator Musgrave et al. 2022 (arXiv:2208.07360),
    "BNM". Deviation: divided by the bound, so that N does not matter, where pytorch-adapt divides by N. All of
    target-val is one batch.
    """
    p = probabilities(logits)
    if not sound(p):
        return math.nan
    return float(torch.linalg.svdvals(p).sum()) / math.sqrt(p.shape[0] * min(p.shape))


class BNM(Criterion):
    """Nuclear norm of predictions on target-val, averaged over target domains."""

    needs_target = True

    def score(self, sources: Sequence[Outputs], targets: Sequence[Outputs], epoch: int) -> float:
        return mean_over(targets, "target", "bnm", lambda t: nuclear_norm(t.logits))
