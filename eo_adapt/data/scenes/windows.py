"""Parts of patches: where crops lie, the same ground on another sensor's pixels, and arrays of unequal size stacked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .labels import UNKNOWN
from .records import Window

TRIES = 10  # crops that are looked at for one that holds the class that was drawn
LEAST = 0.01  # share of a crop that the class should cover
NARROW = {np.dtype(np.uint16): np.int32, np.dtype(np.uint32): np.int64, np.dtype(np.int8): np.int16}


def place(
    size: np.ndarray,
    side: tuple[int, int],
    mask: np.ndarray | None,
    goal: int | None,
    stream: torch.Generator,
    step: tuple[int, int] = (1, 1),
) -> Window:
    """A random part of a patch: first row, first column, height, width; of ten the first that holds the class.

    Rows and columns are multiples of ``step``, so that coarser pixels are not cut through.
    """
    height, width = (min(int(s), n) for s, n in zip(size, side, strict=True))
    free = torch.tensor([(int(size[0]) - height) // step[0] + 1, (int(size[1]) - width) // step[1] + 1])
    draws = (torch.rand(TRIES, 2, generator=stream) * free).long()
    for row, column in (draws * torch.tensor(step)).tolist():
        if mask is None or goal is None:
            break
        if (mask[row : row + height, column : column + width] == goal).mean() >= LEAST:
            break
    return row, column, height, width


def step_of(full: int, sizes: Sequence[int], side: int) -> int:
    """How far apart crops start so that they lie on whole pixels of all sensors, as far as they can.

    Where a sensor's pixel is a whole number of the first sensor's, crops start on its pixels. Where it is not (512
    pixels on 10), they do if crops can end there, too (256 on 5); else they are cut to the nearest pixel.

    Args:
        full: Pixels of the first sensor along a patch.
        sizes: The same of each sensor.
        side: Pixels of the first sensor along a crop.
    """
    steps = [full // math.gcd(full, size) for size in sizes]
    return math.lcm(*(step for step, size in zip(steps, sizes, strict=True) if full % size == 0 or side % step == 0))


def scaled(side: tuple[int, int], ratio: np.ndarray) -> tuple[int, int]:
    """Height and width on another sensor's pixels."""
    return max(1, round(side[0] * ratio[0])), max(1, round(side[1] * ratio[1]))


def onto(part: np.ndarray, ratio: np.ndarray, size: tuple[int, int]) -> Window:
    """The same part on another sensor's pixels, to the nearest whole one."""
    height, width = (min(n, max(1, round(float(p * r)))) for n, p, r in zip(size, part[2:], ratio, strict=True))
    row = min(size[0] - height, round(float(part[0] * ratio[0])))
    column = min(size[1] - width, round(float(part[1] * ratio[1])))
    return row, column, height, width


def nearest(array: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(..., h, w) on another number of pixels of the same ground, of each the nearest."""
    rows, columns = (
        np.minimum(((np.arange(new) + 0.5) * old / new).astype(int), old - 1)
        for new, old in zip(size, array.shape[-2:], strict=True)
    )
    return array[..., rows[:, None], columns]


def narrow(values: np.ndarray) -> np.ndarray:
    """In a type that torch computes with."""
    return values.astype(NARROW[values.dtype]) if values.dtype in NARROW else values


def window_of(part: np.ndarray) -> Window:
    """The same as plain numbers."""
    row, column, height, width = (int(n) for n in part)
    return row, column, height, width


def stacked(arrays: Sequence[np.ndarray], side: tuple[int, int], rest: Any = UNKNOWN) -> Tensor:
    """(B, ..., H, W) of arrays (..., h, w), which may be smaller and have fewer dates; ``rest`` where they end."""
    if all(a.shape == (*arrays[0].shape[:-2], *side) for a in arrays):
        return torch.from_numpy(np.stack(arrays))
    more = np.max([a.shape[:-2] for a in arrays], 0)
    out = np.full((len(arrays), *more.astype(int), *side), rest, arrays[0].dtype)
    for i, array in enumerate(arrays):
        out[i][tuple(slice(n) for n in array.shape)] = array
    return torch.from_numpy(out)


def padded(rows: Sequence[np.ndarray]) -> Tensor:
    """(B, T) of rows that may be shorter; 0 or False where they end."""
    out = np.zeros((len(rows), max(map(len, rows))), rows[0].dtype)
    for i, row in enumerate(rows):
        out[i, : len(row)] = row
    return torch.from_numpy(out)
