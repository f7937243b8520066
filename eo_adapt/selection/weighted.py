"""What criteria share that estimate a target score from weighted source-val samples."""

from __future__ import annotations

import hashlib
import math
import warnings
from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from .base import Criterion, Outputs
from .check import labels, rows, sound
from .ratio import TooFewEffectiveError, density_ratio, effective_sample_size

_latest: tuple[tuple[bytes, int, int], Tensor] | None = None


def _ratio(source: Tensor, target: Tensor, folds: int, seed: int) -> Tensor:
    """:func:`.ratio.density_ratio`, remembered once: several criteria ask for that of the same candidate in turn."""
    global _latest
    content = hashlib.sha256(repr((source.shape, target.shape)).encode())  # where one side ends counts, too
    for side in (source, target):
        content.update(side.contiguous().numpy().tobytes())
    key = (content.digest(), folds, seed)
    if _latest is None or _latest[0] != key:
        _latest = key, density_ratio(source, target, folds, seed=seed)
    return _latest[1]


class Weighted(Criterion):
    """A score of labelled source-val samples, each weighted by how common its like is in the target.

    All sources are pooled, and all targets: the ratio is that of the two mixtures. Source samples without a known label
    are left out of both the ratio and the score.

    Args:
        least: Smallest effective sample size; below it a candidate's score is nan, which never wins, and the first time
            there is a warning that says what to do.
        folds: Of :func:`.ratio.density_ratio`.
        seed: Of the folds.

    Attributes:
        effective: Effective sample size (sum w)^2 / sum w^2 of the candidate scored last; nan before, and where there
            were no weights to take it of.

    Raises:
        ValueError: If an option is out of range.
    """

    needs_target = True

    def __init__(self, least: float = 30.0, folds: int = 5, seed: int = 0) -> None:
        if not least >= 1 or folds < 2:
            raise ValueError(f"{type(self).__name__} needs least >= 1 and folds >= 2; got least={least}, folds={folds}")
        self.least, self.folds, self.seed = least, folds, seed
        self.effective = math.nan
        self._warned = False

    @abstractmethod
    def estimate(self, weights: Tensor, logits: Tensor, labels: Tensor) -> float:
        """Score from weights (N,), logits (N, K) and labels (N,) >= 0 of source-val samples; higher is better."""

    def score(self, sources: Sequence[Outputs], targets: Sequence[Outputs], epoch: int) -> float:
        name = type(self).__name__.lower()
        source, target = rows(sources, "source", name), rows(targets, "target", name)
        truth = labels(sources, "source", name)
        logits = torch.cat([s.logits.detach().cpu().double() for s in sources])
        self.effective = math.nan
        if not sound(source, target, logits, *(t.logits for t in targets)):
            return math.nan
        known = truth >= 0
        try:
            weights = _ratio(source[known], target, self.folds, self.seed)
            self.effective = effective_sample_size(weights)
            return self.estimate(weights, logits[known], truth[known])
        except TooFewEffectiveError as refusal:
            self._warn(refusal)
            return math.nan

    def _warn(self, refusal: TooFewEffectiveError) -> None:
        """Say the first time why there is no score; a line an epoch would bury all others."""
        if not self._warned:
            warnings.warn(str(refusal), stacklevel=3)
        self._warned = True
