"""Heads that follow a fusion of encoders: one answer a modality, beside the fused one or instead of it."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from ..encoders.base import Encoder
from ..encoders.blocks.static import exporting, rows_or_zeros
from ..types import Branch, Features, Side
from .base import Head, at_size


class SideHead(Head):
    """A head that can also say what each modality says alone, for auxiliary supervision in training.

    Args:
        encoder: A fusion with an encoder a modality (late, decision).
        classes: Number of classes K.
        inner: Builds the head of one modality from ``encoder`` and ``classes``.
        auxiliary: Weight of each modality's own task loss; 0 = none. PASTIS-R (Garnot et al. 2022) has 0.5.
        series: Builds it where the finest map has a cell a pixel, as of image series; None = as inner.

    Raises:
        ValueError: If the encoder has no encoder a modality, or the weight is negative.
    """

    def __init__(
        self,
        encoder: Encoder,
        classes: int,
        inner: Callable[..., Head],
        auxiliary: float,
        series: Callable[..., Head] | None = None,
    ) -> None:
        super().__init__(encoder, classes)
        self._builds = (inner, series or inner)
        if not (math.isfinite(auxiliary) and auxiliary >= 0):
            raise ValueError(f"head.auxiliary is the weight of a loss, 0 or more; got {auxiliary}")
        self.auxiliary = auxiliary
        parts = encoder.parts().items()
        self.heads = nn.ModuleDict({name: self.made(part) for name, part in parts})

    def made(self, encoder: Encoder) -> Head:
        """A head of its own for an encoder."""
        return self._builds[encoder.strides[0] == 1](encoder=encoder, classes=self.classes)

    def check(self, encoder: Encoder) -> None:
        """Raises ValueError unless the encoder has an encoder a modality."""
        if not encoder.parts():
            raise ValueError(
                f"{type(self).__name__} follows a fusion with an encoder for each modality; "
                f"{type(encoder).__name__} has none: set encoder=fusion with encoder.scheme=late or decision, or "
                "head=classify"
            )

    @abstractmethod
    def answers(self, features: Features) -> tuple[Tensor, Mapping[str, Side]]:
        """Logits, and what each modality says alone."""

    def forward(self, features: Features) -> Tensor:
        """Logits (B, K) of parcels or (B, K, H, W) of maps."""
        return self.answers(features)[0]

    def alone(self, branches: Mapping[str, Branch], size: tuple[int, int] | None = None) -> dict[str, Side]:
        """Answers of each modality, from the samples that have it; zeros for the others. Maps at one size."""
        found = {}
        for name, branch in branches.items():
            if exporting():
                logits = at_size(self.heads[name](Features(branch.maps)), size)
                found[name] = Side(rows_or_zeros(logits, branch.present), branch.present, self.auxiliary)
                continue
            rows = branch.present.nonzero()[:, 0]
            some = len(rows) < len(branch.present)
            maps = tuple(x[rows] for x in branch.maps) if some else branch.maps
            logits = at_size(self.heads[name](Features(maps)), size)
            if some:
                every = logits.new_zeros(len(branch.present), *logits.shape[1:])
                logits = every.index_copy(0, rows, logits)
            found[name] = Side(logits, branch.present, self.auxiliary)
        return found


class Auxiliary(SideHead):
    """A head on the fused features and, in training, one on each modality's own, whose losses help its encoder.

    Garnot et al. 2022 (PASTIS-R): L = L_fused + weight * sum_m L_m.

    Args:
        encoder: A late fusion.
        classes: Number of classes K.
        inner: Builds a head from ``encoder`` and ``classes``.
        auxiliary: Weight of each modality's own loss.
        series: Builds it where the finest map has a cell a pixel, as of image series; None = as inner.
    """

    def __init__(
        self,
        encoder: Encoder,
        classes: int,
        inner: Callable[..., Head],
        auxiliary: float = 0.5,
        series: Callable[..., Head] | None = None,
    ) -> None:
        super().__init__(encoder, classes, inner, auxiliary, series)
        self.fused = self.made(encoder)

    def answers(self, features: Features) -> tuple[Tensor, Mapping[str, Side]]:
        """Logits of the fused features; of each modality in training only."""
        wanted = self.training and self.auxiliary
        return self.fused(features), self.alone(features.branches, features.size) if wanted else {}


class Decision(SideHead):
    """One head a modality; logits are the log of their mean probability over the modalities that a sample has.

    A sample that has none gets equal logits. The mean alone teaches a modality little once another one is right, so
    each also has a task loss of its own.

    Args:
        encoder: A decision fusion.
        classes: Number of classes K.
        inner: Builds the head of one modality from ``encoder`` and ``classes``.
        auxiliary: Weight of each modality's own loss.
        series: Builds it where the finest map has a cell a pixel, as of image series; None = as inner.
    """

    joins = True

    def answers(self, features: Features) -> tuple[Tensor, Mapping[str, Side]]:
        """Fused logits; what each modality says, in training with a weight."""
        sides = self.alone(features.branches, features.size)
        if not sides:
            nothing = features.maps[-1]
            shape = (nothing.shape[0], self.classes, *(features.size or ()))
            return nothing.new_full(shape, -math.log(self.classes)), {}
        present = torch.stack([side.present for side in sides.values()])
        logits = mean_probability(torch.stack([side.logits for side in sides.values()]), present)
        return logits, sides if self.training and self.auxiliary else {}


def mean_probability(logits: Tensor, present: Tensor) -> Tensor:
    """Log of the mean of softmax(logits) over the modalities that are there.

    Args:
        logits: (M, B, K, *S), finite everywhere.
        present: (M, B) bool.

    Returns:
        (B, K, *S) float32 or better; all equal, log(1 / K), where no modality is there.
    """
    there = present.view(*present.shape, *[1] * (logits.ndim - 2))
    with torch.autocast(logits.device.type, enabled=False):
        known = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(2)
        nothing = ~there.any(0, keepdim=True)
        known = torch.where(nothing, -math.log(logits.shape[2]), known).masked_fill(~(there | nothing), -torch.inf)
        return known.logsumexp(0) - torch.where(nothing, len(logits), there.sum(0, keepdim=True))[0].log()
