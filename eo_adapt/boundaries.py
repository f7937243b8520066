"""How well the outlines of classes are drawn: boundary precision, recall and F-score (Csurka et al. 2013).

Source: Csurka, Larlus and Perronnin 2013, What is a good evaluation measure for semantic segmentation?, BMVC.

Deviations: counts of all patches of a domain are summed before the scores are taken, as one confusion matrix is, while
the paper averages over images; the tolerance is given in pixels, the paper takes 0.75 % of the image's diagonal.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

COUNTS = ("true", "found", "predicted", "right")  # what boundary_counts counts, of each class


def outlines(classes: Tensor) -> Tensor:
    """Pixels beside a pixel of another class, (B, H, W) bool; both must be known, the image's edge is no outline.

    Args:
        classes: (B, H, W) int64; negative = not known.
    """
    edges = torch.zeros_like(classes, dtype=torch.bool)
    for axis in (1, 2):
        low, high = classes.narrow(axis, 0, classes.shape[axis] - 1), classes.narrow(axis, 1, classes.shape[axis] - 1)
        differ = (low != high) & (low >= 0) & (high >= 0)
        edges.narrow(axis, 0, differ.shape[axis]).logical_or_(differ)
        edges.narrow(axis, 1, differ.shape[axis]).logical_or_(differ)
    return edges


def boundary_counts(truth: Tensor, guess: Tensor, classes: int, tolerance: int) -> Tensor:
    """Pixels on outlines of each class in each patch, (B, K, 4) int64, in the order of :data:`COUNTS`.

    Pixels on true outlines; those of them with a predicted outline of the same class within the tolerance; pixels on
    predicted outlines; those of them with a true one within the tolerance. What is not labelled is left out of both
    maps before outlines are drawn.

    Args:
        truth: (B, H, W) int64 in 0..K-1; negative = not labelled.
        guess: (B, H, W) int64 in 0..K-1.
        classes: K.
        tolerance: Largest distance between pixel centres, pixels, >= 1.

    Raises:
        ValueError: If the tolerance is below 1.
    """
    if tolerance < 1:
        raise ValueError(f"the tolerance of boundaries is a number of pixels >= 1; got {tolerance}")
    guess = torch.where(truth >= 0, guess, -1)
    true_edges, edges = outlines(truth), outlines(guess)
    found = torch.zeros(len(truth), classes, len(COUNTS), dtype=torch.int64, device=truth.device)
    for k in torch.cat([truth[true_edges], guess[edges]]).unique().tolist():
        mine, its = true_edges & (truth == k), edges & (guess == k)
        pairs = (mine, mine & _near(its, tolerance), its, its & _near(mine, tolerance))
        found[:, k] = torch.stack([pixels.sum((1, 2)) for pixels in pairs], 1)
    return found


def _near(pixels: Tensor, tolerance: int) -> Tensor:
    """Whether a pixel lies within the tolerance of one of these, (B, H, W) bool: they grow by a disk."""
    reach = torch.arange(-tolerance, tolerance + 1, device=pixels.device)
    disk = (reach[:, None].square() + reach.square() <= tolerance**2).float()
    return F.conv2d(pixels[:, None].float(), disk[None, None], padding=tolerance)[:, 0] > 0.5


def boundary_scores(counts: Tensor, names: Sequence[str], tolerance: int) -> dict[str, Any]:
    """What the report says about the outlines of one domain.

    Args:
        counts: (K, 4) as :func:`boundary_counts` made them, summed over patches.
        names: K class names.
        tolerance: That they were counted with.

    Returns:
        ``tolerance_px``, ``f1`` (mean over the classes that have a true outline; nan without any) and ``per_class``:
        ``true`` and ``predicted`` pixels on outlines, precision, recall and f1 in [0, 1], 0 where one is undefined.
    """
    true, found, predicted, right = counts.double().unbind(1)
    recall, precision = found / true.clamp_min(1), right / predicted.clamp_min(1)
    f1 = 2 * precision * recall / (precision + recall).clamp_min(1e-12)
    there = true > 0
    return {
        "tolerance_px": tolerance,
        "f1": float(f1[there].mean()) if there.any() else float("nan"),
        "per_class": {
            name: {
                "true": int(true[k]),
                "predicted": int(predicted[k]),
                "precision": float(precision[k]),
                "recall": float(recall[k]),
                "f1": float(f1[k]),
            }
            for k, name in enumerate(names)
        },
    }
