"""Bring together what belongs together: rows of all processes, sides of a comparison, outputs and their features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist
from torch.nn import functional as F


class _Joined(torch.autograd.Function):
    """Rows of all processes, in order of rank. Every process sends all others the gradients of their rows."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        counts = [x.new_zeros(1, dtype=torch.int64) for _ in range(dist.get_world_size())]
        dist.all_gather(counts, counts[0].new_tensor([len(x)]))
        sizes = torch.cat(counts).tolist()
        ctx.sizes = sizes
        padded = x.new_zeros((max(sizes), *x.shape[1:]))  # processes send one shape
        padded[: len(x)] = x
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        summed = grads[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(summed)
        rank = dist.get_rank()
        first = sum(ctx.sizes[:rank])
        return summed[first : first + ctx.sizes[rank]]


def joined(x: Tensor) -> Tensor:
    """Rows of all processes of a data-parallel run, in order of rank; x itself where there is one process.

    Gradients flow back to the process that made the row, summed over processes. DistributedDataParallel then averages
    parameter gradients over processes, which is the gradient of one process that holds all rows, provided that every
    process computes the same function of the joined rows.

    Args:
        x: (N, ...); N may differ between processes and may be 0, the other sizes may not.

    Returns:
        (sum of N, ...).
    """
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return x
    rows: Tensor = _Joined.apply(x)
    return rows


def matched(sources: Sequence[Tensor], targets: Sequence[Tensor], how: str) -> list[tuple[Tensor, Tensor]]:
    """Which rows are compared with which; rows of all processes count.

    Args:
        sources: Rows of each source domain, (N, D).
        targets: Rows of each target domain, (M, D).
        how: ``pooled``: all sources together with all targets together. ``each``: every source with every target.

    Returns:
        Pairs of (N, D), (M, D).
    """
    if how == "pooled":
        return [(joined(torch.cat(list(sources))), joined(torch.cat(list(targets))))]
    left, right = ([joined(x) for x in side] for side in (sources, targets))
    return [(s, t) for s in left for t in right]


def on_features(values: Tensor, features: Tensor) -> Tensor:
    """Outputs of a model brought to the places of its features.

    Args:
        values: (B, K, *S'), such as class probabilities.
        features: (B, D, *S). S and S' may differ in size; either may be (), a parcel.

    Returns:
        (N, K): one row for each row of the features. Where places differ in size the values are averaged over the area
        of a feature cell, or repeated.
    """
    grid = features.shape[2:]
    if values.ndim > 2 and not grid:
        values = values.flatten(2).mean(2)
    elif values.ndim == 2 and grid:
        values = values[(...,) + (None,) * len(grid)].expand(*values.shape, *grid)
    elif values.shape[2:] != grid:
        values = F.interpolate(values, size=grid, mode="area")
    return values.movedim(1, -1).flatten(0, -2)
