"""Choose by target labels: shows what better selection could win, never a result to claim."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from .base import Criterion, Outputs
from .source_val import mean_macro_f1


class Oracle(Criterion):
    """Macro-F1 on labelled target-val. Every result is stamped ``uses_target_labels``."""

    needs_target = True
    uses_target_labels: ClassVar[bool] = True

    def score(self, sources: Sequence[Outputs], targets: Sequence[Outputs], epoch: int) -> float:
        return mean_macro_f1(targets, "target")
