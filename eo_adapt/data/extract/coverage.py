"""How much of each pixel each parcel covers: a sparse matrix a grid, computed once, kept on disk, read by blocks.

Weights are exactextract's fractions of pixels (Baston, exactextract, https://github.com/isciences/exactextract). A
row is a parcel, a column a pixel; sums over parcels of any image on that grid are then products with the matrix. It
is cut into the blocks in which images are read, so that neither images nor matrix must be in memory as a whole.

    weights.npy  (E,)   float32   fraction of the pixel, 0..1
    columns.npy  (E,)   int32     which of its block's covered pixels
    indptr.npy            int64   where each of a block's parcels begins, from 0 in each block, with its end
    rows.npy     (Q,)   int32     the parcels of each block, ascending
    pixels.npy   (P,)   int32     the covered pixels of each block, ascending, row-major within the block
    blocks.npy   (B, 3) int64     first entry, row and pixel of each block with a parcel; a last line with the ends
    windows.npy  (B, 4) int64     where the blocks lie
    totals.npy   (N,)   float64   sum of weights of each parcel, in pixels
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .errors import cannot_write, missing_extra
from .grid import COLUMNS, ROWS, Block, Grid

if TYPE_CHECKING:
    from scipy.sparse import csr_array

FILES = ("weights", "columns", "indptr", "rows", "pixels", "blocks", "windows", "totals")
AT_ONCE = 2000  # parcels given to exactextract at a time


@dataclass(frozen=True)
class Part:
    """The matrix of one block.

    Attributes:
        block: Where it lies.
        parcels: (q,) rows of the whole matrix.
        pixels: (p,) covered pixels, row-major within the block.
        matrix: (q, p) float64 CSR.
        first: Number of its first entry in the whole matrix.
    """

    block: Block
    parcels: np.ndarray
    pixels: np.ndarray
    matrix: csr_array
    first: int


class Coverage:
    """A matrix on disk, opened for reading.

    Args:
        folder: Where :func:`build` put it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in FILES}
        self.totals = np.asarray(self._arrays["totals"])

    def __len__(self) -> int:
        """Number of parcels."""
        return len(self.totals)

    @property
    def entries(self) -> int:
        """Number of weights."""
        return len(self._arrays["weights"])

    def parts(self) -> Iterator[Part]:
        """The matrix block by block; blocks without a parcel are left out."""
        from scipy.sparse import csr_array

        blocks, indptr_at = self._arrays["blocks"], 0
        for number, window in enumerate(self._arrays["windows"]):
            (e0, r0, p0), (e1, r1, p1) = blocks[number], blocks[number + 1]
            indptr = self._arrays["indptr"][indptr_at : indptr_at + r1 - r0 + 1].astype(np.int32)
            indptr_at += r1 - r0 + 1
            weights = self._arrays["weights"][e0:e1].astype(np.float64)
            matrix = csr_array((weights, self._arrays["columns"][e0:e1], indptr), shape=(r1 - r0, p1 - p0))
            parcels, pixels = np.asarray(self._arrays["rows"][r0:r1]), np.asarray(self._arrays["pixels"][p0:p1])
            yield Part(Block(*(int(x) for x in window)), parcels, pixels, matrix, int(e0))

    def entry_parcels(self) -> np.ndarray:
        """(E,) int32, the parcel of each weight, in the order of the entries."""
        counts, at = [], 0
        blocks, indptr = self._arrays["blocks"], np.asarray(self._arrays["indptr"])
        for number in range(len(blocks) - 1):
            many = int(blocks[number + 1, 1] - blocks[number, 1])
            counts.append(np.diff(indptr[at : at + many + 1]))
            at += many + 1
        repeats = np.concatenate(counts) if counts else np.zeros(0, np.int64)
        return np.repeat(np.asarray(self._arrays["rows"]), repeats)

    @property
    def weights(self) -> np.ndarray:
        """(E,) float32."""
        return np.asarray(self._arrays["weights"])


def key(grid: Grid, shapes: Sequence[bytes]) -> str:
    """Hash of a grid and the parcels on it (WKB in its CRS)."""
    found = hashlib.sha256(f"{grid.key} {ROWS} {COLUMNS}".encode())
    for wkb in shapes:
        found.update(len(wkb).to_bytes(8, "little") + wkb)
    return found.hexdigest()[:24]


