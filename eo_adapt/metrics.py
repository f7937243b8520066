"""One summed confusion matrix a domain; every score derives from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .data.scenes.flair_classes import LEGENDS

FLAIR12 = tuple(LEGENDS["flair12"])


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
    """Precision, recall, F1 and IoU of each class of (..., K, K) counts, (..., K) float64; 0 where undefined."""
    m = matrix.double()
    hit, truth, guess = m.diagonal(dim1=-2, dim2=-1), m.sum(-1), m.sum(-2)
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
    return float(_present_mean("f1", matrix, rows))


def mean_iou(matrix: Tensor, rows: Sequence[int] | None = None) -> float:
    """Mean intersection over union of the classes that occur in the truth, as :func:`macro_f1` takes F1.

    Args:
        matrix: (K, K) confusion.
        rows: Only samples whose true class is one of these (closed-set score); None = all samples.

    Returns:
        In [0, 1]; nan when no sample is left.
    """
    return float(_present_mean("iou", matrix, rows))


def _present_mean(score: str, matrix: Tensor, rows: Sequence[int] | None) -> Tensor:
    """Mean of a score over the classes that occur in the truth, (...) of (..., K, K); nan where none does."""
    if rows is not None:
        kept = torch.zeros_like(matrix)
        kept[..., list(rows), :] = matrix[..., list(rows), :]
        matrix = kept
    present = matrix.sum(-1) > 0
    return (per_class(matrix)[score] * present).sum(-1) / present.sum(-1)


def iou_interval(
    matrices: Tensor, zones: Sequence[str], rows: Sequence[int] | None = None, draws: int = 1000, seed: int = 0
) -> dict[str, float]:
    """95 % interval of :func:`mean_iou` by bootstrap over zones: patches of a zone are alike, zones are drawn.

    Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap, percentile interval.

    Args:
        matrices: (N, K, K) confusion of each patch.
        zones: (N,) zone of each patch.
        rows: As in :func:`mean_iou`.
        draws: Bootstrap samples.
        seed: Of the draws.

    Returns:
        ``lower`` and ``upper``, nan with fewer than two zones, and the number of ``zones``.
    """
    drawn = zone_draws(matrices, zones, draws, seed)
    return interval(None if drawn is None else _present_mean("iou", drawn, rows), zones)


def zone_draws(counts: Tensor, zones: Sequence[str], draws: int = 1000, seed: int = 0) -> Tensor | None:
    """Sums of counts over zones drawn with replacement, (draws, A, B) float64; None with fewer than two zones.

    Args:
        counts: (N, A, B) of each patch.
        zones: (N,) zone of each patch.
        draws: Bootstrap samples.
        seed: Of the draws.
    """
    names = sorted(set(zones))
    if len(names) < 2:
        return None
    place = torch.tensor([names.index(zone) for zone in zones])
    summed = torch.zeros(len(names), *counts.shape[1:], dtype=torch.float64)
    summed.index_add_(0, place, counts.double())
    stream = torch.Generator().manual_seed(seed)
    drawn = torch.randint(len(names), (draws, len(names)), generator=stream)
    often = torch.zeros(draws, len(names), dtype=torch.float64).scatter_add_(1, drawn, torch.ones(drawn.shape).double())
    return torch.einsum("rz,zab->rab", often, summed)


def interval(scored: Tensor | None, zones: Sequence[str]) -> dict[str, float]:
    """95 % interval of a score of each draw (draws,), as :func:`iou_interval` gives it; nan without draws."""
    found = {"lower": float("nan"), "upper": float("nan"), "zones": len(set(zones))}
    scored = None if scored is None else scored[scored.isfinite()]
    if scored is not None and len(scored):
        lower, upper = scored.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
        found |= {"lower": lower, "upper": upper}
    return found


def flair_scores(matrix: Tensor, names: Sequence[str]) -> dict[str, float]:
    """The published protocols of FLAIR, where all twelve of its main classes are named; else nothing.

    ``miou_12``: mean of the twelve, with mistakes for "other" counted (FLAIR#2). ``miou_13``: mean with "other" in it
    (GeoMultiTaskNet's code). ``miou_flair1``: mean of the twelve without the row and the column of "other" (FLAIR#1:
    pixels called "other" by mistake are forgiven). "Other" are all that are none of the twelve, joined. Without any,
    because the legend ignores them, only ``miou_flair1`` can be told. Classes that neither truth nor prediction has
    are left out.

    Args:
        matrix: (K, K).
        names: K class names.
    """
    if not set(FLAIR12) <= set(names):
        return {}
    place = torch.tensor([FLAIR12.index(name) if name in FLAIR12 else 12 for name in names])
    joined = torch.zeros(13, 13, dtype=matrix.dtype)
    joined.index_put_((place[:, None].expand_as(matrix), place.expand_as(matrix)), matrix.cpu(), accumulate=True)
    found = {"miou_flair1": _mean_of(joined[:12, :12], range(12))}
    if len(names) > 12:
        found |= {"miou_12": _mean_of(joined, range(12)), "miou_13": _mean_of(joined, range(13))}
    return found


def _mean_of(matrix: Tensor, rows: Sequence[int]) -> float:
    used = [i for i in rows if matrix[i].sum() + matrix[:, i].sum() > 0]
    return float(per_class(matrix)["iou"][used].mean()) if used else float("nan")


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


def map_scores(matrices: Tensor, zones: Sequence[str], names: Sequence[str], shared: Sequence[str]) -> dict[str, Any]:
    """What the report says about one domain of maps, beyond :func:`scores`: scores by intersection over union.

    Args:
        matrices: (N, K, K) confusion of each patch.
        zones: (N,) zone of each patch.
        names: K class names.
        shared: Classes that source and target share: those of ``closed_miou``.
    """
    matrix, rows = matrices.sum(0), [i for i, name in enumerate(names) if name in set(shared)]
    return {
        **scores(matrix, names, shared),
        "miou": mean_iou(matrix),
        "closed_miou": mean_iou(matrix, rows),
        "closed_miou_interval": iou_interval(matrices, zones, rows),
        **flair_scores(matrix, names),
    }
