"""Information maximisation: be sure of every target sample, and use all classes."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .base import Alignment, Step, Views
from .entropy import entropies, over_targets
from .options import check_number


def infomax(logits: Tensor, diversity: float = 1.0) -> Tensor:
    """Mean entropy minus the entropy of the mean prediction: minus the mutual information of sample and class.

    Args:
        logits: (N, K).
        diversity: Factor of the entropy of the mean.

    Returns:
        Scalar, in [-log K, 0] for diversity 1: -log K for sure predictions spread evenly over all classes, 0 where all
        samples get the same prediction.

    Source: Shi & Sha 2012 (ICML); the information maximisation loss of SHOT, Liang et al. 2020 (arXiv:2002.08546).
    """
    logits = logits if logits.dtype == torch.float64 else logits.float()
    mean = torch.logsumexp(logits.log_softmax(1), 0) - math.log(len(logits))  # log of the mean prediction
    return entropies(logits).mean() + diversity * (mean.exp() * mean).sum()


class InfoMax(Alignment):
    """Information maximisation on each target domain.

    Args:
        weight: Factor of the term.
        diversity: See :func:`infomax`; 0 is plain entropy minimisation.
    """

    needs_target = True

    def __init__(self, weight: float = 0.1, diversity: float = 1.0) -> None:
        super().__init__(weight)
        check_number("infomax.diversity", diversity, least=0)
        self.diversity = diversity

    def loss(self, sources: Views, targets: Views, step: Step) -> dict[str, Tensor]:
        return {"infomax": over_targets(targets, lambda logits: infomax(logits, self.diversity))}
