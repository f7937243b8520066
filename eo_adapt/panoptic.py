"""Panoptic quality: things found one by one, from four counts a class that add up over patches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .metrics import interval, zone_draws
from .types import IGNORE, Panoptic

LEAST = 0.5  # a thing is found where more than this of it and its segment is common to both
HIT, FALSE, MISSED, OVERLAP = range(4)


def panoptic_counts(instances: Tensor, labels: Tensor, said: Panoptic, things: Sequence[bool]) -> Tensor:
    """(B, K, 4) float64: things found, segments that are none, things missed, sum of the IoU of those found.

    Kirillov et al. 2019 (Panoptic Segmentation, CVPR, arXiv:1801.00868), section 4. A thing and a segment of its class
    match where their intersection over union exceeds 0.5. Void is what has no label, and all of an instance most of
    whose pixels have none. Void pixels are part of no union; a segment that matches nothing and of which more than
    half is void is no mistake.

    Args:
        instances: (B, H, W), pixels of one number are one thing; 0 = none.
        labels: (B, H, W) in 0..K-1, negative = void.
        said: What was found.
        things: (K,) whether the class has instances; of others none is looked for, and segments do not count.
    """
    found = torch.zeros(len(labels), len(things), 4, dtype=torch.float64)
    columns = (x.cpu() for x in (instances, labels, said.segments, said.classes))
    for i, (number, label, segment, kind) in enumerate(zip(*columns, strict=True)):
        found[i] = _counts(number.flatten(), label.flatten(), segment.flatten(), kind.flatten(), things)
    return found


def _counts(number: Tensor, label: Tensor, segment: Tensor, kind: Tensor, things: Sequence[bool]) -> Tensor:
    """(K, 4) of one patch; all (P,)."""
    classes = len(things)
    known = torch.tensor([*things, False])  # the last one is void's
    number, truth = _classed(number, label, classes)
    segment, guess = _classed(segment, kind, classes)
    void = (label < 0) | (truth < 0)[number]
    whole = torch.bincount(segment, minlength=len(guess))
    clear = ~void
    cells = torch.bincount(number[clear] * len(guess) + segment[clear], minlength=len(truth) * len(guess))
    both = cells.view(len(truth), len(guess)).double()
    union = both.sum(1, keepdim=True) + both.sum(0) - both
    there, shown = known[truth] & (both.sum(1) > 0), known[guess]
    iou = both / union.clamp_min(1)
    match = (iou > LEAST) & (truth[:, None] == guess) & there[:, None] & shown
    mostly_void = whole - both.sum(0) > LEAST * whole
    found = torch.zeros(classes + 1, 4, dtype=torch.float64)  # class -1 is the last row
    for column, what, of in (
        (HIT, match.any(1), truth),
        (FALSE, shown & ~match.any(0) & ~mostly_void, guess),
        (MISSED, there & ~match.any(1), truth),
        (OVERLAP, (iou * match).sum(1), truth),
    ):
        found[:, column].index_add_(0, of % (classes + 1), what.double())
    return found[:classes]


def _classed(number: Tensor, label: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Numbers 0..N of the things of a patch (P,), and the class of each, that of most of its pixels; -1 of void.

    Number 0 is nothing; its class K is nobody's.
    """
    _, dense = torch.unique(torch.cat([number.new_zeros(1), number]), return_inverse=True)
    dense = dense[1:]
    count = int(dense.max()) + 1 if len(dense) else 1
    votes = torch.bincount(dense * (classes + 1) + label.clamp_min(IGNORE) + 1, minlength=count * (classes + 1))
    of = votes.view(count, classes + 1).argmax(1) - 1
    of[0] = classes
    return dense, of


def per_class_quality(counts: Tensor) -> dict[str, Tensor]:
    """PQ, SQ and RQ of each class of (..., K, 4) counts, (..., K) float64; 0 where nothing was found."""
    hit, false, missed, overlap = counts.double().unbind(-1)
    total = hit + (false + missed) / 2
    sq = torch.where(hit > 0, overlap / hit.clamp_min(1), 0.0)
    rq = torch.where(total > 0, hit / total.clamp_min(0.5), 0.0)
    return {"pq": sq * rq, "sq": sq, "rq": rq}


def mean_quality(counts: Tensor, rows: Sequence[int] | None = None) -> dict[str, Tensor]:
    """Mean PQ, SQ and RQ (...) over the classes that have a thing or a segment; nan where none has.

    As published (and in COCO), a class that is only predicted counts as 0, unlike in the scores of pixels.

    Args:
        counts: (..., K, 4).
        rows: Only these classes; None = all.
    """
    if rows is not None:
        counts = counts[..., list(rows), :]
    there = counts[..., : MISSED + 1].sum(-1) > 0
    return {name: (q * there).sum(-1) / there.sum(-1) for name, q in per_class_quality(counts).items()}


def panoptic_scores(
    counts: Tensor, zones: Sequence[str], names: Sequence[str], shared: Sequence[str]
) -> dict[str, Any]:
    """What the report says of the things of one domain.

    Args:
        counts: (N, K, 4) of each patch.
        zones: (N,) zone of each patch; the interval is drawn over these.
        names: K class names.
        shared: Classes that source and target share: those of ``closed_pq``.
    """
    total, rows = counts.sum(0), [i for i, name in enumerate(names) if name in set(shared)]
    drawn = zone_draws(counts, zones)
    detail = per_class_quality(total)
    return {
        **{name: float(q) for name, q in mean_quality(total).items()},
        **{f"closed_{name}": float(q) for name, q in mean_quality(total, rows).items()},
        "closed_pq_interval": interval(None if drawn is None else mean_quality(drawn, rows)["pq"], zones),
        "things": int(total[:, [HIT, MISSED]].sum()),
        "segments": int(total[:, [HIT, FALSE]].sum()),
        "per_class": {
            name: {
                **{score: float(q[i]) for score, q in detail.items()},
                **dict(zip(("found", "false", "missed"), map(int, total[i, :OVERLAP].tolist()), strict=True)),
            }
            for i, name in enumerate(names)
            if total[i, :OVERLAP].sum()
        },
    }
