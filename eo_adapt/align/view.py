"""One domain as a method sees it, and what a method is told before it sees any. Imports torch only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from .gather import matched

PAIRS = ("pooled", "each")
Pairing = Literal["pooled", "each"]


@dataclass(frozen=True)
class View:
    """One domain as the model saw it in one step; ``*S`` is () for parcels, (H, W) for maps.

    Attributes:
        features: (B, D, *S), what the alignment looks at.
        logits: (B, K, *S').
        inputs: Opaque: whatever the model was called with.
        domain: Position of the domain in (*sources, *targets).
        labels: (B, *S') int64, negative where unknown; None on an unlabelled domain.
        lonlat: (B, 2) degrees, WGS 84.
        days: (B, T) days since 1 January of the label year; None without a time axis.
        branches: Sensor -> the same of what its own encoder saw, of the samples that have it; logits are those of the
            whole network. Empty unless branches are aligned.
    """

    features: Tensor
    logits: Tensor
    inputs: Any
    domain: int
    labels: Tensor | None = None
    lonlat: Tensor | None = None
    days: Tensor | None = None
    branches: Mapping[str, View] = field(default_factory=dict)

    def rows(self) -> Tensor:
        """Features as (N, D) float32: one row a parcel, or one a map cell."""
        return self.features.movedim(1, -1).flatten(0, -2).float()


Views = tuple[View, ...]


@dataclass(frozen=True)
class Setup:
    """What a method is attached to. Domains are numbered sources first, then targets.

    Attributes:
        width: D of the features that alignments look at.
        sources: Number of labelled domains.
        targets: Number of unlabelled domains; may be 0.
        classes: K of the logits; 0 where nobody needs to know.
        names: Name of each class; () where classes only have numbers.
        branches: Sensor -> width D of the features of its own branch.
    """

    width: int
    sources: int = 1
    targets: int = 1
    classes: int = 0
    names: tuple[str, ...] = ()
    branches: Mapping[str, int] = field(default_factory=dict)

    @property
    def domains(self) -> int:
        """Number of all domains."""
        return self.sources + self.targets


def rows(views: Views) -> Tensor:
    """Feature rows of several domains, pooled: (N, D) float32."""
    return torch.cat([view.rows() for view in views])


def pairs(sources: Views, targets: Views, how: Pairing) -> list[tuple[Tensor, Tensor]]:
    """Which feature rows are compared with which; in a data-parallel run the rows of all processes count.

    Args:
        sources: Views of the source domains.
        targets: Views of the target domains.
        how: ``pooled``: all sources together with all targets together. ``each``: every source with every target.

    Returns:
        (N, D), (M, D) float32 pairs.
    """
    return matched([view.rows() for view in sources], [view.rows() for view in targets], how)
