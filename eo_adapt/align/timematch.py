"""TimeMatch: find by how many days a target runs ahead of the sources, then self-train across the gap."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from .augment import StrongView
from .base import Setup, Step, View, Views
from .gather import joined
from .looks import inputs_of, looks, moved, with_inputs
from .options import check_choice, check_number
from .self_training import SelfTraining
from .teacher import precision_of

Criterion = Literal["am", "is", "ent"]
CRITERIA = ("am", "is", "ent")


def summary(logits: Tensor) -> Tensor:
    """What the criteria need of the predictions under one shift: (1 + 2 K,) mean entropy (nats), mean and votes.

    Args:
        logits: (B, K, *S).
    """
    log_p = logits.float().movedim(1, -1).flatten(0, -2).log_softmax(1)
    p, votes = log_p.exp(), torch.zeros_like(log_p).scatter_(1, log_p.argmax(1, keepdim=True), 1.0)
    return torch.cat([-(p * log_p).sum(1).mean()[None], p.mean(0), votes.mean(0)])


def shift_scores(stats: Tensor, criterion: Criterion, shares: Tensor | None = None) -> Tensor:
    """How badly each shift fits; the smallest wins.

    ``ent``: E H(p(y | x)). ``is``: minus the log inception score, E H(p) - H(E p). ``am``: KL(shares || votes) + E H(p)
    with 1e-5 added inside the logarithms of KL.

    Args:
        stats: (S, 1 + 2 K), a :func:`summary` a shift.
        criterion: See above.
        shares: (K,) class shares that ``am`` expects.

    Returns:
        (S,).

    Source: Nyborg et al. 2022 (arXiv:2111.02682).
    """
    entropy, (mean, votes) = stats[:, 0], stats[:, 1:].chunk(2, dim=1)
    if criterion == "is":
        return entropy + torch.xlogy(mean, mean).sum(1)
    if criterion == "am":
        if shares is None:
            raise ValueError("criterion 'am' compares votes with class shares; give shares (K,)")
        return entropy + (shares * ((shares + 1e-5) / (votes + 1e-5)).log()).sum(1)
    return entropy


class ShiftEstimator(nn.Module):
    """The days to add to one target's dates to make it look like what a network knows.

    The first estimate tries all shifts. With ``am`` the inception score first says whether to look ahead or back, and
    which class shares to expect. Later estimates lie between the first and 0, and expect the shares that are voted for
    under the last. What is looked at counts at once and is kept by :meth:`commit`.

    Args:
        classes: Number of classes K.
        criterion: See :func:`shift_scores`.
        max_shift: Largest shift, days.
        resolution: Distance of the shifts that are tried, days.
        batches: Batches that an estimate looks at.
        prior: (K,) known class shares of the target, for ``am``; empty: what is voted for.

    Attributes:
        round: Number of the estimate that comes next; 0 is the first.
        first: What the first estimate said, days.
        shift: The newest estimate, days.
    """

    sums: Tensor
    prior: Tensor

    def __init__(
        self, classes: int, criterion: Criterion, max_shift: int, resolution: int, batches: int, prior: Sequence[float]
    ) -> None:
        super().__init__()
        steps = max_shift // resolution
        self.shifts = sorted((resolution * i for i in range(-steps, steps + 1)), key=abs)  # of equals, the smallest
        self.criterion, self.batches = criterion, batches
        self.register_buffer("sums", torch.zeros(len(self.shifts), 1 + 2 * classes))
        self.register_buffer("prior", torch.tensor(prior) / sum(prior) if prior else torch.empty(0))
        self.round = self.first = self.shift = 0
        self._count = self._kept = 0  # batches looked at; the shift of the last commit
        self._looks: list[Tensor] = []

    def get_extra_state(self) -> Tensor:
        """Where it stands, as whole numbers."""
        return torch.tensor([self.round, self.first, self._kept, self._count])

    def set_extra_state(self, state: Tensor) -> None:
        """Stand there again."""
        self.round, self.first, self._kept, self._count = state.tolist()
        self.shift, self._looks = self._kept, []

    def tried(self) -> list[int]:
        """Positions in ``shifts`` of those that the coming estimate tries."""
        ends = (self.first, 0) if self.round else self.shifts
        return [i for i, shift in enumerate(self.shifts) if min(ends) <= shift <= max(ends)]

    def look(self, predict: Callable[[int], Tensor]) -> None:
        """Try the shifts on one more batch; in a data-parallel run on those of all processes.

        Args:
            predict: shift in days -> logits (B, K, *S) of the batch under it. Not called where only one is tried.
        """
        tried, stats = self.tried(), torch.zeros_like(self.sums)
        if len(tried) > 1:
            for i in tried:
                stats[i] = summary(predict(self.shifts[i]))
            stats = joined(stats[None]).mean(0)
        self._looks.append(stats)
        self.shift = self._estimate(sum(self._looks, self.sums) / (self._count + len(self._looks)), tried)

    def _estimate(self, stats: Tensor, tried: list[int]) -> int:
        if len(tried) == 1 or self.criterion != "am":
            return self._best(stats, tried, self.criterion)
        before = self._kept
        if not self.round:
            before = self._best(stats, tried, "is")
            tried = [i for i in tried if before * self.shifts[i] >= 0]
        votes = stats[self.shifts.index(before), 1:].chunk(2)[1]
        return self._best(stats, tried, "am", self.prior if len(self.prior) else votes)

    def _best(self, stats: Tensor, tried: list[int], criterion: Criterion, shares: Tensor | None = None) -> int:
        if len(tried) == 1:
            return self.shifts[tried[0]]
        return self.shifts[tried[int(shift_scores(stats[tried], criterion, shares).argmin())]]

    def commit(self, due: int) -> None:
        """After an optimiser step: keep what was looked at, and end the round when that was enough.

        Args:
            due: The round that is due at this point of training.
        """
        if not self._looks:
            return
        self.sums.copy_(sum(self._looks, self.sums))
        self._count, self._kept = self._count + len(self._looks), self.shift
        if not self.round:
            self.first = self.shift
        if self._count >= self.batches:
            self.sums.zero_()
            self.round, self._count = due + 1, 0
        self._looks = []


class TimeMatch(SelfTraining):
    """Self-training between seasons: sources are moved into the target's time, the teacher looks from the sources'.

    When ``start`` is reached, the shift d that makes the target look like the sources is estimated on the first
    ``batches`` batches with the teacher. From then on dates of sources are moved by -d, so that the student learns in
    the target's time; d stays for the rest of the run. The teacher sees the target moved by a shift of its own, which
    is estimated anew ``estimates`` times and goes to 0 as the teacher adapts. The student sees the target's own dates,
    in training and afterwards. Of several targets, each has its shift, and each source sample is moved to one of them,
    drawn at random.

    Source: Nyborg et al. 2022 (arXiv:2111.02682). Deviations: in docs/methods/timematch.md.

    Args:
        weight: See :class:`SelfTraining`, as all up to ``gamma``.
        keep: Share of each class that is learnt; the paper's rule is ``keep=1``, ``floor=0.9``.
        floor: Smallest probability of a label that is learnt.
        rate: Step of the running quantiles, logits.
        decay: Of the teacher.
        start: Share of training before the first estimate.
        gamma: Exponent of the focal loss.
        strong: Draws strong views; None is ``StrongView(jitter=8)``.
        strong_sources: See :class:`SelfTraining`.
        criterion: ``is`` (inception score) | ``am`` (activation maximisation) | ``ent`` (entropy).
        max_shift: Largest shift, days.
        resolution: Distance of the shifts that are tried, days.
        batches: Target batches that an estimate looks at.
        estimates: Number of estimates, evenly over training after ``start``.
        prior: Known shares of the classes in the target, in class order, for ``am``; empty: unknown.

    Raises:
        ValueError: If an option is out of its range.
    """

    needs = frozenset({"days"})

    def __init__(
        self,
        weight: float = 2.0,
        keep: float = 0.5,
        floor: float = 0.0,
        rate: float = 0.2,
        decay: float = 0.99,
        start: float = 0.5,
        gamma: float = 1.0,
        strong: StrongView | None = None,
        strong_sources: bool = True,
        criterion: Criterion = "is",
        max_shift: int = 60,
        resolution: int = 4,
        batches: int = 10,
        estimates: int = 10,
        prior: Sequence[float] = (),
    ) -> None:
        strong = strong or StrongView(jitter=8.0)
        super().__init__(weight, keep, floor, rate, decay, start, gamma, strong, strong_sources)
        check_choice("timematch.criterion", criterion, CRITERIA)
        check_number("timematch.max_shift", max_shift, least=0, whole=True)
        for name, count in (("resolution", resolution), ("batches", batches), ("estimates", estimates)):
            check_number(f"timematch.{name}", count, least=1, whole=True)
        if len(prior) and not (min(prior) >= 0 and 0 < sum(prior) < float("inf")):
            raise ValueError(f"timematch.prior holds shares of the classes, each >= 0, some > 0; got {list(prior)}")
        self.criterion, self.max_shift, self.resolution = criterion, max_shift, resolution
        self.batches, self.estimates, self.prior = batches, estimates, tuple(prior)
        self._due = 0

    def attach(self, model: nn.Module, setup: Setup) -> None:
        super().attach(model, setup)
        if self.prior and len(self.prior) != setup.classes:
            raise ValueError(
                f"timematch.prior needs a share for each of the {setup.classes} classes; got {len(self.prior)}"
            )
        grid = self.criterion, self.max_shift, self.resolution, self.batches, self.prior
        self.shifts = nn.ModuleList(ShiftEstimator(setup.classes, *grid) for _ in range(setup.targets))
        self.shifts.to(self.teacher.steps.device)

    def estimators(self) -> list[ShiftEstimator]:
        """One a target."""
        return [cast(ShiftEstimator, part) for part in self.shifts]

    def edit(self, sources: tuple[Any, ...], targets: tuple[Any, ...], step: Step) -> tuple[Any, Any]:
        """Strong views of the sources, their dates moved into the targets' time."""
        sources, targets = super().edit(sources, targets, step)
        first = torch.tensor([estimator.first for estimator in self.estimators()])
        return (tuple(self._to_target(batch, first) for batch in sources) if first.any() else sources), targets

    @staticmethod
    def _to_target(batch: Any, first: Tensor) -> Any:
        inputs = inputs_of(batch)
        size = len(next(iter(looks(inputs).values())).values)
        return with_inputs(batch, moved(inputs, -first[torch.randint(len(first), (size, 1))]))

    def loss(self, sources: Views, targets: Views, step: Step) -> dict[str, Tensor]:
        if step.progress >= self.start:
            share = (step.progress - self.start) / (1 - self.start)
            self._due = min(int(share * self.estimates), self.estimates - 1)
            for view in targets:
                self._estimate(view, step)
        return super().loss(sources, targets, step)

    def weak(self, view: View) -> Any:
        return moved(view.inputs, self._of(view).shift)

    def _of(self, view: View) -> ShiftEstimator:
        return self.estimators()[view.domain - self.sources]

    def _estimate(self, view: View, step: Step) -> None:
        if self.max_shift and all(look.days is None for look in looks(view.inputs).values()):
            warnings.warn(
                "timematch moves dates, but the model's inputs carry none (a record of `values` and `days`), so it is "
                "plain self-training here; hand the days to the model with its inputs, or take SelfTraining "
                "(method=self_training)",
                stacklevel=2,
            )
        elif self._of(view).round <= self._due:
            self._of(view).look(partial(self._under, view, step))

    def _under(self, view: View, step: Step, shift: int) -> Tensor:
        """The teacher's logits of a target whose dates are moved."""
        with step.scope(view.domain), precision_of(view):
            logits: Tensor = self.teacher(moved(view.inputs, shift))[1]
        return logits

    def monitors(self) -> dict[str, Tensor]:
        """Beside the share of labels learnt: the shift of each target, days."""
        shifts = {f"shift_{self.sources + i}": torch.tensor(float(e.shift)) for i, e in enumerate(self.estimators())}
        return super().monitors() | shifts

    def after_step(self, model: nn.Module) -> None:
        super().after_step(model)
        for estimator in self.estimators():
            estimator.commit(self._due)
