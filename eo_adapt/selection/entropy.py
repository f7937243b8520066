"""Choose by how sure the model is of the unlabelled target."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .base import Criterion, Outputs
from .check import mean_over, probabilities


def confidence(logits: Tensor) -> float:
    """-mean H(p) over log K, in [-1, 0]: 0 when sure of each sample, -1 when all predictions are uniform.

    Args:
        logits: (N, K), N >= 1, K >= 2.

    Source: Morerio et al. 2018 (arXiv:1711.10288), who choose hyper-parameters by it. Deviation: divided by log K. It
    rewards over-confidence, and a model that calls everything by one name.
    """
    return -float(torch.special.entr(probabilities(logits)).sum(1).mean()) / math.log(logits.shape[1])


class Entropy(Criterion):
    """Minus the entropy of predictions on target-val, averaged over target domains."""

    needs_target = True

    def score(self, sources: Sequence[Outputs], targets: Sequence[Outputs], epoch: int) -> float:
        return mean_over(targets, "target", "entropy", lambda t: confidence(t.logits))
