"""One summed confusion matrix a domain; every score derives from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def confusion(truth: Tensor, guess: Tensor, classes: int) -> Tensor:
    """(K, K) int64 counts: row = truth, column = prediction.

    Args:
        truth: (N,) int64 in 0..K-1; negative labels are left out.
        guess: (N,) int64 in 0..K-1.
        classes: K.
    """
    known = truth >= 0
    flat = truth[known] * classes + guess[known]
    return torch.bincount(flat, minlength=classes * classes).view(classes, classes)


def per_class(matrix: Tensor) -> dict[str, Tensor]:
    """Precision, recall, F1 and IoU of each class, (K,) float64; 0 where a score is undefined."""
    m = matrix.double()
    hit, truth, guess = m.diagonal(), m.sum(1), m.sum(0)
    return {
        "precision": _ratio(hit, guess),
        "recall": _ratio(hit, truth),
        "f1": _ratio(2 * hit, truth + guess),
        "iou": _ratio(hit, truth + guess - hit),
    }


def _ratio(a: Tensor, b: Tensor) -> Tensor:
    return torch.where(b > 0, a / b.clamp_min(1e-12), 0.0)


def macro_f1(matrix: Tensor, rows: Sequence[int] | None = None) -> float:
    """Mean F1 over the classes that occur in the truth.

    Classes that nobody has in this domain do not count as zeros; predicting them still costs the true class its recall.

    Args:
        matrix: (K, K) confusion.
        rows: Only samples whose true class is one of these (closed-set score); None = all samples.

    Returns:
        In [0, 1]; nan when no sample is left.
    """
    if rows is not None:
        kept = torch.zeros_like(matrix)
        kept[list(rows)] = matrix[list(rows)]
        matrix = kept
    present = matrix.sum(1) > 0
    return float(per_class(matrix)["f1"][present].mean()) if present.any() else float("nan")


def overall_accuracy(matrix: Tensor) -> float:
    """Share of samples on the diagonal; nan without samples."""
    total = int(matrix.sum())
    return float(matrix.diagonal().sum()) / total if total else float("nan")


def kappa(matrix: Tensor) -> float:
    """Cohen's kappa: agreement beyond chance, at most 1; nan when chance agreement is certain."""
    m = matrix.double() / max(1, int(matrix.sum()))
    chance = float(m.sum(0) @ m.sum(1))
    return (float(m.diagonal().sum()) - chance) / (1 - chance) if chance < 1 else float("nan")


def scores(matrix: Tensor, names: Sequence[str], shared: Sequence[str]) -> dict[str, Any]:
    """Everything the report says about one domain, from its confusion matrix alone.

    Args:
        matrix: (K, K).
        names: K class names.
        shared: Classes that source and target share: those of ``closed_macro_f1``.
    """
    detail = per_class(matrix)
    support = matrix.sum(1)
    return {
        "n": int(matrix.sum()),
        "overall_accuracy": overall_accuracy(matrix),
        "macro_f1": macro_f1(matrix),
        "closed_macro_f1": macro_f1(matrix, [i for i, name in enumerate(names) if name in set(shared)]),
        "kappa": kappa(matrix),
        "per_class": {
            name: {"support": int(support[i]), **{score: float(value[i]) for score, value in detail.items()}}
            for i, name in enumerate(names)
        },
        "confusion": {"classes": list(names), "matrix": matrix.tolist()},
    }
