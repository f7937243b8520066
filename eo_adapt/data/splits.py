"""Spatial block splits with a buffer, and the distances that they really keep.

A random split of parcels puts training parcels next to test parcels: fields of one valley share soil, weather, farmer
and image dates, so the score says how well a model interpolates. Blocks alone leave neighbours on both sides of every
border; the buffer takes those out.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

BUFFER = "buffer"
_USUAL = ("train", "val", "test")
Floats = NDArray[np.float64]


def split_blocks(
    x: ArrayLike, y: ArrayLike, *, block_size: float, buffer: float, ratios: Mapping[str, float], seed: int
) -> NDArray[np.str_]:
    """Divide parcels by square blocks and leave out those too near to a later split.

    The grid has a seeded random origin. Blocks are shuffled by the seed and handed one by one to the split that lacks
    most parcels. Then, from the last split to the first, parcels within ``buffer`` of a parcel of a later-listed split
    become ``"buffer"``: with train, val, test listed in this order test loses none, val loses to test, train to both.
    Parcels that are out already push nobody else out. The result depends on where parcels are, not on row order.

    Args:
        x: (N,) eastings in projected metres (degrees give nonsense).
        y: (N,) northings in projected metres.
        block_size: Edge of a block in metres, > 0.
        buffer: Distance in metres, >= 0; splits end up further apart than this.
        ratios: Split name -> share of parcels, > 0, in the order in which parcels are given up. Divided by their sum.
        seed: Seed of origin and shuffle.

    Returns:
        (N,) split names and ``"buffer"``.

    Raises:
        ValueError: Coordinates not finite or of different lengths, settings out of range, or a split left empty.
    """
    east, north = _coordinates(x, y)
    _check_settings(block_size, buffer, ratios)
    rng = np.random.default_rng(seed)
    block = _blocks(east, north, block_size, rng.uniform(0.0, block_size, size=2))
    sizes = np.bincount(block)
    owner = hand_out(sizes, np.array(list(ratios.values()), dtype=float), rng.permutation(len(sizes)))
    number = owner[block]
    points = np.column_stack([east, north])
    for early in reversed(range(len(ratios) - 1)):
        mine, later = np.flatnonzero(number == early), number > early
        number[mine[nearest(points[mine], points[later], buffer) <= buffer]] = -1
    split = np.array([*ratios, BUFFER])[number]
    if empty := [name for name in ratios if not (split == name).any()]:
        before = {name: int((owner == i).sum()) for i, name in enumerate(ratios)}
        raise ValueError(
            f"no parcel is left in {empty} of {list(ratios)}: {len(east)} parcels over an extent of {np.ptp(east):.0f} "
            f"x {np.ptp(north):.0f} m make {len(sizes)} blocks of block_size={block_size:g} m ({before} blocks a "
            f"split), of which buffer={buffer:g} m took {int((split == BUFFER).sum())} parcels. Lower block_size (for "
            "more blocks) or buffer, raise the share of the empty split, take another seed, or select more parcels; "
            "coordinates must be projected metres"
        )
    return split


def smallest_distance(x: ArrayLike, y: ArrayLike, split: ArrayLike, a: str, b: str) -> float:
    """Smallest distance in metres between a parcel of split ``a`` and one of split ``b``; inf if one of them is empty.

    Args:
        x: (N,) eastings in projected metres.
        y: (N,) northings in projected metres.
        split: (N,) split names.
        a: Name of one split.
        b: Name of the other.

    Raises:
        ValueError: Coordinates not finite, lengths that differ, or ``a`` equal to ``b``.
    """
    east, north = _coordinates(x, y)
    names: NDArray[np.str_] = np.asarray(split)
    if names.shape != east.shape:
        raise ValueError(f"split needs one name a parcel, {east.shape}; got {names.shape}")
    if a == b:
        raise ValueError(f"smallest_distance compares two splits; got {a!r} twice")
    points = np.column_stack([east, north])
    return float(nearest(points[names == a], points[names == b]).min(initial=np.inf))


def distance_report(x: ArrayLike, y: ArrayLike, split: ArrayLike) -> dict[str, float]:
    """:func:`smallest_distance` of every pair of splits that occur, buffer aside: ``{"train-test": metres, ...}``.

    Pairs are named in the order train, val, test, then alphabetically.
    """
    found = set(np.asarray(split).tolist()) - {BUFFER}
    names = [name for name in _USUAL if name in found] + sorted(found.difference(_USUAL))
    return {f"{a}-{b}": smallest_distance(x, y, split, a, b) for a, b in combinations(names, 2)}


def _blocks(x: Floats, y: Floats, size: float, origin: Floats) -> NDArray[np.int64]:
    """Block number of every parcel, 0 to the number of occupied blocks - 1, ordered by place."""
    columns = np.unique(np.floor((x + origin[0]) / size), return_inverse=True)[1]
    rows = np.unique(np.floor((y + origin[1]) / size), return_inverse=True)[1]
    return np.unique(columns.astype(np.int64) * (rows.max() + 1) + rows, return_inverse=True)[1].astype(np.int64)


def hand_out(sizes: NDArray[np.int64], ratios: Floats, order: NDArray[np.int64]) -> NDArray[np.int64]:
    """Split number of every block: in ``order``, to the split that misses most parcels (the first listed, if tied)."""
    missing = ratios / ratios.sum() * sizes.sum()
    owner = np.empty(len(sizes), dtype=np.int64)
    for block in order:
        owner[block] = taker = int(missing.argmax())
        missing[taker] -= sizes[block]
    return owner


def nearest(points: Floats, others: Floats, limit: float = np.inf) -> Floats:
    """(N,) distance to the nearest of ``others``; inf beyond ``limit`` or where there is none."""
    if not len(points) or not len(others):
        return np.full(len(points), np.inf)
    bound = limit * (1 + 1e-9) + 1e-9  # the tree's bound is exclusive
    return np.asarray(cKDTree(others).query(points, distance_upper_bound=bound)[0], dtype=np.float64)


def _coordinates(x: ArrayLike, y: ArrayLike) -> tuple[Floats, Floats]:
    east, north = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if east.ndim != 1 or east.shape != north.shape or not len(east):
        raise ValueError(f"x and y are (N,) arrays of one length N >= 1; got {east.shape} and {north.shape}")
    if bad := int((~(np.isfinite(east) & np.isfinite(north))).sum()):
        raise ValueError(f"{bad} of {len(east)} parcels have coordinates that are NaN or infinite; drop or locate them")
    return east, north


def _check_settings(block_size: float, buffer: float, ratios: Mapping[str, float]) -> None:
    if not 0 < block_size < np.inf or not 0 <= buffer < np.inf:
        raise ValueError(f"block_size is > 0 m and buffer >= 0 m; got block_size={block_size}, buffer={buffer}")
    if not ratios or BUFFER in ratios or not all(0 < share < np.inf for share in ratios.values()):
        raise ValueError(f"ratios are positive shares of named splits, none called {BUFFER!r}; got {dict(ratios)}")
