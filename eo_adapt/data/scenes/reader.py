"""Store -> batches of images and series: windows are read as they are stored, and become numbers on the device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ...types import IGNORE, Batch, Observation
from ..loader import Part, pieces
from ..store import band_numbers
from .augment import Augment, Image, picked, resized
from .geo import centres, to_lonlat
from .labels import UNKNOWN, Remap
from .points import cropped
from .points import padded as padded_points
from .store import SceneStore
from .windows import narrow, nearest, onto, padded, place, scaled, stacked, step_of, window_of


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
class RawLook:
    """One sensor's images or series as they were read.

    Attributes:
        counts: (B, C, H, W) or (B, T, C, H, W) counts as they are stored, or (B, P, F) points.
        seen: (B, H, W) or (B, T, H, W) bool, or (B, P).
        shape: Height and width that they get on the device.
        days: (B, T) days since 1 January of the label year; None of images, as ``valid``.
        valid: (B, T) bool, dates that are there and valid.
    """

    counts: Tensor
    seen: Tensor
    shape: tuple[int, int]
    days: Tensor | None = None
    valid: Tensor | None = None


@dataclass(frozen=True)
class Raw:
    """A batch as it was read: small numbers, on the CPU.

    Attributes:
        looks: By sensor.
        labels: (B, H, W) uint8, 255 = none; None where they must not be seen.
        instances: (B, H, W) int32, 0 = none; None where nobody asks, or labels must not be seen.
        lonlat: (B, 2) float32 degrees.
        xy: (B, 2) float64 metres.
        rows: (B,) int64.
        shape: Height and width that labels get on the device.
        seed: Of the augmentation; None = there is none.
    """

    looks: Mapping[str, RawLook]
    labels: Tensor | None
    instances: Tensor | None
    lonlat: Tensor
    xy: Tensor
    rows: Tensor
    shape: tuple[int, int]
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
        instances: Whether labels come with the numbers that tell things apart.
    """

    store: SceneStore
    bands: Mapping[str, Sequence[str]]
    statistics: Mapping[str, tuple[Sequence[float], Sequence[float]]]
    crop: int = 0
    most: int = 8
    augment: Augment | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    workers: int = 0
    instances: bool = False

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
            step = self._step(numbers[0], side)
            drawn = [place(size, side, mask, k, stream, step) for size, (mask, k) in zip(full, goals, strict=True)]
            parts = np.array(drawn)
        read = {name: self._look(name, numbers, parts, side or shape, shape) for name in self.bands}
        labels = None if remap is None else [self._mask(row, remap, p) for row, p in zip(numbers, parts, strict=True)]
        lonlat, xy = self._places(numbers, parts, full)
        seed = None if stream is None or self.augment is None else int(torch.randint(2**62, (1,), generator=stream))
        maps = None if labels is None else stacked(labels, side or shape)
        things = None
        if self.instances and labels is not None:
            cut = [self.store.instances(row, window_of(p)) for row, p in zip(numbers, parts, strict=True)]
            things = stacked(cut, side or shape, 0)
        return Raw(read, maps, things, lonlat, xy, rows, shape, seed)

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

    def _step(self, row: int, side: tuple[int, int]) -> tuple[int, int]:
        """Pixels of the first sensor from one start of a crop of ``side`` pixels to the next one."""
        full = self.store.sizes[row].tolist()
        each = zip(*(self.store.size(row, name) for name in self.bands), strict=True)
        height, width = (step_of(n, sizes, cut) for n, sizes, cut in zip(full, each, side, strict=True))
        return height, width

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
        cut = None if part is None else window_of(part)
        found = self.store.labels(row, remap, cut)
        return np.full(self.store.sizes[row] if cut is None else cut[2:], UNKNOWN, np.uint8) if found is None else found

    def _look(
        self, name: str, rows: Sequence[int], parts: np.ndarray, side: tuple[int, int], shape: tuple[int, int]
    ) -> RawLook:
        """One sensor's windows on the same ground, stacked; dates and points are padded to the most that there are."""
        sensor = self.store.sensors[name]
        bands = band_numbers(sensor, self.bands[name], name)
        if sensor.kind == "points":
            factor = shape[0] / side[0], shape[1] / side[1]
            clouds = [self.store.points(row, name, bands) for row in rows]
            cut = [cropped(c, window_of(p), factor) for c, p in zip(clouds, parts, strict=True)]
            return RawLook(*padded_points(cut), shape)
        ratio = np.array(self.store.size(rows[0], name)) / self.store.sizes[rows[0]]
        read = []
        for row, part in zip(rows, parts, strict=True):
            size = self.store.size(row, name)
            own = np.array(size) / self.store.sizes[row]
            found = self.store.pixels(row, name, bands, onto(part, own, size))
            if not np.allclose(own, ratio):  # finer or coarser pixels than the batch's first patch has
                one = scaled((int(part[2]), int(part[3])), ratio)
                found = nearest(found[0], one), nearest(found[1], one)
            read.append(found)
        counts = stacked([narrow(values) for values, _ in read], scaled(side, ratio), 0)
        seen = stacked([where for _, where in read], scaled(side, ratio), False)
        if not sensor.series:
            return RawLook(counts, seen, scaled(shape, ratio))
        days, valid = zip(*(self.store.calendar(row, name) for row in rows), strict=True)
        return RawLook(counts, seen, scaled(shape, ratio), padded(days), padded(valid))

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
        """Physical units on the device, augmented; empty pixels at the mean of the band, masked, and without a label.

        A series takes no label away: clouds pass, and a run on radar must be scored on the pixels of one on colours.
        """
        images = {name: self._image(name, look) for name, look in raw.looks.items()}
        maps = self._maps(raw)
        if raw.seed is not None and self.augment is not None:
            stream = torch.Generator(self.device).manual_seed(raw.seed)
            images, maps = self.augment(images, maps, self.bands, self.statistics, stream)
        inputs = {name: self._observation(name, image, raw.looks[name]) for name, image in images.items()}
        if self.store.attributes is not None:
            inputs["attributes"] = Observation(self.store.attributes[raw.rows].to(self.device))
        labels = instances = None
        if maps is not None:
            labels = maps[:, 0].long()
            instances = maps[:, 1].long() if maps.shape[1] > 1 else None
            labels[labels == UNKNOWN] = IGNORE
            if self.store.first in images and not self.store.sensors[self.store.first].series:
                labels[~images[self.store.first].seen] = IGNORE
        lonlat, xy = (x.to(self.device, non_blocking=True) for x in (raw.lonlat, raw.xy))
        return Batch(inputs, labels, lonlat, raw.rows, xy, instances)

    def _maps(self, raw: Raw) -> Tensor | None:
        """(B, 1, H, W) labels, or (B, 2, H, W) labels and instances, which are turned alike; None if sealed."""
        if raw.labels is None:
            return None
        labels, things = raw.labels[:, None], raw.instances
        maps = labels if things is None else torch.stack([raw.labels.to(things.dtype), things], 1)
        return picked(maps.to(self.device, non_blocking=True), *raw.shape)

    def _image(self, name: str, look: RawLook) -> Image:
        sensor = self.store.sensors[name]
        counts, seen = (x.to(self.device, non_blocking=True) for x in (look.counts, look.seen))
        if sensor.kind == "points":
            return Image(counts, seen, look.shape)
        values = counts.float() * sensor.scale + sensor.offset
        if tuple(values.shape[-2:]) != look.shape:
            values = resized(self._filled(name, values, seen), *look.shape)
        return Image(values, picked(seen, *look.shape))

    def _observation(self, name: str, image: Image, look: RawLook) -> Observation:
        if image.extent is not None:
            return Observation(image.values, valid=image.seen)
        if look.days is None or look.valid is None:
            return Observation(self._filled(name, image.values, image.seen), valid_pixels=image.seen)
        days, valid = (x.to(self.device, non_blocking=True) for x in (look.days, look.valid))
        seen = image.seen & valid[:, :, None, None]
        return Observation(self._filled(name, image.values, seen), days, seen.flatten(2).any(2), seen)

    def _filled(self, name: str, values: Tensor, seen: Tensor) -> Tensor:
        """The mean of the band where nothing was seen: 0 when normalised."""
        mean = torch.tensor(self.statistics[name][0], device=values.device)[:, None, None]
        return torch.where(seen.unsqueeze(-3), values, mean)
