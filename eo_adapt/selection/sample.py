"""Which samples criteria look at: class-balanced pixels of maps, and a fixed choice where all would be too many."""

from __future__ import annotations

import torch
from torch import Tensor

from ..types import IGNORE, Output
from .base import SelectionError


def balanced_pixels(
    output: Output, labels: Tensor | None, most: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Up to ``most`` pixels of each predicted class of one batch, so that no common class drowns the others.

    Samples that have one prediction each, logits (B, K), come back as they are; only a feature map beside them is
    averaged over its cells.

    Args:
        output: Logits (B, K, H, W) and features (B, D, h, w), at most as fine: each pixel gets the features of the cell
            that it lies in.
        labels: (B, H, W) int64 or None; pixels labelled ``IGNORE`` are left out.
        most: Pixels a predicted class and batch.
        generator: A CPU generator; the draw depends on nothing else.

    Returns:
        Logits (N, K), features (N, D), labels (N,) or None. N is 0 when all labels are ``IGNORE``.

    Raises:
        SelectionError: If shapes do not fit each other.
    """
    features, logits = output
    if logits.ndim == 2:
        return logits, features.flatten(2).mean(2) if features.ndim > 2 else features, labels
    _check(features, logits, labels)
    classes, height, width = logits.shape[1:]
    guess = logits.argmax(1).flatten()
    known = torch.ones_like(guess, dtype=torch.bool) if labels is None else labels.flatten() != IGNORE
    drawn = []
    for k in range(classes):
        places = (known & (guess == k)).nonzero()[:, 0]
        if len(places) > most:
            chosen = torch.randperm(len(places), generator=generator)[:most].sort().values
            places = places[chosen.to(places.device)]
        drawn.append(places)
    at = torch.cat(drawn)
    b, y, x = at // (height * width), at // width % height, at % width
    h, w = features.shape[2:]
    cells = features[b, :, y * h // height, x * w // width]
    return logits[b, :, y, x], cells, None if labels is None else labels.flatten()[at]


def _check(features: Tensor, logits: Tensor, labels: Tensor | None) -> None:
    f, p = tuple(features.shape), tuple(logits.shape)
    if len(p) != 4 or len(f) != 4 or f[0] != p[0] or f[2] > p[2] or f[3] > p[3]:
        raise SelectionError(
            "criteria read logits (B, K) with features (B, D), or logits (B, K, H, W) with features (B, D, h, w) that "
            f"are at most as fine; got logits {p}, features {f}"
        )
    if labels is not None and tuple(labels.shape) != (p[0], *p[2:]):
        raise SelectionError(f"labels of logits {p} must be {(p[0], *p[2:])}; got {tuple(labels.shape)}")


def fixed_choice(count: int, most: int) -> Tensor:
    """(min(count, most),) int64 ascending positions below ``count``: the same for every candidate of equal count."""
    if count <= most:
        return torch.arange(count)
    stream = torch.Generator().manual_seed(count)
    return torch.randperm(count, generator=stream)[:most].sort().values
