"""Methods on the branches of a fusion: what each sensor's own encoder sees, not only what they say together."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Literal, cast, get_args

from torch import Tensor, nn

from .base import Alignment, Setup, Step, Views
from .options import check_choice
from .stack import Stack

AlignAt = Literal["fused", "branches", "all"]
FEWEST = 2  # samples that a domain needs on a branch, to be compared there


class EachBranch(Alignment):
    """One method on each branch, in copies with helper parts (critics, heads) of their own; terms are added.

    Terms are called ``<branch>/<term>``, those of the fused features ``fused/<term>``. A copy looks at the samples that
    have the sensor; a domain with less than two of them in this step is left out, and a branch that has no source or
    no target left has no term.

    Args:
        part: A method whose ``on_branches`` is "each"; its weight is that of every term.
        names: The branches.
        fused: Whether it acts on the fused features, too.
    """

    on_branches = "never"

    def __init__(self, part: Alignment, names: tuple[str, ...], fused: bool) -> None:
        super().__init__()
        self.fused = part if fused else None
        self.parts = nn.ModuleDict({name: copy.deepcopy(part) for name in names})
        self.needs, self.needs_target, self.min_sources = part.needs, part.needs_target, part.min_sources
        self.start = part.start

    def named(self) -> Iterator[tuple[str, Alignment]]:
        """Name and method of each branch, after that of the fused features."""
        if self.fused is not None:
            yield "fused", self.fused
        yield from ((name, cast(Alignment, part)) for name, part in self.parts.items())

    def attach(self, model: nn.Module, setup: Setup) -> None:
        """Attach every copy, with the width of its branch.

        Raises:
            LookupError: If the network has no such branch.
        """
        super().attach(model, setup)
        if lacking := sorted(set(self.parts) - set(setup.branches)):
            raise LookupError(
                f"branches {lacking} are to be aligned, but the network has {sorted(setup.branches)}: attach with "
                "Setup(branches={name: width})"
            )
        for name, part in self.named():
            width = setup.branches[name] if name in self.parts else setup.width
            part.attach(model, replace(setup, width=width))

    def loss(self, sources: Views, targets: Views, step: Step) -> dict[str, Tensor]:
        terms: dict[str, Tensor] = {}
        for name, part in self.named():
            here = (sources, targets) if part is self.fused else (of_branch(sources, name), of_branch(targets, name))
            if all(here):
                terms |= {f"{name}/{term}": value for term, value in part(*here, step).items()}
        return terms

    def check(self, sources: Views, targets: Views) -> None:
        """Nothing of its own: each copy checks what it is given."""

    def monitors(self) -> dict[str, Tensor]:
        return {f"{name}/{key}": value for name, part in self.named() for key, value in part.monitors().items()}

    def after_step(self, model: nn.Module) -> None:
        for _, part in self.named():
            part.after_step(model)


def of_branch(views: Views, name: str) -> Views:
    """What the branch saw of each domain that has at least two samples with its sensor."""
    found = [view.branches[name] for view in views if name in view.branches]
    return tuple(view for view in found if len(view.features) >= FEWEST)


def align_at(method: Alignment, where: AlignAt, branches: Mapping[str, int]) -> Alignment:
    """The method as it acts on the fused features, on each branch, or on both.

    Parts of a stack are taken one by one. Methods that compare no features (norms, self-training, inputs, logits) act
    once, whatever is aligned.

    Args:
        method: Not attached yet; its parts are moved into the result.
        where: ``fused``: as it is. ``branches``: each branch alone. ``all``: both.
        branches: Sensor -> width, of the network.

    Raises:
        ValueError: If the option is misspelt, the network has no branches, or a method cannot act on them.
    """
    check_choice("align_at", where, list(get_args(AlignAt)))
    if where == "fused":
        return method
    if not branches:
        raise ValueError(
            f"align_at={where} needs a network with an encoder for each sensor; this one has none: set align_at=fused, "
            "or encoder=fusion or map_fusion with encoder.scheme=late, added or decision"
        )
    if isinstance(method, Stack):
        for name, part in method.named():
            method.parts[name] = align_at(part, where, branches)
        return method
    if method.on_branches == "never":
        raise ValueError(
            f"{type(method).__name__} looks at the fused features alone and cannot act on branches: set "
            "align_at=fused, or take another method, such as dann"
        )
    return method if method.on_branches == "once" else EachBranch(method, tuple(branches), where == "all")
