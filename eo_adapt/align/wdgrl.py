"""WDGRL: shrink the Wasserstein distance that a critic with bounded slope measures."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .base import Alignment, Setup, Step, Views
from .critic import Critic, Judge, Rows
from .options import check_number


def slope_penalty(judge: Judge, x: Tensor, output: int = 0) -> Tensor:
    """Mean of (|slope| - 1)^2 of one output of a critic, at rows x (N, D); differentiable by the critic's weights.

    Source: Gulrajani et al. 2017 (arXiv:1704.00028), eq. 3.
    """
    x = x.detach().requires_grad_()
    (slope,) = torch.autograd.grad(judge(x)[:, output].sum(), x, create_graph=True)
    excess: Tensor = torch.linalg.vector_norm(slope, dim=1) - 1
    return excess.square().mean()


def between(source: Tensor, target: Tensor) -> Tensor:
    """Random places on the lines between random pairs of rows (N, D), (M, D): (max(N, M), D)."""
    n = max(len(source), len(target))
    first, second = (x[torch.randint(len(x), (n,), device=x.device)] for x in (source, target))
    return torch.lerp(first, second, torch.rand(n, 1, device=source.device))


def distance(judge: Judge, sources: Rows, target: Tensor) -> Tensor:
    """Mean over sources i of mean judge_i(source_i) - mean judge_i(target).

    Args:
        judge: (N, D) -> (N, S), one column a source.
        sources: S of (N_i, D).
        target: (M, D).

    Source: Shen et al. 2018 (arXiv:1707.01217), eq. 2.
    """
    there = judge(target).mean(0)
    return torch.stack([judge(source)[:, i].mean() - there[i] for i, source in enumerate(sources)]).mean()


class WDGRL(Alignment):
    """Features of every source as close as can be to those of all targets, in the earth mover's distance.

    The critic has one output a source. Each is trained to be high on its source and low on the pooled targets, with
    slope 1; the difference of the means is then the distance, which the encoder makes small.

    Args:
        weight: Factor of the term.
        penalty: Factor of the slope penalty in the critic's loss (the paper's gamma).
        steps: Adam steps of the critic after each step of the optimiser.
        lr: Learning rate of the critic.
        hidden: Width of the critic's hidden layer.

    Source: Shen et al. 2018 (arXiv:1707.01217), algorithm 1. Deviations: the critic learns after the encoder's step and
    from the same features, not before it; several sources and targets.
    """

    needs_target = True
    on_branches = "each"

    def __init__(
        self, weight: float = 1.0, penalty: float = 10.0, steps: int = 5, lr: float = 1e-3, hidden: int = 256
    ) -> None:
        super().__init__(weight)
        check_number("wdgrl.penalty", penalty, least=0)
        check_number("wdgrl.steps", steps, least=1, whole=True)
        check_number("wdgrl.lr", lr, above=0)
        check_number("wdgrl.hidden", hidden, least=1, whole=True)
        self.penalty, self.steps, self.lr, self.hidden = penalty, steps, lr, hidden

    def attach(self, model: nn.Module, setup: Setup) -> None:
        super().attach(model, setup)
        self.critic = Critic(setup, model, self.hidden, setup.sources, self.lr)

    def loss(self, sources: Views, targets: Views, step: Step) -> dict[str, Tensor]:
        here, there = [view.rows() for view in sources], [view.rows() for view in targets]
        self.critic.collect(here, there)
        return {"wasserstein": distance(self.critic, here, torch.cat(there))}

    def after_step(self, model: nn.Module) -> None:
        self.critic.learn(self._objective, self.steps)

    def _objective(self, judge: Judge, sources: Rows, targets: Rows) -> Tensor:
        pooled = torch.cat(targets)
        penalties = [
            slope_penalty(judge, torch.cat([source, pooled, between(source, pooled)]), i)
            for i, source in enumerate(sources)
        ]
        return self.penalty * torch.stack(penalties).mean() - distance(judge, sources, pooled)
