"""Whether the shapes of a batch are such as the network was exported for."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from .inputs import BATCH, Axis, Layout


def check_shapes(tensors: Mapping[str, Tensor], layout: Layout, counts: Mapping[str, int]) -> dict[str, int]:
    """Sizes of the axes, by name.

    Args:
        tensors: Of some sensors, all their entries.
        layout: What the network takes.
        counts: Sensor -> number of bands.

    Raises:
        ValueError: If a shape does not fit; says what does.
    """
    sizes: dict[str, int] = {}
    for entry in layout.entries:
        if entry.name not in tensors:
            continue
        shape, order = tuple(tensors[entry.name].shape), entry.axes
        if len(shape) != len(order):
            raise ValueError(f"{entry.name} has the axes {list(order)}; got shape {shape}")
        for name, size in zip(order, shape, strict=True):
            if name == "bands":
                if size != counts.get(entry.sensor, size):
                    raise ValueError(f"{entry.name} has {counts[entry.sensor]} bands; got shape {shape}")
                continue
            if sizes.setdefault(name, size) != size:
                raise ValueError(f"{entry.name} has shape {shape}: {name} is {sizes[name]} elsewhere in this batch")
            check_size(layout.axes[name], size)
    return sizes


def check_size(axis: Axis, size: int) -> None:
    """Refuse a size that the network does not take.

    Raises:
        ValueError: Saying which it takes.
    """
    if not axis.dynamic and axis.name != BATCH and size != axis.size:
        raise ValueError(f"{axis.name} is {axis.size} in this export; got {size}: cut or pad the images to that")
    if size % axis.step or size < axis.least:
        raise ValueError(
            f"{axis.name} is a multiple of {axis.step} and at least {axis.least}; got {size}: pad the images, with "
            "valid_pixels False there, or crop them"
        )


def missing(sensor: str, layout: Layout, counts: Mapping[str, int], sizes: Mapping[str, int]) -> dict[str, Tensor]:
    """A look of a sensor that saw nothing.

    Raises:
        ValueError: If the network cannot do without it: nothing would say that it is missing, or how large maps are.
    """
    own = layout.fields(sensor)
    leads = sensor == layout.sensors[0] and any(name.endswith(".height") for name in own["values"].axes)
    if leads or not {"valid", "valid_pixels"} & set(own):
        raise ValueError(f"the network needs {sensor!r}; it is not given. It reads {list(layout.sensors)}")
    found = {}
    for field, entry in own.items():
        shape = [counts[sensor] if name == "bands" else sizes.get(name, layout.axes[name].size) for name in entry.axes]
        found[f"{sensor}.{field}"] = torch.zeros(shape, dtype=entry.dtype)
    return found
