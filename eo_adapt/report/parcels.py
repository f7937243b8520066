"""Parcels told apart: which confidence counts, and what was found of each patch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..data.datamodule import DomainDataModule
from ..data.scenes.datamodule import SceneDataModule
from ..heads.base import PanopticHead
from ..panoptic import mean_quality, panoptic_counts
from ..task import AdaptationTask
from ..types import Batch, Output, Panoptic, SidedOutput
from .predict import said_of

GRID = tuple(round(0.01 * 1.15**i, 3) for i in range(32))  # least confidences that are tried, up to 0.76
UNTUNED = 0.1  # where there is nothing to tune on


class Things(NamedTuple):
    """What is looked for: whether each scored class has instances, and how sure a thing must be."""

    known: Sequence[bool]
    least: float


def tells_apart(task: AdaptationTask, data: DomainDataModule) -> bool:
    """Whether the head finds things one by one."""
    return isinstance(task.model.head, PanopticHead) and isinstance(data, SceneDataModule)


def things_of(task: AdaptationTask, data: DomainDataModule, names: Sequence[str], least: float) -> Things | None:
    """What is scored; None where the head does not tell things apart."""
    if not tells_apart(task, data) or not isinstance(data, SceneDataModule):
        return None
    return Things([name not in data.stuff for name in names], least)


def confidence_facts(task: AdaptationTask, data: DomainDataModule) -> dict[str, Any]:
    """For the report: how sure a thing must be to count, and who said so; nothing of heads that tell none apart.

    Where the head does not say, that of the best mean PQ on the validation patches of the labelled domains.
    """
    head = task.model.head
    if not tells_apart(task, data) or not isinstance(head, PanopticHead):
        return {}
    if head.min_confidence is not None:
        return {"min_confidence": head.min_confidence, "min_confidence_from": "head.min_confidence"}
    where = f"{'target' if data.oracle else 'source'}-val ({', '.join(d.domain.name for d in data.labelled)})"
    quality = torch.zeros(()) if data.shots else _by_confidence(task, data)
    if not quality.any():
        return {"min_confidence": UNTUNED, "min_confidence_from": f"not tuned on {where}: no parcel was found there"}
    return {"min_confidence": GRID[int(quality.argmax())], "min_confidence_from": f"best PQ on {where}"}


def _by_confidence(task: AdaptationTask, data: DomainDataModule) -> Tensor:
    """Mean PQ at each of ``GRID``, on the validation patches of the labelled domains."""
    things = things_of(task, data, data.legend.names, 0.0)
    assert things is not None  # noqa: S101  (the caller asked)
    counts = torch.zeros(len(GRID), len(things.known), 4, dtype=torch.float64)
    for i, part in enumerate(data.val_parts()[: len(data.labelled)]):
        domain = 0 if data.oracle else i
        for batch, logits, output in said_of(task, data, part, domain):
            found = found_in(task, domain, logits, output)
            for at, least in enumerate(GRID):
                counts[at] += counted(batch, found, Things(things.known, least)).sum(0)
    return mean_quality(counts)["pq"].nan_to_num()


def found_in(task: AdaptationTask, domain: int, logits: Tensor, output: Output) -> Panoptic:
    """The things of a batch, however unsure, by what the method predicts and what the network saw."""
    head = task.model.head
    assert isinstance(head, PanopticHead) and isinstance(output, SidedOutput) and output.whole  # noqa: S101, PT018
    with task.alignment.scope(domain):
        return head.panoptic(output.whole, logits)


def counted(batch: Batch, found: Panoptic, things: Things) -> Tensor:
    """(B, K, 4) of :func:`..panoptic.panoptic_counts`, of a labelled batch."""
    assert batch.instances is not None and batch.labels is not None  # noqa: S101, PT018  (the data were told to)
    return panoptic_counts(batch.instances, batch.labels, found.surer(things.least), things.known)
