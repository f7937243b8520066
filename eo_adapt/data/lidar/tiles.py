"""A file of points, made ready once: bands and labels as GeoTIFFs, points sorted by window, kept in a cache."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path

import numpy as np

from ...paths import cache_dir
from .cloud import NOISE, Cloud, read
from .frame import Frame
from .ground import GroundFilter
from .rasterise import BANDS, Gridded, Ground, rasterise
from .write import write_bands, write_raster

POINT_BANDS = ("x", "y", "z", "height", "intensity", "return_ratio")
PARTS = ("bands.tif", "labels.tif", "points.npy", "windows.npy")


@dataclass(frozen=True)
class Making:
    """What is made of a file of points.

    Attributes:
        pixel: Side of a pixel, metres.
        window: Side of a window, pixels; what is over at the lower and right edge of a file is left out.
        bands: Which of :data:`.rasterise.BANDS`.
        ground: See :func:`.rasterise.rasterise`.
        ground_filter: Options of the filter.
        fill: Metres; see there.
        drop: Classes of points that are left out.
        classes: Class name -> ASPRS classes. A pixel is labelled where one of these has more than ``share`` of all its
            points.
        share: See ``classes``.
        most: Points a pixel in the table of points, drawn at random if there are more; 0 = no table.
    """

    pixel: float = 1.0
    window: int = 32
    bands: tuple[str, ...] = BANDS
    ground: Ground = "filter"
    ground_filter: GroundFilter = field(default_factory=GroundFilter)
    fill: float = 0.0
    drop: tuple[int, ...] = NOISE
    classes: Mapping[str, tuple[int, ...]] = field(
        default_factory=lambda: {"ground": (2,), "vegetation": (3, 4, 5), "building": (6,)}
    )
    share: float = 0.5
    most: int = 16

    def __post_init__(self) -> None:
        if not self.pixel > 0 or self.window < 1 or self.most < 0 or not 0.5 <= self.share < 1:
            raise ValueError(
                "a cloud's reader needs pixel > 0 (metres), window >= 1 (pixels), most >= 0 (points a pixel, 0 = no "
                f"points) and 0.5 <= share < 1; got {self.pixel}, {self.window}, {self.most}, {self.share}"
            )
        codes = [code for some in self.classes.values() for code in some]
        if len(set(codes)) < len(codes) or set(codes) & set(self.drop) or not all(0 <= code < 256 for code in codes):
            raise ValueError(
                f"each class of points (0 to 255) belongs to one class of pixels, and none that is dropped to any; got "
                f"{dict(self.classes)} and drop={list(self.drop)}"
            )


def made(cloud: Cloud, crs: str, making: Making, folder: Path | None = None) -> Path:
    """The folder of what was made of a file, made on first use.

    Args:
        cloud: The file.
        crs: Projected CRS, in metres, of the grid.
        making: What to make.
        folder: Of all that is made; None = the cache.

    Returns:
        A folder with ``bands.tif``, ``labels.tif`` (uint8; 0 = none, k = the k-th class), and if points are wanted
        ``points.npy`` (N, 6: :data:`POINT_BANDS`) with ``windows.npy`` (first row of each window, row by row, and N).
        x and y are pixels from the window's left and upper edge, z metres above the mean ground of the window, height
        metres above the ground of the pixel.

    Raises:
        TileError: If the file cannot be read.
        ValueError: If it does not say where it lies, or no point falls on the grid.
    """
    known: dict[str, object] = {
        "code": _code(),
        "file": str(cloud.path.resolve()),
        "cloud": [cloud.crs, cloud.unit],
        "crs": crs,
    }
    state = cloud.path.stat() if cloud.path.is_file() else None
    known |= {"size": state and state.st_size, "time": state and state.st_mtime_ns, "making": asdict(making)}
    key = hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:16]
    out = (folder or cache_dir() / "lidar") / f"{cloud.path.stem}-{key}"
    if all((out / part).is_file() for part in PARTS[: 4 if making.most else 2]):
        return out
    frame = Frame.around(cloud.about().bounds_in(crs), crs, making.pixel)
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        _make(cloud, frame, making, temporary)
        temporary.chmod(0o755)
        shutil.rmtree(out, ignore_errors=True)
        if not out.exists():  # else another run was faster
            os.replace(temporary, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return out


def _make(cloud: Cloud, frame: Frame, making: Making, out: Path) -> None:
    bands = tuple(dict.fromkeys((*making.bands, *(("dtm",) if making.most else ()))))
    gridded = rasterise([cloud], frame, bands, making.ground, making.ground_filter, making.classes, making.fill)
    chosen = [bands.index(name) for name in making.bands]
    wanted = Gridded(frame, making.bands, gridded.values[chosen], gridded.seen, gridded.votes, gridded.filtered)
    write_bands(out / "bands.tif", wanted)
    write_raster(out / "labels.tif", labels(gridded, making.share)[None], frame, None, ("class",))
    if making.most:
        table, first = _points(cloud, frame, gridded.band("dtm"), making)
        np.save(out / "windows.npy", first)
        np.save(out / "points.npy", table)


def labels(gridded: Gridded, share: float) -> np.ndarray:
    """(H, W) uint8: k where the k-th group of classes, from 1, has more than ``share`` of a pixel's points, else 0."""
    total = np.rint(gridded.band("density") * gridded.frame.pixel_area)
    most = gridded.votes.argmax(0)
    ahead = gridded.votes.max(0) > share * total
    return np.where(ahead, most + 1, 0).astype(np.uint8)