def build(grid: Grid, shapes: Sequence[bytes], folder: Path) -> Path:
    """Compute the matrix of some parcels on a grid, unless it is there.

    Args:
        grid: The pixels.
        shapes: WKB of each parcel, in the grid's CRS.
        folder: Folder of all matrices; this one is called by its key.

    Returns:
        The matrix's folder.

    Raises:
        FatalError: If it cannot be written.
    """
    out = folder / key(grid, shapes)
    if out.is_dir():
        return out
    arrays = _matrix(grid, shapes)
    temporary = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".coverage.", dir=folder))
        for name, array in arrays.items():
            np.save(temporary / f"{name}.npy", array)
        if not out.is_dir():  # another worker may have been faster
            os.replace(temporary, out)
    except OSError as error:
        if out.is_dir():
            return out
        raise cannot_write(out, error) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
    return out


def _matrix(grid: Grid, shapes: Sequence[bytes]) -> dict[str, np.ndarray]:
    """The arrays of a matrix. Of the long ones a copy at a time is held: a tile may have 20 million entries."""
    found: dict[str, list[np.ndarray]] = {"parcels": [], "numbers": [], "inside": [], "weights": []}
    for piece in _fractions(grid, shapes):
        for name, array in zip(found, piece, strict=True):
            found[name].append(array)
    entries = {name: np.concatenate(arrays) for name in list(found) if (arrays := found.pop(name))}
    totals = np.bincount(entries["parcels"], entries["weights"], minlength=len(shapes)) if len(shapes) else np.zeros(0)
    order = np.argsort(entries["numbers"], kind="stable")  # within a block: by parcel, then by pixel
    for name in entries:
        entries[name] = entries[name][order]
    del order
    known = list(grid.blocks())
    used, first = np.unique(entries.pop("numbers"), return_index=True)
    ends = [*first.tolist(), len(entries["weights"])]
    made: dict[str, list[np.ndarray]] = {name: [] for name in ("columns", "indptr", "rows", "pixels")}
    table = [(0, 0, 0)]
    for start, stop in pairwise(ends):
        pixels, columns = np.unique(entries["inside"][start:stop], return_inverse=True)
        rows, begin = np.unique(entries["parcels"][start:stop], return_index=True)
        for name, array in zip(made, (columns, np.append(begin, stop - start), rows, pixels), strict=True):
            made[name].append(array.astype(np.int64 if name == "indptr" else np.int32))
        table.append((stop, table[-1][1] + len(rows), table[-1][2] + len(pixels)))
    empty = np.zeros(0, np.int32)
    return {
        **{name: np.concatenate(arrays) if arrays else empty for name, arrays in made.items()},
        "weights": entries["weights"],
        "blocks": np.array(table, np.int64),
        "windows": np.array([known[number] for number in used], np.int64).reshape(-1, 4),
        "totals": totals,
    }


def _fractions(grid: Grid, shapes: Sequence[bytes]) -> Iterator[tuple[np.ndarray, ...]]:
    """(parcel, block, pixel within the block, weight) of all pairs that touch, by parcel, then by pixel."""
    try:
        from exactextract import exact_extract
        from exactextract.raster import NumPyRasterSource
    except ImportError as error:
        raise missing_extra("exactextract", "coverage weights") from error
    import geopandas
    import shapely

    plain = np.broadcast_to(np.zeros((), np.uint8), (grid.height, grid.width))  # takes no memory
    frame = geopandas.GeoDataFrame(geometry=shapely.from_wkb(list(shapes)), crs=grid.crs)
    raster = NumPyRasterSource(plain, *grid.bounds, srs_wkt=frame.crs.to_wkt())
    across_blocks = -(-grid.width // COLUMNS)
    yield tuple(np.zeros(0, kind) for kind in (np.int32, np.int32, np.int32, np.float32))  # if there is no parcel
    for start in range(0, len(frame), AT_ONCE):
        found = exact_extract(raster, frame.iloc[start : start + AT_ONCE], ["cell_id", "coverage"], output="pandas")
        many = found["cell_id"].map(len).to_numpy()
        parcels = np.repeat(np.arange(start, start + len(found), dtype=np.int32), many)
        down, across = np.divmod(np.concatenate(found["cell_id"].to_list()).astype(np.int64), grid.width)
        weights = np.concatenate(found["coverage"].to_list()).astype(np.float32)
        left = across // COLUMNS * COLUMNS
        wide = np.minimum(COLUMNS, grid.width - left)
        numbers = (down // ROWS) * across_blocks + across // COLUMNS
        inside = (down % ROWS) * wide + across - left
        there = weights > 0
        yield parcels[there], numbers[there].astype(np.int32), inside[there].astype(np.int32), weights[there]
