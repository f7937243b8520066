"""Dropout of whole dates and of whole modalities, in training only."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor, nn


def drop_dates(valid: Tensor, share: float) -> Tensor:
    """Take each valid date away with probability ``share``; a sample keeps at least one of those that it has.

    Temporal dropout of Garnot et al. 2022 (PASTIS-R). Their loader may leave no date at all; here the last one stays,
    so that a date of a sample with n dates goes with probability share - share^n / n.

    Args:
        valid: (B, T) bool.
        share: In [0, 1].

    Returns:
        (B, T) bool.
    """
    luck = torch.rand(valid.shape, device=valid.device).masked_fill(~valid, -1.0)
    best = luck == luck.amax(1, keepdim=True)
    return valid & ((luck >= share) | best)


class ModalityDropout(nn.Module):
    """Takes modalities away from samples; each one goes with its own probability, and at least one stays.

    With independent draws a sample would lose everything with probability prod p. Here every modality is drawn with a
    slightly larger probability p_m + P q_m / sum q, with q = 1 - p, and a sample that loses all of them gets one back,
    m with probability q_m / sum q. P is the probability of losing all, P = prod (p_m + P q_m / sum q), so that m is
    gone with probability p_m exactly. It is solved once for every set of modalities that a sample may have. Such a P
    exists where sum q >= 1, and no rule does it otherwise: where a sample has so few modalities that sum q < 1, it
    keeps exactly one, drawn in proportion to q.

    Args:
        probabilities: p of each modality, in [0, 1).

    Raises:
        ValueError: If a probability is outside, or all modalities together cannot keep one (sum q < 1).
    """

    def __init__(self, probabilities: Sequence[float]) -> None:
        super().__init__()
        p = torch.tensor(list(probabilities), dtype=torch.float64)
        if not bool(((p >= 0) & (p < 1)).all()):
            raise ValueError(f"encoder.drop_modality takes probabilities p with 0 <= p < 1; got {p.tolist()}")
        if len(p) > 1 and float((1 - p).sum()) < 1 - 1e-9:
            raise ValueError(
                f"encoder.drop_modality={p.tolist()} would leave less than one of {len(p)} modalities on average, and "
                f"one always stays: lower them to a sum of at most {len(p) - 1}"
            )
        self.active = bool((p > 0).any())
        sets = torch.tensor(list(product((False, True), repeat=len(p))))
        self.register_buffer("p", p.float(), persistent=False)
        self.register_buffer("lost", _lost(p, sets).float(), persistent=False)
        self.register_buffer("place", 2 ** torch.arange(len(p) - 1, -1, -1), persistent=False)

    def forward(self, present: Tensor) -> Tensor:
        """Which modalities each sample has (B, M) bool -> which it keeps (B, M) bool; the same outside training."""
        if not (self.training and self.active):
            return present
        p, lost, place = self.get_buffer("p"), self.get_buffer("lost"), self.get_buffer("place")
        q = (1 - p) * present
        share = q / q.sum(1, keepdim=True).clamp_min(1e-12)
        chance = p + lost[(present * place).sum(1)][:, None] * share
        chance = torch.where(q.sum(1, keepdim=True) < 1 - 1e-6, 1.0, chance)
        kept = present & (torch.rand(present.shape, device=present.device) >= chance)
        threshold = share.cumsum(1)
        back = torch.rand(len(present), 1, device=present.device) * threshold[:, -1:]
        one = present & (back < threshold) & (back >= threshold - share)
        return torch.where(kept.any(1, keepdim=True), kept, one)


def _lost(p: Tensor, sets: Tensor) -> Tensor:
    """Smallest P with P = prod (p_m + P q_m / sum q) of each set (2^M, M) of modalities, by halving.

    The product is convex in P, at least 0 at P = 0 and at most 1 at P = 1 (where sum q >= 1), so it lies above P before
    the root and not above it from there to 1.
    """
    q = (1 - p) * sets
    share = q / q.sum(1, keepdim=True).clamp_min(1e-12)
    low, high = torch.zeros(len(sets), dtype=p.dtype), torch.ones(len(sets), dtype=p.dtype)
    for _ in range(60):
        middle = (low + high) / 2
        product_ = torch.where(sets, p + middle[:, None] * share, 1.0).prod(1)
        above = product_ > middle
        low, high = torch.where(above, middle, low), torch.where(above, high, middle)
    return high
