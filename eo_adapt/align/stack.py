"""Several alignments as one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from .base import Alignment, Step, Views


def _predicts(part: Alignment) -> bool:
    """Whether it answers in its own way at test time; a stack within a stack does when a part of it does."""
    return any(map(_predicts, part)) if isinstance(part, Stack) else type(part).predict is not Alignment.predict


class Stack(Alignment):
    """Alignments that act together, each with its own weight, in the order given.

    Order matters where one part builds on another: normalisation (csn) before anything that copies the network (a
    teacher). Terms are logged as ``<part>/<term>``, so that two parts of one kind do not hide each other.

    Args:
        parts: Name -> alignment.
    """

    def __init__(self, parts: Mapping[str, Alignment]) -> None:
        super().__init__()
        if not parts:
            raise ValueError("a stack needs at least one part; got none (method=source_only is the empty method)")
        self.parts = nn.ModuleDict(dict(parts))
        self.needs = frozenset().union(*(part.needs for part in self))
        self.needs_target = any(part.needs_target for part in self)
        self.settles = any(part.settles for part in self)
        self.learns_at_test = any(part.learns_at_test for part in self)
        if oracle := [name for name, part in self.named() if part.uses_target_labels]:
            raise ValueError(f"an oracle does not stack: {oracle} use target labels; run them alone")

    def __iter__(self) -> Iterator[Alignment]:
        return (part for _, part in self.named())

    def named(self) -> Iterator[tuple[str, Alignment]]:
        """Name and alignment of each part, in order."""
        return ((name, cast(Alignment, part)) for name, part in self.parts.items())

    def attach(self, model: nn.Module, width: int, domains: int) -> None:
        for part in self:
            part.attach(model, width, domains)

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

    def loss(self, sources: Views, targets: Views, step: Step) -> dict[str, Tensor]:
        return {
            f"{name}/{term}": value
            for name, part in self.named()
            for term, value in part(sources, targets, step).items()
        }

    def after_step(self, model: nn.Module) -> None:
        for part in self:
            part.after_step(model)

    def settle(self, model: nn.Module, targets: Mapping[int, Iterable[Any]]) -> None:
        kept = {domain: list(batches) for domain, batches in targets.items()}  # each part passes over them
        for part in self:
            if part.settles:
                part.settle(model, kept)

    def class_weights(self, recall: Tensor) -> Tensor | None:
        """Product of what the parts propose; None when none does."""
        proposed = [weights for part in self if (weights := part.class_weights(recall)) is not None]
        return torch.stack(proposed).prod(0) if proposed else None

    def predict(self, model: nn.Module, inputs: Any) -> Tensor:
        own = [part for part in self if _predicts(part)]
        return own[-1].predict(model, inputs) if own else super().predict(model, inputs)

    def export(self, model: nn.Module, domain: int) -> nn.Module:
        for part in self:
            model = part.export(model, domain)
        return model
