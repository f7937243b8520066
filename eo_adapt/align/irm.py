"""IRM: a classifier on top of the features that is optimal in every source at once."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from .base import Alignment, Step, Views
from .meta import halves
from .options import check_choice
from .shapes import labels_of

Estimator = Literal["split_half", "plug_in"]
ESTIMATORS = ("split_half", "plug_in")


def scale_gradient(logits: Tensor, labels: Tensor) -> Tensor:
    """Derivative of each sample's cross-entropy by a scalar that multiplies its logits, taken at 1.

    It is sum_c p_c z_c - z_y = cross-entropy - entropy; written so, large logits cost no digits.

    Args:
        logits: (B, K, *S).
        labels: (B, *S) int64; negative where unknown.

    Returns:
        (B, *S) float32, 0 where the label is unknown.
    """
    log_p = F.log_softmax(logits.float(), 1)
    minus_entropy = (log_p.exp() * log_p).sum(1)
    true = log_p.gather(1, labels.clamp_min(0).unsqueeze(1)).squeeze(1)
    return torch.where(labels >= 0, minus_entropy - true, 0.0)


def irm(logits: Tensor, labels: Tensor, estimator: Estimator = "split_half") -> Tensor:
    """Squared gradient of one domain's risk by a scalar that multiplies the logits, at 1.

    Args:
        logits: (B, K, *S).
        labels: (B, *S) int64; negative where unknown.
        estimator: ``split_half``: product of the gradients of two disjoint random halves of the samples: unbiased, 0 on
            average for a calibrated predictor, may be negative. ``plug_in``: the square, which charges a calibrated
            predictor for the noise of its batch.

    Returns:
        Scalar.

    Raises:
        ValueError: If there are fewer than 2 samples to split, or the estimator is misspelt.

    Source: Arjovsky et al. 2019 (arXiv:1907.02893), IRMv1 and app. D, in closed form for cross-entropy. Maps are split
    by image: pixels of one image are no independent draws.
    """
    check_choice("estimator", estimator, ESTIMATORS)
    gradient, known = scale_gradient(logits, labels), labels >= 0
    if estimator == "plug_in":
        return (gradient.sum() / known.sum().clamp_min(1)).square()
    sides = halves(len(labels), labels.device)
    first, second = (gradient[at].sum() / known[at].sum().clamp_min(1) for at in sides)
    return first * second


class IRM(Alignment):
    """The penalty of :func:`irm`, averaged over the sources.

    Args:
        weight: Factor of the penalty. The paper lets it jump after a warm-up; ``method=[irm] method.ramps.irm=late``
            does.
        estimator: See :func:`irm`.
    """

    needs = frozenset({"labels"})
    min_sources = 2

    def __init__(self, weight: float = 1.0, estimator: Estimator = "split_half") -> None:
        super().__init__(weight)
        check_choice("irm.estimator", estimator, ESTIMATORS)
        self.estimator = estimator

    def loss(self, sources: Views, targets: Views, step: Step) -> dict[str, Tensor]:
        found = [irm(view.logits, labels_of(view, "IRM"), self.estimator) for view in sources]
        return {"irm": torch.stack(found).mean()}
