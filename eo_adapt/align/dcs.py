"""DCS: class weights that follow how rare each class has been in the batches so far."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from .base import Alignment, Setup, Step, View, Views
from .gather import joined
from .options import check_choice, check_number
from .shares import reweighted

Per = Literal["batch", "image"]
Norm = Literal["weights", "count"]
PERS, NORMS = ("batch", "image"), ("weights", "count")
Loss = Callable[[Tensor, Tensor], Tensor]


def rarity_weights(shares: Tensor, temperature: float) -> Tensor:
    """K softmax((1 - f) / T): weights of mean 1 over the classes, larger for a rarer class.

    Args:
        shares: (..., K) share f of each class, in [0, 1].
        temperature: T > 0. Of two classes the weights have the ratio exp((f_1 - f_2) / T).

    Returns:
        (..., K) > 0, sum K.
    """
    weights: Tensor = shares.shape[-1] * ((1 - shares) / temperature).softmax(-1)
    return weights


def class_counts(labels: Tensor, classes: int) -> Tensor:
    """How many labels of each class each sample has: labels (B, *S) int64, unknown below 0 -> (B, K) float32."""
    flat = labels.flatten(1) if labels.ndim > 1 else labels[:, None]
    counts = torch.zeros(len(flat), classes, device=flat.device)
    return counts.scatter_add_(1, flat.clamp_min(0), (flat >= 0).float())


def shares_of(counts: Tensor) -> Tensor:
    """Counts (..., K) -> shares; all 0 where nothing is counted."""
    return counts / counts.sum(-1, keepdim=True).clamp_min(1)


class DCS(Alignment):
    """Adds to the task loss what makes each class count by its rarity, as seen in a moving average of the batches.

    With shares f of the classes in a batch, w = K softmax((1 - f) / T), and the weights in use are
    W <- alpha W + (1 - alpha) w, W = 1 at the start. The task loss stays as it is; the term is the weighted loss minus
    the plain one.

    Source: the dynamic class sampling of GeoMultiTaskNet (Marsocci et al. 2023, arXiv:2304.07750), which is a weight of
    the loss, not a sampler; its code was not released with it. The formula is that of gradual class weights (Li et
    al. 2022, Remote Sensing 14, 4942). Deviations: in docs/methods/dcs.md.

    Args:
        weight: 1 = the weighted loss; 0 = the plain one; in between a mixture.
        temperature: T of :func:`rarity_weights`, shares.
        alpha: How much of the weights so far each step keeps, in [0, 1).
        per: ``batch``: shares over all labels of a step. ``image``: each image is weighed by weights of its own,
            alpha W + (1 - alpha) w of its own shares, and W follows their mean.
        norm: ``weights`` divides by the sum of the weights of all labels, ``count`` by their number.

    Raises:
        ValueError: If an option is misspelt or out of its range.
    """

    needs = frozenset({"labels"})
    weight_limit = 1.0
    running: Tensor
    _new: Tensor

    def __init__(
        self,
        weight: float = 1.0,
        temperature: float = 0.1,
        alpha: float = 0.9,
        per: Per = "batch",
        norm: Norm = "weights",
    ) -> None:
        super().__init__(weight)
        check_choice("dcs.per", per, PERS)
        check_choice("dcs.norm", norm, NORMS)
        check_number("dcs.temperature", temperature, above=0)
        check_number("dcs.alpha", alpha, least=0, below=1)
        self.temperature, self.alpha, self.per, self.norm = temperature, alpha, per, norm

    def attach(self, model: nn.Module, setup: Setup) -> None:
        super().attach(model, setup)
        if setup.classes < 2:
            raise ValueError(f"DCS weighs classes; Setup.classes must be at least 2, got {setup.classes}")
        like = next(model.parameters(), torch.zeros(0))
        self.register_buffer("running", torch.ones(setup.classes, device=like.device))
        # Sum of the weights drawn since the last optimiser step, and in the last place how many there were.
        self.register_buffer("_new", torch.zeros(setup.classes + 1, device=like.device), persistent=False)

    def loss(self, sources: Views, targets: Views, step: Step) -> dict[str, Tensor]:
        known = [(view, view.labels) for view in sources if view.labels is not None]
        counts = [class_counts(labels, len(self.running)) for _, labels in known]
        if self.per == "image":
            weights = [self._of_images(labels, count) for (_, labels), count in zip(known, counts, strict=True)]
        else:
            weights = [self._of_batch(counts)] * len(counts)
        parts = zip(known, counts, weights, strict=True)
        return {"dcs": torch.stack([self._term(v, y, c, w, step.criterion) for (v, y), c, w in parts]).mean()}

    def _followed(self, shares: Tensor) -> Tensor:
        return self.alpha * self.running + (1 - self.alpha) * rarity_weights(shares, self.temperature)

    def _of_batch(self, counts: list[Tensor]) -> Tensor:
        """Weights (1, K) of this step, one for all; shares are averaged over domains, as the task loss is."""
        summed = joined(torch.stack([count.sum(0) for count in counts])[None]).sum(0)
        there = summed.sum(1) > 0
        weights = self._followed(shares_of(summed).sum(0) / there.sum().clamp_min(1))[None]
        self._note(weights if there.any() else weights[:0])
        return weights

    def _of_images(self, labels: Tensor, counts: Tensor) -> Tensor:
        """Weights (B, K) of each image of a domain."""
        if labels.ndim < 2:
            raise ValueError(
                "dcs.per=image counts the classes within each image, and a parcel has one label: take dcs.per=batch"
            )
        weights = self._followed(shares_of(counts))
        self._note(joined(weights[counts.sum(1) > 0]))
        return weights

    def _note(self, weights: Tensor) -> None:
        self._new[:-1] += weights.sum(0)
        self._new[-1] += len(weights)

    def _term(self, view: View, labels: Tensor, counts: Tensor, weights: Tensor, criterion: Loss) -> Tensor:
        """Weighted minus plain loss of one domain; weights (1, K), or (B, K) for each image its own."""
        total = counts.sum().clamp_min(1)
        if self.norm == "weights" and counts.any():
            weights = weights / ((weights * counts).sum() / total)
        if len(weights) == 1:
            return reweighted((view,), weights[0], criterion)
        images = [replace(view, logits=view.logits[i : i + 1], labels=labels[i : i + 1]) for i in range(len(labels))]
        parts = zip(images, weights, counts.sum(1) / total, strict=True)
        return torch.stack([share * reweighted((image,), w, criterion) for image, w, share in parts]).sum()

    def monitors(self) -> dict[str, Tensor]:
        """Smallest and largest weight of a class so far."""
        return {"lowest": self.running.min(), "highest": self.running.max()}

    def after_step(self, model: nn.Module) -> None:
        if self._new[-1] > 0:
            self.running.copy_(self._new[:-1] / self._new[-1])
        self._new.zero_()
