"""ADDA: target features that a critic takes for those of the source network as it was."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from .base import Alignment, Place, Setup, Step, View, Views, rows
from .critic import Critic, Judge, Rows
from .options import check_number
from .teacher import Teacher, precision_of


def invert(judged: Tensor) -> Tensor:
    """Cross-entropy of target rows under the source's label; judged (N, 1) are logits of "source"."""
    return F.softplus(-judged).mean()


def tell_apart(judge: Judge, sources: Rows, targets: Rows) -> Tensor:
    """Binary cross-entropy of source against target rows; both sides count alike, and domains within a side."""
    real = torch.stack([F.softplus(-judge(x)).mean() for x in sources]).mean()
    fake = torch.stack([F.softplus(judge(x)).mean() for x in targets]).mean()
    return (real + fake) / 2


class ADDA(Alignment):
    """Trains on the sources first, then freezes a copy, and makes target features look like the copy's source features.

    The critic tells source features of the frozen copy from target features of the network in training. The term is
    its cross-entropy on the target under the wrong label, so only target features are moved.

    Args:
        weight: Factor of the term.
        start: Share of training, in [0, 1), after which the copy is frozen; source-only before.
        steps: Adam steps of the critic after each step of the optimiser.
        lr: Learning rate of the critic.
        hidden: Width of the critic's hidden layer.

    Source: Tzeng et al. 2017 (arXiv:1702.05464), eq. 9. Deviations: one run instead of two stages; one network for both
    domains, which goes on learning the task.
    """

    needs_target = True
    on_branches = "never"
    place: ClassVar[Place] = "copies"
    _started: Tensor

    def __init__(
        self, weight: float = 1.0, start: float = 0.5, steps: int = 1, lr: float = 1e-3, hidden: int = 256
    ) -> None:
        super().__init__(weight)
        check_number("adda.start", start, least=0, below=1)
        check_number("adda.steps", steps, least=1, whole=True)
        check_number("adda.lr", lr, above=0)
        check_number("adda.hidden", hidden, least=1, whole=True)
        self.start, self.steps, self.lr, self.hidden = start, steps, lr, hidden
        self._monitors: dict[str, Tensor] = {}
        self._first: dict[str, Tensor] = {}

    def attach(self, model: nn.Module, setup: Setup) -> None:
        super().attach(model, setup)
        self.frozen = Teacher(model, decay=1.0)
        self.critic = Critic(setup, model, self.hidden, 1, self.lr)
        self.register_buffer("_started", torch.zeros((), dtype=torch.bool))

    def loss(self, sources: Views, targets: Views, step: Step) -> dict[str, Tensor]:
        if step.progress < self.start:
            return {"adda": 0.0 * rows(targets).mean()}
        if not (self._started or self._first):  # the copy is of the network as it is now; written in after_step
            ours, theirs = _tensors(self.frozen.network), _tensors(step.model)
            self._first = {name: x.detach().clone() for (name, _), (_, x) in zip(ours, theirs, strict=True)}
        real, fake = [self._frozen_rows(view, step) for view in sources], [view.rows() for view in targets]
        self.critic.collect(real, fake)
        judged = [self.critic(x) for x in fake]
        self._watch([self.critic(x) for x in real], judged)
        return {"adda": torch.stack([invert(x) for x in judged]).mean()}

    @torch.no_grad()
    def _frozen_rows(self, view: View, step: Step) -> Tensor:
        with step.scope(view.domain), precision_of(view):
            features: Tensor = functional_call(self.frozen.network, self._first, (view.inputs,))[0]
        return replace(view, features=features).rows()

    @torch.no_grad()
    def _watch(self, real: Rows, fake: Rows) -> None:
        hits = torch.cat(real).gt(0).float().mean(), torch.cat(fake).le(0).float().mean()
        self._monitors = {"critic_accuracy": torch.stack(hits).mean()}

    def monitors(self) -> dict[str, Tensor]:
        """Share of rows that the critic puts on the right side, mean over both sides; 0.5 is chance."""
        return self._monitors

    @torch.no_grad()
    def after_step(self, model: nn.Module) -> None:
        if self._first:
            for name, value in _tensors(self.frozen.network):
                value.copy_(self._first[name])
            self._first = {}
            self._started.fill_(True)
        self.critic.learn(tell_apart, self.steps)


def _tensors(net: nn.Module) -> Iterator[tuple[str, Tensor]]:
    return chain(net.named_parameters(), net.named_buffers())
