"""Choose by whether target predictions agree with the clusters that target features form."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import numpy as np
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_mutual_info_score
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
from torch import Tensor

from .base import Criterion, Outputs
from .check import mean_over, rows, sound
from .sample import fixed_choice


def cluster_agreement(logits: Tensor, features: Tensor, restarts: int = 5, seed: int = 0) -> float:
    """Adjusted mutual information of predictions and K-means clusters, at most 1, about 0 for unrelated ones.

    Args:
        logits: (N, K), N >= 1; there are K clusters, or as many as there are different feature rows.
        features: (N, D).
        restarts: Of K-means; the tightest clustering counts.
        seed: Of K-means.

    Returns:
        nan if a number is not finite; 0 if all predictions are one class, which tell nothing, although one cluster and
        one class agree.

    Source: Musgrave et al. 2022 (arXiv:2208.07360), "ClassAMI". Deviations: no PCA before the clustering
    (pytorch-adapt: 64 components); collapsed predictions count 0.
    """
    if not sound(logits, features):
        return math.nan
    guess, x = logits.argmax(1).cpu().numpy(), features.detach().cpu().double().numpy()
    if (guess == guess[0]).all():
        return 0.0
    clusters = min(logits.shape[1], len(np.unique(x, axis=0)))
    # One thread: several would add up centres in an order that changes from run to run.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = KMeans(clusters, n_init=restarts, random_state=seed).fit(x).labels_
    return float(adjusted_mutual_info_score(guess, found))


class ClassAMI(Criterion):
    """Agreement of predictions and feature clusters on target-val, averaged over target domains.

    Args:
        restarts: See :func:`cluster_agreement`.
        seed: See :func:`cluster_agreement`.
        most: Of more samples a domain, a fixed choice of so many is clustered, the same for every candidate.

    Raises:
        ValueError: If an option is out of range.
    """

    needs_target = True

    def __init__(self, restarts: int = 5, seed: int = 0, most: int = 10_000) -> None:
        if restarts < 1 or most < 2:
            raise ValueError(f"class_ami needs restarts >= 1 and most >= 2; got restarts={restarts}, most={most}")
        self.restarts, self.seed, self.most = restarts, seed, most

    def score(self, sources: Sequence[Outputs], targets: Sequence[Outputs], epoch: int) -> float:
        def agreement(target: Outputs) -> float:
            chosen = fixed_choice(len(target.logits), self.most)
            features = rows([target], "target", "class_ami")
            return cluster_agreement(target.logits[chosen], features[chosen], self.restarts, self.seed)

        return mean_over(targets, "target", "class_ami", agreement)
