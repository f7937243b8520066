"""Parcels that are too near to one another, or the same, across splits and domains."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from ..data.parts import DomainParcels
from ..data.ragged import Ragged
from .profiles import Floats

FEWEST = 4  # valid values below which two series may be equal by chance
FIRST = 5  # pairs named


def between(places: Mapping[str, Floats]) -> dict[str, float]:
    """Smallest distance in metres between parcels (N, 2) of each pair of domains: ``"a-b"`` -> metres."""
    names = [name for name, xy in places.items() if len(xy) and np.isfinite(xy).all()]
    trees = {name: cKDTree(places[name]) for name in names}
    return {f"{a}-{b}": float(trees[a].query(places[b])[0].min()) for i, a in enumerate(names) for b in names[i + 1 :]}


def fingerprints(arrays: Sequence[Ragged], rows: np.ndarray) -> list[bytes]:
    """Hash of the valid days and values of each parcel (of a pixel set, its first pixel); b"" with too few values.

    Args:
        arrays: The sensors' arrays.
        rows: (N,) positions in the store.
    """
    found = []
    for row in rows.tolist():
        digest, size = hashlib.blake2b(digest_size=12), 0
        for ragged in arrays:
            dates, first = int(ragged.dates[row]), int(ragged.first_date[row])
            at = int(ragged.first_row[row])
            valid = ragged.valid[first : first + dates].numpy()
            values = ragged.values[at : at + dates].numpy()[valid] if ragged.counts[row] else np.zeros((0, 1))
            digest.update(ragged.days[first : first + dates].numpy()[valid].tobytes())
            digest.update(values.tobytes())
            size += values.size
        found.append(digest.digest() if size >= FEWEST else b"")
    return found


def duplicates(
    hashes: Mapping[str, Sequence[bytes]], parcels: Sequence[DomainParcels], ids: np.ndarray
) -> dict[str, Any]:
    """Identical series in different splits or domains.

    Args:
        hashes: Domain -> fingerprint of each of its parcels.
        parcels: The domains.
        ids: (store size,) parcel ids.

    Returns:
        ``domains`` and ``splits``: pairs of identical parcels across domains, and across splits of one domain;
        ``first``: some of them in words.
    """
    places: dict[bytes, list[tuple[str, str, str]]] = defaultdict(list)
    for d in parcels:
        for key, row, split in zip(hashes[d.domain.name], d.rows.tolist(), d.split.tolist(), strict=True):
            if key:
                places[key].append((d.domain.name, str(split), str(ids[row])))
    across = {"domains": 0, "splits": 0}
    first: list[str] = []
    for same in places.values():
        for i, a in enumerate(same):
            for b in same[i + 1 :]:
                kind = "domains" if a[0] != b[0] else "splits" if a[1] != b[1] else ""
                if kind:
                    across[kind] += 1
                    if len(first) < FIRST:
                        first.append(f"{a[2]} ({a[0]}, {a[1]}) = {b[2]} ({b[0]}, {b[1]})")
    return {**across, "first": first}
