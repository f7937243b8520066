"""What a selection criterion sees and promises."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor


@dataclass(frozen=True)
class Outputs:
    """What the model said on one domain's validation parcels.

    Attributes:
        logits: (N, K) float32.
        labels: (N,) int64, None where they must not be seen.
        features: (N, D) float32.
    """

    logits: Tensor
    labels: Tensor | None
    features: Tensor


class Criterion(ABC):
    """Scores a checkpoint; higher is better.

    Attributes:
        needs_target: Whether it makes no sense without a target domain.
        uses_target_labels: Stamped on every result that it chose.
    """

    needs_target: ClassVar[bool] = False
    uses_target_labels: ClassVar[bool] = False

    @abstractmethod
    def score(self, sources: Sequence[Outputs], targets: Sequence[Outputs], epoch: int) -> float:
        """Score of one checkpoint from its outputs on source-val (labelled) and target-val."""
