"""Convex mixtures of samples whose dates differ."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..types import Inputs, Observation


def mix(inputs: Inputs, partner: Tensor, share: float) -> Inputs:
    """``share`` of each sample and the rest of its partner, in physical units.

    A partner's valid dates are interpolated linearly onto the sample's days (beyond its first and last date they stay
    constant). Of a pixel set the partner lends its mean over valid pixels: pixels of two parcels do not belong to each
    other. Samples keep their own days, masks and degree days; masked values stay as they are, and so does a sample
    whose partner has no valid date. Attributes and images, which have no time, are mixed as they are.

    Args:
        inputs: A batch of B samples.
        partner: (B,) int64, position of each sample's partner in the batch.
        share: Of the sample itself.
    """
    return {
        name: _mix(observation, partner.to(observation.values.device), share) for name, observation in inputs.items()
    }


def _mix(own: Observation, partner: Tensor, share: float) -> Observation:
    values, valid = own.values, own.valid
    if own.days is None or valid is None:
        mixed = torch.lerp(values[partner], values, share)
        if own.valid_pixels is not None:
            both = own.valid_pixels & own.valid_pixels[partner]
            mixed = torch.where(both[:, None], mixed, values)
        return replace(own, values=mixed)
    lent, mask = values, valid
    sets = own.valid_pixels is not None and values.ndim == 4
    if sets:
        assert own.valid_pixels is not None  # noqa: S101  (sets)
        pixels = own.valid_pixels & valid[:, :, None]
        mask = pixels.any(2)
        lent = torch.where(pixels[:, :, None], values, 0.0).sum(3) / pixels.sum(2)[:, :, None]
    other = resample(lent.flatten(2)[partner], own.days[partner], mask[partner], own.days)
    other = other.view(*values.shape[:2], *lent.shape[2:])
    where = valid & mask[partner].any(1, keepdim=True)
    where = where.view(*where.shape, *[1] * (values.ndim - 2))
    if own.valid_pixels is not None:
        other, where = other[..., None] if sets else other, where & own.valid_pixels[:, :, None]
    return replace(own, values=torch.where(where, share * values + (1 - share) * other, values))


def resample(values: Tensor, days: Tensor, valid: Tensor, onto: Tensor) -> Tensor:
    """Linear interpolation of series at other days, constant beyond the ends.

    Args:
        values: (B, T, F); those that are not valid may be anything, nan included.
        days: (B, T), in any order.
        valid: (B, T) bool.
        onto: (B, U) days.

    Returns:
        (B, U, F); without meaning where a series has no valid date.
    """
    known, order = torch.where(valid, days.float(), torch.inf).sort(stable=True, dim=1)
    values = values.gather(1, order[:, :, None].expand_as(values))
    wanted = onto.float().contiguous()
    place = torch.searchsorted(known.contiguous(), wanted)
    last = (valid.sum(1, keepdim=True) - 1).clamp_min(0)
    left, right = (place - 1).clamp_min(0), torch.minimum(place, last)
    before, after = known.gather(1, left), known.gather(1, right)
    part = torch.where(after > before, (wanted - before) / (after - before), 0.0)[:, :, None].to(values.dtype)
    width = (-1, -1, values.shape[2])
    lower, upper = (values.gather(1, at[:, :, None].expand(width)) for at in (left, right))
    return lower + part * (upper - lower)
