"""What a selection criterion sees and promises, and how the best candidate follows from its scores."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from ..types import Inputs, Output

Predict = Callable[[Inputs], Tensor]


class SelectionError(ValueError):
    """No candidate can be chosen, or the data lack what the criterion needs."""


@dataclass(frozen=True)
class Outputs:
    """What the model said on one domain's validation samples (of maps: on class-balanced sampled pixels).

    Attributes:
        logits: (N, K) float32.
        labels: (N,) int64, None where they must not be seen.
        features: (N, D) float32.
        probes: Name of a criterion -> what its :meth:`Criterion.probe` gave on these samples, (N, ...).
    """

    logits: Tensor
    labels: Tensor | None
    features: Tensor
    probes: Mapping[str, Tensor] = field(default_factory=dict)


class Criterion(ABC):
    """Scores a candidate (a checkpoint, or a checkpoint of a hyper-parameter trial); higher is better.

    Attributes:
        needs_target: Whether it makes no sense without a target domain.
        uses_target_labels: Stamped on every result that it chose.
        members: Names of the criteria whose scores it combines; empty for a criterion of its own.
    """

    needs_target: ClassVar[bool] = False
    uses_target_labels: ClassVar[bool] = False
    members: tuple[str, ...] = ()

    def probe(self, inputs: Inputs, output: Output, predict: Predict) -> Tensor | None:
        """A closer look at one target-val batch, (B, ...), for criteria that need more than outputs; else None.

        Args:
            inputs: The batch.
            output: What the model said of it.
            predict: inputs -> logits, for further forward passes over samples of the same domain.
        """
        return None

    @abstractmethod
    def score(self, sources: Sequence[Outputs], targets: Sequence[Outputs], epoch: int) -> float:
        """Score of one candidate from its outputs on source-val (labelled) and target-val; nan = it has none."""

    def spelt(self, name: str, targets: int) -> str:
        """How results name it: ``name``, and who decides where it hands on to another criterion.

        Args:
            name: What it is called in configs/selection.
            targets: Number of target domains it sees.
        """
        return name

    def over(self, history: Mapping[str, Sequence[float]], name: str) -> list[float]:
        """Final score of each candidate, once all are known.

        Args:
            history: Criterion -> its score of each candidate, in one order for all.
            name: What this criterion is called there.
        """
        return list(history[name])


def best(scores: Sequence[float], what: str = "the criterion") -> int:
    """Position of the highest score, the first of equals; a score that is not a number never wins.

    Raises:
        SelectionError: If no score is a number.
    """
    known = [i for i, score in enumerate(scores) if not math.isnan(score)]
    if not known:
        raise SelectionError(
            f"{what} gave no number for any of {len(scores)} candidates; choose by another criterion "
            "(selection=source_val)"
        )
    return max(known, key=lambda i: (scores[i], -i))
