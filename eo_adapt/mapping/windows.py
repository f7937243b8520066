"""Where windows lie: on one grid of the whole scene, so that no window depends on how the work is divided."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise


@dataclass(frozen=True)
class Windows:
    """Overlapping square windows over a scene, in rows from top to bottom.

    The last window of an axis is moved back to end where the scene ends; of a scene smaller than a window there is one,
    which reaches beyond.

    Attributes:
        height: Rows of the scene, pixels.
        width: Columns of the scene, pixels.
        tile: Side of a window, pixels.
        overlap: Pixels that neighbours share at least, 0 <= overlap < tile.
        unit: Windows start at multiples of so many pixels, so that coarser pixels of other sensors are not cut through;
            the last ones may then reach beyond the scene by less than that.

    Raises:
        ValueError: If the numbers do not fit together.
    """

    height: int
    width: int
    tile: int
    overlap: int
    unit: int = 1

    def __post_init__(self) -> None:
        if min(self.height, self.width, self.tile, self.unit) < 1:
            raise ValueError(f"a scene and its windows have at least one pixel; got {self}")
        if not 0 <= self.overlap <= self.tile - self.unit:
            raise ValueError(
                f"overlap={self.overlap} must be at least 0 and at most tile - {self.unit} = {self.tile - self.unit} "
                "pixels; set overlap= or tile="
            )

    @cached_property
    def rows(self) -> tuple[int, ...]:
        """First row of each row of windows, ascending."""
        return self._starts(self.height)

    @cached_property
    def columns(self) -> tuple[int, ...]:
        """First column of the windows of a row, ascending."""
        return self._starts(self.width)

    def _starts(self, length: int) -> tuple[int, ...]:
        if length <= self.tile:
            return (0,)
        step = (self.tile - self.overlap) // self.unit * self.unit
        last = -(-(length - self.tile) // self.unit) * self.unit
        return (*range(0, last, step), last)

    @property
    def bands(self) -> int:
        """How many bands of rows there are: one ends where the next row of windows begins."""
        return len(self.rows)

    def band(self, number: int) -> tuple[int, int]:
        """First and last row (not included) of a band: final once row ``number`` of windows is in."""
        return self.rows[number], self.rows[number + 1] if number + 1 < len(self.rows) else self.height

    def reaching(self, band: int) -> int:
        """Number of the first row of windows that reaches into a band."""
        return bisect_right(self.rows, self.rows[band] - self.tile)

    def groups(self, most: int) -> list[tuple[int, ...]]:
        """The columns of a row in batches of up to ``most``, of nearly equal size; always the same batches."""
        count = -(-len(self.columns) // most)
        size, more = divmod(len(self.columns), count)
        ends = [size * i + min(i, more) for i in range(count + 1)]
        return [self.columns[a:b] for a, b in pairwise(ends)]
