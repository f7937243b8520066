"""Choose by the labelled source: the baseline that is hard to beat."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..metrics import confusion, macro_f1
from .base import Criterion, Outputs
from .check import Side, labels, mean_over


def mean_macro_f1(domains: Sequence[Outputs], side: Side = "source") -> float:
    """Macro-F1 of each labelled domain, averaged over domains; nan if logits are, which have no largest.

    Args:
        domains: With labels (N,); negative ones are left out.
        side: Which side they come from, for messages.

    Raises:
        SelectionError: If there is no domain, or one without samples or labels.
    """

    def one(domain: Outputs) -> float:
        truth = labels([domain], side, "macro-F1")
        if bool(domain.logits.isnan().any()):
            return math.nan
        return macro_f1(confusion(truth, domain.logits.argmax(1), domain.logits.shape[1]))

    return mean_over(domains, side, "macro-F1", one)


class SourceVal(Criterion):
    """Macro-F1 on source-val, averaged over source domains."""

    def score(self, sources: Sequence[Outputs], targets: Sequence[Outputs], epoch: int) -> float:
        return mean_macro_f1(sources)
