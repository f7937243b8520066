"""What an alignment sees, and the moments at which it may act. Imports torch only."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from numbers import Integral
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from .options import check_number
from .shapes import check_labels, check_sizes
from .view import PAIRS as PAIRS
from .view import Pairing as Pairing
from .view import Setup as Setup
from .view import View as View
from .view import Views as Views
from .view import pairs as pairs
from .view import rows as rows

Labelled = tuple[Any, Tensor]  # inputs, labels
Place = Literal["swaps", "anywhere", "copies"]
OnBranches = Literal["each", "once", "never"]


class NotAttachedError(RuntimeError, AttributeError):
    """A method was used before ``attach``. An AttributeError, too, so that ``hasattr`` and ``copy`` work."""


@dataclass(frozen=True)
class Step:
    """What the trainer lends an alignment for one step.

    Attributes:
        model: inputs -> (features, logits).
        criterion: (logits, labels) -> scalar, the task loss.
        scope: Enter it around any extra forward pass over a domain, the teacher's too.
        progress: 0 at the first optimiser step, 1 at the last.
    """

    model: nn.Module
    criterion: Callable[[Tensor, Tensor], Tensor]
    scope: Callable[[int], AbstractContextManager[None]]
    progress: float


class Alignment(nn.Module):
    """Base of every method; on its own it is the source-only baseline.

    A method overrides the moments it needs; each is a no-op here. ``loss`` returns unweighted terms, ``forward``
    weighs them.

    Attributes:
        needs: View fields read beyond features and logits; checked before any data are read.
        needs_target: Whether training looks at target domains. The trainer shows them only to methods that do, so that
            the baseline's batch statistics hold nothing of the target.
        min_sources: Fewest labelled domains.
        weight_limit: Largest weight; 1 where the weight is the share of the task loss that the method replaces.
        place: What it does to the network in ``attach``: ``swaps`` layers, ``copies`` it, or neither (``anywhere``). In
            a stack whatever swaps must come before whatever copies.
        on_branches: Where branches of a fusion are aligned (``align_at=branches|all``): a copy acts on ``each`` of
            them; a method that compares no features acts ``once``, whatever is aligned; one that cannot be told which
            features to look at is ``never`` used so.
        uses_target_labels: True for oracles only; stamped on every result.
        shots: Target labels a class that an oracle may see; 0 = all.
        settles: Whether ``settle`` must be called before a checkpoint is scored.
        tunes: Whether ``tune`` must be called on chosen weights; needs ``shift.target_labels``.
        learns_at_test: Whether ``predict`` needs gradients.
        start: Share of training before the method sets in. A checkpoint from before is none of its own, and is not
            chosen.
        images_only: Whether it needs images among the inputs; such a method refuses its first batch of parcels.
    """

    needs: frozenset[str] = frozenset()
    needs_target: bool = False
    min_sources: int = 1
    weight_limit: ClassVar[float] = float("inf")
    place: ClassVar[Place] = "anywhere"
    on_branches: ClassVar[OnBranches] = "once"
    uses_target_labels: ClassVar[bool] = False
    shots: int = 0
    settles: bool = False
    tunes: bool = False
    learns_at_test: bool = False
    start: float = 0.0
    images_only: bool = False
    _setup: Setup | None = None  # what attach was told of

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        check_number(f"{type(self).__name__}.weight", weight, least=0, most=self.weight_limit)
        self.weight = weight

    @property
    def has_terms(self) -> bool:
        """Whether ``loss`` returns terms, so that a weight or ramp of a stack has something to weigh."""
        return type(self).loss is not Alignment.loss

    def __getattr__(self, name: str) -> Any:
        """Of what ``attach`` makes and is missing before it, say so."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if self._setup is None and not name.startswith("__"):
                raise NotAttachedError(
                    f"{type(self).__name__} has no attribute {name!r}; if attach makes it, call "
                    "attach(model, Setup(...)) first"
                ) from None
            raise

    def attach(self, model: nn.Module, setup: Setup) -> None:
        """Once, before the optimiser exists: add parameters, swap layers, copy a teacher.

        Raises:
            ValueError: If there are too few domains for the method. Methods call this first.
        """
        name = type(self).__name__
        if setup.sources < self.min_sources:
            raise ValueError(
                f"{name} compares labelled domains, so it needs at least {self.min_sources} sources; got "
                f"{setup.sources} (add domains to shift.sources)"
            )
        if (self.needs_target or self.settles) and not (setup.targets or self.uses_target_labels):
            raise ValueError(f"{name} needs a target domain in training; shift.targets is empty")
        self._setup = setup

    def check_domain(self, domain: int, target: bool = False) -> None:
        """Refuse a number that no domain has; methods call this wherever they are given one.

        Before ``attach`` no number of domains is known, and every number passes.

        Args:
            domain: Position in (*sources, *targets). Negative ones do not count from the end.
            target: Whether it must be a target.

        Raises:
            LookupError: Saying which numbers there are.
        """
        if (setup := self._setup) is None:
            return
        allowed = range(setup.sources if target else 0, setup.domains)
        if not (isinstance(domain, Integral) and domain in allowed):
            kind = "target domain" if target else "domain"
            numbers = f"{allowed[0]}..{allowed[-1]}" if allowed else "none"
            raise LookupError(
                f"{type(self).__name__} has no {kind} {domain!r}; allowed are {numbers}: it was attached to "
                f"{setup.domains} domains, numbered sources first ({setup.sources}), then targets ({setup.targets})"
            )

    def edit(self, sources: tuple[Any, ...], targets: tuple[Any, ...], step: Step) -> tuple[Any, Any]:
        """Before the forward passes: input-level adaptation. Gets and returns batches, one a domain."""
        return sources, targets

    def scope(self, domain: int) -> AbstractContextManager[None]:
        """Around every forward pass over one domain."""
        self.check_domain(domain)
        return nullcontext()

    def loss(self, sources: Views, targets: Views, step: Step) -> dict[str, Tensor]:
        """Each training step: unweighted loss terms by name."""
        return {}

    def monitors(self) -> dict[str, Tensor]:
        """After ``loss``: detached scalars worth logging that are no loss terms, by name."""
        return {}

    def after_step(self, model: nn.Module) -> None:
        """Once after each optimiser step."""

    def settle(
        self, model: nn.Module, sources: Mapping[int, Iterable[Labelled]], targets: Mapping[int, Iterable[Any]]
    ) -> None:
        """Before a checkpoint is scored, without gradients: for what training does not gather.

        Only called where ``settles`` is True.

        Args:
            model: The network, in eval mode.
            sources: Number of each source domain -> (inputs, labels) of its validation samples.
            targets: Number of each target domain -> inputs of its adaptation samples.
        """

    def tune(self, model: nn.Module, shots: Mapping[int, Labelled], step: Step) -> None:
        """Once on the chosen weights, with gradients: learn from a few labelled samples of each target domain.

        Only called where ``tunes`` is True.

        Args:
            model: The network; its weights are changed in place.
            shots: Number of each target domain -> (inputs, labels) of its few labelled samples.
            step: Lends criterion and scope.
        """

    def class_weights(self, recall: Tensor) -> Tensor | None:
        """Once an epoch: sampling weight a class (K,) from source-validation recall (K,), or None to leave it."""
        return None

    def adjust(self, logits: Tensor) -> Tensor:
        """At test time, inside ``scope(domain)``: logits (B, K, *S') -> corrected logits of the same shape."""
        return logits

    def predict(self, model: nn.Module, inputs: Any) -> Tensor:
        """At test time, inside ``scope(domain)``: logits (B, K, *S') of one batch, adjusted."""
        return self.adjust(model(inputs)[1])

    def export(self, model: nn.Module, domain: int) -> nn.Module:
        """A plain copy of the network for one domain: same logits, no scope needed, no helper parts."""
        self.check_domain(domain)
        return copy.deepcopy(model)

    def check(self, sources: Views, targets: Views) -> None:
        """Refuse views that are not what the method was attached for, or that lack labels that it learns from."""
        for view in (*sources, *targets):
            self.check_domain(view.domain)
        if self._setup is not None:
            check_sizes(type(self).__name__, (*sources, *targets), self._setup)
        if "labels" in self.needs:
            check_labels(type(self).__name__, sources)

    def forward(self, sources: Views, targets: Views, step: Step) -> dict[str, Tensor]:
        """Weighted loss terms by name, computed in float32 whatever autocast says.

        Raises:
            LookupError: If a view is of a domain that is not there.
            ValueError: If the views do not fit; see :meth:`check`.
        """
        self.check(sources, targets)
        device = sources[0].features.device.type if sources else "cpu"
        with torch.autocast(device, enabled=False):
            terms = self.loss(sources, targets, step)
        return {name: self.weight * term for name, term in terms.items()}
