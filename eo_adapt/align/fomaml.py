"""First-order MAML: weights from which a few steps on a few labels go far."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from .base import Alignment, Labelled, Step, View, Views
from .meta import Weights, check_shots, descend, halves, learn, logits_of, risks, take, trained
from .options import check_number
from .shapes import labels_of


class FOMAML(Alignment):
    """Each source is a task: a step on one half of its batch must lower the loss on the other half.

    The term is the mean loss on the second halves (query) after ``inner_steps`` steps of gradient descent on the first
    (support), minus the mean risk of the sources, so that task loss and term together are the paper's loss. The chosen
    weights then take more such steps on ``shift.target_labels`` target samples a class.

    Source: Finn et al. 2017 (arXiv:1703.03400), algorithm 2 and sec. 5.2 (first order). Deviations: tasks are the
    sources with all their classes, not episodes of a few classes; one head for all tasks.

    Args:
        weight: Share of the paper's loss in the task loss, 0..1.
        inner_lr: Size of the inner steps, in training and on the target.
        inner_steps: Inner steps in training.
        tune_steps: Steps on the target's samples.
        batch_size: Most samples a target and step.
        exact: Differentiate through the inner steps: MAML. Needs a network that can be differentiated twice.
    """

    needs = frozenset({"labels"})
    tunes = True
    weight_limit = 1.0

    def __init__(
        self,
        weight: float = 1.0,
        inner_lr: float = 0.1,
        inner_steps: int = 1,
        tune_steps: int = 50,
        batch_size: int = 128,
        exact: bool = False,
    ) -> None:
        super().__init__(weight)
        name = type(self).__name__.lower()
        check_number(f"{name}.inner_lr", inner_lr, above=0)
        check_number(f"{name}.inner_steps", inner_steps, least=1, whole=True)
        check_number(f"{name}.tune_steps", tune_steps, least=1, whole=True)
        check_number(f"{name}.batch_size", batch_size, least=2, whole=True)
        self.inner_lr, self.inner_steps, self.tune_steps = inner_lr, inner_steps, tune_steps
        self.batch_size, self.exact = batch_size, exact

    def adapted(self, view: View, weights: Weights) -> Collection[str] | None:
        """Names of the weights that the inner steps move; None = all."""
        return None

    def tuned(self, model: nn.Module, shots: Mapping[int, Labelled], step: Step) -> list[nn.Parameter]:
        """The parameters that learn on the target: those that the inner steps move."""
        return [p for p in model.parameters() if p.requires_grad]

    def loss(self, sources: Views, targets: Views, step: Step) -> dict[str, Tensor]:
        weights = trained(step.model)
        after = torch.stack([self._query(view, weights, step) for view in sources]).mean()
        return {"meta": after - risks(sources, step).mean()}

    def _query(self, view: View, weights: Weights, step: Step) -> Tensor:
        """Loss of one source on the half of its batch that the inner steps did not see."""
        labels = labels_of(view, type(self).__name__)
        parts = [(take(view.inputs, at), labels[at]) for at in halves(len(labels), labels.device)]
        (support, known), (query, asked) = parts
        only = self.adapted(view, weights)
        with step.scope(view.domain):
            for _ in range(self.inner_steps):
                loss = step.criterion(logits_of(step.model, weights, support), known)
                weights = descend(weights, loss, self.inner_lr, self.exact, only)
            return step.criterion(logits_of(step.model, weights, query), asked)

    def tune(self, model: nn.Module, shots: Mapping[int, Labelled], step: Step) -> None:
        """Take the inner steps on the targets' samples.

        Raises:
            ValueError: If there is no target, or one has no labelled sample. Nothing is learnt then.
        """
        check_shots(type(self).__name__, shots)
        learning = self.tuned(model, shots, step)
        model.train()
        learn(model, shots, step, torch.optim.SGD(learning, self.inner_lr), self.tune_steps, self.batch_size)
        model.eval()
