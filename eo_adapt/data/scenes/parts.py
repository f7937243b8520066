"""A shift on a store of images: whole zones train, validate and test, and classes are counted in pixels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ...types import Shift
from ..legend import Kind, LabelSet, label_set
from ..parts import NAMES, DomainParcels, Role, Split, rows_of, touching
from ..splits import BUFFER, distance_report, hand_out, nearest
from .labels import joined_names
from .store import SceneStore


@dataclass(frozen=True)
class DomainPatches(DomainParcels):
    """The patches of one domain; ``labels`` are empty, a patch holds many classes.

    Attributes:
        names: K class names, harmonised.
        counts: (N, K) pixels of each class.
        zones: (N,) zone of each patch.
        units: (N,) what is dealt to a split as one: the zone, or the block that it lies in. Intervals are drawn over
            these.
    """

    names: tuple[str, ...] = ()
    counts: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.int64))
    zones: np.ndarray = field(default_factory=lambda: np.zeros(0, str))
    units: np.ndarray = field(default_factory=lambda: np.zeros(0, str))

    @property
    def transductive(self) -> bool:
        """Whether a target has nothing but its test: adaptation and selection then see those images, without labels."""
        return self.role == "target" and not np.isin(self.split, ("train", "val")).any()

    @property
    def scored(self) -> str:
        """The split that is scored: test, or val of a source that has no test."""
        return "test" if (self.split == "test").any() else "val"

    def seen(self, split: str) -> np.ndarray:
        """Rows that are seen without labels in the name of a split."""
        return self.rows[self.split == ("test" if self.transductive else split)]

    def unlabelled(self) -> DomainPatches:
        """The same patches without their labels."""
        return replace(self, counts=np.zeros_like(self.counts))

    def pixels(self, *splits: str) -> Counter[str]:
        """Pixels of each class in some splits; classes that have none are not named."""
        sums = self.counts[np.isin(self.split, splits)].sum(0)
        return Counter({name: int(n) for name, n in zip(self.names, sums, strict=True) if n})


def divide_patches(
    store: SceneStore, shift: Shift, split: Split, join: Mapping[str, Sequence[str]] | None = None
) -> list[DomainPatches]:
    """Patches, splits and harmonised class counts of each domain of a shift.

    Args:
        store: The store.
        shift: Which domains.
        split: How to divide each: ``blocks`` deals whole zones, neighbouring ones together; ``published`` goes by the
            publisher's column, in which a source may lack the test, and a target train and val together.
        join: New class -> the classes that it stands for.

    Raises:
        ValueError: If a domain is empty, or a split of it is; says what there is. If a class to join is unknown.
    """
    rows = [rows_of(store, domain, "patch") for domain in shift.domains]
    joined = joined_names(store.classes, join or {})
    names = tuple(sorted(set(joined.values())))
    onto = np.array([[joined[old] == new for new in names] for old in store.names], np.int64)
    zones = zone_keys(store)
    x, y = (store.index[c].to_numpy(float) for c in ("x", "y"))
    crs = store.index["crs"].to_numpy(str)
    units = _units(zones, x, y, crs, split)
    splits = _published(store, rows) if split.kind == "published" else _dealt(rows, x, y, crs, units, split)
    found = []
    for i, (domain, at, its) in enumerate(zip(shift.domains, rows, splits, strict=True)):
        role: Role = "source" if i < len(shift.sources) else "target"
        if empty := _lacking(its, role, split):
            raise ValueError(
                f"domain {domain.name!r} has {len(at)} patches in {len(set(zones[at]))} zones but none in {empty}; "
                f"with split.kind={split.kind} got {dict(Counter(its.tolist()))}. Change data.split "
                f"(block_size={split.block_size:g} m, buffer={split.buffer:g} m, seed={split.seed}, shares) or the "
                "domain's select"
            )
        placed = np.isfinite(x[at]).all() and len(set(crs[at])) == 1
        gaps = distance_report(x[at], y[at], its) if placed else {}
        none = np.full(len(at), "", dtype="U1")
        counts = store.counts[at] @ onto
        found.append(DomainPatches(domain, role, at, its, none, gaps, names, counts, zones[at], units[at]))
    return found


def _lacking(its: np.ndarray, role: Role, split: Split) -> list[str]:
    """Splits that a domain must have and has not; publishers often keep whole departments for the test."""
    empty = [name for name in NAMES if not (its == name).any()]
    if split.kind == "published" and empty == (["test"] if role == "source" else ["train", "val"]):
        return []
    return empty


def zone_keys(store: SceneStore) -> np.ndarray:
    """(N,) zone of every patch, unique in the store; a patch without one is a zone of its own."""
    index = store.index
    own = np.where(index["zone"] == "", index["parcel_id"], index["zone"])
    return np.array([f"{region}/{zone}" for region, zone in zip(index["region"], own, strict=True)])


def _published(store: SceneStore, rows: Sequence[np.ndarray]) -> list[np.ndarray]:
    column = store.index["split"].to_numpy(str)
    return [np.where(np.isin(column[at], NAMES), column[at], BUFFER) for at in rows]


def _dealt(
    rows: Sequence[np.ndarray], x: np.ndarray, y: np.ndarray, crs: np.ndarray, units: np.ndarray, split: Split
) -> list[np.ndarray]:
    """Domains that share blocks or lie beside each other are divided together."""
    out: dict[int, np.ndarray] = {}
    for group in _together(rows, x, y, crs, units, split.buffer):
        at = np.unique(np.concatenate([rows[i] for i in group]))
        found = _deal(units[at], x[at], y[at], crs[at], split)
        out |= {i: found[np.searchsorted(at, rows[i])] for i in group}
    return [out[i] for i in range(len(rows))]


def _units(zones: np.ndarray, x: np.ndarray, y: np.ndarray, crs: np.ndarray, split: Split) -> np.ndarray:
    """What stays together: the block that the middle of a patch's zone lies in; where no place is known, the zone."""
    names, zone = np.unique(zones, return_inverse=True)
    size = np.bincount(zone)
    middle = np.column_stack([np.bincount(zone, c) / size for c in (x, y)])
    origin = np.random.default_rng(split.seed).uniform(0.0, max(split.block_size, 1.0), size=2)
    placed = np.logical_and(np.isfinite(middle).all(1), split.block_size > 0)
    block = np.floor((np.where(placed[:, None], middle, 0.0) + origin) / max(split.block_size, 1.0)).astype(np.int64)
    first = np.zeros(len(names), np.int64)
    first[zone[::-1]] = np.arange(len(zones))[::-1]
    keys = [
        f"{crs[first[i]]}|{block[i, 0]}|{block[i, 1]}" if placed[i] else f"zone|{name}" for i, name in enumerate(names)
    ]
    return np.array(keys)[zone]


