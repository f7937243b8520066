"""Three parcels over one tile of three dates, and how stores of them are compared."""

from __future__ import annotations

import filecmp
from pathlib import Path

import numpy as np
from exactextract import exact_extract
from exactextract.raster import NumPyRasterSource
from small_tiles import boxes, small_grid, write_dates

GRID = small_grid()
FRAME = boxes((3, 7, 104, 96), (210, 222, 293, 311), (400, 100, 590, 490))


def same(one: Path, other: Path) -> bool:
    """Whether two stores are the same byte for byte."""
    files = sorted(p.relative_to(one) for p in one.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(other) for p in other.rglob("*") if p.is_file())
    match, wrong, errors = filecmp.cmpfiles(
        one, other, [str(f) for f in files if f.name != "extraction.json"], shallow=False
    )
    return not wrong and not errors and bool(match)


def three_dates(root: Path, rng: np.random.Generator, **more: np.ndarray) -> dict[str, np.ndarray]:
    images = {f"A_202105{day}_B04": rng.integers(1, 6000, (50, 60)).astype(np.uint16) for day in ("01", "11", "21")}
    write_dates(root, FRAME, {**images, **more})
    return images


def exact(image: np.ndarray, *statistics: str) -> np.ndarray:
    raster = NumPyRasterSource(image, *GRID.bounds, srs_wkt=FRAME.crs.to_wkt())
    return exact_extract(raster, FRAME, list(statistics), output="pandas").to_numpy(float)
