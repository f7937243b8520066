"""Masks in boxes: a small shape stretched to each box, joined to what a map says there, all boxes at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

AT_ONCE = 64  # boxes that are filled together


class Boxes(NamedTuple):
    """Boxes of M parcels, which may reach beyond the image.

    Attributes:
        patch: (M,) which sample.
        first: (M, 2) first row and column, may be negative.
        size: (M, 2) height and width, whole pixels, at least 1.
    """

    patch: Tensor
    first: Tensor
    size: Tensor


class Filled(NamedTuple):
    """Some boxes, side by side in arrays as large as the largest of them.

    Attributes:
        at: (m,) positions among all boxes.
        rows: (m, h) rows of the image, clamped to it.
        columns: (m, w) its columns.
        inside: (m, h, w) bool, in the box and in the image.
        rough: (m, h, w) logits of shape and map together.
        fine: (m, h, w) logits of the small network that looked at them; a pixel is one of the parcel with probability
            sigmoid(rough) sigmoid(fine).
    """

    at: Tensor
    rows: Tensor
    columns: Tensor
    inside: Tensor
    rough: Tensor
    fine: Tensor


def boxes_around(patch: Tensor, centre: Tensor, size: Tensor, limit: tuple[int, int]) -> Boxes:
    """Boxes of predicted sizes (M, 2), rounded, at least a pixel and no larger than the image."""
    most = torch.tensor(limit, device=size.device)
    whole = torch.minimum(size.detach().float().round().long().clamp_min(1), most)
    return Boxes(patch, centre - whole // 2, whole)


class BoxNorm(nn.Module):
    """Group norm with one group, over the pixels inside alone: what lies beside a small box must not change it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width, 1, 1))
        self.bias = nn.Parameter(torch.zeros(width, 1, 1))

    def forward(self, x: Tensor, inside: Tensor) -> Tensor:
        """(m, D, h, w) with zeros outside -> the same, normalised; ``inside`` (m, 1, h, w) is 0 or 1."""
        x = x.float()
        count = (inside.sum((1, 2, 3), keepdim=True) * x.shape[1]).clamp_min(1)
        mean = x.sum((1, 2, 3), keepdim=True) / count
        spread = ((x - mean) * inside).square().sum((1, 2, 3), keepdim=True) / count
        return (x - mean) * (spread + 1e-5).rsqrt() * self.weight + self.bias


class BoxMasks(nn.Module):
    """Shape and saliency of each box -> logits of its mask, by three convolutions that see nothing outside of the box.

    Args:
        width: Channels of the convolutions.
    """

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in ((1, width), (width, width), (width, 1)))
        self.norm = BoxNorm(width)

    def forward(self, boxes: Boxes, shapes: Tensor, saliency: Tensor) -> Iterator[Filled]:
        """Fill all boxes, those of like size together.

        Args:
            boxes: M boxes.
            shapes: (M, S, S) logits, stretched to each box bilinearly.
            saliency: (B, H, W) logits.
        """
        order = boxes.size.prod(1).argsort(stable=True)
        for at in order.split(AT_ONCE) if len(order) else ():
            yield self._fill(at, boxes, shapes, saliency)

    def _fill(self, at: Tensor, boxes: Boxes, shapes: Tensor, saliency: Tensor) -> Filled:
        places, holds, stretch = [], [], []
        for axis, side in enumerate(saliency.shape[1:]):
            size = boxes.size[at, axis, None]
            step = torch.arange(int(size.max()), device=size.device)
            place = boxes.first[at, axis, None] + step
            holds.append((step < size) & (place >= 0) & (place < side))
            places.append(place.clamp(0, side - 1))
            stretch.append(_stretch(step, size, shapes.shape[-1]))
        rows, columns = places
        inside = holds[0][:, :, None] & holds[1][:, None, :]
        shape = stretch[0] @ shapes[at].float() @ stretch[1].transpose(1, 2)
        crop = saliency[boxes.patch[at, None, None], rows[:, :, None], columns[:, None, :]].float()
        rough = (shape + crop).masked_fill(~inside, 0.0)
        return Filled(at, rows, columns, inside, rough, self._look(rough[:, None], inside[:, None].float())[:, 0])

    def _look(self, x: Tensor, inside: Tensor) -> Tensor:
        first, second, last = self.convs
        x = F.relu(self.norm(first(x) * inside, inside)) * inside
        x = F.relu(second(x)) * inside
        logits: Tensor = last(x)
        return logits.float()


def _stretch(step: Tensor, size: Tensor, cells: int) -> Tensor:
    """(m, h, S) weights of the cells of a shape in each pixel along a box: bilinear, pixel centres in place."""
    place = ((step + 0.5) / size * cells - 0.5).clamp(0, cells - 1)
    return (1 - (place[..., None] - torch.arange(cells, device=step.device)).abs()).clamp_min(0)


def probability(filled: Filled) -> Tensor:
    """(m, h, w) that a pixel is one of the parcel; 0 outside."""
    return torch.sigmoid(filled.rough) * torch.sigmoid(filled.fine) * filled.inside


def cross_entropy(filled: Filled, truth: Tensor) -> Tensor:
    """(m,) binary cross-entropy of a sigmoid(rough) sigmoid(fine), mean over the pixels inside; 0 for an empty box.

    With p = sigmoid(a) sigmoid(b): log p = log sigmoid(a) + log sigmoid(b), and log(1 - p) = log(exp(-a) + exp(-b) +
    exp(-a - b)) + log p, both finite for all a and b.

    Args:
        filled: The boxes.
        truth: (m, h, w) bool.
    """
    a, b = filled.rough, filled.fine
    yes = F.logsigmoid(a) + F.logsigmoid(b)
    no = torch.logsumexp(torch.stack([-a, -b, -a - b]), 0) + yes
    each = -torch.where(truth, yes, no) * filled.inside
    return each.sum((1, 2)) / filled.inside.sum((1, 2)).clamp_min(1)
