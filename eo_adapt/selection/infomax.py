"""Choose by information maximisation on the unlabelled target."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .base import Criterion, Outputs
from .check import mean_over


def information_maximisation(logits: Tensor) -> float:
    """H(mean p) - mean H(p) over log K, in [0, 1]: sure of each sample, and using all classes.

    Args:
        logits: (N, K), N >= 1, K >= 2.

    Source: Musgrave et al. 2022 (arXiv:2208.07360), "IM". Deviation: divided by log K. It rewards over-confidence, and
    it assumes balanced target classes.
    """
    logp = torch.log_softmax(logits.double(), 1)
    mean = torch.logsumexp(logp, 0) - math.log(len(logp))
    diversity = -(mean.exp() * mean).sum()
    uncertainty = -(logp.exp() * logp).sum(1).mean()
    return float(diversity - uncertainty) / math.log(logits.shape[1])


class InfoMax(Criterion):
    """Information maximisation on target-val, averaged over target domains."""

    needs_target = True

    def score(self, sources: Sequence[Outputs], targets: Sequence[Outputs], epoch: int) -> float:
        return mean_over(targets, "target", "infomax", lambda t: information_maximisation(t.logits))
