"""How much more common a source sample's like is in the target: density ratios from a domain classifier."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from .base import SelectionError

Floats = NDArray[np.float64]
STRENGTHS = (0.001, 0.01, 0.1, 1.0)  # of the classifier, tried in turn; small = flat ratios
COVER = 0.5  # smallest mean weight: a true density ratio has mean 1 over the source
LIMIT = 50.0  # largest |log ratio|, against overflow; far beyond any ratio that passes the other rules


class TooFewEffectiveError(SelectionError):
    """The weighted source samples stand for too few to estimate anything.

    Attributes:
        ess: How many they stand for.
    """

    def __init__(self, message: str, ess: float) -> None:
        super().__init__(message)
        self.ess = ess


def effective_sample_size(weights: Tensor) -> float:
    """(sum w)^2 / sum w^2 of weights (N,) >= 0: N for equal weights, 1 if one has all, 0 if all are 0."""
    w = _vector("weights", weights)
    total = float(w.square().sum())
    return float(w.sum()) ** 2 / total if total > 0 else 0.0


def require_effective(weights: Tensor, least: float, by: str) -> float:
    """The effective sample size, if the weights are fit for estimating.

    Args:
        weights: Density ratio target / source of source samples, (N,) >= 0.
        least: Smallest effective sample size that is admitted.
        by: Who asks, for the message.

    Raises:
        TooFewEffectiveError: If it is smaller, or if the mean weight is below 0.5. The second rule is for domains that
            lie apart: each source weight is then equally tiny, which (sum w)^2 / sum w^2 takes for plenty.
    """
    ess, cover = effective_sample_size(weights), float(_vector("weights", weights).mean())
    if ess >= least and cover >= COVER:
        return ess
    raise TooFewEffectiveError(
        f"{by} gives no score: the {len(weights)} labelled source-val samples, weighted by the density ratio target / "
        f"source, stand for {ess:.1f} samples (allowed: at least {least:g}), and their mean weight is {cover:.2g} "
        f"(allowed: at least {COVER}; 1 if the source covers the target). The features of source and target lie too "
        "far apart, or source-val is too small: enlarge source-val, or choose selection=infomax or source_val",
        ess,
    )


def density_ratio(
    source: Tensor, target: Tensor, folds: int = 5, strengths: Sequence[float] = STRENGTHS, seed: int = 0
) -> Tensor:
    """p_target(x) / p_source(x) at each source row, (N,) float64, from a logistic regression source against target.

    A row's ratio comes from a classifier that has not seen the row: both sides are cut into folds, and each fold is
    judged by what the others teach. Features are standardised by what the classifier sees. Of several penalties the one
    with the smallest cross-entropy on the folds left out is taken.

    Args:
        source: (N, D), N >= 2.
        target: (M, D), M >= 2.
        folds: At least 2; fewer are made if a side has fewer rows.
        strengths: Inverse penalties of the logistic regression (sklearn's C) to choose from.
        seed: Of the division into folds.

    Raises:
        SelectionError: If widths differ, or, as TooFewEffectiveError, if a side has fewer than 2 rows.

    Source: You et al. 2019 (ICML, "Towards Accurate Model Selection in Deep Unsupervised Domain Adaptation"): weight
    p(target | x) / p(source | x) times N_source / N_target. Deviations: a linear classifier instead of a small network,
    cross-fitted on the validation outputs, because outputs on the training part are not at hand; chosen by
    cross-entropy instead of accuracy.
    """
    shapes = f"got source {tuple(source.shape)}, target {tuple(target.shape)}"
    if source.ndim != 2 or target.ndim != 2 or source.shape[1] != target.shape[1]:
        raise SelectionError(f"a density ratio needs source (N, D) and target (M, D) of one width; {shapes}")
    if min(len(source), len(target)) < 2:
        raise TooFewEffectiveError(
            f"a density ratio needs at least 2 labelled source-val and 2 target-val rows; {shapes}: enlarge them, or "
            "choose selection=infomax or source_val",
            0.0,
        )
    x = torch.cat([source, target]).detach().cpu().double().numpy()
    is_target = np.arange(len(x)) >= len(source)
    folds = min(folds, len(source), len(target))
    cuts = list(StratifiedKFold(folds, shuffle=True, random_state=seed).split(x, is_target))
    found = [_log_ratios(x, is_target, cuts, strength) for strength in strengths]
    best = min(found, key=lambda one: one[1])[0][: len(source)]
    return torch.from_numpy(np.exp(best.clip(-LIMIT, LIMIT)))


def _log_ratios(
    x: Floats, is_target: NDArray[np.bool_], cuts: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]], c: float
) -> tuple[Floats, float]:
    """Log ratio at each row by the folds that leave it out, and their mean cross-entropy there."""
    log_odds, offset = np.empty(len(x)), np.empty(len(x))
    for seen, left in cuts:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=1000))
        log_odds[left] = model.fit(x[seen], is_target[seen]).decision_function(x[left])
        share = is_target[seen].mean()
        offset[left] = math.log((1 - share) / share)
    cross_entropy = np.logaddexp(0, np.where(is_target, -log_odds, log_odds)).mean()
    return log_odds + offset, float(cross_entropy)


def _vector(name: str, x: Tensor) -> Tensor:
    """A vector (N,) of N >= 1 numbers >= 0, in float64.

    Raises:
        SelectionError: If it is none; with weights (N, 1) and losses (N,) a product would silently become (N, N).
    """
    if x.ndim != 1 or not len(x) or not bool((x >= 0).all()) or not bool(torch.isfinite(x).all()):
        got = f"shape {tuple(x.shape)}" if x.ndim != 1 or not len(x) else f"between {x.min()} and {x.max()}"
        raise SelectionError(f"{name} must be (N,), N >= 1, finite and >= 0; got {got}")
    return x.detach().cpu().double()


def pair(weights: Tensor, values: Tensor, what: str) -> tuple[Tensor, Tensor]:
    """Weights and what they weigh, both (N,) float64.

    Raises:
        SelectionError: If one is no such vector, or their lengths differ.
    """
    w, v = _vector("weights", weights), _vector(what, values)
    if len(w) != len(v):
        raise SelectionError(f"weights and {what} must be of one length; got {len(w)} and {len(v)}")
    return w, v
