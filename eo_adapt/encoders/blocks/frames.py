"""Frames of image series: which carry information, and how to work on those alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from ...types import Observation
from .static import exporting


def clean_frames(observation: Observation) -> Observation:
    """The same series (B, T, C, H, W) with zeros wherever the masks say that nothing is there.

    ``valid`` is always given afterwards: False on padding, missing dates and dates of which no pixel is valid.
    ``valid_pixels`` (B, T, H, W), if given, is False on invalid dates, too.
    """
    values, valid, pixels = observation.values, observation.valid, observation.valid_pixels
    if valid is None:
        valid = torch.ones(values.shape[:2], dtype=torch.bool, device=values.device)
    if pixels is not None:
        pixels = pixels & valid[..., None, None]
        valid = pixels.flatten(2).any(-1)
    shown = valid[..., None, None, None] if pixels is None else pixels[:, :, None]
    return replace(observation, values=values.where(shown, 0.0), valid=valid, valid_pixels=pixels)


def dates_only(observation: Observation) -> Observation:
    """Without the mask of pixels, so that what reads dates takes ``valid`` as it is."""
    return replace(observation, valid_pixels=None)


def seen_cells(observation: Observation, stride: int) -> Tensor:
    """Cells of ``stride`` x ``stride`` pixels of which at least one is valid.

    Args:
        observation: Clean, see :func:`clean_frames`.
        stride: Side of a cell in pixels; divides both sides of the image.

    Returns:
        (B, T, H / stride, W / stride) bool.
    """
    height, width = (side // stride for side in observation.values.shape[3:])
    if observation.valid_pixels is None:
        assert observation.valid is not None  # noqa: S101 - clean
        return observation.valid[..., None, None].expand(-1, -1, height, width)
    pixels = observation.valid_pixels.unflatten(3, (width, stride)).unflatten(2, (height, stride))
    return pixels.any(5).any(3)


class Frames:
    """Where the valid frames of a batch stand; found once, used at every stage.

    While a network is exported all frames count as valid frames, and :meth:`spread` hides the others.

    Attributes:
        counts: Valid frames of each sample; none while exporting.

    Args:
        valid: (B, T) bool.
    """

    def __init__(self, valid: Tensor) -> None:
        self.shape, self.valid = valid.shape, valid
        self.counts: list[int] = []
        if exporting():
            self.full = True
            return
        self.counts = valid.sum(1).tolist()
        self.full = sum(self.counts) == valid.numel()
        self.index = valid.flatten().nonzero().squeeze(1)

    def pack(self, x: Tensor) -> Tensor:
        """(B, T, ...) -> (N, ...), the valid frames alone, sample by sample."""
        x = x.flatten(0, 1)
        return x if self.full else x.index_select(0, self.index)

    def spread(self, x: Tensor) -> Tensor:
        """(N, ...) -> (B, T, ...), with zeros where there is no valid frame."""
        if not self.full:
            empty = x.new_zeros(self.shape.numel(), *x.shape[1:])
            x = empty.index_copy(0, self.index, x)
        x = x.unflatten(0, self.shape)
        return x.where(self.valid.view(*self.shape, *[1] * (x.ndim - 2)), 0.0) if exporting() else x

    def pieces(self, most: int | None = None) -> tuple[list[int], list[int]]:
        """The packed frames in pieces of one sample each, of ``most`` frames at most.

        Returns:
            Number of frames of each piece, and its sample; one empty piece if there is no frame at all.
        """
        found = [
            (min(most or count, count - first), owner)
            for owner, count in enumerate(self.counts)
            for first in range(0, count, most or max(count, 1))
        ]
        sizes, owners = zip(*(found or [(0, 0)]), strict=True)
        return list(sizes), list(owners)


def weighted_sum(pieces: Sequence[Tensor], weights: Tensor, owners: Sequence[int], samples: int) -> Tensor:
    """Sum over dates of maps times weights; each group of channels has weights of its own.

    Coarse weights are upsampled bilinearly, pixel centres in place. One piece at a time bounds the memory.

    Args:
        pieces: (n_i, C, H, W) each, valid frames of one sample; one piece at least, be it empty.
        weights: (N, G, h, w) of all pieces, one after the other, with C a multiple of G.
        owners: The sample of each piece.
        samples: Their number B.

    Returns:
        (B, C, H, W) in float32 or better, zeros for a sample without frames.
    """
    channels, *size = pieces[0].shape[1:]
    if exporting():
        return _sum_of_all(pieces[0], weights, samples)
    weights = weights.repeat_interleave(channels // weights.shape[1], 1).contiguous(memory_format=torch.channels_last)
    sums: list[Tensor | None] = [None] * samples
    for some, weight, owner in zip(pieces, weights.split([len(x) for x in pieces]), owners, strict=True):
        if len(some):
            weight = F.interpolate(weight, some.shape[2:], mode="bilinear", align_corners=False)
            rows = (some * weight).permute(0, 2, 3, 1).flatten(1)  # as they lie in memory: 3 times as fast to sum
            before, part = sums[owner], rows.sum(0).view(*size, channels).permute(2, 0, 1)
            sums[owner] = part if before is None else before + part
    return torch.stack([weights.new_zeros(channels, *size) if x is None else x for x in sums])


def _sum_of_all(x: Tensor, weights: Tensor, samples: int) -> Tensor:
    """The same of all frames (B T, C, H, W), where the weights (B T, G, h, w) of those that are not valid are 0."""
    weights = weights.repeat_interleave(x.shape[1] // weights.shape[1], 1)
    weights = F.interpolate(weights, x.shape[2:], mode="bilinear", align_corners=False)
    return (x * weights).unflatten(0, (samples, -1)).sum(1)
