"""Small patches of a class map, given to the neighbour with the longest common border."""

from __future__ import annotations

import heapq
from collections import Counter

import numpy as np


def merged(classes: np.ndarray, least: int, nodata: int = 255) -> np.ndarray:
    """A class map without patches of fewer than ``least`` pixels.

    A patch is what pixels of one class that share edges make up. The smallest patch is merged first, into the neighbour
    with the longest common border (then the larger, then the first one), until none is too small. Nodata is no
    neighbour: an island in it stays.

    Args:
        classes: (H, W) uint8.
        least: Pixels.
        nodata: No class; stays as it is.

    Returns:
        (H, W) uint8.
    """
    if least < 2:
        return classes
    labels, kinds = _patches(classes, nodata)
    sizes = np.bincount(labels.ravel(), minlength=len(kinds))
    if not ((sizes[1:] > 0) & (sizes[1:] < least)).any():
        return classes
    borders = _borders(labels)
    into = _merge(sizes.tolist(), borders, least)
    return np.asarray(kinds[into][labels])


def _patches(classes: np.ndarray, nodata: int) -> tuple[np.ndarray, np.ndarray]:
    """(H, W) int32 number of each pixel's patch, 0 for nodata, and the class of each number."""
    from scipy import ndimage

    labels = np.zeros(classes.shape, np.int32)
    kinds = [nodata]
    for number in np.unique(classes[classes != nodata]).tolist():
        mine = classes == number
        found, count = ndimage.label(mine)
        labels[mine] = found[mine] + len(kinds) - 1
        kinds += [number] * count
    return labels, np.array(kinds, np.uint8)


def _borders(labels: np.ndarray) -> dict[int, Counter[int]]:
    """Patch -> neighbour -> edges of pixels that they share; nodata has none."""
    keys, counts = [], []
    most = int(labels.max()) + 1
    for a, b in ((labels[:, :-1], labels[:, 1:]), (labels[:-1], labels[1:])):
        apart = (a != b) & (a > 0) & (b > 0)
        low, high = np.minimum(a[apart], b[apart]), np.maximum(a[apart], b[apart])
        found, number = np.unique(low.astype(np.int64) * most + high, return_counts=True)
        keys.append(found)
        counts.append(number)
    borders: dict[int, Counter[int]] = {}
    for key, length in zip(np.concatenate(keys).tolist(), np.concatenate(counts).tolist(), strict=True):
        one, other = divmod(key, most)
        borders.setdefault(one, Counter())[other] += length
        borders.setdefault(other, Counter())[one] += length
    return borders


def _merge(sizes: list[int], borders: dict[int, Counter[int]], least: int) -> np.ndarray:
    """(N,) which patch each one ends up in."""
    into = list(range(len(sizes)))
    waiting = [(size, number) for number, size in enumerate(sizes) if number and 0 < size < least]
    heapq.heapify(waiting)
    while waiting:
        size, number = heapq.heappop(waiting)
        if into[number] != number or sizes[number] != size or not borders.get(number):
            continue  # merged or grown meanwhile, or an island
        around = borders.pop(number)
        home = max(around, key=lambda other: (around[other], sizes[other], -other))
        into[number] = home
        sizes[home] += size
        for other, length in around.items():
            del borders[other][number]
            if other != home:
                borders[other][home] += length
                borders[home][other] += length
        if sizes[home] < least:
            heapq.heappush(waiting, (sizes[home], home))
    for number in range(len(into)):  # the end of each chain
        end = number
        while into[end] != end:
            end = into[end]
        while into[number] != end:
            into[number], number = end, into[number]
    return np.array(into)
