"""The records that cross module borders. Imports torch only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor


@dataclass(frozen=True)
class Domain:
    """A place, season and sensor of one dataset.

    Attributes:
        name: How reports and figures call it, e.g. ``"EE-2021"``.
        recipe: Name of the data recipe (``data_recipes/<recipe>.yaml``) that prepared the store.
        select: Query on the store's index: column -> value, a list of admitted values, or a range of numbers
            ``{min: a, max: b}``, a <= value < b; either end may be left out.
    """

    name: str
    recipe: str
    select: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Shift:
    """From which labelled domains to which unlabelled ones.

    Attributes:
        sources: Labelled domains, at least one.
        targets: Unlabelled domains; empty for domain generalisation.
        target_labels: Labelled training samples a class of each target, for methods that learn from a few; 0 = none.
    """

    sources: tuple[Domain, ...]
    targets: tuple[Domain, ...] = ()
    target_labels: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "sources", tuple(self.sources))
        object.__setattr__(self, "targets", tuple(self.targets))
        if not self.sources:
            raise ValueError("a shift needs at least one source domain; shift.sources is empty")
        names = [domain.name for domain in self.domains]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"each domain of a shift needs its own name; {twice} occur more than once")
        if self.target_labels < 0 or (self.target_labels and not self.targets):
            raise ValueError(
                f"shift.target_labels is a number of labelled samples a class of each target, 0 = none; got "
                f"{self.target_labels} with {len(self.targets)} targets"
            )

    @property
    def domains(self) -> tuple[Domain, ...]:
        """Sources, then targets: a domain's position here is its number everywhere."""
        return (*self.sources, *self.targets)


@dataclass(frozen=True)
class Observation:
    """One sensor's look at a batch of B samples; the rank of ``values`` says which kind of look.

    A sample that lacks the sensor has ``valid`` (of images ``valid_pixels``) False throughout, and values 0 once
    normalised; its series has no more than padding.

    Attributes:
        values: (B, C) parcel attributes | (B, C, H, W) image | (B, T, C, H, W) image series |
            (B, T, C) parcel series | (B, T, C, S) pixel sets | (B, P, F) points, whose first two bands are x and y in
            pixels. Physical units (reflectance 0..1, dB, index -1..1).
        days: (B, T) days since 1 January of the label year, may be negative; None without T.
        valid: (B, T) bool, False on padding, cloud or missing dates; of points (B, P), False on padding; else None.
        valid_pixels: False on pixels that do not exist or are masked: (B, T, S) bool for pixel sets, (B, H, W) for
            images, (B, T, H, W) for image series (nothing seen there, cloud). None = all are there.
        gdd: (B, T) growing degree days accumulated up to each date, None when the store has no temperatures.
    """

    values: Tensor
    days: Tensor | None = None
    valid: Tensor | None = None
    valid_pixels: Tensor | None = None
    gdd: Tensor | None = None

    def between(self, first: float, last: float) -> Observation:
        """Only dates from ``first`` to ``last``, both included.

        Columns without any such date are left out, but for one. A look without dates stays as it is.
        """
        if self.days is None or self.valid is None:
            return self
        valid = self.valid & (self.days >= first) & (self.days <= last)
        some = valid.any(0)
        some[:1] |= ~some.any()

        def cut(x: Tensor | None) -> Tensor | None:
            return None if x is None else x[:, some]

        pixels = self.valid_pixels
        if pixels is not None:
            pixels = pixels & valid.view(*valid.shape, *[1] * (pixels.ndim - 2))
        return Observation(self.values[:, some], cut(self.days), valid[:, some], cut(pixels), cut(self.gdd))

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Observation:
        """The same observation on another device."""

        def move(x: Tensor | None) -> Tensor | None:
            return None if x is None else x.to(device, non_blocking=non_blocking)

        return Observation(
            self.values.to(device, non_blocking=non_blocking),
            move(self.days),
            move(self.valid),
            move(self.valid_pixels),
            move(self.gdd),
        )


