"""MCD: two classifiers disagree on target features that are unlike the source's; the encoder makes them agree."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .base import Alignment, Setup, Step, Views
from .critic import mlp
from .dann import reverse_gradient
from .options import check_number
from .shapes import labels_of


def discrepancy(first: Tensor, second: Tensor) -> Tensor:
    """Mean over rows and classes of |p1 - p2|; logits (N, K) each, value in [0, 2 / K].

    Source: Saito et al. 2018 (arXiv:1712.02560), eq. 9.
    """
    one, two = (logits.float().log_softmax(1).exp() for logits in (first, second))
    return (one - two).abs().mean()


def cell_labels(labels: Tensor, features: Tensor) -> Tensor:
    """Label of each feature row, (N,).

    Args:
        labels: (B,), taken for every cell, or (B, H', W'), of which the pixel at a cell's centre is taken.
        features: (B, D) or (B, D, H, W).

    Raises:
        ValueError: If labels are maps and features are not.
    """
    cells = features.shape[2:]
    if labels.ndim == 1:
        return labels.repeat_interleave(cells.numel())
    if not cells:
        raise ValueError(
            f"labels {tuple(labels.shape)} are maps, features {tuple(features.shape)} are not; mcd needs features (B, "
            "D, H, W) for dense labels (choose a deeper or shallower map to align)"
        )
    if labels.shape[1:] != cells:
        labels = F.interpolate(labels[:, None].double(), tuple(cells), mode="nearest-exact")[:, 0].long()
    return labels.flatten()


def known_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean over rows whose label is not negative; 0 where there are none. Logits (N, K), labels (N,)."""
    summed = F.cross_entropy(logits, labels.masked_fill(labels < 0, -100), reduction="sum")
    return summed / (labels >= 0).sum().clamp_min(1)


class MCD(Alignment):
    """Two heads learn the task on source features and, on the target, to disagree; the encoder makes them agree.

    One backward pass does what the paper does in three steps: gradient reversals before and after the heads turn the
    discrepancy into the heads' gain and the encoder's loss.

    Args:
        weight: Factor of both terms.
        strength: Factor of the encoder's gradient from the discrepancy alone, not of the heads'.
        hidden: Width of the heads' hidden layer.

    Source: Saito et al. 2018 (arXiv:1712.02560), sec. 3.3. Deviations: one pass instead of steps A, B and C; the heads
    only shape the features, the network's own head predicts.
    """

    needs = frozenset({"labels"})
    needs_target = True
    on_branches = "each"

    def __init__(self, weight: float = 1.0, strength: float = 4.0, hidden: int = 256) -> None:
        super().__init__(weight)
        check_number("mcd.strength", strength, least=0)
        check_number("mcd.hidden", hidden, least=1, whole=True)
        self.strength, self.hidden = strength, hidden

    def attach(self, model: nn.Module, setup: Setup) -> None:
        super().attach(model, setup)
        if setup.classes < 2:
            raise ValueError(f"MCD needs the number of classes, at least 2; got Setup(classes={setup.classes})")
        self.heads = nn.ModuleList(mlp(setup.width, self.hidden, setup.classes, model) for _ in range(2))

    def loss(self, sources: Views, targets: Views, step: Step) -> dict[str, Tensor]:
        tasks, gaps = [], []
        for view in sources:
            x, labels = view.rows(), cell_labels(labels_of(view, "MCD"), view.features)
            tasks += [known_cross_entropy(head(x), labels) for head in self.heads]
        for view in targets:
            x = reverse_gradient(view.rows(), self.strength)
            gaps.append(discrepancy(*(reverse_gradient(head(x), 1.0) for head in self.heads)))
        return {"heads": torch.stack(tasks).mean(), "discrepancy": torch.stack(gaps).mean()}
