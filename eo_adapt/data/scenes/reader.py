"""Store -> batches of images: windows are read as they are stored, and become numbers on the device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...types import IGNORE, Batch, Observation
from ..loader import Part, pieces
from ..store import band_numbers
from .augment import Augment, Image, picked, resized
from .geo import centres, to_lonlat
from .labels import UNKNOWN, Remap
from .records import Window
from .store import SceneStore

TRIES = 10  # crops that are looked at for one that holds the class that was drawn
LEAST = 0.01  # share of a crop that the class should cover
NARROW = {np.dtype(np.uint16): np.int32, np.dtype(np.uint32): np.int64, np.dtype(np.int8): np.int16}


@dataclass(frozen=True)
class PatchPart(Part):
    """Some patches of one domain; their labels stay in their files until a batch is read.

    Attributes:
        remap: Ids of masks -> class numbers; None where labels must not be seen.
        wanted: (N, K) how likely a crop of a patch is meant to hold each class; None = crops are drawn anywhere.
    """

    remap: Remap | None = None
    wanted: Tensor | None = None


@dataclass(frozen=True)
class Raw:
    """A batch as it was read: small numbers, on the CPU.

    Attributes:
        counts: Sensor -> (B, C, H, W) counts as they are stored.
        seen: Sensor -> (B, H, W) bool.
        labels: (B, H, W) uint8, 255 = none; None where they must not be seen.
        lonlat: (B, 2) float32 degrees.
        xy: (B, 2) float64 metres.
        rows: (B,) int64.
        shape: Height and width that labels get on the device.
        shapes: Sensor -> height and width that its images get.
        seed: Of the augmentation; None = there is none.
    """

    counts: Mapping[str, Tensor]
    seen: Mapping[str, Tensor]
    labels: Tensor | None
    lonlat: Tensor
    xy: Tensor
    rows: Tensor
    shape: tuple[int, int]
    shapes: Mapping[str, tuple[int, int]]
    seed: int | None


@dataclass(frozen=True)
class PatchReader:
    """Reads patches from a store, whole or cropped.

    Attributes:
        store: The store.
        bands: Sensor -> band names.
        statistics: Sensor -> mean and standard deviation of each band; empty pixels get the mean: 0 when normalised.
        crop: Pixels of a training crop's side; 0 = whole patches.
        most: Patches at once where whole ones are read.
        augment: What training batches go through; None = nothing.
        device: Where batches are finished.
        workers: Processes that read whole patches.
    """

    store: SceneStore
    bands: Mapping[str, Sequence[str]]
    statistics: Mapping[str, tuple[Sequence[float], Sequence[float]]]
    crop: int = 0
    most: int = 8
    augment: Augment | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    workers: int = 0

    arrays: None = None  # images are never resident

    def plain(self) -> PatchReader:
        """The same; see :meth:`..loader.Reader.plain`."""
        return self

    def chunks(self, part: Part, size: int) -> list[Tensor]:
        """Positions of all patches of a part in order, up to ``size`` and ``most`` of equal size (:func:`pieces`)."""
        sizes = self.store.sizes[part.rows.numpy()]
        change = np.flatnonzero((sizes[1:] != sizes[:-1]).any(1)) + 1
        runs = torch.arange(len(part)).tensor_split(change.tolist()) if len(part) else ()
        return [chunk for run in runs for chunk in pieces(run, min(size, self.most))]

    def batch(self, part: Part, positions: Tensor, stream: torch.Generator | None = None) -> Batch:
        """The batch of some positions of a part: whole patches, or with a generator random crops, augmented."""
        return self.finish(self.read(part, positions, stream))

    # -- in a worker process -----------------------------------------------------------------------------------------

    def read(self, part: Part, positions: Tensor, stream: torch.Generator | None = None) -> Raw:
        """Windows of some patches."""
        rows = part.rows[positions]
        numbers = rows.tolist()
        remap = part.remap if isinstance(part, PatchPart) else None
        full = self.store.sizes[numbers]
        side, shape = self._shape(full, stream)
        if side is None or stream is None:
            parts = np.column_stack([np.zeros_like(full), full])
        else:
            goals = self._goals(part, positions, stream)
            drawn = [_place(size, side, mask, k, stream) for size, (mask, k) in zip(full, goals, strict=True)]
            parts = np.array(drawn)
        counts, seen, shapes = self._images(numbers, parts, side or shape, shape)
        labels = None if remap is None else [self._mask(row, remap, p) for row, p in zip(numbers, parts, strict=True)]
        lonlat, xy = self._places(numbers, parts, full)
        seed = None if stream is None or self.augment is None else int(torch.randint(2**62, (1,), generator=stream))
        stacked = None if labels is None else _stack(labels, side or shape)
        return Raw(counts, seen, stacked, lonlat, xy, rows, shape, shapes, seed)

    def _shape(
        self, full: np.ndarray, stream: torch.Generator | None
    ) -> tuple[tuple[int, int] | None, tuple[int, int]]:
        """Height and width to read (None = whole patches), and those that the network gets."""
        if stream is None:
            return None, tuple(full.max(0).tolist())
        factor = 1.0 if self.augment is None else self.augment.magnification(stream)
        target = (self.crop, self.crop) if self.crop else tuple(full.max(0).tolist())
        if not self.crop and factor == 1.0:
            return None, target
        return (max(1, round(target[0] / factor)), max(1, round(target[1] / factor))), target

    def _goals(
        self, part: Part, positions: Tensor, stream: torch.Generator
    ) -> list[tuple[np.ndarray | None, int | None]]:
        """Mask of each patch and the class that its crop is meant to hold; None where none is wanted."""
        if not isinstance(part, PatchPart) or part.wanted is None or part.remap is None:
            return [(None, None)] * len(positions)
        wanted = part.wanted[positions]
        some = wanted.sum(1) > 0
        drawn = torch.multinomial(torch.where(some[:, None], wanted, 1.0), 1, generator=stream)[:, 0]
        return [
            (self._mask(row, part.remap, None), k) if there else (None, None)
            for row, k, there in zip(part.rows[positions].tolist(), drawn.tolist(), some.tolist(), strict=True)
        ]

    def _mask(self, row: int, remap: Remap, part: np.ndarray | None) -> np.ndarray:
        cut = None if part is None else _window(part)
        found = self.store.labels(row, remap, cut)
        return np.full(self.store.sizes[row] if cut is None else cut[2:], UNKNOWN, np.uint8) if found is None else found

    def _images(
        self, rows: Sequence[int], parts: np.ndarray, side: tuple[int, int], shape: tuple[int, int]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, tuple[int, int]]]:
        counts, seen, shapes = {}, {}, {}
        for name, wanted in self.bands.items():
            bands = band_numbers(self.store.sensors[name], wanted, name)
            ratio = np.array(self.store.size(rows[0], name)) / self.store.sizes[rows[0]]
            its_side, shapes[name] = (_scaled(s, ratio) for s in (side, shape))
            read = []
            for row, part in zip(rows, parts, strict=True):
                size = self.store.size(row, name)
                own = np.array(size) / self.store.sizes[row]
                read.append(self.store.pixels(row, name, bands, _onto(part, own, size)))
            counts[name] = _stack([_narrow(values) for values, _ in read], its_side, 0)
            seen[name] = _stack([where for _, where in read], its_side, False)
        return counts, seen, shapes

    def _places(self, rows: Sequence[int], parts: np.ndarray, full: np.ndarray) -> tuple[Tensor, Tensor]:
        """Where the centres of the parts lie, in degrees and metres."""
        index = self.store.index
        x, y, gsd = (index[c].to_numpy(float)[rows] for c in ("x", "y", "gsd"))
        crs = index["crs"].to_numpy(str)[rows]
        x, y = centres(x, y, gsd, full, parts.astype(float))
        lonlat = to_lonlat(x, y, crs).astype(np.float32)
        known = index[["lon", "lat"]].to_numpy(np.float32)[rows]  # where no metres are known, the patch's own
        lonlat = np.where(np.isfinite(lonlat), lonlat, known)
        return torch.from_numpy(lonlat), torch.from_numpy(np.column_stack([x, y]))

    # -- in the training process -------------------------------------------------------------------------------------

    def finish(self, raw: Raw) -> Batch:
        """Physical units on the device, augmented; empty pixels at the mean of the band and without a label."""
        images = {name: self._image(name, raw) for name in raw.counts}
        labels = None if raw.labels is None else raw.labels.to(self.device, non_blocking=True)
        labels = None if labels is None else picked(labels, *raw.shape)
        if raw.seed is not None and self.augment is not None:
            stream = torch.Generator(self.device).manual_seed(raw.seed)
            images, labels = self.augment(images, labels, self.bands, self.statistics, stream)
        inputs = {name: Observation(self._filled(name, image)) for name, image in images.items()}
        if labels is not None:
            labels = labels.long()
            labels[labels == UNKNOWN] = IGNORE
            if self.store.first in images:
                labels[~images[self.store.first].seen] = IGNORE
        lonlat, xy = (x.to(self.device, non_blocking=True) for x in (raw.lonlat, raw.xy))
        return Batch(inputs, labels, lonlat, raw.rows, xy)

    def _image(self, name: str, raw: Raw) -> Image:
        sensor, shape = self.store.sensors[name], raw.shapes[name]
        counts, seen = (x[name].to(self.device, non_blocking=True) for x in (raw.counts, raw.seen))
        values = counts.float() * sensor.scale + sensor.offset
        if tuple(values.shape[-2:]) != shape:
            mean = torch.tensor(self.statistics[name][0], device=values.device)[:, None, None]
            values = resized(torch.where(seen[:, None], values, mean), *shape)
        return Image(values, picked(seen, *shape))

    def _filled(self, name: str, image: Image) -> Tensor:
        mean = torch.tensor(self.statistics[name][0], device=image.values.device)[:, None, None]
        return torch.where(image.seen[:, None], image.values, mean)


def _place(
    size: np.ndarray, side: tuple[int, int], mask: np.ndarray | None, goal: int | None, stream: torch.Generator
) -> Window:
    """A random part of a patch: first row, first column, height, width; of ten the first that holds the class."""
    height, width = (min(int(s), n) for s, n in zip(size, side, strict=True))
    free = torch.tensor([int(size[0]) - height + 1, int(size[1]) - width + 1])
    draws = (torch.rand(TRIES, 2, generator=stream) * free).long().tolist()
    for row, column in draws:
        if mask is None or goal is None:
            break
        if (mask[row : row + height, column : column + width] == goal).mean() >= LEAST:
            break
    return row, column, height, width


def _scaled(side: tuple[int, int], ratio: np.ndarray) -> tuple[int, int]:
    return max(1, round(side[0] * ratio[0])), max(1, round(side[1] * ratio[1]))


def _onto(part: np.ndarray, ratio: np.ndarray, size: tuple[int, int]) -> Window:
    """The same part on another sensor's pixels, to the nearest whole one."""
    height, width = (min(n, max(1, round(float(p * r)))) for n, p, r in zip(size, part[2:], ratio, strict=True))
    row = min(size[0] - height, round(float(part[0] * ratio[0])))
    column = min(size[1] - width, round(float(part[1] * ratio[1])))
    return row, column, height, width


def _narrow(values: np.ndarray) -> np.ndarray:
    """In a type that torch computes with."""
    return values.astype(NARROW[values.dtype]) if values.dtype in NARROW else values


def _window(part: np.ndarray) -> Window:
    row, column, height, width = (int(n) for n in part)
    return row, column, height, width


def _stack(arrays: Sequence[np.ndarray], side: tuple[int, int], rest: Any = UNKNOWN) -> Tensor:
    """(B, ..., H, W) of arrays (..., h, w) that may be smaller; ``rest`` where they end."""
    if all(a.shape[-2:] == side for a in arrays):
        return torch.from_numpy(np.stack(arrays))
    out = np.full((len(arrays), *arrays[0].shape[:-2], *side), rest, arrays[0].dtype)
    for i, array in enumerate(arrays):
        out[i, ..., : array.shape[-2], : array.shape[-1]] = array
    return torch.from_numpy(out)
