"""Class shares of a target that has no labels, from a classifier of the source: BBSE and EM, with sampling errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from ..calibration import calibrated, fit_temperature
from .resample import by_block, interval

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
FOLDS = 5


@dataclass(frozen=True)
class Priors:
    """Class shares of the source, and of the target as two estimators see them.

    Attributes:
        classes: K class names.
        source: (K,) shares.
        bbse: (K,) estimate by black-box shift estimation.
        em: (K,) estimate by expectation maximisation.
        bbse_interval: (K, 2) 95 % of sampling error alone, from drawing spatial blocks; nan where :func:`known` says
            that the draws give none.
        em_interval: (K, 2) the same for EM.
        variation: Total variation between source and target by BBSE, and by EM.
        variation_interval: 95 % of sampling error of both, (2, 2).
        accuracy: Cross-validated accuracy of the classifier on the source; near chance, both estimates say nothing.
        temperature: What EM's probabilities were scaled by; above 1 = the classifier was too sure.
    """

    classes: tuple[str, ...]
    source: Floats
    bbse: Floats
    em: Floats
    bbse_interval: Floats
    em_interval: Floats
    variation: tuple[float, float]
    variation_interval: Floats
    accuracy: float
    temperature: float


def total_variation(p: Floats, q: Floats) -> float:
    """Half the sum of absolute differences of two share vectors, in [0, 1]."""
    return float(np.abs(np.asarray(p) - np.asarray(q)).sum() / 2)


def bbse(recall: Floats, predicted: Floats) -> Floats:
    """Target class shares from how often each class is predicted.

    Solves ``recall @ shares = predicted`` for shares on the simplex by least squares.

    Args:
        recall: (K, K), column j = distribution of predictions of source samples of class j.
        predicted: (K,) shares of the predictions on the target.

    Source: Lipton et al. 2018 (arXiv:1802.03916). Deviation: constrained to shares >= 0 that sum to 1 (the paper's
    weights may be negative), solved by non-negative least squares, so a singular matrix is no failure.
    """
    heavy = 1e3  # of the row that makes the shares sum to 1
    rows = np.vstack([recall, np.full((1, recall.shape[1]), heavy)])
    shares, _ = nnls(rows, np.append(predicted, heavy))
    return np.asarray(shares / max(shares.sum(), 1e-12))


def em(probabilities: Floats, source: Floats, steps: int = 200, tolerance: float = 1e-7) -> Floats:
    """Target class shares at which the classifier's probabilities, reweighted, agree with themselves.

    Args:
        probabilities: (N, K) of target samples by a classifier trained with the source's shares.
        source: (K,) those shares, > 0.
        steps: Most iterations.
        tolerance: Largest change of a share at which to stop.

    Source: Saerens et al. 2002 (Neural Computation 14), the iteration of section 2.3. It assumes calibrated
    probabilities and that only the shares differ.
    """
    shares = np.array(source, dtype=np.float64)
    for _ in range(steps):
        weighted = probabilities * (shares / source)
        new = (weighted / weighted.sum(1, keepdims=True)).mean(0)
        if np.abs(new - shares).max() < tolerance:
            return np.asarray(new)
        shares = new
    return shares


def tempered(held_out: Floats, truth: Ints, theirs: Floats) -> tuple[Floats, float]:
    """Probabilities of target samples, scaled by the temperature that calibrates held-out source predictions.

    EM takes probabilities at their word: from a classifier that is too sure it moves the shares too little or too far.

    Args:
        held_out: (N, K) probabilities of source samples that the classifier was not fitted on, > 0.
        truth: (N,) their classes.
        theirs: (M, K) probabilities of target samples, > 0.

    Returns:
        (M, K) probabilities and the temperature; 1 where none can be fitted.

    Source: Guo et al. 2017 (arXiv:1706.04599); for EM, Alexandari et al. 2020 (arXiv:1901.06852), who find that
    calibration decides how good it is. Deviation: a temperature alone, without their biases a class.
    """
    import torch

    temperature = fit_temperature(torch.from_numpy(np.log(held_out)), torch.from_numpy(truth))
    return calibrated(torch.from_numpy(np.log(theirs)), temperature).numpy(), temperature


def known(draws: Floats, parcels: int) -> Floats:
    """Percentile intervals (K, 2) of draws (D, K); nan where they are narrower than one of the target's parcels.

    A share that is 0 in every draw lies on the edge of what is possible. That is no certainty, so no interval is given.
    """
    found = interval(draws)
    return np.where(np.diff(found) < 1 / parcels, np.nan, found)


def crossed(x: Floats, labels: NDArray[np.str_], block: Ints, y: Floats) -> tuple[tuple[str, ...], Floats, Floats]:
    """Probabilities of a logistic regression: on the source by folds of whole blocks, on the target by all of it.

    Args:
        x: (N, F) source features.
        labels: (N,) class names.
        block: (N,) spatial blocks.
        y: (M, F) target features.

    Returns:
        Class names, (N, K) and (M, K) probabilities.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    names = np.unique(labels)

    def classifier() -> object:
        return make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500))

    def spread(model: object, rows: Floats) -> Floats:
        found = np.full((len(rows), len(names)), 1e-6)  # a fold may lack a class
        known = np.isin(names, model.classes_)  # type: ignore[attr-defined]
        found[:, known] += model.predict_proba(rows)  # type: ignore[attr-defined]
        return np.asarray(found / found.sum(1, keepdims=True))

    mine = np.empty((len(x), len(names)))
    folds = GroupKFold(min(FOLDS, len(np.unique(block))))
    for seen, left in folds.split(x, labels, block):
        mine[left] = spread(classifier().fit(x[seen], labels[seen]), x[left])  # type: ignore[attr-defined]
    theirs = spread(classifier().fit(x, labels), y)  # type: ignore[attr-defined]
    return tuple(names.tolist()), mine, theirs


