"""Class shares: of labelled batches, and of a target without labels, from what a classifier of the source says."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .base import Views
from .entropy import logit_rows
from .gather import joined
from .shapes import labels_of


def mixture(likelihood: Tensor, counts: Tensor, start: Tensor, steps: int = 2000, tolerance: float = 1e-7) -> Tensor:
    """Maximum-likelihood shares of known components, by expectation maximisation.

    Args:
        likelihood: (N, K) of observation n under component k, >= 0, up to a factor a row; no row all 0.
        counts: (N,) how often each was observed, or its share.
        start: (K,) shares to start from; one that is 0 stays 0.
        steps: Most iterations.
        tolerance: Largest change of a share at which to stop.

    Returns:
        (K,) shares >= 0 that sum to 1.

    Source: the iteration of Saerens et al. 2002 (Neural Computation 14), section 2.3, with likelihood = posterior /
    source shares.
    """
    shares, counts = start / start.sum(), counts / counts.sum()
    for _ in range(steps):
        joint = likelihood * shares
        new = (joint / joint.sum(1, keepdim=True) * counts[:, None]).sum(0)
        if (new - shares).abs().max() < tolerance:
            return new
        shares = new
    return shares


def em(probabilities: Tensor, source: Tensor) -> Tensor:
    """Target class shares at which reweighted probabilities agree with themselves.

    Args:
        probabilities: (N, K) of target samples, calibrated on the source.
        source: (K,) mean of such probabilities on the source, > 0.

    Returns:
        (K,) shares.

    Source: Saerens et al. 2002 (Neural Computation 14); calibration first as in Alexandari et al. 2020
    (arXiv:1901.06852).
    """
    return mixture(probabilities / source, torch.ones_like(probabilities[:, 0]), source)


def bbse(recall: Tensor, predicted: Tensor, source: Tensor) -> Tensor:
    """Target class shares that explain how often each class is predicted there.

    Args:
        recall: (K, K), column j = distribution of predictions of source samples of class j, > 0.
        predicted: (K,) shares of the predictions on the target.
        source: (K,) shares of the source: where the search starts, and what stays undecided keeps.

    Returns:
        (K,) shares p >= 0 of sum 1. Where ``recall @ p = predicted`` has such a solution it is that one.

    Source: Lipton et al. 2018 (arXiv:1802.03916). Deviation: the maximum-likelihood solution on the simplex, where the
    paper inverts the matrix and may find negative weights.
    """
    return mixture(recall, predicted, source)


def sampling_noise(recall: Tensor, predicted: Tensor, sources: int, targets: int) -> float:
    """Expected squared distance between estimated and true shares if there is no shift, from sample sizes alone.

    The inverse of ``recall`` carries the sampling error of the two predicted distributions over to the shares: a
    classifier that confuses classes makes it large.

    Args:
        recall: (K, K) as for :func:`bbse`.
        predicted: (K,) shares of predictions on the source.
        sources: Number of independent source samples.
        targets: Number of independent target samples.
    """
    inverse = torch.linalg.pinv(recall)
    spread = predicted.diag() - predicted[:, None] * predicted
    return float((inverse @ spread @ inverse.T).trace()) * (1 / sources + 1 / targets)


def temperature(logits: Tensor, labels: Tensor, lowest: float = 0.1, highest: float = 10.0) -> float:
    """The number that logits are divided by to be calibrated: it minimises cross-entropy, which is convex in 1 / T.

    Args:
        logits: (N, K).
        labels: (N,) in 0..K-1.
        lowest: Of T.
        highest: Of T.

    Source: Guo et al. 2017 (arXiv:1706.04599).
    """
    truth = logits.gather(1, labels[:, None]).mean()

    def slope(b: float) -> Tensor:
        return ((logits * b).softmax(1) * logits).sum(1).mean() - truth

    low, high = 1 / highest, 1 / lowest
    for _ in range(40):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if slope(middle) > 0 else (middle, high)
    return 1 / math.sqrt(low * high)


def label_shares(views: Views, classes: int) -> Tensor:
    """Shares of known labels, (K,) float32, averaged over domains as the task loss is; 0 if there are none.

    In a data-parallel run the labels of all processes count.
    """
    counts = torch.stack([_counts(labels_of(view, "a count of classes"), classes) for view in views])
    counts = joined(counts[None]).sum(0)
    return (counts / counts.sum(1, keepdim=True).clamp_min(1)).mean(0)


def _counts(labels: Tensor, classes: int) -> Tensor:
    """How often each class is known, (K,) float32."""
    return torch.bincount(labels[labels >= 0], minlength=classes).float()


def reweighted(views: Views, weights: Tensor, criterion: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """What to add to the task loss to weigh each sample by its class: mean of w L minus mean of L, over domains.

    The criterion is called on the samples of one class at a time, so it may be any that averages over samples.

    Args:
        views: Labelled views.
        weights: (K,) weight of each class.
        criterion: (logits (N, K), labels (N,)) -> mean loss.

    Returns:
        Scalar, 0 where all weights are 1.
    """
    return torch.stack([_one(logit_rows(v.logits), v.labels, weights, criterion) for v in views]).mean()


def _one(
    logits: Tensor, labels: Tensor | None, weights: Tensor, criterion: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    total = 0 * logits.sum()
    if labels is None:
        return total
    labels = labels.flatten()
    known = int((labels >= 0).sum())
    for number in torch.unique(labels[labels >= 0]).tolist():
        mine = labels == number
        total = total + (weights[number] - 1) * mine.sum() / known * criterion(logits[mine], labels[mine])
    return total
