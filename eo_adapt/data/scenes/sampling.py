"""Which patches training draws: all alike, or so that rare classes are seen."""

from __future__ import annotations

import torch
from torch import Tensor

LEAST = 0.002  # share of a patch that a class must cover to be looked for in it


def rare_classes(counts: Tensor, temperature: float) -> Tensor:
    """Probability that a class is drawn, P(c) proportional to exp((1 - f_c) / T), f_c its share of the pixels.

    A small T draws the rarest class nearly always, a large one all alike.

    Source: Hoyer et al. 2022 (DAFormer, CVPR), rare class sampling.

    Args:
        counts: (K,) pixels of each class; a class without any is never drawn.
        temperature: T > 0.

    Returns:
        (K,) float64, sum 1.
    """
    if not 0 < temperature < float("inf"):
        raise ValueError(f"data.temperature must be positive and finite; got {temperature}")
    share = counts.double() / counts.sum()
    return torch.softmax(((1 - share) / temperature).masked_fill(counts == 0, float("-inf")), 0)


def wanted_classes(counts: Tensor, classes: Tensor) -> Tensor:
    """How often each patch is to be drawn for each class, so that class c is drawn with probability ``classes[c]``.

    Among the patches that hold a class, all are drawn alike. Row sums are the patches' own weights.

    Args:
        counts: (N, K) pixels.
        classes: (K,) probability of each class.

    Returns:
        (N, K) float64; its sum is that of the classes that some patch holds.
    """
    enough = counts >= LEAST * counts.sum(1, keepdim=True)
    holds = (counts > 0) & (enough | ~(enough & (counts > 0)).any(0))
    return holds * (classes.double() / holds.sum(0).clamp_min(1))
