"""A scene of one or more sensors, read window by window: counts on the reader's side, numbers on the device's."""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import date as Date
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..data.scenes.raster import read_open
from ..data.scenes.records import Imagery, Raster, Window
from ..data.scenes.series import hides
from ..data.scenes.units import misfit
from ..data.scenes.windows import narrow
from ..types import Inputs, Observation
from .grids import Ground, grounds
from .looks import Entry, Look, find

GLANCE = 256  # pixels of a side that are looked at before anything is mapped


@dataclass(frozen=True)
class Counts:
    """One sensor's part of some windows, as it was read.

    Attributes:
        counts: (B, C, h, w), of series (B, T, C, h, w).
        seen: (B, h, w) or (B, T, h, w) bool.
        days: (T,) days since 1 January of the label year; None of images, as ``valid``.
        valid: (B, T) bool, dates that show enough of a window.
    """

    counts: Tensor
    seen: Tensor
    days: Tensor | None = None
    valid: Tensor | None = None

    @property
    def shown(self) -> Tensor:
        """(B, h, w) bool, pixels that any date shows."""
        return self.seen if self.days is None else self.seen.any(1)


@dataclass(frozen=True)
class Scene:
    """Files of one place, found to be what a checkpoint reads.

    Attributes:
        looks: Sensor -> its files; the first one leads: its grid is that of the map.
        grounds: Sensor -> its grid, of those that are there.
        means: Sensor -> mean of each band, which stands where nothing was seen.
        year: Year of the labels, from whose 1 January days are counted; 0 without series.
    """

    looks: Mapping[str, Look]
    grounds: Mapping[str, Ground]
    means: Mapping[str, Sequence[float]]
    year: int = 0
    _own: threading.local = field(default_factory=threading.local, repr=False, compare=False)

    def __reduce__(self) -> tuple[type[Scene], tuple[Any, ...]]:
        return Scene, (self.looks, self.grounds, self.means, self.year)

    @property
    def lead(self) -> str:
        """The leading sensor."""
        return next(iter(self.looks))

    @property
    def ground(self) -> Ground:
        """The grid of the map."""
        return self.grounds[self.lead]

    @property
    def unit(self) -> int:
        """Pixels of the leading sensor that whole pixels of all sensors cover; 1 where no small number is."""
        found = 1
        for name in self.grounds:
            ratio = 1 / self._ratio(name)
            if ratio > 1 and abs(ratio - round(ratio)) < 1e-3:
                found = math.lcm(found, round(ratio))
        return found if found <= 64 else 1

    @property
    def files(self) -> list[str]:
        """Every file, each once."""
        frames = [frame for look in self.looks.values() for frame in look.frames]
        return list(dict.fromkeys([f.path for f in frames] + [f.mask for f in frames if f.mask]))

    # -- in a reader's thread ----------------------------------------------------------------------------------------

    def read(self, row: int, columns: Sequence[int], tile: int) -> dict[str, Counts]:
        """Windows of ``tile`` pixels of the leading sensor, one at each column, of all sensors."""
        return {name: self._counts(name, row, columns, tile) for name in self.looks}

    def close(self) -> None:
        """Close this thread's files."""
        if stack := getattr(self._own, "stack", None):
            stack.close()
            del self._own.stack, self._own.files

    def _file(self, name: str, path: str, mask: bool = False) -> Any:
        """A file, opened once a thread: its decoded blocks then serve the next windows, too."""
        if not hasattr(self._own, "files"):
            self._own.files, self._own.stack = {}, ExitStack()
        if (name, path) not in self._own.files:
            self._own.files[name, path] = self._own.stack.enter_context(self.grounds[name].opened(path, mask))
        return self._own.files[name, path]

    def _ratio(self, name: str) -> float:
        """Pixels of a sensor along one pixel of the leading one."""
        (a, _, _, d, _, _), (p, _, _, q, _, _) = self.ground.transform, self.grounds[name].transform
        return math.hypot(a, d) / math.hypot(p, q)

    def box(self, name: str, row: int, column: int, tile: int) -> Window:
        """A window on a sensor's own pixels, to the nearest whole one; it may reach beyond the file."""
        if name == self.lead:
            return row, column, tile, tile
        a, b, c, d, e, f = self.ground.transform
        p, q, r, s, t, u = self.grounds[name].transform
        x, y = a * column + b * row + c - r, d * column + e * row + f - u
        whole = p * t - q * s
        side = max(1, round(tile * self._ratio(name)))
        return round((p * y - s * x) / whole), round((t * x - q * y) / whole), side, side

    def _counts(self, name: str, row: int, columns: Sequence[int], tile: int) -> Counts:
        look = self.looks[name]
        if not look.frames:
            return _nothing(look, len(columns))
        boxes = [self.box(name, row, column, tile) for column in columns]
        top, left, side = boxes[0][0], boxes[0][1], boxes[0][2]
        span: Window = (top, left, side, boxes[-1][1] + side - left)
        parts = [self._frame(name, number, span) for number in range(len(look.frames))]
        cuts = [slice(box[1] - left, box[1] - left + side) for box in boxes]
        series = look.imagery.series
        values = np.stack([v for v, _ in parts]) if series else parts[0][0]
        seen = np.stack([s for _, s in parts]) if series else parts[0][1]
        counts = torch.from_numpy(np.stack([values[..., cut] for cut in cuts]))
        shown = np.stack([seen[..., cut] for cut in cuts])
        if not series:
            return Counts(counts, torch.from_numpy(shown))
        inside = np.array([self._inside(name, box) for box in boxes])
        share = shown.sum((2, 3)) / np.maximum(1, inside)[:, None]
        clear = look.imagery.hidden.clear if look.imagery.hidden is not None else 0.0
        valid = (share > 0) & (share >= clear)
        return Counts(counts, torch.from_numpy(shown), self.days(name), torch.from_numpy(valid))

    def _inside(self, name: str, box: Window) -> int:
        """Pixels of a box that the file has."""
        ground, (row, column, height, width) = self.grounds[name], box
        rows = min(ground.height, row + height) - max(0, row)
        return max(0, rows) * max(0, min(ground.width, column + width) - max(0, column))

    def _frame(self, name: str, number: int, span: Window) -> tuple[np.ndarray, np.ndarray]:
        """Counts (C, h, w) of one date and where there are any; beyond the file there are none."""
        look, ground = self.looks[name], self.grounds[name]
        frame, (row, column, height, width) = look.frames[number], span
        first, last = max(0, row), min(ground.height, row + height)
        start, end = max(0, column), min(ground.width, column + width)
        values = np.zeros((len(look.wanted), height, width), _dtype(look.imagery))
        seen = np.zeros((height, width), bool)
        if first >= last or start >= end:
            return values, seen
        part = (first, start, last - first, end - start)
        found, there = read_open(
            self._file(name, frame.path), Raster(frame.path, None, frame.numbers), look.imagery, look.wanted, part
        )
        if frame.mask and look.imagery.hidden is not None:
            rule = look.imagery.hidden
            cut = ((first, last), (start, end))
            mask = self._file(name, frame.mask, True).read(list(range(1, rule.bands + 1)), window=cut)
            there &= ~hides(mask[None], rule)[0]
        at = np.s_[first - row : last - row, start - column : end - column]
        values[(..., *at)], seen[at] = narrow(found), there
        return values, seen

    def days(self, name: str) -> Tensor:
        """(T,) int64 days since 1 January of the label year."""
        start = Date(self.year, 1, 1)
        dates = [(Date.fromisoformat(frame.date) - start).days for frame in self.looks[name].frames]
        return torch.tensor(dates, dtype=torch.int64)

    # -- on the device -----------------------------------------------------------------------------------------------

    def inputs(self, counts: Mapping[str, Counts], device: torch.device) -> Inputs:
        """Physical units, the mean of the band where nothing was seen."""
        return {name: self._observation(name, look, device) for name, look in counts.items()}

    def _observation(self, name: str, read: Counts, device: torch.device) -> Observation:
        imagery = self.looks[name].imagery
        counts, seen = (x.to(device, non_blocking=True) for x in (read.counts, read.seen))
        values = counts.float() * imagery.scale + imagery.offset
        mean = torch.tensor(list(self.means[name]), device=device)[:, None, None]
        if read.days is None or read.valid is None:
            return Observation(torch.where(seen.unsqueeze(-3), values, mean), valid_pixels=seen)
        valid = read.valid.to(device, non_blocking=True)
        seen = seen & valid[:, :, None, None]
        days = read.days.to(device, non_blocking=True).expand(len(values), -1)
        return Observation(torch.where(seen.unsqueeze(-3), values, mean), days, seen.flatten(2).any(2), seen)


