"""Pixel grids of images, and the blocks in which they are read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from affine import Affine
    from rasterio.windows import Window

ROWS, COLUMNS = 1024, 16384  # of a block: whole rows of JP2 and COG tiles, bounded whatever the size of the scene


class Block(NamedTuple):
    """Pixels [top, bottom) x [left, right) of a grid."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.bottom - self.top, self.right - self.left

    @property
    def window(self) -> Window:
        """The same for rasterio."""
        from rasterio.windows import Window

        return Window(self.left, self.top, self.right - self.left, self.bottom - self.top)


@dataclass(frozen=True)
class Grid:
    """A north-up pixel grid.

    Attributes:
        crs: EPSG code or WKT.
        transform: The six numbers of the affine transform, (pixel width, 0, left, 0, -pixel height, top).
        width: Columns.
        height: Rows.
    """

    crs: str
    transform: tuple[float, ...]
    width: int
    height: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "transform", tuple(float(x) for x in self.transform)[:6])

    @classmethod
    def of(cls, dataset: Any) -> Grid:
        """Grid of an open rasterio dataset."""
        return cls(dataset.crs.to_string(), tuple(dataset.transform)[:6], dataset.width, dataset.height)

    @property
    def affine(self) -> Affine:
        """The transform as rasterio takes it."""
        from affine import Affine

        return Affine(*self.transform)

    @property
    def resolution(self) -> tuple[float, float]:
        """Width and height of a pixel, in units of the CRS."""
        return self.transform[0], -self.transform[4]

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Left, bottom, right, top."""
        left, top = self.transform[2], self.transform[5]
        return left, top + self.height * self.transform[4], left + self.width * self.transform[0], top

    @property
    def key(self) -> str:
        """Hash of what the grid is."""
        text = json.dumps([self.crs, self.transform, self.width, self.height])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def blocks(self) -> Iterator[Block]:
        """All blocks, row-major."""
        for top in range(0, self.height, ROWS):
            for left in range(0, self.width, COLUMNS):
                yield Block(top, min(top + ROWS, self.height), left, min(left + COLUMNS, self.width))

    def ratio(self, other: Grid) -> float | None:
        """Pixels of ``other`` along a pixel of this grid, if both cover the same ground exactly; otherwise None.

        2.0 = the other is twice as fine, 0.5 = half as fine.
        """
        across, down = other.width / self.width, other.height / self.height
        whole = max(across, 1 / across)
        near = max(abs(a - b) for a, b in zip(self.bounds, other.bounds, strict=True)) <= 0.01 * min(self.resolution)
        same = self.crs == other.crs and near and across == down and whole == round(whole)
        return across if same else None

    def __str__(self) -> str:
        left, _, _, top = self.bounds
        name = self.crs if len(self.crs) < 20 else "a CRS of its own"
        return f"{name} {self.width} x {self.height} pixels of {self.resolution[0]:g} at ({left:g}, {top:g})"
