"""Inputs of any kind as looks (values with dates and masks), so that methods may change them without knowing whose."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

FIELDS = ("values", "days", "valid", "valid_pixels")


@dataclass(frozen=True)
class Look:
    """One sensor's look at B samples.

    Attributes:
        values: (B, C) | (B, C, H, W) | (B, T, C) | (B, T, C, S) | (B, T, C, H, W); four axes are (B, T, C, S) when
            ``days`` or ``valid`` is given, else an image.
        days: (B, T) days, any origin, may be negative.
        valid: (B, T) bool, False where there is no date.
        valid_pixels: (B, T, S) | (B, H, W) | (B, T, H, W) bool, False where there is no pixel: the axes of the values
            without that of the bands.
    """

    values: Tensor
    days: Tensor | None = None
    valid: Tensor | None = None
    valid_pixels: Tensor | None = None

    @property
    def dated(self) -> bool:
        """Whether the second axis is time."""
        return self.days is not None or self.valid is not None or self.values.ndim in (3, 5)

    @property
    def imaged(self) -> bool:
        """Whether the last two axes are rows and columns of an image."""
        return self.values.ndim == 5 or (self.values.ndim == 4 and not self.dated)

    @property
    def bands(self) -> int:
        """The axis of the bands."""
        return 2 if self.dated else 1

    def along_bands(self, x: Tensor) -> Tensor:
        """(C,) or (B, C) in a shape that broadcasts with the values."""
        shape = [1] * self.values.ndim
        shape[0], shape[self.bands] = (1 if x.ndim == 1 else x.shape[0]), x.shape[-1]
        return x.view(shape)

    def take(self, rows: Tensor) -> Look:
        """These samples, in this order."""
        days, valid, pixels = (None if x is None else x[rows] for x in (self.days, self.valid, self.valid_pixels))
        return Look(self.values[rows], days, valid, pixels)

    def dates(self) -> Tensor:
        """(B, T) bool: dates that are there."""
        if self.valid is not None:
            return self.valid
        return torch.ones(self.values.shape[:2], dtype=torch.bool, device=self.values.device)

    def seen(self) -> Tensor:
        """Bool, shape of the values: a date, a pixel and a finite number are there."""
        seen = self.values.isfinite()
        if self.valid is not None:
            seen = seen & self.valid.view(*self.valid.shape, *[1] * (self.values.ndim - 2))
        return seen if self.valid_pixels is None else seen & self.valid_pixels.unsqueeze(self.bands)

    def shown(self) -> Tensor | None:
        """(B, H, W) bool: pixels that an image, or at least one date of a series, shows; None where all are."""
        if not self.imaged or (self.valid_pixels is None and self.valid is None):
            return None
        if not self.dated:
            return self.valid_pixels
        dates = self.dates()[..., None, None]
        dates = dates.expand(*dates.shape[:2], *self.values.shape[-2:])
        return (dates if self.valid_pixels is None else dates & self.valid_pixels).any(1)


def looks(inputs: Any) -> dict[str, Look]:
    """The looks that inputs hold, by name; a single one is called "".

    Args:
        inputs: A float tensor; a mapping or dataclass with ``values`` (and ``days``, ``valid``, ``valid_pixels`` where
            there are); or a mapping of such to names, whose other entries are left out.

    Raises:
        TypeError: If it is nothing of the kind.
    """
    if not (found := _looks(inputs)):
        raise TypeError(
            "inputs must be a float tensor, a mapping or dataclass with a tensor `values`, or a mapping of such by "
            f"sensor; got {type(inputs).__name__}: hand them on in one of these forms"
        )
    return found


def shown(inputs: Any, size: Sequence[int]) -> Tensor | None:
    """Where some image among the inputs shows anything: nobody can name what lies elsewhere.

    Args:
        inputs: See :func:`looks`.
        size: Height and width of the map that is wanted.

    Returns:
        (B, height, width) bool, by nearest neighbour; None if all is shown, or there is no image.
    """
    found = [look.shown() for look in _looks(inputs).values() if look.imaged]
    if not found or any(mask is None for mask in found):
        return None
    maps = [F.interpolate(mask[:, None].float(), size=tuple(size), mode="nearest-exact") for mask in found]  # type: ignore[index]
    return torch.cat(maps, 1).amax(1) > 0.5


def mean_day(inputs: Any, days: Tensor) -> Tensor:
    """(B,) mean of days (B, T), of those that the inputs say are there; of all where the inputs do not tell."""
    known = [look.valid for look in _looks(inputs).values() if look.valid is not None and look.days is not None]
    valid = next((mask for mask in known if mask.shape == days.shape), torch.ones_like(days, dtype=torch.bool))
    return days.float().where(valid, 0.0).sum(1) / valid.sum(1).clamp_min(1)


def put(inputs: Any, changed: Mapping[str, Look]) -> Any:
    """The same inputs with these looks in place of their own; what was given stays as it was."""
    if not changed:
        return inputs
    if "" in changed:
        return _put(inputs, changed[""])
    return {**inputs, **{name: _put(inputs[name], look) for name, look in changed.items()}}


def moved(inputs: Any, days: int | Tensor) -> Any:
    """The same inputs with all dates that many days later, (B, 1) or one number; looks without days stay."""
    dated = {name: (look, look.days) for name, look in looks(inputs).items() if look.days is not None}
    later = {name: here + torch.as_tensor(days).to(here) for name, (_, here) in dated.items()}
    return put(inputs, {name: replace(look, days=later[name]) for name, (look, _) in dated.items()})


def inputs_of(batch: Any) -> Any:
    """What the model is called with: ``batch.inputs``, the first of a tuple, or the batch itself."""
    if hasattr(batch, "inputs"):
        return batch.inputs
    return batch[0] if isinstance(batch, tuple | list) else batch


def with_inputs(batch: Any, inputs: Any, follow: Callable[[Tensor], Tensor] = lambda labels: labels) -> Any:
    """The same batch with other inputs; labels as ``follow`` turns them, all the rest untouched."""
    if hasattr(batch, "inputs"):
        labels = getattr(batch, "labels", None)
        return _replace(batch, {"inputs": inputs} | ({} if labels is None else {"labels": follow(labels)}))
    if not isinstance(batch, tuple | list):
        return inputs
    rest = [follow(x) if i == 0 and isinstance(x, Tensor) else x for i, x in enumerate(batch[1:])]
    return type(batch)((inputs, *rest))


def band_moments(look: Look) -> tuple[Tensor, Tensor]:
    """Mean (C,) and population standard deviation (C,) of every band over all that is there, float32; 0 if nothing."""
    values, seen = (x.movedim(look.bands, -1).flatten(0, -2) for x in (look.values.float(), look.seen()))
    count = seen.sum(0).clamp_min(1)
    mean = values.where(seen, 0.0).sum(0) / count
    return mean, ((values - mean).where(seen, 0.0).square().sum(0) / count).sqrt()


def _looks(inputs: Any) -> dict[str, Look]:
    if (one := _look(inputs)) is not None:
        return {"": one}
    parts = inputs.items() if isinstance(inputs, Mapping) else ()
    return {str(name): look for name, part in parts if (look := _look(part)) is not None}


def _look(x: Any) -> Look | None:
    if isinstance(x, Tensor):
        return Look(x) if x.is_floating_point() else None
    if isinstance(x, Mapping):
        values, *rest = map(x.get, FIELDS)
    elif is_dataclass(x):
        values, *rest = (getattr(x, name, None) for name in FIELDS)
    else:
        return None
    return Look(values, *rest) if isinstance(values, Tensor) and values.is_floating_point() else None


def _put(x: Any, look: Look) -> Any:
    if isinstance(x, Tensor):
        return look.values
    fields = {name: value for name in FIELDS if (value := getattr(look, name)) is not None}
    return {**x, **fields} if isinstance(x, Mapping) else replace(x, **fields)


def _replace(batch: Any, fields: Mapping[str, Any]) -> Any:
    if is_dataclass(batch) and not isinstance(batch, type):
        return replace(batch, **fields)
    if hasattr(batch, "_replace"):  # a named tuple
        return batch._replace(**fields)
    other = copy.copy(batch)
    for name, value in fields.items():
        setattr(other, name, value)
    return other
