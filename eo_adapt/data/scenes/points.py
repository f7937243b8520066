"""Points of a patch: rows of a table that lies beside the rasters, cropped and turned as images are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..store import band_numbers
from .raster import TileError
from .records import Imagery, Points, Window

PLACE = ("x", "y")  # first bands of every table: pixels of the first sensor, from its left and upper edge


def read_points(root: Path, points: Points, imagery: Imagery) -> np.ndarray:
    """(P, F) float32, as they are stored.

    Raises:
        TileError: If the table is missing, damaged, cut short or of another form than declared.
    """
    path = root / points.path
    try:
        table = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        why = "is missing" if not path.exists() else f"cannot be read ({error})"
        raise TileError(f"{path} {why}: make it again") from error
    if table.ndim != 2 or table.shape[1] != len(imagery.bands) or table.dtype != np.float32:
        raise TileError(
            f"{path} holds {table.dtype} {table.shape}; points with the bands {list(imagery.bands)} are float32 "
            f"(N, {len(imagery.bands)}): make it again"
        )
    if not 0 <= points.first <= points.first + points.count <= len(table):
        raise TileError(f"{path} has {len(table)} points; the patch is rows {points.first} + {points.count} of them")
    return np.array(table[points.first : points.first + points.count])


def measured(root: Path, key: str, points: Points, imagery: Imagery, size: tuple[int, int]) -> dict[str, Any]:
    """Columns of the index: where the points lie, how many, mean and squared deviations of each band.

    Raises:
        TileError: If they cannot be read.
        ValueError: If bands do not start with x and y, or points lie outside the patch; names the patch.
    """
    if imagery.bands[:2] != PLACE:
        raise ValueError(f"bands of points start with {list(PLACE)}; got {list(imagery.bands)}: correct the reader")
    values = read_points(root, points, imagery)
    outside = ~((values[:, :2] >= 0) & (values[:, :2] < np.array(size[::-1]))).all(1)
    if outside.any() or not np.isfinite(values).all():
        raise ValueError(
            f"patch {key!r}: {int(outside.sum())} of {len(values)} points in {root / points.path} lie outside its "
            f"{size[0]} x {size[1]} pixels, or have values that are not finite: correct the reader"
        )
    exact = values.astype(np.float64)
    mean = exact.mean(0) if len(exact) else np.zeros(len(imagery.bands))
    return {
        "path": points.path,
        "rows": [points.first, points.count],
        "size": list(size),
        "n": len(exact),
        "mean": mean.tolist(),
        "m2": np.square(exact - mean).sum(0).tolist(),
    }


def cropped(values: np.ndarray, part: Window, factor: tuple[float, float]) -> np.ndarray:
    """Points of a part of a patch, seen from its corner, as much larger as the part is magnified down and right."""
    row, column, height, width = part
    x, y = values[:, 0], values[:, 1]
    inside = (x >= column) & (x < column + width) & (y >= row) & (y < row + height)
    found = values[inside]
    for axis, (corner, times, size) in enumerate(((column, factor[1], width), (row, factor[0], height))):
        found[:, axis] = np.minimum((found[:, axis] - corner) * times, _below(size * times))
    return found


def padded(clouds: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
    """(B, P, F) with as many points as the largest cloud has, at least one, and (B, P) which of them there are."""
    count = max(1, *(len(cloud) for cloud in clouds))
    values = np.zeros((len(clouds), count, clouds[0].shape[1]), np.float32)
    there = np.zeros((len(clouds), count), bool)
    for i, cloud in enumerate(clouds):
        values[i, : len(cloud)], there[i, : len(cloud)] = cloud, True
    return torch.from_numpy(values), torch.from_numpy(there)


def turned(values: Tensor, turns: Tensor, extent: tuple[int, int]) -> Tensor:
    """Points (B, P, F) mirrored as :func:`...align.augment.turn` mirrors images of ``extent`` (height, width)."""
    height, width = extent
    x, y = values[..., 0], values[..., 1]
    left_right, up_down, diagonal = turns[:, :, None]
    x = torch.where(left_right, (width - x).clamp(0, _below(width)), x)
    y = torch.where(up_down, (height - y).clamp(0, _below(height)), y)
    x, y = torch.where(diagonal, y, x), torch.where(diagonal, x, y)
    return torch.cat([torch.stack([x, y], -1), values[..., 2:]], -1)


def check_bands(bands: Mapping[str, Sequence[str]], sensors: Mapping[str, Imagery]) -> None:
    """Make sure that points come with their places.

    Raises:
        LookupError: If bands chosen of a sensor of points do not start with x and y, or one does not exist.
    """
    for name, wanted in bands.items():
        if sensors[name].kind == "points":
            band_numbers(sensors[name], wanted, name)
            if tuple(wanted[:2]) != PLACE:
                raise LookupError(
                    f"bands of {name}, which are points, start with {list(PLACE)}; got {list(wanted)}: set data.bands"
                )


def _below(size: float) -> float:
    """The largest float32 below a size: a point on the far edge belongs to the last pixel."""
    return float(np.nextafter(np.float32(size), np.float32(0)))