def estimate(
    x: Floats, labels: Sequence[str], block: Ints, y: Floats, target_block: Ints, seed: int, draws: int = 200
) -> Priors:
    """Class shares of the target, with the sampling error of drawing whole blocks of both domains again.

    The classifier is not fitted again, nor is what was done to ``y`` before, such as moving a calendar: their errors
    are systematic and not in the intervals, which can therefore miss the truth.

    Args:
        x: (N, F) features of source samples.
        labels: (N,) their classes.
        block: (N,) their spatial blocks.
        y: (M, F) features of target samples.
        target_block: (M,) theirs.
        seed: Of the draws.
        draws: Bootstrap draws.

    Raises:
        ValueError: If there are fewer than two classes or two blocks on a side.
    """
    names = np.asarray(labels, dtype=str)
    if len(np.unique(names)) < 2 or min(len(np.unique(block)), len(np.unique(target_block))) < 2:
        raise ValueError(
            "estimating class shares needs two classes and, on each side, two spatial blocks; got "
            f"{len(np.unique(names))} classes, {len(np.unique(block))} and {len(np.unique(target_block))} blocks: "
            "lower data.split.block_size or take more parcels"
        )
    classes, mine, theirs = crossed(x, names, block, y)
    truth = np.searchsorted(classes, names)
    soft, temperature = tempered(mine, truth, theirs)

    def shares(rows: Ints, others: Ints) -> tuple[Floats, Floats, Floats]:
        k = len(classes)
        joint = np.zeros((k, k))
        np.add.at(joint, (mine[rows].argmax(1), truth[rows]), 1)
        seen = np.bincount(theirs[others].argmax(1), minlength=k) / len(others)
        source = np.bincount(truth[rows], minlength=k) / len(rows)
        there = source > 0
        by_bbse, by_em = np.zeros(k), np.zeros(k)
        by_bbse[there] = bbse(joint[:, there] / joint[:, there].sum(0), seen)
        p = soft[others][:, there]
        by_em[there] = em(p / p.sum(1, keepdims=True), source[there])
        return source, by_bbse, by_em

    source, one, other = shares(np.arange(len(x)), np.arange(len(y)))
    rng = np.random.default_rng(seed)
    drawn = [shares(by_block(block, rng), by_block(target_block, rng)) for _ in range(draws)]
    variations = np.array([[total_variation(s, b), total_variation(s, e)] for s, b, e in drawn])
    return Priors(
        classes,
        source,
        one,
        other,
        known(np.array([b for _, b, _ in drawn]), len(y)),
        known(np.array([e for _, _, e in drawn]), len(y)),
        (total_variation(source, one), total_variation(source, other)),
        interval(variations),
        float((mine.argmax(1) == truth).mean()),
        temperature,
    )
