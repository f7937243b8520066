"""Which plain tensors a network takes: names, axes, and which sizes may change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..encoders.base import Encoder
from ..encoders.blocks.gru import GRU
from ..encoders.blocks.modalities import ATTRIBUTES
from ..encoders.blocks.pixel_set import PixelSetEncoder
from ..encoders.blocks.schemes import Early, MidMaps
from ..encoders.fusion import Fusion
from ..encoders.point_pillars import PointPillars
from ..encoders.series import SeriesEncoder
from ..types import Inputs, Observation

FIELDS = ("values", "days", "valid", "valid_pixels", "gdd")
BATCH = "batch"
EXAMPLE = {BATCH: 2, "time": 3, "pixels": 5, "points": 7}  # sizes while tracing; torch.export treats 0 and 1 apart


@dataclass(frozen=True)
class Axis:
    """One size of an input.

    Attributes:
        name: ``batch``, ``s2.time``, ``aerial.height``, ...
        size: While tracing; the only one allowed where it is not dynamic.
        step: It is a multiple of this.
        least: Smallest one.
        dynamic: Whether it may change.
    """

    name: str
    size: int
    step: int = 1
    least: int = 1
    dynamic: bool = True


@dataclass(frozen=True)
class Entry:
    """One input tensor.

    Attributes:
        name: ``<sensor>.<field>``, e.g. ``s2.values``.
        sensor: The sensor.
        field: A field of :class:`~eo_adapt.types.Observation`.
        axes: Name of each of its axes, as in :class:`Axis`; ``bands`` are the sensor's.
    """

    name: str
    sensor: str
    field: str
    axes: tuple[str, ...]

    @property
    def dtype(self) -> torch.dtype:
        """Booleans for masks, else float32."""
        return torch.bool if self.field.startswith("valid") else torch.float32


@dataclass(frozen=True)
class Layout:
    """All inputs of a network, in order, and their axes by name."""

    entries: tuple[Entry, ...]
    axes: Mapping[str, Axis]

    def to_dict(self) -> dict[str, Any]:
        """Plain types, fit for json."""
        entries = [{"name": e.name, "sensor": e.sensor, "field": e.field, "axes": list(e.axes)} for e in self.entries]
        return {"inputs": entries, "axes": {name: asdict(axis) for name, axis in self.axes.items()}}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Layout:
        """Inverse of :meth:`to_dict`."""
        entries = tuple(Entry(e["name"], e["sensor"], e["field"], tuple(e["axes"])) for e in stored["inputs"])
        return cls(entries, {name: Axis(**axis) for name, axis in stored["axes"].items()})

    @property
    def sensors(self) -> tuple[str, ...]:
        """The sensors, in order."""
        return tuple(dict.fromkeys(entry.sensor for entry in self.entries))

    def fields(self, sensor: str) -> dict[str, Entry]:
        """Field -> input, of one sensor."""
        return {entry.field: entry for entry in self.entries if entry.sensor == sensor}

    def fixed(self, size: Sequence[int] = ()) -> Layout:
        """The same with heights and widths that cannot change; of the first sensor with images ``size``, if given."""
        sides = [name for name in self.axes if name.endswith((".height", ".width"))]
        wanted = dict(zip(sides[:2], size, strict=False))
        axes = {
            name: Axis(name, wanted.get(name, a.size), a.step, a.least, False) if name in sides else a
            for name, a in self.axes.items()
        }
        return Layout(self.entries, axes)

    def example(self, bands: Mapping[str, int], more: int = 0, seed: int = 0, batch: int = 2) -> dict[str, Tensor]:
        """Random inputs with masked dates and pixels.

        Args:
            bands: Sensor -> number of bands.
            more: How many steps to add to every size that may change, but the batch.
            seed: Of the draw.
            batch: Samples.
        """
        stream = torch.Generator().manual_seed(seed)
        found = {}
        for entry in self.entries:
            shape = [self._size(axis, bands[entry.sensor], more, batch) for axis in entry.axes]
            x = torch.rand(shape, generator=stream)
            if entry.field == "days":
                x = (x * 360).floor().sort(1)[0]
            if entry.field == "gdd":
                x = (x * 2000).floor().sort(1)[0]
            if entry.axes[1:2] == (f"{entry.sensor}.points",) and entry.field == "values":
                x[..., :2] *= min(self.axes["canvas.height"].size, self.axes["canvas.width"].size) - 1
            found[entry.name] = x > 0.3 if entry.dtype == torch.bool else x
        return found

    def _size(self, name: str, bands: int, more: int, batch: int) -> int:
        if name == "bands":
            return bands
        axis = self.axes[name]
        if name == BATCH:
            return batch
        return axis.size + (more * axis.step if axis.dynamic else 0)


def observations(tensors: Mapping[str, Tensor]) -> Inputs:
    """``{"s2.values": ...}`` -> sensor -> observation."""
    fields: dict[str, dict[str, Tensor]] = {}
    for name, x in tensors.items():
        sensor, _, field = name.rpartition(".")
        fields.setdefault(sensor, {})[field] = x
    return {sensor: Observation(**given) for sensor, given in fields.items()}


def layout_of(encoder: Encoder, pixel_sets: Mapping[str, bool]) -> Layout:
    """The inputs that a network with this encoder reads.

    Args:
        encoder: Of the network.
        pixel_sets: Sensor -> whether its parcels are sets of pixels rather than one series; if not said, a pixel-set
            encoder reads sets.
    """
    joined = Early | MidMaps
    shared = isinstance(encoder, Fusion) and isinstance(encoder.scheme, joined)
    if isinstance(encoder, Fusion) and isinstance(encoder.scheme, Early):
        pixel_sets = dict.fromkeys(encoder.modalities, False)  # bands side by side: one series each
    entries: list[Entry] = []
    axes = {BATCH: Axis(BATCH, EXAMPLE[BATCH])}
    for sensor in sensors_of(encoder):
        own = encoder_of(encoder, sensor)
        for axis in _axes(own, sensor, "grid" if shared else sensor, pixel_sets):
            axes.setdefault(axis.name, axis)
        entries += _entries(own, sensor, "grid" if shared else sensor, axes, _dates(own, encoder))
    if isinstance(encoder, PointPillars):
        axes |= {f"canvas.{n}": Axis(f"canvas.{n}", s, dynamic=False) for n, s in _sides(encoder.size)}
    return Layout(tuple(entries), axes)


def _sides(size: Sequence[int]) -> list[tuple[str, int]]:
    return list(zip(("height", "width"), size, strict=True))


def sensors_of(encoder: Encoder) -> tuple[str, ...]:
    """The sensors that an encoder reads."""
    names = encoder.modalities if isinstance(encoder, Fusion) else (str(encoder.sensor),)
    if isinstance(encoder, Fusion) and encoder.grid not in ("auto", *names):
        names = (*names, encoder.grid)
    wants = any(isinstance(m, PixelSetEncoder) and m.attributes for m in encoder.modules())
    return (*names, ATTRIBUTES) if wants and ATTRIBUTES not in names else tuple(names)


def encoder_of(encoder: Encoder, sensor: str) -> Encoder:
    """The encoder of one sensor of a fusion; any other is its own."""
    if not isinstance(encoder, Fusion):
        return encoder
    scheme = encoder.scheme
    if isinstance(scheme, Early):
        return scheme.encoder
    if isinstance(scheme, MidMaps):
        return scheme.encoder(sensor) if sensor in scheme.names else scheme.encoder(scheme.names[0])
    return encoder.parts().get(sensor, encoder)


def _axes(own: Encoder, sensor: str, place: str, pixel_sets: Mapping[str, bool]) -> list[Axis]:
    """Axes of a sensor's values besides batch and bands."""
    if sensor == ATTRIBUTES:
        return []
    if isinstance(own, PointPillars):
        return [Axis(f"{sensor}.points", EXAMPLE["points"])]
    dates = [Axis(f"{sensor}.time", EXAMPLE["time"])]
    if isinstance(own, SeriesEncoder):
        least = -(-own.least // own.step) * own.step
        size = max(least, 2 * own.step, 4)
        sides = (("height", size), ("width", size + own.step))  # not square: torch.export would take them for one
        return [*dates, *(Axis(f"{place}.{n}", s, own.step, least) for n, s in sides)]
    if 0 in own.strides:  # parcels
        sets = pixel_sets.get(sensor, any(isinstance(m, PixelSetEncoder) for m in own.modules()))
        return [*dates, Axis(f"{sensor}.pixels", EXAMPLE["pixels"])] if sets else dates
    step = max(own.strides)
    return [Axis(f"{place}.{n}", s * step, step, step) for n, s in (("height", 2), ("width", 3))]


def _entries(own: Encoder, sensor: str, place: str, axes: Mapping[str, Axis], dates: set[str]) -> list[Entry]:
    if sensor == ATTRIBUTES:
        return [Entry(f"{ATTRIBUTES}.values", ATTRIBUTES, "values", (BATCH, "bands"))]
    time, points, pixels = (f"{sensor}.{name}" for name in ("time", "points", "pixels"))
    sides = tuple(name for name in (f"{place}.height", f"{place}.width") if name in axes)
    if points in axes:
        lists = {"values": (BATCH, points, "bands"), "valid": (BATCH, points)}
    elif time not in axes:
        lists = {"values": (BATCH, "bands", *sides), "valid_pixels": (BATCH, *sides)}
    else:
        within = sides or ((pixels,) if pixels in axes else ())
        lists = {"values": (BATCH, time, "bands", *within)} | dict.fromkeys(("days", "gdd", "valid"), (BATCH, time))
        if within:
            lists["valid_pixels"] = (BATCH, time, *within)
        lists = {name: order for name, order in lists.items() if name in dates or name not in ("days", "gdd")}
    return [Entry(f"{sensor}.{name}", sensor, name, order) for name, order in lists.items()]


def _dates(own: Encoder, encoder: Encoder) -> set[str]:
    """Which of ``days`` and ``gdd`` are read."""
    lead: nn.Module = own
    found = set()
    if isinstance(encoder, Fusion) and not encoder.parts():
        lead = encoder  # one attention for all
        found = {"days"} if isinstance(encoder.scheme, Early) else set()
    for part in lead.modules():
        kind = getattr(part, "position", None)
        if isinstance(kind, str):
            found.add("gdd" if kind == "gdd" else "days")
        if isinstance(part, GRU):
            found.add("gdd" if part.axis == "gdd" else "days")
    return found
