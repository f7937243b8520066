"""What instances teach: boxes, classes, centres and zones of the parcels of a batch, from maps of their numbers."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..types import IGNORE

SPREAD = 0.3 / 1.7 / 3  # standard deviation of a parcel's heat as a share of its side; that of PASTIS's HEATMAP files


class Parcels(NamedTuple):
    """The M parcels of a batch, those of the first sample first.

    Attributes:
        patch: (M,) which sample.
        number: (M,) their number in ``Batch.instances``.
        centre: (M, 2) row and column of the middle of the box, whole pixels.
        size: (M, 2) height and width of the box, pixels.
        label: (M,) the class of most of its pixels; ``IGNORE`` where that is none: void.
    """

    patch: Tensor
    number: Tensor
    centre: Tensor
    size: Tensor
    label: Tensor

    def of(self, keep: Tensor) -> Parcels:
        """Some of them, by a mask or by positions."""
        return Parcels(*(x[keep] for x in self))


def parcels_of(instances: Tensor, labels: Tensor) -> Parcels:
    """Parcels as they are seen in the batch: of one that reaches beyond an edge, the part inside.

    Args:
        instances: (B, H, W) int64, 0 = none.
        labels: (B, H, W) int64, ``IGNORE`` where unknown.
    """
    patch, row, column = torch.where(instances > 0)
    base = int(instances.max()) + 1 if instances.numel() else 1
    known, which = torch.unique(patch * base + instances[patch, row, column], return_inverse=True)
    box = torch.stack([row, column], 1)
    place = which[:, None].expand_as(box)
    blank = box.new_zeros(len(known), 2)
    low = blank.scatter_reduce(0, place, box, "amin", include_self=False)
    high = blank.scatter_reduce(0, place, box, "amax", include_self=False)
    kinds = labels[patch, row, column] - IGNORE  # 0 = none
    count = int(kinds.max()) + 1 if kinds.numel() else 1
    votes = torch.bincount(which * count + kinds, minlength=len(known) * count).view(-1, count)
    label = votes.argmax(1) + IGNORE if len(known) else known
    return Parcels(known // base, known % base, (low + high) // 2, high - low + 1, label)


def heat_of(parcels: Parcels, shape: tuple[int, int, int]) -> Tensor:
    """(B, H, W) float32 in [0, 1]: 1 at the centre of each parcel, falling off like a Gaussian as wide as the parcel.

    Garnot & Landrieu 2021 (arXiv:2107.07933), section on centre points. Where parcels meet, the larger value counts.

    Args:
        parcels: Those that are to be found.
        shape: B, H, W.
    """
    device = parcels.centre.device
    falls = []
    for axis, side in enumerate(shape[1:]):
        away = torch.arange(side, device=device) - parcels.centre[:, axis, None]
        falls.append(torch.exp(-0.5 * (away / (SPREAD * parcels.size[:, axis, None])).square()))
    each = falls[0][:, :, None] * falls[1][:, None, :]
    place = parcels.patch[:, None, None].expand_as(each)
    return torch.zeros(shape, device=device).scatter_reduce(0, place, each, "amax")


def best_places(heat: Tensor, parcels: Parcels) -> tuple[Tensor, Tensor]:
    """Of each parcel the hottest pixel of its zone, the pixels nearer to its centre than to any other.

    So each parcel is learnt where the network would find it. A parcel whose centre is that of another one, too, may
    have no zone.

    Args:
        heat: (B, H, W), what the network says.
        parcels: All parcels; the void ones have zones, too.

    Returns:
        (M, 2) row and column, and (M,) bool, which parcels have a zone.
    """
    size = heat.shape[1:]
    rows, columns = (torch.arange(side, device=heat.device) for side in size)
    found = parcels.centre.clone()
    there = torch.zeros(len(found), dtype=torch.bool, device=heat.device)
    for patch in parcels.patch.unique().tolist():
        mine = torch.where(parcels.patch == patch)[0]
        down, right = (x[:, None] - y for x, y in zip(parcels.centre[mine].unbind(1), (rows, columns), strict=True))
        zone = (down.square()[:, :, None] + right.square()[:, None, :]).argmin(0)
        own = zone[None] == torch.arange(len(mine), device=heat.device)[:, None, None]
        best = heat[patch].detach().float().masked_fill(~own, -torch.inf).flatten(1).argmax(1)
        found[mine] = torch.stack([best // size[1], best % size[1]], 1)
        there[mine] = own.flatten(1).any(1)
    return found, there
