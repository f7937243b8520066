"""How far confidences can be believed: temperature scaling and calibration error."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

BOUNDS = (0.05, 20.0)  # of the temperature
MINIMUM = 50  # samples; with fewer, the fit often does more harm than good (docs/uncertainty.md)
HALVINGS = 60  # of log(400): far below the precision of float64


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature T that makes ``softmax(logits / T)`` most likely.

    Minimises the mean negative log-likelihood over log T in float64. Its derivative with respect to 1/T, the mean of
    (expected logit - logit of the label), only grows with 1/T, so bisection finds the one minimum, or the bound next to
    it.

    Source: Guo et al. 2017, On Calibration of Modern Neural Networks (ICML, arXiv:1706.04599), "temperature scaling".
    Deviations: T stays within ``BOUNDS``, and is 1 where :func:`why_not` gives a reason not to fit.

    Args:
        logits: (N, K), finite.
        labels: (N,) integers in 0..K-1.

    Returns:
        In ``BOUNDS``; above 1 = the model was too sure.

    Raises:
        ValueError: If shapes, labels or logits are not so.
    """
    if why_not(logits, labels):
        return 1.0
    z = logits.double() - logits.double().amax(1, keepdim=True)
    label = z.gather(1, labels[:, None]).mean()
    low, high = (-math.log(bound) for bound in reversed(BOUNDS))
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        expected = (torch.softmax(z * math.exp(middle), 1) * z).sum(1).mean()
        low, high = (middle, high) if expected < label else (low, middle)
    return min(max(math.exp(-(low + high) / 2), BOUNDS[0]), BOUNDS[1])


def why_not(logits: Tensor, labels: Tensor) -> str:
    """Why no temperature can be fitted on these samples; "" if one can.

    Fewer than ``MINIMUM`` samples say too little. Where every sample is right, the likelihood grows without end as T
    falls, so there is no minimum; sharpening the probabilities on that ground would be reckless.

    Args:
        logits: (N, K), finite.
        labels: (N,) integers in 0..K-1.

    Raises:
        ValueError: If shapes, labels or logits are not so.
    """
    _check(logits, labels)
    if len(logits) < MINIMUM:
        return f"{len(logits)} samples, at least {MINIMUM} are needed"
    right = logits.gather(1, labels[:, None]).squeeze(1) == logits.amax(1)
    return "without a single error no temperature is the best" if bool(right.all()) else ""


def calibrated(logits: Tensor, temperature: float) -> Tensor:
    """Probabilities softmax(logits / T), float64; the order of the classes stays.

    Args:
        logits: (N, K).
        temperature: T > 0.

    Returns:
        (N, K).

    Raises:
        ValueError: If the temperature is not positive and finite.
    """
    if not 0 < temperature < math.inf:
        raise ValueError(f"a temperature is positive and finite; got {temperature} (fit_temperature gives one)")
    return torch.softmax(logits.double() / temperature, 1)


def expected_calibration_error(confidence: Tensor, correct: Tensor, bins: int = 15) -> float:
    """Top-label calibration error: mean over samples of |accuracy - confidence| of the bin that they are in.

    Source: Naeini et al. 2015; Guo et al. 2017, equation 3: bins of equal width, each without its lower edge.

    Args:
        confidence: (N,) probability of the predicted class, or (N, K) probabilities, of which the largest is taken.
        correct: (N,) bool, whether the prediction is right.
        bins: Number of bins.

    Returns:
        In [0, 1], 0 = calibrated; nan without samples.

    Raises:
        ValueError: See :func:`reliability`.
    """
    found = [b for b in reliability(confidence, correct, bins) if b["count"]]
    total = sum(b["count"] for b in found)
    return sum(b["count"] * abs(b["accuracy"] - b["confidence"]) for b in found) / total if total else math.nan


def reliability(confidence: Tensor, correct: Tensor, bins: int = 15) -> list[dict[str, Any]]:
    """Bins of a reliability diagram: of equal width over [0, 1], each without its lower edge (the first has it).

    Args:
        confidence: (N,) probability of the predicted class, or (N, K) probabilities, of which the largest is taken.
        correct: (N,) bool, whether the prediction is right.
        bins: Number of bins.

    Returns:
        One dict a bin: lower, upper, count, and mean confidence and accuracy of its samples (nan where there are none).

    Raises:
        ValueError: If the confidences leave [0, 1], the lengths differ, or there is no bin.
    """
    sure = (confidence.amax(1) if confidence.ndim == 2 else confidence).double()
    if bins < 1:
        raise ValueError(f"reliability needs at least 1 bin; got bins={bins}")
    if sure.ndim != 1 or correct.shape != sure.shape:
        raise ValueError(
            "reliability takes confidence (N,) or probabilities (N, K), and correct (N,); got "
            f"{tuple(confidence.shape)} and {tuple(correct.shape)}"
        )
    if not bool(((sure >= 0) & (sure <= 1 + 1e-6)).all()):
        raise ValueError(
            f"confidences are in [0, 1]; got {float(sure.min()):.4g} to {float(sure.max()):.4g}. Of logits, "
            "calibrated(logits, temperature) makes probabilities"
        )
    edges = torch.linspace(0, 1, bins + 1, dtype=torch.float64)
    place = torch.bucketize(sure.cpu(), edges[1:-1])
    count = torch.bincount(place, minlength=bins)
    sums = [torch.bincount(place, x.double().cpu(), minlength=bins) for x in (sure, correct)]
    confident, accurate = (total / count for total in sums)  # 0 / 0 = nan
    return [
        {
            "lower": float(edges[i]),
            "upper": float(edges[i + 1]),
            "count": int(count[i]),
            "confidence": float(confident[i]),
            "accuracy": float(accurate[i]),
        }
        for i in range(bins)
    ]


def _check(logits: Tensor, labels: Tensor) -> None:
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        raise ValueError(
            f"a temperature is fitted on logits (N, K) and labels (N,); got {tuple(logits.shape)} and "
            f"{tuple(labels.shape)}. Flatten maps to rows first"
        )
    if labels.dtype != torch.int64:
        raise ValueError(f"labels are int64 numbers of classes; got {labels.dtype} (labels.long())")
    if len(labels) and not (labels.min() >= 0 and labels.max() < logits.shape[1]):
        raise ValueError(
            f"labels are in 0..{logits.shape[1] - 1}, as there are {logits.shape[1]} logits; got {int(labels.min())} "
            f"to {int(labels.max())}. Leave out samples without a learnt class"
        )
    if bad := int((~torch.isfinite(logits)).any(1).sum()):
        raise ValueError(
            f"{bad} of {len(logits)} samples have logits that are NaN or infinite; the network is broken: train again "
            "with a lower optim.lr or trainer.precision=fp32"
        )
