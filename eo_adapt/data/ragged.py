"""One sensor's arrays of a store: ragged series and pixel sets, gathered into padded batches.

Layout of ``<store>/<sensor>/``, all little-endian, row-major, memory-mapped:

    values.bin   (R, C) uint16 counts or float32 physical units; parcel i owns S_i * T_i rows, pixel-major (s, t)
    pixels.bin   (R,)   bool, which pixel-dates are real (only for pixel sets)
    days.bin     (D,)   int16, days since 1 January of the label year; parcel i owns T_i entries
    valid.bin    (D,)   bool, which dates may be used
    gdd.bin      (D,)   float32, accumulated growing degree days (only when the data have temperatures)
    sizes.bin    (N, 2) int32, (T_i, S_i)

A parcel series is a pixel set with S = 1. The same code gathers on the CPU from the mapped files and on an accelerator
from resident tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..types import Observation
from .records import Sensor

FILES = {"values": None, "pixels": np.bool_, "days": np.int16, "valid": np.bool_, "gdd": np.float32}
OPTIONAL = ("pixels", "gdd")


def _map(path: Path, dtype: np.dtype, shape: tuple[int, ...]) -> Tensor:
    # Copy-on-write: torch wants a writable buffer, nothing here ever writes to it.
    array = np.memmap(path, dtype=dtype, mode="c", shape=shape) if np.prod(shape) else np.empty(shape, dtype)
    # 16-bit unsigned tensors support few operators: carry the same bits as int16, `_decode` puts the sign right.
    return torch.from_numpy(array.view(np.int16) if dtype == np.uint16 else array)


@dataclass(frozen=True)
class Ragged:
    """The arrays of one sensor, on one device.

    Attributes:
        sensor: What the numbers mean.
        values: (R, C) int16 bits of uint16 counts, or float32.
        days: (D,) int16.
        valid: (D,) bool.
        dates: (N,) int64, T_i.
        counts: (N,) int64, S_i.
        pixels: (R,) bool or None.
        gdd: (D,) float32 or None.
    """

    sensor: Sensor
    values: Tensor
    days: Tensor
    valid: Tensor
    dates: Tensor
    counts: Tensor
    pixels: Tensor | None = None
    gdd: Tensor | None = None

    @classmethod
    def open(cls, folder: Path, sensor: Sensor) -> Ragged:
        """Map the files of one sensor; nothing is read yet but the sizes."""
        sizes = torch.from_numpy(np.fromfile(folder / "sizes.bin", np.int32).astype(np.int64).reshape(-1, 2))
        dates, counts = sizes.unbind(1)
        rows, total = int((dates * counts).sum()), int(dates.sum())
        optional = {name: (folder / f"{name}.bin").exists() for name in OPTIONAL}
        return cls(
            sensor,
            _map(folder / "values.bin", np.dtype(sensor.dtype), (rows, len(sensor.bands))),
            _map(folder / "days.bin", np.dtype(np.int16), (total,)),
            _map(folder / "valid.bin", np.dtype(np.bool_), (total,)),
            dates,
            counts,
            _map(folder / "pixels.bin", np.dtype(np.bool_), (rows,)) if optional["pixels"] else None,
            _map(folder / "gdd.bin", np.dtype(np.float32), (total,)) if optional["gdd"] else None,
        )

    def __post_init__(self) -> None:
        zero = self.dates.new_zeros(1)
        object.__setattr__(self, "first_date", torch.cat([zero, self.dates.cumsum(0)[:-1]]))
        object.__setattr__(self, "first_row", torch.cat([zero, (self.dates * self.counts).cumsum(0)[:-1]]))

    first_date: Tensor = None  # type: ignore[assignment]  # (N,) int64, derived in __post_init__
    first_row: Tensor = None  # type: ignore[assignment]

    @property
    def is_pixel_set(self) -> bool:
        """Whether parcels hold their pixels rather than one mean or median."""
        return self.pixels is not None

    @property
    def nbytes(self) -> int:
        """Bytes that the arrays take on a device."""
        tensors = (self.values, self.days, self.valid, self.dates, self.counts, self.pixels, self.gdd)
        return sum(x.numel() * x.element_size() for x in tensors if x is not None)

    def to(self, device: torch.device | str) -> Ragged:
        """The same arrays resident on ``device``."""
        names = ("values", "days", "valid", "dates", "counts", "pixels", "gdd")
        moved: dict[str, Any] = {name: None if (x := getattr(self, name)) is None else x.to(device) for name in names}
        return replace(self, **moved)

    def gather(self, rows: Tensor, bands: Sequence[int], pixels: Tensor | None = None) -> Observation:
        """Padded batch of some parcels.

        Args:
            rows: (B,) int64 positions in the store, on this object's device.
            bands: Which bands, in which order.
            pixels: (B, S) int64 pixel numbers to take; -1 is no pixel. Needed for pixel sets only.

        Returns:
            Observation with values (B, T, C) or (B, T, C, S) float32 in physical units, T the longest of the batch.
            Values at invalid places are 0 and mean nothing.
        """
        dates = self.dates[rows]
        steps = torch.arange(int(dates.max()) if len(rows) else 0, device=rows.device)
        real = steps < dates[:, None]
        at = torch.where(real, self.first_date[rows, None] + steps, 0)
        valid = self.valid[at] & real
        days = torch.where(real, self.days[at].long(), 0)
        gdd = None if self.gdd is None else torch.where(real, self.gdd[at], 0.0)
        chosen = torch.zeros_like(rows)[:, None] if pixels is None else pixels
        there = (chosen >= 0)[:, :, None] & valid[:, None]
        place = self.first_row[rows, None, None] + chosen.clamp_min(0)[:, :, None] * dates[:, None, None] + steps
        place = torch.where(there, place, 0)
        if self.pixels is not None:
            there = there & self.pixels[place]
        values = self._decode(self.values[place.flatten()].view(*place.shape, self.values.shape[1]), bands)
        values = torch.where(there[..., None], values, 0.0)
        if not self.is_pixel_set:
            return Observation(values[:, 0], days, valid, gdd=gdd)
        there = there.transpose(1, 2)
        return Observation(values.permute(0, 2, 3, 1), days, valid & there.any(-1), there, gdd)

    def _decode(self, values: Tensor, bands: Sequence[int]) -> Tensor:
        if list(bands) != list(range(values.shape[-1])):
            values = values[..., list(bands)]
        if values.dtype == torch.float32:
            return values
        return (values.int() & 0xFFFF).float() * self.sensor.scale + self.sensor.offset

    def draw_pixels(self, rows: Tensor, size: int, generator: torch.Generator | None) -> Tensor:
        """Pixel numbers (B, size) without replacement, -1 where a parcel has fewer.

        Without a generator the draw is evenly spaced and the same every time (validation, prediction).
        """
        counts = self.counts[rows].cpu()
        if generator is None:
            spaced = torch.arange(size) * counts[:, None].clamp_min(1) // size
            chosen = torch.where(counts[:, None] >= size, spaced, torch.arange(size).expand(len(rows), size))
        else:
            widest = max(size, int(counts.max()))
            keys = torch.rand(len(rows), widest, generator=generator)
            keys = keys.masked_fill(torch.arange(widest) >= counts[:, None], 2.0)  # beyond any draw: sorted last
            chosen = keys.argsort(1)[:, :size]
        return chosen.masked_fill(torch.arange(size) >= counts[:, None], -1).to(rows.device)
