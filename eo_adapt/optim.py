"""Optimiser and learning-rate schedule, by name."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from torch import nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

Name = Literal["adamw", "sgd"]
Schedule = Literal["constant", "cosine", "one_cycle"]


def factor(schedule: Schedule, progress: float, warmup: float) -> float:
    """Learning rate over its peak at ``progress`` in [0, 1].

    ``cosine`` rises linearly during ``warmup`` and falls to 0 on a half cosine; ``one_cycle`` rises and falls on
    cosines (Smith & Topin 2019, arXiv:1708.07120, without the momentum cycle); ``constant`` only warms up.
    """
    if progress < warmup:
        part = progress / warmup
        return (1 - math.cos(math.pi * part)) / 2 if schedule == "one_cycle" else part
    if schedule == "constant":
        return 1.0
    return (1 + math.cos(math.pi * (progress - warmup) / max(1e-12, 1 - warmup))) / 2


@dataclass(frozen=True)
class Optim:
    """How the parameters move.

    Attributes:
        name: ``adamw`` or ``sgd`` (Nesterov when momentum > 0).
        lr: Peak learning rate.
        weight_decay: Decoupled for adamw, L2 for sgd.
        momentum: For sgd.
        schedule: ``constant`` | ``cosine`` | ``one_cycle``.
        warmup: Share of the steps during which the rate rises, in [0, 1).
    """

    name: Name = "adamw"
    lr: float = 1e-3
    weight_decay: float = 1e-4
    momentum: float = 0.9
    schedule: Schedule = "cosine"
    warmup: float = 0.0

    def __post_init__(self) -> None:
        for option, value, allowed in (("name", self.name, Name), ("schedule", self.schedule, Schedule)):
            if value not in get_args(allowed):
                raise ValueError(f"optim.{option} must be one of {list(get_args(allowed))}; got {value!r}")
        if self.lr <= 0 or not 0 <= self.warmup < 1:
            raise ValueError(f"optim needs lr > 0 and 0 <= warmup < 1; got lr={self.lr}, warmup={self.warmup}")

    def build(self, parameters: Iterable[nn.Parameter], steps: int) -> tuple[Optimizer, LambdaLR]:
        """Optimiser and a schedule to be stepped once an optimiser step.

        Args:
            parameters: What to optimise.
            steps: Optimiser steps of the whole training.
        """
        optimizer: Optimizer
        if self.name == "adamw":
            optimizer = AdamW(parameters, lr=self.lr, weight_decay=self.weight_decay)
        else:
            optimizer = SGD(
                parameters,
                lr=self.lr,
                weight_decay=self.weight_decay,
                momentum=self.momentum,
                nesterov=self.momentum > 0,
            )
        # + 1: the first step of a warm-up must move, too.
        return optimizer, LambdaLR(
            optimizer, lambda step: factor(self.schedule, (step + (self.warmup > 0)) / max(1, steps), self.warmup)
        )
