"""Entropy minimisation: be sure of every target sample."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .base import Alignment, Step, View, Views
from .gather import joined


def logit_rows(logits: Tensor) -> Tensor:
    """Logits (B, K, *S) as (N, K) float32: one row a parcel, or one a pixel."""
    return logits.movedim(1, -1).flatten(0, -2).float()


def entropies(logits: Tensor) -> Tensor:
    """Entropy of each row's prediction in nats, in [0, log K].

    Softmax times log-softmax, both in float32: a constant inside the logarithm, log(p + eps), makes sure rows
    negative, and log(0) in half precision makes them NaN.

    Args:
        logits: (N, K), any float type.

    Returns:
        (N,) float32 (float64 for float64).
    """
    logits = logits if logits.dtype == torch.float64 else logits.float()
    logp = logits.log_softmax(1)
    return -(logp.exp() * logp).sum(1)


def over_targets(targets: Views, term: Callable[[Tensor], Tensor]) -> Tensor:
    """Mean over target domains of a term of their logit rows (N, K); rows of all processes count."""

    def rows(view: View) -> Tensor:
        return joined(logit_rows(view.logits))

    return torch.stack([term(rows(view)) for view in targets]).mean()


class Entropy(Alignment):
    """Mean entropy of target predictions: decision boundaries move to where there are few samples.

    Source: Grandvalet & Bengio 2005 (NIPS 17, "Semi-supervised learning by entropy minimization"), the entropy term
    of their criterion.

    Args:
        weight: Factor of the term. Calling everything by one name minimises it, too, so the default is small.
    """

    needs_target = True

    def __init__(self, weight: float = 0.1) -> None:
        super().__init__(weight)

    def loss(self, sources: Views, targets: Views, step: Step) -> dict[str, Tensor]:
        return {"entropy": over_targets(targets, lambda logits: entropies(logits).mean())}
