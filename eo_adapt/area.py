"""Areas of the classes with confidence intervals, from a map and a test sample: stratified estimation."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Z = 1.96  # standard errors of a 95 % interval, as rounded in the source
EQUAL_AREA = "EPSG:6933"  # cylindrical, one projection for all domains between 86 degrees north and south
NOTE = (
    "The estimator takes test parcels for a probability sample of equal units within each mapped class. Those of a "
    "spatial block split are a cluster sample: the interval is a lower bound of the uncertainty (docs/uncertainty.md)."
)


@dataclass(frozen=True)
class AreaEstimate:
    """Areas and area-adjusted accuracies of K classes; nan = cannot be estimated.

    Attributes:
        area: (K,) area of each reference class, in the unit of the mapped areas.
        area_se: (K,) its standard error.
        lower: (K,) lower end of the 95 % interval, at least 0.
        upper: (K,) upper end, at most the total.
        overall: Overall accuracy.
        overall_se: Its standard error.
        users: (K,) user's accuracy: share of the area mapped as a class that is it.
        users_se: (K,) its standard error.
        producers: (K,) producer's accuracy: share of the area of a class that is mapped as it.
        producers_se: (K,) its standard error.
    """

    area: np.ndarray
    area_se: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    overall: float
    overall_se: float
    users: np.ndarray
    users_se: np.ndarray
    producers: np.ndarray
    producers_se: np.ndarray


def estimate_areas(matrix: np.ndarray, mapped: np.ndarray) -> AreaEstimate:
    """Stratified estimator of class areas and accuracies; the strata are the mapped classes.

    Source: Olofsson et al. 2014 (Remote Sensing of Environment 148, 42-57), equations 4 to 7, 9 and 10. Deviation:
    intervals are cut to [0, total].

    A stratum with mapped area but without samples says nothing of what is in it: all areas are nan. With one sample the
    areas are there, but no variance: standard errors and intervals that it enters are nan. Strata without area count
    for nothing. :func:`area_report` takes thin strata out beforehand.

    Args:
        matrix: (K, K) sample counts, row = mapped class, column = reference class.
        mapped: (K,) mapped area of each class, any unit.

    Raises:
        ValueError: If shapes differ, a number is negative or not finite, or nothing is mapped.
    """
    n, area = _checked(matrix, mapped)
    total = float(area.sum())
    weight, size = (area / total)[:, None], n.sum(1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = n / size
        spread = np.where(size > 1, share * (1 - share) / (size - 1), math.nan)
        p = np.where(weight > 0, weight * share, 0.0)
        part = np.where(weight > 0, weight**2 * spread, 0.0)  # of each cell in a column's variance
        column = p.sum(0)
        producers = p.diagonal() / column
        others = part.sum(0) - part.diagonal()
        producers_se = np.sqrt((1 - producers) ** 2 * part.diagonal() + producers**2 * others) / column
    found, error = total * column, total * np.sqrt(part.sum(0))
    return AreaEstimate(
        area=found,
        area_se=error,
        lower=np.maximum(found - Z * error, 0),
        upper=np.minimum(found + Z * error, total),
        overall=float(p.trace()),
        overall_se=math.sqrt(part.trace()),
        users=share.diagonal(),
        users_se=np.sqrt(spread.diagonal()),
        producers=producers,
        producers_se=producers_se,
    )


def area_report(names: Sequence[str], matrix: np.ndarray, mapped: np.ndarray, unit: str) -> dict[str, Any]:
    """What the report says of one domain's areas.

    Mapped classes with fewer than two test parcels are taken out of the estimation, because one of them would leave all
    areas without an interval. Their mapped area is counted as mapped, and every interval reaches over the worst case:
    none or all of it is that class. Accuracies are those of the other mapped classes. If no class has two test parcels,
    nothing is estimated.

    Args:
        names: K class names.
        matrix: (K, K) counts of test parcels, row = mapped class, column = reference class.
        mapped: (K,) mapped area of each class over all parcels.
        unit: ``ha`` | ``parcels``; numbers are named by it, ``area_ha`` or ``area_parcels``.

    Returns:
        ``area`` (a dict a class: mapped, area, lower, upper, se; the standard error without those classes) and
        ``area_accuracy`` (accuracies and standard errors; ``too_few``, the names of those classes; ``sampled_share``,
        the share of the mapped area that is not theirs; a note).
    """
    thin = (mapped > 0) & (np.asarray(matrix).sum(1) < 2)
    unknown = np.where(thin, mapped, 0.0)
    sampled = mapped - unknown
    found = estimate_areas(matrix, sampled) if sampled.any() else estimate_areas(np.zeros_like(matrix), mapped)
    area, upper = found.area + unknown, found.upper + unknown.sum()
    columns = {"mapped": mapped, "area": area, "lower": found.lower, "upper": upper, "se": found.area_se}
    scores = ("users", "users_se", "producers", "producers_se")
    return {
        "area": [
            {"class": name, "unit": unit, **{f"{key}_{unit}": float(column[i]) for key, column in columns.items()}}
            for i, name in enumerate(names)
        ],
        "area_accuracy": {
            "overall_accuracy": found.overall,
            "overall_accuracy_se": found.overall_se,
            "per_class": {name: {s: float(getattr(found, s)[i]) for s in scores} for i, name in enumerate(names)},
            "too_few": [name for name, few in zip(names, thin, strict=True) if few],
            "sampled_share": float(sampled.sum() / mapped.sum()),
            "note": NOTE,
        },
    }


def parcel_hectares(index: Path, rows: np.ndarray) -> np.ndarray | None:
    """Area of some parcels of a store.

    Args:
        index: The store's index.parquet.
        rows: (N,) positions in it.

    Returns:
        (N,) hectares, nan where a parcel's outline is not known; None if no outline is, or geopandas is not installed.
    """
    import pyarrow.parquet as pq

    about = json.loads(pq.ParquetFile(index).schema_arrow.metadata[b"geo"])["columns"]["geometry"]
    kinds = about.get("geometry_types", [])
    if kinds and not any("Polygon" in kind for kind in kinds):
        return None
    try:
        import geopandas
    except ImportError:
        return None
    shapes = geopandas.read_parquet(index, columns=["geometry"]).geometry.iloc[rows]
    outlined = shapes.geom_type.isin(["Polygon", "MultiPolygon"]).to_numpy()
    return np.where(outlined, shapes.to_crs(EQUAL_AREA).area.to_numpy() / 1e4, math.nan)


def _checked(matrix: np.ndarray, mapped: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    n, area = np.asarray(matrix, float), np.asarray(mapped, float)
    if n.ndim != 2 or n.shape[0] != n.shape[1] or area.shape != n.shape[:1]:
        raise ValueError(
            f"areas are estimated from an error matrix (K, K) and mapped areas (K,); got {n.shape} and {area.shape}. A "
            "class that is only mapped, or only in the reference, has a row and a column of zeros"
        )
    for what, values in (("sample counts", n), ("mapped areas", area)):
        if not (np.isfinite(values).all() and (values >= 0).all()):
            raise ValueError(f"{what} are finite and not negative; got {values.min()} to {values.max()}")
    if not area.sum() > 0:
        raise ValueError(f"the mapped areas add up to 0 over {len(area)} classes; nothing is mapped")
    return n, area
