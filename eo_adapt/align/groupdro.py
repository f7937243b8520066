"""Group DRO: train on the source that is worst right now."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .base import Alignment, Setup, Step, Views
from .meta import joint_risks
from .options import check_number


def raised(log_q: Tensor, risks: Tensor, eta: float) -> Tensor:
    """Log weights (S,) after one step of exponentiated gradient ascent: log of q exp(eta risk), normalised.

    In logarithms and normalised each time, so that no number of steps overflows.

    Source: Sagawa et al. 2020 (arXiv:1911.08731), algorithm 1.
    """
    return torch.log_softmax(log_q + eta * risks, 0)


class GroupDRO(Alignment):
    """Weighted sum of the sources' risks instead of their mean; weights grow where the risk is high.

    The term is that sum minus the mean, so that task loss and term together are the paper's loss. Weights follow the
    risks of the current batch first and weigh them then, as in the paper. They are kept once an optimiser step, from
    the mean risks of all its batches.

    Args:
        weight: Share of the paper's loss in the task loss, 0..1.
        eta: Step size of the weights; 0 = all alike, for ever.
    """

    needs = frozenset({"labels"})
    min_sources = 2
    weight_limit = 1.0
    log_q: Tensor

    def __init__(self, weight: float = 1.0, eta: float = 0.01) -> None:
        super().__init__(weight)
        check_number("groupdro.eta", eta, least=0)
        self.eta = eta
        self._seen: list[Tensor] = []  # risks (S,) of the batches since the last optimiser step

    def attach(self, model: nn.Module, setup: Setup) -> None:
        super().attach(model, setup)
        like = next(model.parameters(), torch.empty(0))
        self.register_buffer("log_q", torch.full((setup.sources,), -math.log(setup.sources), device=like.device))

    def loss(self, sources: Views, targets: Views, step: Step) -> dict[str, Tensor]:
        found = joint_risks(sources, step)
        self._seen.append(found.detach())
        q = raised(self.log_q, found.detach(), self.eta).exp()
        return {"groupdro": (q * found).sum() - found.mean()}

    def after_step(self, model: nn.Module) -> None:
        if self._seen:
            self.log_q.copy_(raised(self.log_q, torch.stack(self._seen).mean(0), self.eta))
            self._seen.clear()
