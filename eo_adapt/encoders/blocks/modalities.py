"""What fusion asks of the looks of several modalities: who has which, and some samples or dates of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace

import torch
from torch import Tensor

from ...types import Inputs, Observation
from .masked import clean, valid_dates
from .static import exporting
from .tempcnn import resample

ATTRIBUTES = "attributes"  # the input that holds geometric features (B, A) of the parcels


def has_any(look: Observation) -> Tensor:
    """(B,) bool: samples of which the look shows anything.

    A series shows its valid dates (pixel sets and image series: with a valid pixel), an image its valid pixels; without
    masks everything is there.
    """
    valid, pixels = look.valid, look.valid_pixels
    if valid is None:
        if pixels is None:
            return torch.ones(look.values.shape[0], dtype=torch.bool, device=look.values.device)
        return pixels.flatten(1).any(1)
    return (valid if pixels is None else valid & pixels.flatten(2).any(-1)).any(1)


def presence(inputs: Inputs, names: tuple[str, ...]) -> Tensor:
    """Which samples have which modality: (B, M) bool; one that the batch lacks is missing from all.

    Raises:
        LookupError: If the batch holds none of them.
    """
    found = {name: has_any(inputs[name]) for name in names if name in inputs}
    if not found:
        raise LookupError(f"the fusion reads {list(names)}; this batch holds {sorted(inputs)} and none of them")
    nobody = torch.zeros_like(next(iter(found.values())))
    return torch.stack([found.get(name, nobody) for name in names], 1)


def hide(look: Observation, keep: Tensor) -> Observation:
    """The same look with nothing valid in the samples where keep (B,) is False."""
    if look.valid is not None:
        return replace(look, valid=look.valid & keep[:, None])
    if look.valid_pixels is not None:
        return replace(look, valid_pixels=look.valid_pixels & keep.view(-1, *[1] * (look.valid_pixels.ndim - 1)))
    return look


def of_rows(inputs: Inputs, rows: Tensor) -> dict[str, Observation]:
    """Some samples of all looks."""

    def some(look: Observation) -> Observation:
        given = {f.name: x[rows] for f in fields(look) if (x := getattr(look, f.name)) is not None}
        return replace(look, **given)

    return {name: some(look) for name, look in inputs.items()}


def as_series(look: Observation) -> Observation:
    """Attributes (B, A) as a series with one date, day 0; anything else as it is."""
    if look.values.ndim != 2:
        return look
    values = look.values[:, None]
    return Observation(values, values.new_zeros(values.shape[:2]), values.new_ones(values.shape[:2]).bool())


def common_dates(looks: Mapping[str, Observation]) -> Observation:
    """The dates that early fusion takes: of each sample those of the first modality that it has.

    Args:
        looks: Modality -> series (B, T_m, C_m) with days and masks; their order is that of preference.

    Returns:
        An observation without bands (B, T, 0), T the longest of all; longer while a network is exported.
    """
    sizes = [look.values.shape[1] for look in looks.values()]
    size = sum(sizes) if exporting() else max(sizes)  # symbols cannot be compared; more padding changes nothing

    def padded(x: Tensor) -> Tensor:
        return x if len(sizes) == 1 else torch.cat([x, x.new_zeros(x.shape[0], size - x.shape[1])], 1)

    valid = torch.stack([padded(_masks(look)) for look in looks.values()], 1)
    days = torch.stack([padded(_days(look)) for look in looks.values()], 1)
    first = valid.any(2).int().argmax(1)  # of several, the first
    heat = [look.gdd for look in looks.values()]
    gdd = torch.stack([padded(x) for x in heat if x is not None], 1) if all(x is not None for x in heat) else None
    at = torch.arange(first.shape[0], device=first.device)
    picked = valid[at, first]
    return Observation(
        days.new_zeros(*picked.shape, 0), days[at, first], picked, gdd=None if gdd is None else gdd[at, first]
    )


def at_dates(look: Observation, days: Tensor, reach: float) -> tuple[Tensor, Tensor]:
    """A series at other dates: linear interpolation between its valid ones.

    Args:
        look: Series (B, T, C), dates in any order; what the mask hides may be nan.
        days: (B, G) where to.
        reach: How many days before the first and after the last valid date its value still holds.

    Returns:
        Values (B, G, C), and (B, G) bool: which of them rest on data. The others mean nothing.
    """
    own, valid = _days(look), _masks(look)
    values = resample(clean(look).values, own, valid, days)
    first = own.where(valid, torch.inf).amin(1, keepdim=True) - reach
    last = own.where(valid, -torch.inf).amax(1, keepdim=True) + reach
    return values.to(look.values.dtype), (days >= first) & (days <= last) & valid.any(1, keepdim=True)


def frames_at(look: Observation, days: Tensor, reach: float) -> tuple[Tensor, Tensor]:
    """:func:`at_dates` of an image series (B, T, C, H, W), each pixel between its own valid dates.

    Returns:
        Values (B, G, C, H, W), and (B, G, H, W) bool: which of them rest on data.
    """
    batch, bands, (height, width) = look.values.shape[0], look.values.shape[2], look.values.shape[3:]
    if look.valid_pixels is None:
        folded = Observation(look.values.flatten(2), look.days, look.valid)
        values, seen = at_dates(folded, days, reach)
        return values.unflatten(2, (bands, height, width)), seen[..., None, None].expand(*seen.shape, height, width)
    shown = (_masks(look)[..., None, None] & look.valid_pixels).permute(0, 2, 3, 1).flatten(0, 2)
    rows = look.values.permute(0, 3, 4, 1, 2).flatten(0, 2)
    own, there = (x[:, None].expand(-1, height * width, -1).flatten(0, 1) for x in (_days(look), days))
    values, seen = at_dates(Observation(rows, own, shown), there, reach)
    values, seen = (x.unflatten(0, (batch, height, width)) for x in (values, seen))
    return values.permute(0, 3, 4, 1, 2), seen.permute(0, 3, 1, 2)


def _days(look: Observation) -> Tensor:
    if look.days is None:
        raise ValueError(
            f"fusion by dates needs the days (B, T) of every series; one of shape {tuple(look.values.shape)} has none"
        )
    return look.days.float()


def _masks(look: Observation) -> Tensor:
    return valid_dates(look)
