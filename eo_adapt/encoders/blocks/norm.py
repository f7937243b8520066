"""Batch norm that survives a single row, and the dense layers built on it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm


class _Safe(_BatchNorm):
    """Batch norm that falls back on its running statistics when a training batch has fewer than two values a channel.

    Variance needs two values, and torch raises on one. One and none occur here, because masked dates and pixels are
    left out of the statistics. Such a batch leaves the running statistics alone.
    """

    def forward(self, input: Tensor) -> Tensor:
        """(N, C) or (N, C, ...) -> the same shape."""
        few = input.numel() < 2 * self.num_features
        if not (self.training and few) or self.running_mean is None:
            return super().forward(input)
        return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)


class SafeBatchNorm1d(_Safe, nn.BatchNorm1d):
    """Of vectors (N, C) or (N, C, L)."""


class SafeBatchNorm2d(_Safe, nn.BatchNorm2d):
    """Of images (N, C, H, W)."""


def dense(sizes: Sequence[int]) -> nn.Sequential:
    """Linear, batch norm and ReLU from each size to the next; nothing for a single size."""
    layers: list[nn.Module] = []
    for size, following in pairwise(sizes):
        layers += [nn.Linear(size, following), SafeBatchNorm1d(following), nn.ReLU()]
    return nn.Sequential(*layers)
