"""ANIL: MAML whose inner steps move the head alone."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from torch import nn

from .base import Labelled, Step, View
from .fomaml import FOMAML
from .meta import Weights, behind, head_of


class ANIL(FOMAML):
    """First-order MAML (see :class:`~.fomaml.FOMAML`) with almost no inner loop.

    Inner steps, and the steps on the target, move only the weights behind the features; the rest of the network learns
    in the outer loop alone.

    Source: Raghu et al. 2020 (arXiv:1909.09157), sec. 4. Deviation: first order by default.
    """

    def adapted(self, view: View, weights: Weights) -> Collection[str]:
        return behind(view.features, view.logits, weights)

    def tuned(self, model: nn.Module, shots: Mapping[int, Labelled], step: Step) -> list[nn.Parameter]:
        return head_of(model, shots, step)
