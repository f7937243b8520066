"""Where the ground is: a filter for clouds that nobody has classified, and the surface between what was measured."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

TRIANGLES = 500_000  # drawn at a time


@dataclass(frozen=True)
class GroundFilter:
    """Progressive morphological filter (Zhang et al. 2003, IEEE TGRS 41(4), 872-882) on the lowest points of cells.

    The lowest heights are opened with windows that grow; what an opening lowers by more than
    ``slope * (w_k - w_(k-1)) * cell + first``, and at most ``most``, is no ground. The rest, interpolated, is the
    surface; points at most ``first`` above it are ground. Deviation: windows are squares, and the last step compares
    points with the surface, not with cells, so that every point is judged.

    A single point far below the ground (noise that nobody flagged) makes a pit as wide as its cell.

    Attributes:
        cell: Side of a cell, metres.
        slope: Steepest ground, metres per metre.
        first: Smallest height above the ground that counts as an object, metres.
        most: Largest such height, metres.
        widest: Largest window, metres; wider than the widest building.
    """

    cell: float = 1.0
    slope: float = 0.3
    first: float = 0.3
    most: float = 2.5
    widest: float = 40.0

    def __post_init__(self) -> None:
        if min(self.cell, self.slope, self.first) <= 0 or self.most < self.first or self.widest < 3 * self.cell:
            raise ValueError(
                f"a ground filter needs cell, slope, first > 0, most >= first, widest >= 3 cell; got {self}"
            )

    def surface(self, lowest: np.ndarray, cell: float) -> np.ndarray:
        """Height of the ground in each cell.

        Args:
            lowest: (h, w) height of the lowest point of each cell, metres; inf where there is none.
            cell: Side of a cell, metres.

        Returns:
            (h, w) float64 metres.
        """
        from scipy.ndimage import grey_opening

        there = np.isfinite(lowest)
        level = nearest(lowest, there)
        ground, before, window = there.copy(), 1, 3
        while window * cell <= self.widest + cell:
            opened = grey_opening(level, size=(window, window), mode="nearest")
            ground &= level - opened <= min(self.slope * (window - before) * cell + self.first, self.most)
            level, before, window = opened, window, 2 * window - 1
        return between(lowest, ground)


def nearest(values: np.ndarray, there: np.ndarray) -> np.ndarray:
    """(H, W) with the nearest value wherever there is none."""
    from scipy.ndimage import distance_transform_edt

    if there.all():
        return values
    rows, columns = distance_transform_edt(~there, return_distances=False, return_indices=True)
    return values[rows, columns]


def between(values: np.ndarray, there: np.ndarray) -> np.ndarray:
    """(H, W) with gaps bridged by the triangles between the pixels around them, and by the nearest one outside those.

    Linear interpolation over a Delaunay triangulation, of which only pixels beside a gap are corners: what lies behind
    them does not matter.

    Raises:
        ValueError: If there is no value at all.
    """
    from scipy.ndimage import binary_dilation
    from scipy.spatial import Delaunay, QhullError

    if not there.any():
        raise ValueError("there is no pixel to interpolate from")
    if there.all():
        return values.astype(np.float64)
    filled = nearest(values, there).astype(np.float64)
    rim = np.argwhere(there & binary_dilation(~there, np.ones((3, 3), bool)))
    try:
        triangles = rim[Delaunay(rim).simplices]
    except QhullError:  # fewer than three corners, or all on a line
        return filled
    heights = filled.copy()
    for some in np.array_split(triangles, -(-len(triangles) // TRIANGLES)):
        row, column, height = _drawn(some, filled)
        heights[row, column] = height
    return np.where(there, filled, heights)


def _drawn(corners: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, columns and heights of the pixels in triangles, row by row; in whole numbers, so that none is missed.

    Args:
        corners: (T, 3, 2) row and column.
        values: (H, W) heights at the corners.
    """
    (r0, c0), (r1, c1), (r2, c2) = (corners[:, i].T for i in range(3))
    det = (r1 - r0) * (c2 - c0) - (r2 - r0) * (c1 - c0)
    corners = np.where((det < 0)[:, None, None], corners[:, [0, 2, 1]], corners)[det != 0]
    first, last = corners[..., 0].min(1), corners[..., 0].max(1)
    at, step = _spread(last - first + 1)
    row = first[at] + step
    low, high = np.full(len(at), np.iinfo(np.int64).min), np.full(len(at), np.iinfo(np.int64).max)
    for i in range(3):  # inside is where a column + rest >= 0 for all three sides
        (r, c), (s, d) = (corners[at, j % 3].T for j in (i, i + 1))
        a, rest = s - r, c * (r - s) + (c - d) * (row - r)
        low = np.maximum(low, np.where(a > 0, -(rest // np.maximum(a, 1)), low))
        high = np.minimum(high, np.where(a < 0, rest // np.maximum(-a, 1), high))
    line, step = _spread(np.maximum(high - low + 1, 0))
    return row[line], low[line] + step, _planes(corners, values, at[line], row[line], low[line] + step)


def _planes(corners: np.ndarray, values: np.ndarray, at: np.ndarray, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """Height of the plane through the corners of triangle ``at``, at a row and column."""
    (r0, c0), (r1, c1), (r2, c2) = (corners[:, i].T for i in range(3))
    z0, z1, z2 = (values[corners[:, i, 0], corners[:, i, 1]] for i in range(3))
    det = (r1 - r0) * (c2 - c0) - (r2 - r0) * (c1 - c0)
    down = ((z1 - z0) * (c2 - c0) - (z2 - z0) * (c1 - c0)) / det
    right = ((r1 - r0) * (z2 - z0) - (r2 - r0) * (z1 - z0)) / det
    return np.asarray(z0[at] + down[at] * (row - r0[at]) + right[at] * (column - c0[at]))


def _spread(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each number as often as its count says, and 0, 1, 2, ... within each."""
    owner = np.repeat(np.arange(len(counts)), counts)
    return owner, np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
