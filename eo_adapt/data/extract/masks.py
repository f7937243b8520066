"""Which pixels of an image are clear, told by the mask that belongs to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from .errors import BadImageError
from .grid import Block, Grid
from .raster import Raster, filled

# Sen2Cor scene classes: 0 no data, 1 saturated or defective, 2 dark, 3 cloud shadow, 4 vegetation, 5 bare, 6 water,
# 7 unclassified, 8 and 9 cloud of medium and high probability, 10 thin cirrus, 11 snow or ice
SCL_BAD = (0, 1, 3, 8, 9, 10, 11)
KINDS = {
    "none": "every pixel that is not nodata is clear",
    "scl": "Sen2Cor scene classes; mask_bad are not clear",
    "clm": "1 = cloud, 0 = clear, anything else = unknown (s2cloudless as Sentinel Hub's CLM band gives it)",
    "s2cloudless": "cloud probability in per cent; above cloud_max is cloud",
    "classi": "level 1C masks MSK_CLASSI_B00: opaque cloud or cirrus",
    "classes": "any raster of classes; mask_bad are not clear",
}


@dataclass(frozen=True)
class Mask:
    """How a mask's numbers are read.

    Attributes:
        kind: One of :data:`KINDS`.
        bad: Classes that are not clear, for ``scl`` and ``classes``.
        cloud_max: Highest cloud probability in per cent that still counts as clear, for ``s2cloudless``.
    """

    kind: str = "scl"
    bad: Sequence[int] = field(default=SCL_BAD)
    cloud_max: float = 40.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"mask={self.kind!r} is none of {sorted(KINDS)}")
        if not 0 <= self.cloud_max <= 100:
            raise ValueError(f"cloud_max is a probability in per cent, 0 to 100; got {self.cloud_max}")
        if self.kind == "classes" and not self.bad:
            raise ValueError("mask=classes needs mask_bad=[...], the classes that are not clear")

    def clear(self, raster: Raster, block: Block) -> np.ndarray:
        """(rows, columns) bool of the mask's own pixels.

        Raises:
            BadImageError: If probabilities are no per cent.
        """
        raw = raster.read(block)
        there = filled(raw, raster.empty)
        if self.kind in ("scl", "classes"):
            return there & ~np.isin(raw, np.asarray(list(self.bad)))
        if self.kind == "clm":
            return np.asarray(raw == 0)  # 0 is clear even where a file calls it nodata
        if self.kind == "classi":
            cirrus = raster.dataset.read(2, window=block.window)
            return np.asarray((raw == 0) & (cirrus == 0))
        there = filled(raw, tuple(x for x in raster.empty if x != 0))  # probability 0 is the clearest of all
        if there.any() and float(raw[there].max()) > 100:
            raise BadImageError(
                f"{raster.image.path} holds {raw[there].max()}; cloud probabilities are per cent, 0 to 100"
            )
        return there & (raw <= self.cloud_max)


def on_grid(mask: Mask, raster: Raster, grid: Grid, block: Block) -> np.ndarray:
    """(rows, columns) bool of a block of the image's grid.

    A coarser mask is repeated; of a finer one all pixels within an image pixel must be clear.

    Raises:
        BadImageError: If the mask does not lie on the same ground with a whole ratio of pixel sizes.
    """
    ratio = grid.ratio(raster.grid)
    if ratio is None:
        raise BadImageError(
            f"the mask {raster.image.path} ({raster.grid}) does not fit its image ({grid}): same CRS and ground, and "
            f"pixel "
            "sizes in a whole ratio, are needed; warp it first, or set reproject=nearest"
        )
    if ratio >= 1:
        k = int(ratio)
        fine = mask.clear(raster, Block(*(edge * k for edge in block)))
        rows, columns = block.shape
        return np.asarray(fine.reshape(rows, k, columns, k).all((1, 3))) if k > 1 else fine
    k = round(1 / ratio)
    coarse = Block(block.top // k, -(-block.bottom // k), block.left // k, -(-block.right // k))
    wide = mask.clear(raster, coarse).repeat(k, 0).repeat(k, 1)
    top, left = block.top - coarse.top * k, block.left - coarse.left * k
    return np.asarray(wide[top : top + block.shape[0], left : left + block.shape[1]])