def _together(
    rows: Sequence[np.ndarray], x: np.ndarray, y: np.ndarray, crs: np.ndarray, units: np.ndarray, buffer: float
) -> list[list[int]]:
    """Numbers of the domains, grouped so that different groups share no unit and lie apart."""
    groups: list[list[int]] = []
    near: list[set[int]] = [set() for _ in rows]
    for name in set(crs.tolist()) - {""}:
        here = [i for i, at in enumerate(rows) if (crs[at] == name).any()]
        boxes = [(x[at][crs[at] == name], y[at][crs[at] == name]) for at in (rows[i] for i in here)]
        for group in touching(boxes, buffer) if here else []:
            for i in group:
                near[here[i]] |= {here[j] for j in group}
    for i, at in enumerate(rows):
        mine = set(units[at])
        linked = [g for g in groups if any(j in near[i] or mine & set(units[rows[j]]) for j in g)]
        groups = [g for g in groups if g not in linked] + [[*(j for g in linked for j in g), i]]
    return groups


def _deal(units: np.ndarray, x: np.ndarray, y: np.ndarray, crs: np.ndarray, split: Split) -> np.ndarray:
    """Units to splits by a seeded lottery; then patches too near to a later split are left out."""
    ratios = {"train": split.train, "val": split.val, "test": split.test}
    unit = np.unique(units, return_inverse=True)[1]
    sizes = np.bincount(unit)
    order = np.random.default_rng([split.seed, len(sizes)]).permutation(len(sizes))
    number = hand_out(sizes, np.array(list(ratios.values()), float), order)[unit]
    points = np.column_stack([x, y])
    for early in (1, 0):
        for name in set(crs.tolist()) - {""}:
            mine, later = np.flatnonzero((number == early) & (crs == name)), (number > early) & (crs == name)
            number[mine[nearest(points[mine], points[later], split.buffer) <= split.buffer]] = -1
    return np.array([*ratios, BUFFER])[number]


def choose_map_classes(
    patches: Sequence[DomainPatches], kind: Kind, classes: Sequence[str], min_pixels: int
) -> LabelSet:
    """The classes of a shift: pixels are counted on source-train; of the targets only the set of names is used.

    Args:
        patches: Every domain's patches.
        kind: ``closed`` | ``open`` | ``partial``; see :func:`..legend.label_set`.
        classes: Keep only these classes; empty = all.
        min_pixels: Source classes with fewer training pixels are not learnt.

    Raises:
        ValueError: If a class asked for has no source pixel, or no class is shared.
    """
    counts: Counter[str] = Counter()
    for domain in patches:
        if domain.role == "source":
            counts.update(domain.pixels("train"))
    if missing := [name for name in classes if not counts[name]]:
        raise ValueError(f"no source training pixel has the classes {missing} asked for; there are {sorted(counts)}")
    there = {name for d in patches if d.role == "target" for name in d.pixels("train", "val")} or set(counts)
    wanted = set(classes) or set(counts) | there
    return label_set({name: n for name, n in counts.items() if name in wanted}, there & wanted, kind, min_pixels)


def few_patches(counts: np.ndarray, shots: int, seed: int, least: float = 0.05) -> np.ndarray:
    """Positions, ascending, of up to ``shots`` patches of each class, drawn by ``seed``.

    A patch counts for a class that covers ``least`` of its labelled pixels; for a class that covers so much of none,
    the patches that hold most of it are taken.

    Args:
        counts: (N, K) pixels of each class.
        shots: Patches a class.
        seed: Of the draw.
        least: Share of a patch.
    """
    rng = np.random.default_rng([seed, shots])
    share = counts / np.maximum(1, counts.sum(1, keepdims=True))
    drawn: set[int] = set()
    for k in np.flatnonzero(counts.sum(0)):
        able = np.flatnonzero(share[:, k] >= least)
        some = rng.permutation(able) if len(able) else np.argsort(-share[:, k], kind="stable")
        drawn |= set(some[:shots].tolist())
    return np.array(sorted(drawn), np.int64)