def _dtype(imagery: Imagery) -> np.dtype:
    if imagery.dtype == "float":
        return np.dtype(np.float32)
    return narrow(np.zeros(0, imagery.dtype)).dtype


def _nothing(look: Look, batch: int) -> Counts:
    """Of a sensor that the scene lacks: one pixel, of one date, not seen."""
    dates = (1,) if look.imagery.series else ()
    counts = torch.zeros(batch, *dates, len(look.wanted), 1, 1)
    seen = torch.zeros(batch, *dates, 1, 1, dtype=torch.bool)
    if not look.imagery.series:
        return Counts(counts, seen)
    return Counts(counts, seen, torch.zeros(1, dtype=torch.int64), torch.zeros(batch, 1, dtype=torch.bool))


def open_scene(given: Mapping[str, Entry], card: Mapping[str, Any], resample: str = "", year: int = 0) -> Scene:
    """Match the files of a scene with what a checkpoint reads.

    Args:
        given: As :func:`.looks.entries` made it of what a user gave.
        card: The checkpoint's: bands, imagery, statistics, gsd.
        resample: See :func:`.grids.grounds`.
        year: Of the labels; 0 = the year that most dates of the series lie in.

    Raises:
        ValueError: If something does not fit; says what to do.
    """
    from ..data.scenes.store import imagery_of

    sensors = {name: imagery_of(spec) for name, spec in card["imagery"].items()}
    looks = {name: find(name, given.get(name), sensors[name], bands) for name, bands in card["bands"].items()}
    lead = next(iter(looks))
    if not looks[lead].frames:
        raise ValueError(f"the leading sensor {lead} is missing: its grid is that of the map; give input.{lead}=")
    means = {name: list(card["statistics"][name][0]) for name in looks}
    years = Counter(frame.date[:4] for look in looks.values() for frame in look.frames if frame.date)
    found = year or (int(years.most_common(1)[0][0]) if years else 0)
    scene = Scene(looks, grounds(looks, card.get("gsd", {}), resample), means, found)
    check_units(scene)
    return scene


def check_units(scene: Scene) -> None:
    """Refuse numbers that cannot be what the checkpoint was trained on, from the middle of each sensor's first files.

    Raises:
        ValueError: Naming file, band and unit.
    """
    for name, ground in scene.grounds.items():
        look = scene.looks[name]
        height, width = min(GLANCE, ground.height), min(GLANCE, ground.width)
        middle = ((ground.height - height) // 2, (ground.width - width) // 2, height, width)
        for number in range(min(3, len(look.frames))):
            values, seen = scene._frame(name, number, middle)
            physical = values[:, seen] * look.imagery.scale + look.imagery.offset
            if why := misfit(physical, look.imagery.units):
                raise ValueError(f"{look.frames[number].path} ({name}): {why}")
    scene.close()