Inputs = Mapping[str, Observation]  # sensor name -> observation


@dataclass(frozen=True)
class Batch:
    """Samples of ONE domain.

    Attributes:
        inputs: Sensor name -> observation.
        labels: (B,) or (B, H, W) int64, ``IGNORE`` where unknown; None on targets while fitting.
        lonlat: (B, 2) degrees, WGS 84; of images the centre of the part that is fed.
        rows: (B,) int64, row of each sample in the store's index.
        xy: (B, 2) float64, the same places in metres of the data's projected CRS; None where the data give none.
        instances: (B, H, W) int64, pixels of one number are one thing (a parcel), 0 = none; numbers are those of the
            patch alone. None where nobody asked for them, the data have none, or labels must not be seen.
    """

    inputs: Inputs
    labels: Tensor | None
    lonlat: Tensor
    rows: Tensor
    xy: Tensor | None = None
    instances: Tensor | None = None

    def __len__(self) -> int:
        return self.lonlat.shape[0]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """The same batch on another device."""
        return replace(
            self,
            inputs={name: observation.to(device, non_blocking) for name, observation in self.inputs.items()},
            labels=None if self.labels is None else self.labels.to(device, non_blocking=non_blocking),
            lonlat=self.lonlat.to(device, non_blocking=non_blocking),
            rows=self.rows.to(device, non_blocking=non_blocking),
            xy=None if self.xy is None else self.xy.to(device, non_blocking=non_blocking),
            instances=None if self.instances is None else self.instances.to(device, non_blocking=non_blocking),
        )


IGNORE = -1  # label of a sample whose class is unknown or outside the label set


class DomainBatch(NamedTuple):
    """What a training step receives: one batch a domain; no target domain is an empty tuple."""

    sources: tuple[Batch, ...]
    targets: tuple[Batch, ...]


class Branch(NamedTuple):
    """What one modality of a fusion saw: maps of its own encoder, zeros in samples without it; who has it, (B,)."""

    maps: tuple[Tensor, ...]
    present: Tensor


class Features(NamedTuple):
    """Encoder output, finest first, time already gone: (B, D_i, H_i, W_i) each, or one (B, D) for parcels.

    A fusion of encoders adds what each of them says by itself, modality -> branch, and the rows and columns (H, W) of
    the image that maps of logits are for, where that is not the first map's.
    """

    maps: tuple[Tensor, ...]
    branches: Mapping[str, Branch] = MappingProxyType({})
    size: tuple[int, int] | None = None


class Side(NamedTuple):
    """What one modality says alone: logits (B, K, *S), the samples that have it (B,), and the weight of its loss."""

    logits: Tensor
    present: Tensor
    weight: float


class Output(NamedTuple):
    """What a Model returns: the feature map that alignments look at, and the logits (B, K, *S)."""

    features: Tensor
    logits: Tensor


class SidedOutput(Output):
    """The same with what single modalities see and say, and what a head has a loss of; it unpacks like any other.

    Attributes:
        sides: Modality -> what it says alone, of a head with auxiliary supervision, in training.
        branches: Modality -> the map of its own encoder that alignments look at, where branches are aligned.
        whole: All that the encoder saw, of a head that owns a loss; else None.
    """

    sides: Mapping[str, Side]
    branches: Mapping[str, Branch]
    whole: Features | None


class Panoptic(NamedTuple):
    """Maps of things that do not overlap.

    Attributes:
        segments: (B, H, W) int64, pixels of one number are one thing of that sample; 0 = none.
        classes: (B, H, W) int64, the class of the thing; ``IGNORE`` where there is none.
        confidence: (B, H, W) float32 in (0, 1], one value a thing; 0 where there is none.
    """

    segments: Tensor
    classes: Tensor
    confidence: Tensor

    def surer(self, least: float) -> Panoptic:
        """Only the things of at least this confidence."""
        keep = self.confidence >= least
        return Panoptic(self.segments * keep, self.classes.where(keep, IGNORE), self.confidence * keep)
