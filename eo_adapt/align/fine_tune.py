"""Fine-tuning: train on the sources, then go on with a few labels of the target."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from .base import Alignment, Labelled, Step
from .meta import check_shots, head_of, learn, trained
from .options import check_number


class FineTune(Alignment):
    """Source-only training; the chosen weights then learn from ``shift.target_labels`` target samples a class.

    With several targets one network learns from the labels of all. All weights learn in train mode: batch norms see the
    target, dropout acts. The head alone learns in eval mode, on the features that will be seen at test time.

    Args:
        steps: Optimiser steps on the target's samples.
        lr: Learning rate of Adam, constant.
        batch_size: Most samples a target and step.
        head_only: Whether only what lies behind the features learns.
    """

    tunes = True

    def __init__(self, steps: int = 100, lr: float = 1e-3, batch_size: int = 128, head_only: bool = False) -> None:
        super().__init__()
        check_number("fine_tune.steps", steps, least=1, whole=True)
        check_number("fine_tune.lr", lr, above=0)
        check_number("fine_tune.batch_size", batch_size, least=2, whole=True)
        self.steps, self.lr, self.batch_size, self.head_only = steps, lr, batch_size, head_only

    def tune(self, model: nn.Module, shots: Mapping[int, Labelled], step: Step) -> None:
        """Learn from the samples; see the class.

        Raises:
            ValueError: If there is no target, or one has no labelled sample. Nothing is learnt then.
        """
        check_shots(type(self).__name__, shots)
        learning = head_of(model, shots, step) if self.head_only else list(trained(model).values())
        model.train(not self.head_only)
        learn(model, shots, step, torch.optim.Adam(learning, self.lr), self.steps, self.batch_size)
        model.eval()
