"""DANN: a domain classifier behind a gradient reversal."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .base import Alignment, Setup, Step, View, Views
from .critic import mlp
from .finite import check_finite
from .options import check_number


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return -ctx.strength * grads[0], None


def reverse_gradient(x: Tensor, strength: float) -> Tensor:
    """Identity forward, -strength * gradient backward (Ganin et al. 2016, arXiv:1505.07818, eq. 8-9)."""
    reversed_x: Tensor = _Reverse.apply(x, strength)
    return reversed_x


def ramp(progress: float, gamma: float = 10.0) -> float:
    """Reversal strength in [0, 1): 2 / (1 + exp(-gamma * progress)) - 1 (Ganin et al. 2016, sec. 5.2.2)."""
    return 2 / (1 + math.exp(-gamma * progress)) - 1


class DANN(Alignment):
    """Features from which a critic cannot tell the domain; K domains are K classes of the critic.

    The term is the critic's cross-entropy averaged over domains, so that a large domain does not rule it.

    Args:
        weight: Factor of the whole term: the critic's gradient and the encoder's.
        strength: Factor of the reversed gradient alone, at the end of the ramp: the encoder's, not the critic's.
        gamma: Steepness of the ramp of ``strength`` over training progress; 0 leaves the encoder alone.
        hidden: Width of the critic's hidden layer.
    """

    needs_target = True
    on_branches = "each"

    def __init__(self, weight: float = 1.0, strength: float = 1.0, gamma: float = 10.0, hidden: int = 256) -> None:
        super().__init__(weight)
        name = type(self).__name__.lower()
        check_number(f"{name}.strength", strength, least=0)
        check_number(f"{name}.gamma", gamma, least=0)
        check_number(f"{name}.hidden", hidden, least=1, whole=True)
        self.strength, self.gamma, self.hidden = strength, gamma, hidden
        self._monitors: dict[str, Tensor] = {}

    def attach(self, model: nn.Module, setup: Setup) -> None:
        super().attach(model, setup)
        self.critic = mlp(self.width_judged(setup), self.hidden, setup.domains, model)

    def width_judged(self, setup: Setup) -> int:
        """Width W of the rows that the critic looks at."""
        return setup.width

    def judged(self, view: View) -> Tensor:
        """Rows (N, W) of one domain that the critic looks at."""
        return view.rows()

    def verdict(self, logits: Tensor, view: View) -> Tensor:
        """Critic's logits (N, K) of one domain's rows -> scalar cross-entropy."""
        return F.cross_entropy(logits, torch.full((len(logits),), view.domain, device=logits.device))

    def loss(self, sources: Views, targets: Views, step: Step) -> dict[str, Tensor]:
        views = (*sources, *targets)
        strength = self.strength * ramp(step.progress, self.gamma)
        judged = [self.judged(view) for view in views]
        rows = [(f"domain {view.domain}", x) for view, x in zip(views, judged, strict=True)]
        check_finite(type(self).__name__, "feature rows", rows)
        parts = self.critic(reverse_gradient(torch.cat(judged), strength)).split([len(x) for x in judged])
        named = [(logits.argmax(1) == view.domain).float().mean() for logits, view in zip(parts, views, strict=True)]
        self._monitors = {"critic_accuracy": torch.stack(named).mean()}
        verdicts = [self.verdict(logits, view) for logits, view in zip(parts, views, strict=True)]
        return {"domain": torch.stack(verdicts).mean()}

    def monitors(self) -> dict[str, Tensor]:
        """Share of rows whose domain the critic names, mean over domains; 1 / K is chance."""
        return self._monitors
