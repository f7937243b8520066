"""Critics: small networks that judge feature rows, and one that learns by itself between two optimiser steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.func import functional_call

from .base import Setup
from .finite import check_finite

PATIENCE = 128  # calls of `collect` without `learn`: micro-batches that one optimiser step may have
BETAS, EPS = (0.9, 0.999), 1e-8  # Adam's (Kingma & Ba 2015), as everywhere

Rows = list[Tensor]
Judge = Callable[[Tensor], Tensor]
Objective = Callable[[Judge, Rows, Rows], Tensor]


def mlp(width: int, hidden: int, outputs: int, model: nn.Module) -> nn.Sequential:
    """One hidden layer: rows (N, width) -> (N, outputs), on the device of ``model``."""
    net = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, outputs))
    like = next(model.parameters(), None)
    return net if like is None else net.to(like.device)


class Critic(nn.Module):
    """A critic that no outer optimiser trains: it learns once an optimiser step, from all micro-batches of that step.

    Its parameters ask for no gradient, so an outer optimiser, gradient clipping and a distributed wrapper pass them by,
    and whoever calls it gets a gradient to the rows alone. Adam's moments are buffers: they follow the module to its
    device and into the checkpoint. Between processes gradients are averaged, so that all keep the same critic.

    Args:
        setup: Whose width the rows have.
        model: Network beside which the critic lives.
        hidden: Width of the hidden layer.
        outputs: Numbers a row.
        lr: Adam's learning rate.
    """

    mean: Tensor
    square: Tensor
    count: Tensor

    def __init__(self, setup: Setup, model: nn.Module, hidden: int, outputs: int, lr: float) -> None:
        super().__init__()
        self.net, self.lr = mlp(setup.width, hidden, outputs, model).requires_grad_(False), lr
        flat = nn.utils.parameters_to_vector(self.net.parameters())
        for name in ("mean", "square"):
            self.register_buffer(name, torch.zeros_like(flat))
        self.register_buffer("count", torch.zeros((), device=flat.device))
        self._collected: list[tuple[Rows, Rows]] = []

    def forward(self, x: Tensor) -> Tensor:
        """Feature rows (N, D) -> (N, outputs)."""
        judged: Tensor = self.net(x)
        return judged

    def collect(self, sources: Sequence[Tensor], targets: Sequence[Tensor]) -> None:
        """Keep one micro-batch for the next :meth:`learn`: rows (N_i, D) a domain, detached. Nothing in eval mode.

        Raises:
            RuntimeError: If nobody has called :meth:`learn` for very long.
            ValueError: If a row is not finite; the critic would be so for ever.
        """
        if not self.training:
            return
        sides = ("source", sources), ("target", targets)
        check_finite(
            "a critic", "feature rows", [(f"{side} {i}", x) for side, rows in sides for i, x in enumerate(rows)]
        )
        if len(self._collected) >= PATIENCE:
            raise RuntimeError(
                f"a critic has collected {PATIENCE} batches and was never told to learn from them; call "
                "alignment.after_step(model) after each optimizer.step(), or alignment.eval() where nothing is trained"
            )
        self._collected.append(([x.detach() for x in sources], [x.detach() for x in targets]))

    def learn(self, objective: Objective, steps: int) -> None:
        """Adam steps on the joint batch of all that was collected since the last time.

        Args:
            objective: (critic, rows of each source, rows of each target) -> scalar to be minimised.
            steps: How many.
        """
        if not self._collected:
            return
        sides = (zip(*side, strict=True) for side in zip(*self._collected, strict=True))
        sources, targets = ([torch.cat(rows) for rows in side] for side in sides)
        self._collected = []
        for _ in range(steps):
            weights = {name: p.detach().requires_grad_() for name, p in self.net.named_parameters()}
            with torch.enable_grad(), torch.autocast(self.mean.device.type, enabled=False):
                loss = objective(partial(functional_call, self.net, weights), sources, targets)
                grads = torch.autograd.grad(loss, list(weights.values()))
            self._adam(torch.cat([grad.flatten() for grad in grads]))

    @torch.no_grad()
    def _adam(self, grad: Tensor) -> None:
        """One step of Adam (Kingma & Ba 2015, arXiv:1412.6980, algorithm 1)."""
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(grad)
            grad /= dist.get_world_size()
        self.count += 1
        self.mean.lerp_(grad, 1 - BETAS[0])
        self.square.lerp_(grad.square(), 1 - BETAS[1])
        mean, square = (m / (1 - beta**self.count) for m, beta in zip((self.mean, self.square), BETAS, strict=True))
        move = self.lr * mean / (square.sqrt() + EPS)
        parameters = list(self.net.parameters())
        for p, delta in zip(parameters, torch.split(move, [p.numel() for p in parameters]), strict=True):
            p.sub_(delta.view_as(p))
