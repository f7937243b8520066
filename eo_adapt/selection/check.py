"""What criteria ask of the outputs they are handed, said in one voice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from .base import Outputs, SelectionError

Side = Literal["source", "target"]


def present(outputs: Sequence[Outputs], side: Side, by: str) -> Sequence[Outputs]:
    """The outputs of one side, which must be there, hold samples and have logits (N, K), K >= 2.

    Args:
        outputs: One a domain.
        side: Which side they come from, for messages.
        by: Who asks, for messages.

    Raises:
        SelectionError: Saying what lacks.
    """
    if not outputs:
        raise SelectionError(f"{by} needs {side}-val outputs; this run has no {side} domain (try selection=source_val)")
    for i, domain in enumerate(outputs):
        shape = tuple(domain.logits.shape)
        if len(shape) != 2 or shape[0] < 1 or shape[1] < 2:
            raise SelectionError(
                f"{by} needs logits (N, K) of at least 1 sample and 2 classes; {side} domain {i} gave {shape}: look at "
                "the size of its validation part and at the label set"
            )
    return outputs


def mean_over(outputs: Sequence[Outputs], side: Side, by: str, maths: Callable[[Outputs], float]) -> float:
    """Mean over the domains of one side of what ``maths`` says of each; nan as soon as one is nan."""
    found = [maths(domain) for domain in present(outputs, side, by)]
    return sum(found) / len(found)


def rows(outputs: Sequence[Outputs], side: Side, by: str) -> Tensor:
    """Features of all domains of one side, pooled, (N, D) float64 on the CPU.

    Raises:
        SelectionError: If a domain has no features, or not one row a sample.
    """
    found = []
    for domain in present(outputs, side, by):
        features = domain.features
        if features is None or features.ndim != 2 or features.shape[1] < 1 or len(features) != len(domain.logits):
            got = "none" if features is None else f"shape {tuple(features.shape)}"
            raise SelectionError(
                f"{by} needs features (N, D), one row for each of {len(domain.logits)} samples; a {side} domain gave "
                f"{got} (try selection=infomax, which needs logits only)"
            )
        found.append(features.detach().cpu().double())
    return torch.cat(found)


def labels(outputs: Sequence[Outputs], side: Side, by: str) -> Tensor:
    """Labels of all domains of one side, pooled, (N,) int64 on the CPU.

    Raises:
        SelectionError: If a domain has none.
    """
    found = []
    for domain in present(outputs, side, by):
        if domain.labels is None:
            raise SelectionError(f"{by} needs labels on {side}-val; a {side} domain has none")
        found.append(domain.labels.cpu())
    return torch.cat(found)


def probabilities(logits: Tensor) -> Tensor:
    """Softmax of logits (N, K), float64 on the CPU."""
    return torch.softmax(logits.detach().cpu().double(), 1)


def sound(*tensors: Tensor) -> bool:
    """Whether all numbers are finite."""
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors)
