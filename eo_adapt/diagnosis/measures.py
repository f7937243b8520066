"""All measures of one target against the sources, as plain numbers that go into diagnosis.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from .dates import density, presence
from .distances import coral, mmd
from .explain import Explanation, explain
from .novelty import novelty
from .phenology import calendar, per_class
from .priors import estimate, total_variation
from .probes import a_distance
from .profiles import Floats, Ints, shape_of, vegetation_index
from .radiometry import compare_bands
from .repairs import CALENDAR, RADIOMETRY
from .scene import Scene, matching
from .sensors import attributes, describe
from .table import ParcelTable, pooled

if TYPE_CHECKING:
    from ..data.datamodule import DomainDataModule

PROBED = 400  # parcels a domain that probes see
REPEATS = 3
COVERS = "sampling error only: blocks are drawn again, the classifier and the repairs before it are not fitted again"


def measure(data: DomainDataModule, sources: Sequence[ParcelTable], target: ParcelTable, seed: int) -> dict[str, Any]:
    """Measure one target.

    Args:
        data: Where the tables come from.
        sources: The source tables.
        target: The target's; ``truth`` is None where it has no labels that were opened.
        seed: Of everything random.
    """
    source = pooled(sources, "sources")
    names = class_names(data, sources, target)
    scene = Scene(source, target, frozenset(names["source_only"]), bool(names["target_only"]), seed)
    found = explain(scene, seed)
    shift = calendar(scene, seed)
    days = shift.days if shift is not None and found.causes.get(CALENDAR) and found.causes[CALENDAR].step else 0.0
    points = repaired(scene, days, bool(found.causes[RADIOMETRY].step))
    rng = np.random.default_rng(seed)
    few = [np.sort(rng.permutation(len(t))[:PROBED]) for t in (source, target)]
    profiles = scene.profiles, scene.target_profiles
    leading = [scene.space(p, wide=True)[f] for p, f in zip(profiles, few, strict=True)]
    return {
        "parcels": {t.name: len(t) for t in (*sources, target)},
        "blocks": {t.name: len(np.unique(t.block)) for t in (*sources, target)},
        "classes": names,
        "explanation": as_plain(found),
        "calendar": None if shift is None else {k: np.asarray(v).tolist() for k, v in asdict(shift).items()},
        "shares": shares(scene, points, days, seed),
        "novelty": novelty(*points["wide"], scene.block, scene.target_block, seed)._asdict(),
        "bands": [
            {"band": name, **row._asdict()}
            for name, row in zip(
                source.bands, compare_bands(*profiles, scene.block, scene.target_block, seed), strict=True
            )
        ],
        "mmd": mmd(*leading),
        "coral": coral(leading[0], leading[1], seed),
        "a_distance": probes(scene, few, seed),
        "dates": {t.name: {n: density(s) for n, s in t.series.items()} for t in (*sources, target)},
        "presence": presence({t.name: t for t in (*sources, target)}),
        "sensors": {t.name: describe(data, t) for t in (*sources, target)},
        "attributes": attributes(data, source, target),
        "profiles": {t.name: index_profile(t) for t in (*sources, target)},
        "truth": opened(scene, source, target) if (target.labels != "").any() else None,
    }


def class_names(data: DomainDataModule, sources: Sequence[ParcelTable], target: ParcelTable) -> dict[str, Any]:
    """Names of the classes that one side has alone; of the target the set of names is known, never who has which."""
    known = bool((data.store.index["label"].to_numpy(str)[target.rows] != "").any())
    return {
        "known": known,
        "source_only": [n for n in data.label_set.source_private if any((t.labels == n).any() for t in sources)],
        "target_only": list(data.label_set.target_private) if known else [],
    }


def repaired(scene: Scene, days: float, matched: bool) -> dict[str, tuple[Floats, Floats]]:
    """Source and target points after calendar and radiometry of the target were put on the source's."""
    moved = scene.goal.profiles(-days) if days else scene.target_profiles
    if matched:
        gain, offset = matching(moved, scene.profiles)
        moved = moved * gain + offset
    return {
        "narrow": (scene.points, scene.space(moved)),
        "wide": (scene.space(scene.profiles, wide=True), scene.space(moved, wide=True)),
    }


def shares(scene: Scene, points: Mapping[str, tuple[Floats, Floats]], days: float, seed: int) -> dict[str, Any] | None:
    """Estimated class shares, or None where the source has one class."""
    names, n = np.unique(scene.source.labels, return_counts=True)
    keep = np.isin(scene.source.labels, names[n >= 5])  # of rarer ones nothing can be said
    if len(np.unique(scene.source.labels[keep])) < 2:
        return None
    rows, goal = points["narrow"]
    labels = scene.source.labels[keep].tolist()
    found = estimate(rows[keep], labels, scene.block[keep], goal, scene.target_block, seed, draws=100)
    return {**{k: np.asarray(v).tolist() for k, v in asdict(found).items()}, "after_days": days, "interval": COVERS}


def probes(scene: Scene, few: Sequence[Ints], seed: int) -> dict[str, dict[str, dict[str, float]]]:
    """Proxy A-distances on everything, on the number of valid dates alone, on the season alone, on single dates."""
    sides = [(scene.source, scene.profiles, scene.block), (scene.goal, scene.target_profiles, scene.target_block)]
    found: dict[str, list[tuple[Floats, Ints]]] = {"all": [], "dates": [], "season": [], "single_date": []}
    rng = np.random.default_rng(seed)
    for (table, profiles, block), rows in zip(sides, few, strict=True):
        wide = scene.space(profiles, wide=True)[rows]
        counts = table.counts[rows].astype(float)
        found["all"].append((np.hstack([wide, counts]), block[rows]))
        found["dates"].append((counts, block[rows]))
        index = vegetation_index(profiles[rows], table.bands)[0]
        found["season"].append((shape_of(index), block[rows]))
        at = rng.integers(profiles.shape[1], size=len(rows))
        found["single_date"].append((profiles[rows, at], block[rows]))
    out: dict[str, dict[str, dict[str, float]]] = {}
    for name, ((a, block_a), (b, block_b)) in found.items():
        if name == "season" and a.shape[1] < 3:
            continue
        out[name] = {}
        for kind in ("linear", "trees"):
            d = a_distance(a, b, block_a, block_b, probe=kind, folds=3, repeats=REPEATS, seed=seed)
            out[name][kind] = asdict(d)
    return out


def index_profile(table: ParcelTable) -> dict[str, Any]:
    """Median and quartiles of the vegetation index of a domain, in the compared season."""
    index, name = vegetation_index(table.profiles(), table.bands)
    low, middle, high = np.quantile(index, [0.25, 0.5, 0.75], axis=0)
    day = table.middle[table.season]
    return {"index": name, "day": day.tolist(), "median": middle.tolist(), "low": low.tolist(), "high": high.tolist()}


def opened(scene: Scene, source: ParcelTable, target: ParcelTable) -> dict[str, Any]:
    """What only the target's labels can say."""
    names = sorted({*source.labels.tolist(), *target.labels.tolist()} - {""})
    a, b = (np.array([(t.labels == n).sum() for n in names], float) for t in (source, target))
    p, q = a / max(a.sum(), 1), b / max(b.sum(), 1)
    return {
        "classes": names,
        "source": p.tolist(),
        "target": q.tolist(),
        "variation": total_variation(p, q),
        "days": per_class(scene, target.labels),
    }


def as_plain(found: Explanation) -> dict[str, Any]:
    """The explanation as a dict, with the distance of both parts."""
    return {**asdict(found), "distance": found.distance}
