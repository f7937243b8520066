"""Reductions that see valid dates only, in float32 or better, with finite gradients where nothing is valid."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ...types import Observation


def valid_dates(observation: Observation) -> Tensor:
    """Dates that carry information: valid, and for pixel sets and image series with at least one valid pixel.

    Returns:
        (B, T) bool; all True when the observation has no masks.
    """
    values, pixels = observation.values, observation.valid_pixels
    valid = observation.valid
    if valid is None:
        valid = torch.ones(values.shape[:2], dtype=torch.bool, device=values.device)
    return valid if pixels is None else valid & pixels.flatten(2).any(-1)


def clean(observation: Observation) -> Observation:
    """The same look with zeros wherever the masks say that nothing is there, and ``valid`` always given.

    Multiplying by a mask is not enough: 0 * nan is nan, in the values and in the gradients.
    """
    valid, pixels = valid_dates(observation), observation.valid_pixels
    shown = valid.reshape(*valid.shape, *(1,) * (observation.values.ndim - 2))
    if pixels is not None:
        shown = shown & pixels[:, :, None]
    return replace(observation, values=observation.values.where(shown, 0.0), valid=valid)


def lift(x: Tensor) -> Tensor:
    """At least float32: half precision is raised, double is left alone."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def keep(x: Tensor, valid: Tensor) -> Tensor:
    """Values (B, T, D) with zeros where valid (B, T) is False, whatever stood there."""
    return x.where(valid[..., None], 0.0)


def masked_mean(x: Tensor, valid: Tensor) -> Tensor:
    """Mean of x (B, T, D) over the dates valid (B, T): (B, D), zeros for a sample without any."""
    count = valid.sum(1, keepdim=True).clamp(min=1)
    return keep(lift(x), valid).sum(1) / count


def masked_softmax(scores: Tensor, valid: Tensor) -> Tensor:
    """Softmax of scores (B, T, H) over the dates valid (B, T): weights that sum to 1, all 0 without a valid date."""
    hidden = ~valid[..., None]
    scores = lift(scores)
    scores = scores.masked_fill(hidden, torch.finfo(scores.dtype).min)
    return scores.softmax(1).masked_fill(hidden, 0.0)
