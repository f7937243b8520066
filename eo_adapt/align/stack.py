"""Several alignments as one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from .base import Alignment, Labelled, Setup, Step, Views
from .options import check_choice, check_number

# Factor of a part's terms over training progress p in [0, 1].
RAMPS: dict[str, Callable[[float], float]] = {
    "constant": lambda p: 1.0,
    "linear": lambda p: p,
    "sigmoid": lambda p: 2 / (1 + math.exp(-10 * p)) - 1,  # Ganin et al. 2016 (arXiv:1505.07818), sec. 5.2.2
    "late": lambda p: float(p >= 0.5),
}


def _predicts(part: Alignment) -> bool:
    """Whether it answers in its own way at test time; a stack within a stack does when a part of it does."""
    return any(map(_predicts, part)) if isinstance(part, Stack) else type(part).predict is not Alignment.predict


class Stack(Alignment):
    """Alignments that act together, each with its own weight, in the order given.

    Order matters where one part builds on another: what swaps layers (csn) comes before what copies the network (a
    teacher). Terms are logged as ``<part>/<term>``, so that two parts of one kind do not hide each other. A part may
    itself be a stack; whether parts go together is then asked of all of them.

    Args:
        parts: Name -> alignment.
        weights: Name -> factor on the part's own weight; 1 where none is given.
        ramps: Name -> how that factor grows over training: ``constant`` | ``linear`` | ``sigmoid`` (of DANN) | ``late``
            (0 in the first half); constant where none is given.

    Raises:
        ValueError: If parts do not go together, in this order; says why. If a weight or ramp is impossible, or of a
            part that is unknown or has no loss terms.
    """

    def __init__(
        self,
        parts: Mapping[str, Alignment],
        weights: Mapping[str, float] | None = None,
        ramps: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        if not parts:
            raise ValueError("a stack needs at least one part; got none (method=source_only is the empty method)")
        self.parts = nn.ModuleDict(dict(parts))
        self.weights, self.ramps = dict(weights or {}), dict(ramps or {})
        self._check_factors()
        self.needs = frozenset().union(*(part.needs for part in self))
        self.needs_target = any(part.needs_target for part in self)
        self.min_sources = max(part.min_sources for part in self)
        self.settles = any(part.settles for part in self)
        self.tunes = any(part.tunes for part in self)
        self.learns_at_test = any(part.learns_at_test for part in self)
        self.start = max(part.start for part in self)
        self.images_only = any(part.images_only for part in self)
        self._check_company()

    @property
    def has_terms(self) -> bool:
        return any(part.has_terms for part in self)

    def _check_factors(self) -> None:
        weighed = [name for name, part in self.named() if part.has_terms]
        for what, given in (("weights", self.weights), ("ramps", self.ramps)):
            if unknown := sorted(set(given) - set(self.parts)):
                raise ValueError(f"{what} names {unknown}; the parts are {list(self.parts)}")
            if idle := [name for name in given if name not in weighed]:
                raise ValueError(
                    f"{what} of {idle} would change nothing, for a part without loss terms has nothing to weigh: leave "
                    f"them out; parts with loss terms are {weighed}"
                )
        for name, weight in self.weights.items():
            check_number(f"weights.{name}", weight, least=0)
        for name, ramp in self.ramps.items():
            check_choice(f"ramps.{name}", ramp, list(RAMPS))

    def _check_company(self) -> None:
        leaves = list(self.leaves())
        if oracle := [name for name, part, _ in leaves if part.uses_target_labels]:
            raise ValueError(f"an oracle does not stack: {oracle} use target labels; run them alone")
        if len(own := [name for name, part, _ in leaves if _predicts(part)]) > 1:
            raise ValueError(f"{own} each predict in their own way at test time; use one of them")
        shares = {name: part.weight * factor for name, part, factor in leaves if part.weight_limit == 1}
        if sum(shares.values()) > 1 + 1e-9:
            first = next(iter(shares)).partition("/")[0]
            raise ValueError(
                f"weights of {list(shares)} are shares of the task loss that each replaces, so they may sum to 1 at "
                f"most; they are {shares}: set weights.{first}={1 / len(shares):.2g} and so on"
            )
        copied = ""
        for name, part, _ in leaves:
            if part.place == "swaps" and copied:
                raise ValueError(
                    f"{name} swaps layers of a network that {copied} has copied by then; put {name} before {copied}"
                )
            copied = name if part.place == "copies" else copied

    def __iter__(self) -> Iterator[Alignment]:
        return (part for _, part in self.named())

    def named(self) -> Iterator[tuple[str, Alignment]]:
        """Name and alignment of each part, in order."""
        return ((name, cast(Alignment, part)) for name, part in self.parts.items())

    def leaves(self) -> Iterator[tuple[str, Alignment, float]]:
        """Parts that are no stacks themselves, those of stacks within: their path, alignment and product of weights."""
        for name, part in self.named():
            weight = self.weights.get(name, 1.0)
            if isinstance(part, Stack):
                yield from ((f"{name}/{inner}", leaf, weight * own) for inner, leaf, own in part.leaves())
            else:
                yield name, part, weight

    def attach(self, model: nn.Module, setup: Setup) -> None:
        super().attach(model, setup)
        for part in self:
            part.attach(model, setup)

    def edit(self, sources: tuple[Any, ...], targets: tuple[Any, ...], step: Step) -> tuple[Any, Any]:
        for part in self:
            sources, targets = part.edit(sources, targets, step)
        return sources, targets

    @contextmanager
    def scope(self, domain: int) -> Iterator[None]:
        with ExitStack() as stack:
            for part in self:
                stack.enter_context(part.scope(domain))
            yield

    def factor(self, name: str, progress: float) -> float:
        """What the terms of a part are multiplied by, beside the part's own weight."""
        return self.weights.get(name, 1.0) * RAMPS[self.ramps.get(name, "constant")](progress)

    def loss(self, sources: Views, targets: Views, step: Step) -> dict[str, Tensor]:
        return {
            f"{name}/{term}": self.factor(name, step.progress) * value
            for name, part in self.named()
            for term, value in part(sources, targets, step).items()
        }

    def check(self, sources: Views, targets: Views) -> None:
        """Nothing of its own: each part checks what it is given."""

    def monitors(self) -> dict[str, Tensor]:
        return {f"{name}/{key}": value for name, part in self.named() for key, value in part.monitors().items()}

    def after_step(self, model: nn.Module) -> None:
        for part in self:
            part.after_step(model)

    def settle(
        self, model: nn.Module, sources: Mapping[int, Iterable[Labelled]], targets: Mapping[int, Iterable[Any]]
    ) -> None:
        """Each part that settles, in order; samples are kept, so that each can pass over them.

        While a part looks at a batch, the scope of all parts is entered for that batch's domain.
        """
        labelled = {domain: list(batches) for domain, batches in sources.items()}
        unlabelled = {domain: list(batches) for domain, batches in targets.items()}
        for part in self:
            if part.settles:
                part.settle(model, self._within(labelled), self._within(unlabelled))

    def _within(self, samples: Mapping[int, list[Any]]) -> dict[int, Iterator[Any]]:
        def one(domain: int, batches: list[Any]) -> Iterator[Any]:
            for batch in batches:
                with self.scope(domain):
                    yield batch

        return {domain: one(domain, batches) for domain, batches in samples.items()}

    def tune(self, model: nn.Module, shots: Mapping[int, Labelled], step: Step) -> None:
        for part in self:
            if part.tunes:
                part.tune(model, shots, step)

    def class_weights(self, recall: Tensor) -> Tensor | None:
        """Product of what the parts propose; None when none does."""
        proposed = [weights for part in self if (weights := part.class_weights(recall)) is not None]
        return torch.stack(proposed).prod(0) if proposed else None

    def adjust(self, logits: Tensor) -> Tensor:
        for part in self:
            logits = part.adjust(logits)
        return logits

    def predict(self, model: nn.Module, inputs: Any) -> Tensor:
        for part in self:
            if _predicts(part):
                return self.adjust(part.predict(model, inputs))
        return super().predict(model, inputs)

    def export(self, model: nn.Module, domain: int) -> nn.Module:
        for part in self:
            model = part.export(model, domain)
        return model
