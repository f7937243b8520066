"""The task loss."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .types import IGNORE


class CrossEntropy(nn.Module):
    """Mean cross-entropy over known labels; 0, not NaN, where none is, as in a crop without labelled pixels."""

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Logits (B, K) or (B, K, H, W) and labels (B,) or (B, H, W), ``IGNORE`` where unknown -> scalar."""
        total = F.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="sum")
        return total / torch.count_nonzero(labels != IGNORE).clamp_min(1)