def _points(cloud: Cloud, frame: Frame, dtm: np.ndarray, making: Making) -> tuple[np.ndarray, np.ndarray]:
    """All points that lie in whole windows, by window, thinned; and the first row of each window.

    They are held in memory, 28 bytes a point.
    """
    size, down, right = making.window, frame.height // making.window, frame.width // making.window
    level = dtm[: down * size, : right * size].reshape(down, size, right, size).mean((1, 3))
    tables, windows = [], []
    for points in read(cloud, frame):
        row, column = points.row.astype(np.int64), points.column.astype(np.int64)
        inside = (row < down * size) & (column < right * size)
        row, column = row[inside], column[inside]
        x, y, z = points.column[inside], points.row[inside], points.z[inside]
        below = z - level[row // size, column // size], z - dtm[row, column]
        more = points.intensity[inside], points.ratio[inside]
        place = (_within(v, i, size) for v, i in ((x, column), (y, row)))
        tables.append(np.column_stack([*place, *below, *more]).astype(np.float32))
        windows.append(row // size * right + column // size)
    table, window = np.concatenate(tables), np.concatenate(windows)
    keep = _thinned(window, table, size, making.most)
    order = keep[np.argsort(window[keep], kind="stable")]
    return table[order], np.searchsorted(window[order], np.arange(down * right + 1))


def _within(place: np.ndarray, pixel: np.ndarray, size: int) -> np.ndarray:
    """Place in its window as float32 that stays in the pixel that it was in."""
    corner = pixel // size * size
    last = np.nextafter((pixel - corner + 1).astype(np.float32), np.float32(0))
    return np.minimum((place - corner).astype(np.float32), last)


def _thinned(window: np.ndarray, table: np.ndarray, size: int, most: int) -> np.ndarray:
    """Rows, in order, of up to ``most`` points a pixel, drawn by a fixed seed."""
    pixel = (window * size + table[:, 1].astype(np.int64)) * size + table[:, 0].astype(np.int64)
    order = np.random.default_rng(0).permutation(len(pixel))
    order = order[np.argsort(pixel[order], kind="stable")]
    there = pixel[order]
    first = np.flatnonzero(np.diff(there, prepend=-1))
    rank = np.arange(len(there)) - np.repeat(first, np.diff(np.append(first, len(there))))
    return np.sort(order[rank < most])


@cache
def _code() -> str:
    """Hash of the code that makes them: what other code made is made anew."""
    return hashlib.sha256(b"".join(p.read_bytes() for p in sorted(Path(__file__).parent.glob("*.py")))).hexdigest()
