"""Minimum class confusion: predictions should not waver between two classes."""

from __future__ import annotations

import torch
from torch import Tensor

from .base import Alignment, Step, Views
from .entropy import entropies, over_targets
from .options import check_number


def mcc(logits: Tensor, temperature: float = 2.5) -> Tensor:
    """Share of each class's prediction mass that is confused with other classes, averaged over classes.

    With P = softmax(logits / temperature) and weights w = N (1 + exp(-H)) / sum(1 + exp(-H)), without gradient, of the
    rows' entropies H: C = P' diag(w) P, each row of C divided by its sum; the mean over classes of what is off the
    diagonal.

    Args:
        logits: (N, K).
        temperature: > 0; above 1 it softens over-confident predictions.

    Returns:
        Scalar in [0, 1): 0 for sure predictions, (K - 1) / K for uniform ones. A class that no row gives any mass
        counts as not confused.

    Source: Jin et al. 2020 (arXiv:1912.03699). Deviation: a class without mass, 0/0 in the paper, counts 0.
    """
    logits = (logits if logits.dtype == torch.float64 else logits.float()) / temperature
    p = logits.softmax(1)
    certain = 1 + torch.exp(-entropies(logits.detach()))
    weights = len(p) * certain / certain.sum()
    confusion = p.T @ (weights[:, None] * p)
    mass = confusion.sum(1)
    off = mass - confusion.diagonal()
    return (off / mass.clamp_min(torch.finfo(p.dtype).eps ** 2)).mean()


class MCC(Alignment):
    """Minimum class confusion on each target domain.

    Args:
        weight: Factor of the term.
        temperature: See :func:`mcc`.
    """

    needs_target = True

    def __init__(self, weight: float = 1.0, temperature: float = 2.5) -> None:
        super().__init__(weight)
        check_number("mcc.temperature", temperature, above=0)
        self.temperature = temperature

    def loss(self, sources: Views, targets: Views, step: Step) -> dict[str, Tensor]:
        return {"mcc": over_targets(targets, lambda logits: mcc(logits, self.temperature))}
