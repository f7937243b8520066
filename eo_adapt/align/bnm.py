"""Batch nuclear-norm maximisation: sure predictions of many classes."""

from __future__ import annotations

import torch
from torch import Tensor

from .base import Alignment, Step, Views
from .entropy import logit_rows
from .gather import joined
from .options import check_number


def bnm(logits: Tensor) -> Tensor:
    """Minus the nuclear norm (sum of singular values) of the predictions, divided by the number of rows.

    Args:
        logits: (N, K), N >= 1.

    Returns:
        Scalar in [-sqrt(min(N, K) / N), 0): -sqrt(K / N) for sure predictions spread evenly over K classes. Its size
        depends on N.

    Source: Cui et al. 2020 (arXiv:2003.12237).
    """
    p = (logits if logits.dtype == torch.float64 else logits.float()).softmax(1)
    norm: Tensor = torch.linalg.svdvals(p).sum()
    return -norm / len(p)


class BNM(Alignment):
    """Batch nuclear-norm maximisation on each target domain.

    Args:
        weight: Factor of the term.
        max_rows: At most this many rows a domain and process, drawn at random: the singular values of all pixels of a
            batch of maps would take long.
    """

    needs_target = True

    def __init__(self, weight: float = 1.0, max_rows: int = 2048) -> None:
        super().__init__(weight)
        check_number("bnm.max_rows", max_rows, least=1, whole=True)
        self.max_rows = max_rows

    def loss(self, sources: Views, targets: Views, step: Step) -> dict[str, Tensor]:
        return {"bnm": torch.stack([bnm(joined(self._draw(logit_rows(view.logits)))) for view in targets]).mean()}

    def _draw(self, x: Tensor) -> Tensor:
        return x if len(x) <= self.max_rows else x[torch.randperm(len(x), device=x.device)[: self.max_rows]]
