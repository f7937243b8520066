"""Maps scored batch by batch: confusion and areas of each patch, and a sample of pixels; never all logits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..boundaries import boundary_counts
from ..data.datamodule import DomainDataModule
from ..data.loader import Part
from ..task import AdaptationTask
from ..types import IGNORE, Batch, Inputs
from .parcels import Things, counted, found_in
from .predict import said_of, sampled


@dataclass(frozen=True)
class MapScores:
    """What the model said of some patches of one domain.

    Attributes:
        rows: (N,) positions in the store.
        matrices: (N, K, K) int64 confusion of each patch, row = truth; K scored classes.
        areas: (N, K) int64 pixels called each class, labelled or not.
        logits: (M, L) float32 of the sampled labelled pixels; L learnt classes.
        labels: (M,) int64, scored classes.
        features: (N, D) float32, means of the patches.
        outlines: (N, K, 4) int64 of :func:`..boundaries.boundary_counts`; None where they were not asked for.
        things: (N, K, 4) float64 of :func:`..panoptic.panoptic_counts`; None likewise.
    """

    rows: Tensor
    matrices: Tensor
    areas: Tensor
    logits: Tensor
    labels: Tensor
    features: Tensor
    outlines: Tensor | None = None
    things: Tensor | None = None


def score_maps(
    task: AdaptationTask,
    data: DomainDataModule,
    part: Part,
    domain: int,
    classes: int,
    unsure: Callable[[Tensor], Tensor] | None = None,
    boundary: int = 0,
    shown: Callable[[Batch], Inputs] = lambda batch: batch.inputs,
    things: Things | None = None,
) -> MapScores:
    """Predict labelled patches and keep what scores need.

    Args:
        task: The trained task.
        data: The domains.
        part: Which patches.
        domain: Number of their domain.
        classes: Scored classes K.
        unsure: Open set: logits (B, L, H, W) -> (B, H, W) bool, pixels that are called class L, "unknown".
        boundary: Tolerance of boundary scores, pixels; 0 = they are not counted.
        shown: What the network is shown of a batch; all of it by default.
        things: Of a head that tells things apart: what is looked for; None = nothing.
    """
    rows, matrices, areas, logits, labels, features = [], [], [], [], [], []
    outlines, found = [], []
    for batch, said, output in said_of(task, data, part, domain, shown):
        guess = said.argmax(1)
        if unsure is not None:
            guess = torch.where(unsure(said), said.shape[1], guess)
        truth = torch.full_like(guess, IGNORE) if batch.labels is None else batch.labels.to(guess.device)
        rows.append(batch.rows)
        matrices.append(_confusions(truth, guess, classes).cpu())
        areas.append(_areas(guess, classes).cpu())
        if boundary:
            outlines.append(boundary_counts(truth, guess, classes, boundary).cpu())
        if things is not None:
            found.append(counted(batch, found_in(task, domain, said, output), things))
        seen = output.features.detach()
        features.append(seen.flatten(2).mean(2).float().cpu() if seen.ndim > 2 else seen.float().cpu())
        some, known = sampled(said, truth, int(batch.rows[0]))
        logits.append(some)
        labels.append(known)
    return MapScores(
        torch.cat(rows),
        torch.cat(matrices),
        torch.cat(areas),
        torch.cat(logits),
        torch.cat(labels),
        torch.cat(features),
        torch.cat(outlines) if outlines else None,
        torch.cat(found) if found else None,
    )


def _confusions(truth: Tensor, guess: Tensor, classes: int) -> Tensor:
    """(B, K, K) counts of each patch."""
    known = truth >= 0
    patch = torch.arange(len(truth), device=truth.device)[:, None, None].expand_as(truth)
    flat = (patch[known] * classes + truth[known]) * classes + guess[known]
    return torch.bincount(flat, minlength=len(truth) * classes**2).view(-1, classes, classes)


def _areas(guess: Tensor, classes: int) -> Tensor:
    patch = torch.arange(len(guess), device=guess.device)[:, None, None]
    return torch.bincount((patch * classes + guess).flatten(), minlength=len(guess) * classes).view(-1, classes)
