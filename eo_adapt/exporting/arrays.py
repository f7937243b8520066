"""What a user gives -> the tensors that the network takes, checked: names, units, shapes, dates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..data.scenes.units import misfit
from ..types import Inputs, Observation
from .cubes import is_cube, of_cube
from .inputs import Entry, Layout

DAYS = (-1500, 1500)  # since 1 January of the label year; beyond, they are counted from elsewhere
KEYS = ("values", "bands", "units", "days", "valid", "valid_pixels", "gdd")


def tensors_of(
    inputs: Mapping[str, Any], layout: Layout, bands: Mapping[str, Sequence[str]], units: Mapping[str, str]
) -> dict[str, Tensor]:
    """Checked tensors of everything the network takes.

    Args:
        inputs: Sensor -> what is known of it; other sensors than the network's are refused.
        layout: What the network takes.
        bands: Sensor -> its bands.
        units: Sensor -> their unit.

    Raises:
        ValueError: Saying what does not fit.
    """
    if not isinstance(inputs, Mapping) or not set(inputs) <= set(layout.sensors):
        got = sorted(inputs) if isinstance(inputs, Mapping) else type(inputs).__name__
        raise ValueError(f"give a mapping of sensors, some of {list(layout.sensors)}, to what they saw; got {got}")
    looks = {}
    for sensor, given in inputs.items():
        known = _known(sensor, given)
        look = _look(sensor, known, list(bands.get(sensor, [])), layout.fields(sensor)["values"])
        check_units(sensor, look, known.get("units"), units.get(sensor, ""), bands.get(sensor, ()))
        check_days(sensor, look)
        looks[sensor] = look
    return of_observations(looks, layout, {sensor: len(names) for sensor, names in bands.items()})


def of_observations(inputs: Inputs, layout: Layout, counts: Mapping[str, int]) -> dict[str, Tensor]:
    """The same of observations with the network's own bands; only shapes are checked.

    Parcel series count as pixel sets of one pixel. What has no mask is all there. A sensor that is missing counts as
    never seen, where the network can do without.
    """
    from .shapes import check_shapes, missing

    found: dict[str, Tensor] = {}
    for sensor in layout.sensors:
        if sensor in inputs:
            found |= _filled(sensor, inputs[sensor], layout.fields(sensor))
    if not found:
        raise ValueError(f"the network reads {list(layout.sensors)}; got {sorted(inputs)}")
    sizes = check_shapes(found, layout, counts)
    for sensor in layout.sensors:
        if sensor not in inputs:
            found |= missing(sensor, layout, counts, sizes)
    return {entry.name: found[entry.name] for entry in layout.entries}


def _known(sensor: str, given: Any) -> dict[str, Any]:
    """Whatever stands for a sensor, as a mapping of ``KEYS``."""
    if isinstance(given, Observation):
        known = {f.name: x for f in fields(given) if (x := getattr(given, f.name)) is not None}
    elif is_cube(given):
        known = of_cube(sensor, given)
    elif isinstance(given, Mapping):
        known = {key: x for key, x in given.items() if x is not None}
    else:
        known = {"values": given}
    if wrong := sorted(set(known) - set(KEYS)):
        raise ValueError(f"{sensor!r} has unknown keys {wrong}; a sensor has some of {list(KEYS)}")
    if "values" not in known:
        raise ValueError(f"{sensor!r} has no values; got {sorted(known)}")
    return known


def _look(sensor: str, known: Mapping[str, Any], bands: list[str], values: Entry) -> Observation:
    x = _tensor(sensor, "values", known["values"])
    if not x.is_floating_point():
        raise ValueError(
            f"{sensor!r} has whole numbers ({x.dtype}): the network takes physical units, stored count * scale + "
            "offset as floats (the card's imagery says scale and offset)"
        )
    axis = values.axes.index("bands")
    if x.ndim <= axis:
        raise ValueError(f"the values of {sensor!r} have axes {list(values.axes)}; got shape {tuple(x.shape)}")
    x = ordered(sensor, x.float(), axis, known.get("bands"), bands)
    more = {key: _tensor(sensor, key, known[key]) for key in ("days", "gdd", "valid", "valid_pixels") if key in known}
    for key, mask in more.items():
        if key.startswith("valid") and mask.dtype != torch.bool:
            raise ValueError(f"{key} of {sensor!r} is a mask of booleans, True = there; got {mask.dtype}")
    if "days" in more and more["days"].ndim == 1:  # the same dates for all samples
        more["days"] = more["days"].expand(x.shape[0], -1)
    return Observation(x, **{k: v.float() if k in ("days", "gdd") else v for k, v in more.items()})


def ordered(sensor: str, x: Tensor, axis: int, given: Sequence[str] | None, wanted: list[str]) -> Tensor:
    """The bands that the network wants, in its order; others are left out.

    Raises:
        ValueError: If one is missing, twice there, or bands are not named and another number.
    """
    if given is None:
        if x.shape[axis] != len(wanted):
            raise ValueError(
                f"the network was trained on the bands {wanted} of {sensor!r}; got {x.shape[axis]} without names, "
                f"shape {tuple(x.shape)}: give bands=[...], a name for each"
            )
        return x
    names = [str(name) for name in given]
    if len(names) != x.shape[axis] or len(set(names)) < len(names):
        raise ValueError(
            f"{sensor!r} has {x.shape[axis]} bands along axis {axis} and the names {names}: name each once, in order"
        )
    if lacking := [name for name in wanted if name not in names]:
        raise ValueError(f"{sensor!r} lacks the bands {lacking}; the network was trained on {wanted}, got {names}")
    return x if names == wanted else x.index_select(axis, torch.tensor([names.index(name) for name in wanted]))


def check_units(sensor: str, look: Observation, given: str | None, units: str, bands: Sequence[str]) -> None:
    """Refuse values that are said to be, or can only be, of another unit, and nan where something is valid.

    Raises:
        ValueError: If so.
    """
    if given is not None and units and given != units:
        raise ValueError(f"{sensor!r} is given in {given!r}; the network was trained on {units!r}: convert it")
    x, there = look.values, shown(look)
    if not bool(x[there].isfinite().all()):
        raise ValueError(
            f"{sensor!r} has values that are nan or infinite where its masks say that something is there: give valid "
            "(dates) or valid_pixels, False at those places"
        )
    by_band = x.where(there, torch.nan).movedim(_band_axis(look), 0).numpy()
    if why := misfit(by_band, units, bands):
        raise ValueError(f"the network was trained on {units} of {sensor!r}; {why}")


def shown(look: Observation) -> Tensor:
    """Which values are valid, in the shape of the values."""
    x, there = look.values, torch.ones_like(look.values, dtype=torch.bool)
    if look.valid is not None and look.valid.shape == x.shape[:2]:
        there = there & look.valid.view(*look.valid.shape, *[1] * (x.ndim - 2))
    pixels = look.valid_pixels
    if pixels is not None and pixels.ndim == x.ndim - 1:
        there = there & pixels.unsqueeze(_band_axis(look))
    return there


def _band_axis(look: Observation) -> int:
    return 2 if look.days is not None or look.valid is not None or look.values.ndim == 5 else 1


def check_days(sensor: str, look: Observation) -> None:
    """Refuse dates that are not counted from 1 January of the label year.

    Raises:
        ValueError: If so.
    """
    days = look.days
    if days is None:
        return
    there = days if look.valid is None or look.valid.shape != days.shape else days[look.valid]
    low, high = DAYS
    if there.numel() and not bool(((there >= low) & (there <= high)).all()):
        raise ValueError(
            f"days of {sensor!r} run from {float(there.min()):g} to {float(there.max()):g}; they count from 1 January "
            f"of the label year, which is 0, and lie within {low} to {high}"
        )


def _filled(sensor: str, look: Observation, wanted: Mapping[str, Entry]) -> dict[str, Tensor]:
    """The tensors of one sensor, masks made where they are missing."""
    values, order = look.values.float(), wanted["values"].axes
    pixels = look.valid_pixels
    if len(order) == 4 and order[-1].endswith(".pixels") and values.ndim == 3:
        values, pixels = values[..., None], None  # a series is a set of one pixel
    found = {"values": values}
    for field, entry in wanted.items():
        if field in ("days", "gdd"):
            given = getattr(look, field)
            if given is None:
                raise ValueError(f"the network reads {field} of {sensor!r}, (samples, dates); they are not given")
            found[field] = given.float()
        elif field == "valid":
            found[field] = values.new_ones(values.shape[:2]).bool() if look.valid is None else look.valid
        elif field == "valid_pixels":
            kept = [i for i, axis in enumerate(order) if axis in entry.axes]
            shape = [values.shape[i] if i < values.ndim else 1 for i in kept]
            found[field] = torch.ones(shape, dtype=torch.bool, device=values.device) if pixels is None else pixels
    return {f"{sensor}.{field}": x for field, x in found.items()}


def _tensor(sensor: str, key: str, given: Any) -> Tensor:
    if isinstance(given, Tensor):
        return given.detach().cpu()
    array = np.asarray(given)
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{key} of {sensor!r} are numbers; got an array of {array.dtype}")
    if array.dtype.kind == "u":
        array = array.astype(np.int64)
    return torch.from_numpy(np.array(array))  # a copy: torch refuses arrays that may not be written
