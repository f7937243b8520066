"""MLDG: a step on some sources must help on the others, too."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .base import Alignment, Setup, Step, Views
from .meta import descend, logits_of, risks, trained
from .options import check_number
from .shapes import labels_of


class MLDG(Alignment):
    """Meta-train and meta-test sources, drawn anew each step.

    With F the mean risk of the meta-train sources and G that of the meta-test sources, the loss is
    F(w) + beta G(w - lr dF/dw). The term is that minus the mean risk of all sources, so that task loss and term
    together are the paper's loss.

    Source: Li et al. 2018 (arXiv:1710.03463), algorithm 1. Deviation: first order by default.

    Args:
        weight: Share of the paper's loss in the task loss, 0..1.
        lr: Size of the inner step.
        beta: Factor of the meta-test risk.
        held_out: Number of meta-test sources.
        exact: Differentiate through the inner step, as the paper does; needs a network that can be differentiated
            twice. False counts the inner gradient as a constant.
    """

    needs = frozenset({"labels"})
    min_sources = 2
    weight_limit = 1.0

    def __init__(
        self, weight: float = 1.0, lr: float = 0.1, beta: float = 1.0, held_out: int = 1, exact: bool = False
    ) -> None:
        super().__init__(weight)
        check_number("mldg.lr", lr, above=0)
        check_number("mldg.beta", beta, least=0)
        check_number("mldg.held_out", held_out, least=1, whole=True)
        self.lr, self.beta, self.held_out, self.exact = lr, beta, held_out, exact

    def attach(self, model: nn.Module, setup: Setup) -> None:
        super().attach(model, setup)
        if self.held_out >= setup.sources:
            raise ValueError(
                f"mldg.held_out={self.held_out} of {setup.sources} sources leaves none to train on; it must be smaller"
            )

    def loss(self, sources: Views, targets: Views, step: Step) -> dict[str, Tensor]:
        order = torch.randperm(len(sources)).tolist()
        held, kept = order[: self.held_out], order[self.held_out :]
        found = risks(sources, step)
        before = found[kept].mean()
        moved = descend(trained(step.model), before, self.lr, self.exact)
        after = torch.stack([self._risk(sources, domain, moved, step) for domain in held]).mean()
        return {"mldg": before + self.beta * after - found.mean()}

    def _risk(self, sources: Views, position: int, weights: dict[str, Tensor], step: Step) -> Tensor:
        view = sources[position]
        with step.scope(view.domain):
            return step.criterion(logits_of(step.model, weights, view.inputs), labels_of(view, "MLDG"))
