"""Choose by the labelled source: the baseline that is hard to beat."""

from __future__ import annotations

from collections.abc import Sequence

from ..metrics import confusion, macro_f1
from .base import Criterion, Outputs


def mean_macro_f1(domains: Sequence[Outputs]) -> float:
    """Macro-F1 of each labelled domain, averaged over domains."""
    found = []
    for outputs in domains:
        if outputs.labels is None:
            raise ValueError("macro-F1 needs labels; this domain has none")
        classes = outputs.logits.shape[1]
        found.append(macro_f1(confusion(outputs.labels, outputs.logits.argmax(1), classes)))
    return sum(found) / len(found)


class SourceVal(Criterion):
    """Macro-F1 on source-val, averaged over source domains."""

    def score(self, sources: Sequence[Outputs], targets: Sequence[Outputs], epoch: int) -> float:
        return mean_macro_f1(sources)
