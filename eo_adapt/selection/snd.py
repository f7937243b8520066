"""Choose by soft neighbourhood density: alike target samples should get alike predictions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .base import Criterion, Outputs
from .check import mean_over, probabilities
from .sample import fixed_choice

ROWS = 512  # of the similarity matrix that are in memory at a time


def soft_neighbourhood_density(logits: Tensor, temperature: float = 0.05) -> float:
    """Mean entropy, over log(N - 1), of each sample's softmax similarity to all others; in [0, 1].

    f_i = p_i / |p_i|,  P_ij = softmax over j != i of f_i f_j / temperature,  mean over i of H(P_i) / log(N - 1).

    Args:
        logits: (N, K). Memory grows with N times 512, not with N squared; time does.
        temperature: Greater than 0.

    Returns:
        nan for fewer than 3 samples, which have no neighbourhood to speak of.

    Source: Saito et al. 2021 (arXiv:2108.10860), eq. 2 and its entropy, temperature as there. Deviations: divided by
    log(N - 1), so that candidates of unequal N (sampled pixels) can be compared; a sample is left out of its own
    neighbourhood altogether, where the authors' code gives it the similarity -1. A model that calls everything by one
    name with equal confidence gets the highest score.
    """
    p = probabilities(logits)
    unit = p / p.norm(dim=1, keepdim=True)
    count = len(unit)
    if count < 3:
        return math.nan
    total = torch.zeros((), dtype=torch.float64)
    for first in range(0, count, ROWS):
        similar = unit[first : first + ROWS] @ unit.T / temperature
        own = torch.arange(len(similar))
        similar[own, first + own] = -math.inf
        total += torch.special.entr(torch.softmax(similar, 1)).sum()
    return float(total) / count / math.log(count - 1)


class SND(Criterion):
    """Soft neighbourhood density on target-val, averaged over target domains.

    Args:
        temperature: See :func:`soft_neighbourhood_density`.
        most: Of more samples a domain, a fixed choice of so many is looked at, the same for every candidate.

    Raises:
        ValueError: If an option is out of range.
    """

    needs_target = True

    def __init__(self, temperature: float = 0.05, most: int = 10_000) -> None:
        if not temperature > 0 or most < 3:
            raise ValueError(f"snd needs temperature > 0 and most >= 3; got temperature={temperature}, most={most}")
        self.temperature, self.most = temperature, most

    def score(self, sources: Sequence[Outputs], targets: Sequence[Outputs], epoch: int) -> float:
        def density(target: Outputs) -> float:
            chosen = target.logits[fixed_choice(len(target.logits), self.most)]
            return soft_neighbourhood_density(chosen, self.temperature)

        return mean_over(targets, "target", "snd", density)
