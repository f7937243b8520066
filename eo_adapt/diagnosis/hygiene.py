"""What spoils a comparison before any method does: places too near, samples twice, classes under two names."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ..data import hcat


def digests(values: NDArray[np.float64], days: NDArray[np.int64], valid: NDArray[np.bool_]) -> list[str]:
    """A digest of each series: equal for the same values on the same valid dates, whatever the padding.

    Args:
        values: (N, T, C).
        days: (N, T).
        valid: (N, T).
    """
    found = []
    for x, day, keep in zip(np.asarray(values, np.float32), np.asarray(days, np.int64), valid, strict=True):
        found.append(hashlib.sha256(day[keep].tobytes() + np.ascontiguousarray(x[keep]).tobytes()).hexdigest()[:16])
    return found


def duplicates(samples: pd.DataFrame) -> pd.DataFrame:
    """Series that occur more than once, across splits or domains.

    Args:
        samples: Columns digest, parcel_id, domain, split; one row a parcel. A parcel that two domains share is no
            duplicate of itself within one of them.

    Returns:
        One row a repeated series: digest, count, domains, splits (joined names), ids (first five), across (whether it
        lies in several splits or domains, where it leaks; else it is merely repeated).
    """
    rows = []
    for digest, group in samples.groupby("digest", sort=False):
        if len(group) > 1:
            places = group[["domain", "split"]].drop_duplicates()
            rows.append(
                {"digest": digest, "count": len(group), "across": len(places) > 1}
                | {"domains": ", ".join(sorted(set(group["domain"]))), "splits": ", ".join(sorted(set(group["split"])))}
                | {"ids": ", ".join(map(str, group["parcel_id"].head(5)))}
            )
    return pd.DataFrame(rows, columns=["digest", "count", "across", "domains", "splits", "ids"])


def nearest(xy: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Smallest distance in metres between two sets of places (N, 2) and (M, 2); inf if one is empty or unknown."""
    one, two = (p[np.isfinite(p).all(1)] for p in (xy, other))
    if not len(one) or not len(two):
        return float("inf")
    return float(cKDTree(two).query(one)[0].min())


@dataclass(frozen=True)
class LabelSets:
    """Which classes the domains name.

    Attributes:
        shared: In both.
        source_private: The target does not have these.
        target_private: The source does not have these.
        coarsen: Deepest value of data.coarsen at which the target has no class of its own; "" = there is none, or none
            is needed.
    """

    shared: tuple[str, ...]
    source_private: tuple[str, ...]
    target_private: tuple[str, ...]
    coarsen: str = ""


def label_sets(source: Sequence[str], target: Sequence[str], codes: Mapping[str, str] | None = None) -> LabelSets:
    """Compare class names, and look for an HCAT depth at which the target's are all known.

    Args:
        source: Class names of the sources.
        target: Class names of the targets.
        codes: Class name -> HCAT code, where there are codes.
    """
    one, two = set(source) - {""}, set(target) - {""}
    found = LabelSets(tuple(sorted(one & two)), tuple(sorted(one - two)), tuple(sorted(two - one)))
    if not found.target_private or not codes or any(not codes.get(name) for name in one | two):
        return found
    for depth in (5, 4, 3, 2, 1):
        mine, theirs = (set(hcat.coarsen(sorted(codes[n] for n in names), depth)) for names in (one, two))
        if theirs <= mine:
            return LabelSets(found.shared, found.source_private, found.target_private, str(depth))
    return found
