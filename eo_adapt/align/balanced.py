"""Class-balanced training: every class of the sources counts alike, or as often as the target seems to have it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .base import Alignment, Setup, Step, Views
from .entropy import logit_rows
from .gather import joined
from .options import check_number
from .shares import label_shares, reweighted


class Balanced(Alignment):
    """Adds to the task loss what makes it a loss with other class shares.

    A sample of class k weighs wanted_k / share_k. Shares are those of all labels seen in training; wanted are equal
    shares of the classes seen, or, with ``pseudo``, running shares of the target's pseudo-labels.

    Source: class-balanced and pseudo-balanced resampling as in Garg et al. 2023 (RLSbench, arXiv:2302.03020).
    Deviations: weights instead of resampling, and on the sources only (docs/methods/balanced.md).

    Args:
        weight: 1 = the reweighted loss; 0 = the plain one; in between a mixture.
        pseudo: Towards the shares of pseudo-labels on the targets instead of equal ones.
        momentum: How much of the pseudo-label shares so far each step keeps; they follow the network.
        smooth: Share of equal shares that is mixed into those of pseudo-labels.
        max_weight: Largest weight of a class; a class seen once must not rule a batch.
    """

    needs = frozenset({"labels"})
    _seen: Tensor
    _pseudo: Tensor
    _new: Tensor

    def __init__(
        self,
        weight: float = 1.0,
        pseudo: bool = False,
        momentum: float = 0.99,
        smooth: float = 0.1,
        max_weight: float = 10.0,
    ) -> None:
        super().__init__(weight)
        check_number("balanced.momentum", momentum, least=0, below=1)
        check_number("balanced.smooth", smooth, least=0, most=1)
        check_number("balanced.max_weight", max_weight, least=1)
        self.pseudo, self.momentum, self.smooth, self.max_weight = pseudo, momentum, smooth, max_weight
        self.needs_target = pseudo

    def attach(self, model: nn.Module, setup: Setup) -> None:
        super().attach(model, setup)
        if setup.classes < 2:
            raise ValueError(f"Balanced counts classes; Setup.classes must be at least 2, got {setup.classes}")
        like = next(model.parameters(), torch.zeros(0))
        self.register_buffer("_seen", torch.zeros(setup.classes, device=like.device))
        self.register_buffer("_pseudo", torch.zeros(setup.classes, device=like.device))
        # Label and pseudo-label shares of the batches since the last optimiser step.
        self.register_buffer("_new", torch.zeros(2, setup.classes, device=like.device), persistent=False)

    def weights(self) -> Tensor:
        """Weight of each class (K,), from all steps so far and this one; a class not seen yet weighs 1."""
        seen = self._seen + self._new[0]
        wanted = (seen > 0).float()
        if self.pseudo:
            wanted = wanted * (_shares(self._followed()) * (1 - self.smooth) + self.smooth / len(seen))
        ratio = (_shares(wanted) / _shares(seen).clamp_min(1e-12)).clamp_max(self.max_weight)
        return torch.where(seen > 0, ratio, 1.0)

    def _followed(self) -> Tensor:
        """Running pseudo-label shares (K,), this step's included; up to a factor."""
        return self.momentum * self._pseudo + (1 - self.momentum) * _shares(self._new[1])

    def loss(self, sources: Views, targets: Views, step: Step) -> dict[str, Tensor]:
        classes = len(self._seen)
        self._new[0] += label_shares(sources, classes)
        if self.pseudo:
            guesses = torch.cat([logit_rows(view.logits.detach()).argmax(1) for view in targets])
            counts = joined(torch.bincount(guesses, minlength=classes).float()[None]).sum(0)
            self._new[1] += _shares(counts)
        return {"balanced": reweighted(sources, self.weights(), step.criterion)}

    def after_step(self, model: nn.Module) -> None:
        self._seen += self._new[0]
        if self.pseudo:
            self._pseudo.copy_(self._followed())
        self._new.zero_()


def _shares(counts: Tensor) -> Tensor:
    return counts / counts.sum().clamp_min(1e-12)
