"""Self-training: a mean teacher labels the target, the student learns the labels on a strong view."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .augment import StrongView
from .base import Alignment, Place, Setup, Step, View, Views
from .gather import joined
from .looks import inputs_of, shown, with_inputs
from .multiscale import check_scales, multiscale
from .options import check_number
from .teacher import Teacher, precision_of, untracked


def certainty(logits: Tensor) -> tuple[Tensor, Tensor]:
    """The likeliest class and the logit of its probability, log(p / (1 - p)), which resolves probabilities near 1.

    Args:
        logits: (B, K, *S), K >= 2.

    Returns:
        Certainty (B, *S) float32 and class (B, *S) int64.
    """
    logits = logits.float()
    top, label = logits.max(1)
    rest = logits.scatter(1, label[:, None], -torch.inf)
    return top - rest.logsumexp(1), label


class Thresholds(nn.Module):
    """Running quantiles of certainty: of each group (domain) and class, the one that a share of the samples exceeds.

    A quantile q moves by rate * (share of new samples above q - keep), the stochastic gradient of the pinball loss
    (Koenker & Bassett 1978): it stands still where the share is ``keep``, however small the batches are. It starts at
    the mean of the first samples of its class.

    Args:
        groups: Number of groups.
        classes: Number of classes K.
        keep: Share of the samples above the threshold, in (0, 1].
        rate: Step of the quantiles, logits.
    """

    quantile: Tensor
    known: Tensor

    def __init__(self, groups: int, classes: int, keep: float, rate: float) -> None:
        super().__init__()
        self.keep, self.rate = keep, rate
        self.register_buffer("quantile", torch.zeros(groups, classes))
        self.register_buffer("known", torch.zeros(groups, classes, dtype=torch.bool))
        self.forget()

    def forget(self) -> None:
        """Drop what was noted since the last step."""
        self._noted: dict[int, Tensor] = {}

    def note(self, group: int, certainty: Tensor, label: Tensor, there: Tensor | None = None) -> Tensor:
        """Write down new samples (any shape), without moving yet; in a data-parallel run those of all processes.

        Args:
            group: Whose samples they are.
            certainty: Of each.
            label: Of each.
            there: Bool, shape of ``label``: which count at all; None = all.

        Returns:
            Bool, shape of ``label``: which exceed the threshold of their class; all if ``keep`` is 1. None that does
            not count.
        """
        values, label = certainty.flatten(), label.flatten()
        count = torch.ones_like(values) if there is None else there.flatten().to(values.dtype)
        sums = torch.zeros(3, self.quantile.shape[1], device=values.device)
        sums[:2].index_add_(1, label, torch.stack([count, count * values]))
        threshold = torch.where(self.known[group], self.quantile[group], sums[1] / sums[0].clamp_min(1))
        above = values >= threshold[label]
        sums[2].index_add_(0, label, count * above)
        sums = joined(sums[None]).sum(0)
        self._noted[group] = self._noted.get(group, torch.zeros_like(sums)) + sums
        return ((above | (self.keep == 1)) & (count > 0)).view(certainty.shape)

    def move(self) -> None:
        """After an optimiser step: follow what was noted in it."""
        for group, (count, total, above) in self._noted.items():
            size = count.clamp_min(1)
            known, old = self.known[group], self.quantile[group]
            followed = torch.where(known, old + self.rate * (above / size - self.keep), total / size)
            self.quantile[group] = torch.where(count > 0, followed, old)
            self.known[group] = known | (count > 0)
        self.forget()


class SelfTraining(Alignment):
    """A mean teacher labels the target as it is; the student learns those labels on a strong view of it.

    Labelled samples are shown to the student as strong views, too, so that views do not tell the domains apart.
    Of each class the most certain share ``keep`` is learnt, so that frequent classes do not crowd out rare ones. A
    sample (or pixel) is judged by its own certainty, never by that of its batch. The first ``start`` of training is
    source-only, and the teacher only averages; checkpoints from then are no candidates.

    Source: LoveCS (Wang et al. 2022, Remote Sensing of Environment 277) and CBST (Zou et al. 2018, arXiv:1810.07911)
    for a share a class; Tarvainen & Valpola 2017 (arXiv:1703.01780) for the teacher; FixMatch (Sohn et al. 2020,
    arXiv:2001.07685) for weak and strong views. Deviation: running quantiles instead of full passes over the target.

    Args:
        weight: Factor of the term.
        keep: Share of each class that is learnt, in (0, 1]; 1 leaves the choice to ``floor``.
        floor: Smallest probability of a label that is learnt, in [0, 1).
        rate: Step of the running quantiles, logits.
        decay: Of the teacher, see :class:`.teacher.Teacher`.
        start: Share of training before the first label, in [0, 1).
        gamma: Exponent of the focal loss (1 - p)^gamma; 0 is cross-entropy.
        strong: Draws strong views; None is ``StrongView()``.
        strong_sources: Whether labelled samples are shown as strong views; False leaves them as they are.
        scales: At which the teacher looks at target images, times ``gsd_ratio``; its probabilities are averaged (see
            :func:`.multiscale.multiscale`). Inputs that are no images are looked at once.
        gsd_ratio: Ground sampling distance of the targets by that of the sources: 3.3 where target pixels are 1 m and
            source pixels 0.3 m, so that the teacher sees objects at the size that it learnt them at.

    Raises:
        ValueError: If an option is out of its range.
    """

    place: ClassVar[Place] = "copies"
    needs_target = True

    def __init__(
        self,
        weight: float = 1.0,
        keep: float = 0.5,
        floor: float = 0.0,
        rate: float = 0.2,
        decay: float = 0.99,
        start: float = 0.5,
        gamma: float = 0.0,
        strong: StrongView | None = None,
        strong_sources: bool = True,
        scales: Sequence[float] = (1.0,),
        gsd_ratio: float = 1.0,
    ) -> None:
        super().__init__(weight)
        name = type(self).__name__
        check_number(f"{name}.keep", keep, above=0, most=1)
        check_number(f"{name}.floor", floor, least=0, below=1)
        check_number(f"{name}.rate", rate, above=0)
        check_number(f"{name}.decay", decay, least=0, most=1)
        check_number(f"{name}.start", start, least=0, below=1)
        if gamma != 0:  # between 0 and 1 the gradient at p = 1 is infinite
            check_number(f"{name}.gamma, unless 0,", gamma, least=1)
        self.keep, self.floor, self.rate, self.decay, self.start = keep, floor, rate, decay, start
        self.gamma, self.strong, self.strong_sources = gamma, strong or StrongView(), strong_sources
        self.scales = check_scales(name, scales, gsd_ratio)
        self._kept: list[Tensor] = []

    def attach(self, model: nn.Module, setup: Setup) -> None:
        super().attach(model, setup)
        if setup.classes < 2:
            raise ValueError(
                f"{type(self).__name__} keeps a threshold a class, so it must know how many there are: attach it with "
                f"Setup(..., classes=K), K >= 2; got {setup.classes}"
            )
        self.sources = setup.sources
        self.teacher = Teacher(model, self.decay)
        self.thresholds = Thresholds(setup.targets, setup.classes, self.keep, self.rate)
        self.thresholds.to(self.teacher.steps.device)

    def edit(self, sources: tuple[Any, ...], targets: tuple[Any, ...], step: Step) -> tuple[Any, Any]:
        """Strong views of the labelled samples; the targets stay, for the teacher sees them as they are."""
        return (tuple(map(self._strong, sources)) if self.strong_sources else sources), targets

    def _strong(self, batch: Any) -> Any:
        return with_inputs(batch, *self.strong(inputs_of(batch)))

    def loss(self, sources: Views, targets: Views, step: Step) -> dict[str, Tensor]:
        self._kept = []
        if step.progress < self.start:
            return {"pseudo": targets[0].features.new_zeros((), dtype=torch.float32)}
        return {"pseudo": torch.stack([self._pseudo(view, step) for view in targets]).mean()}

    def weak(self, view: View) -> Any:
        """The inputs by which the teacher labels a target."""
        return view.inputs

    def _pseudo(self, view: View, step: Step) -> Tensor:
        """Mean loss over the samples of one target whose label is kept; 0 if none is."""
        with step.scope(view.domain), precision_of(view):
            weak = multiscale(lambda x: self.teacher(x)[1], self.weak(view), self.scales, view.logits.shape[2:])
        certain, label = certainty(weak)
        there = shown(view.inputs, label.shape[1:])
        kept = self.thresholds.note(view.domain - self.sources, certain, label, there)
        kept = kept & (certain.sigmoid() >= self.floor)
        strong, follow = self.strong(view.inputs)
        with step.scope(view.domain), precision_of(view), untracked(step.model):
            logits = step.model(strong)[1].float()
        loss, kept = F.cross_entropy(logits, follow(label), reduction="none"), follow(kept)
        if self.gamma:
            loss = (1 - (-loss).exp()).clamp_min(0) ** self.gamma * loss
        self._kept.append(kept.float().mean())
        return loss.where(kept, 0.0).sum() / kept.sum().clamp_min(1)

    def monitors(self) -> dict[str, Tensor]:
        """Share of the target samples of this step whose label was learnt."""
        return {"kept": torch.stack(self._kept).mean()} if self._kept else {}

    def after_step(self, model: nn.Module) -> None:
        self.thresholds.move()
        self.teacher.follow(model)
