"""The default choice: what had the least regret when it was measured, where it can be had."""

from __future__ import annotations

from collections.abc import Sequence

from .base import Criterion, Outputs
from .infomax import InfoMax
from .source_val import SourceVal


class Auto(Criterion):
    """Information maximisation on target-val; without a target domain, macro-F1 on source-val.

    Measured over seven scenarios of three suites (docs/results/selectors.md). Name a criterion to be sure of one.
    """

    def __init__(self) -> None:
        self.with_target, self.without = InfoMax(), SourceVal()

    def spelt(self, name: str, targets: int) -> str:
        return f"{name} ({'infomax' if targets else 'source_val'})"

    def score(self, sources: Sequence[Outputs], targets: Sequence[Outputs], epoch: int) -> float:
        return (self.with_target if targets else self.without).score(sources, targets, epoch)
