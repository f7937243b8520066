"""A shift on a store: which parcels of which domain train, validate and test, and which classes are learnt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import pandas as pd

from ..types import Domain, Shift
from . import hcat
from .legend import Kind, LabelSet, label_set
from .splits import distance_report, split_blocks
from .store import DOMAIN_COLUMNS, Store

if TYPE_CHECKING:
    from .scenes.store import SceneStore

Role = Literal["source", "target"]
Kinds = Literal["blocks", "published"]
NAMES = ("train", "val", "test")


class SealedLabelsError(RuntimeError):
    """Target labels were asked for by somebody else than the evaluator."""


@dataclass(frozen=True)
class Split:
    """How the parcels of a domain are divided.

    Attributes:
        kind: ``blocks``: spatial blocks with a buffer; of images, blocks of whole zones. ``published``: the dataset's
            own train / val / test column.
        block_size: Edge of a block in metres; of images 0 makes every zone a block.
        buffer: Metres that train and val keep from test, and train from val; nearer parcels are left out.
        train: Share of parcels that train (target: that adaptation sees without labels).
        val: Share for model selection.
        test: Share for the sealed test.
        seed: Of the block lottery; not the run's seed, so that runs with different seeds share one test set.
    """

    kind: Kinds = "blocks"
    block_size: float = 10_000.0
    buffer: float = 1_000.0
    train: float = 0.6
    val: float = 0.15
    test: float = 0.25
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kinds):
            raise ValueError(f"data.split.kind must be one of {list(get_args(Kinds))}; got {self.kind!r}")


@dataclass(frozen=True)
class DomainParcels:
    """The parcels of one domain.

    Attributes:
        domain: Which domain.
        role: Whether it is a source or a target of the shift.
        rows: (N,) positions in the store.
        split: (N,) ``train`` | ``val`` | ``test`` | ``buffer``.
        labels: (N,) class names, harmonised.
        distances: Smallest distance between splits in metres, by pair of splits.
    """

    domain: Domain
    role: Role
    rows: np.ndarray
    split: np.ndarray
    labels: np.ndarray
    distances: dict[str, float] = field(default_factory=dict)

    def unlabelled(self) -> DomainParcels:
        """The same parcels without their labels."""
        return replace(self, labels=np.full(len(self.labels), "", dtype=self.labels.dtype))

    def of(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Rows and class names of one split."""
        keep = self.split == split
        return self.rows[keep], self.labels[keep]


def divide(
    store: Store,
    shift: Shift,
    split: Split,
    coarsen: str = "none",
    join: Mapping[str, Sequence[str]] | None = None,
) -> list[DomainParcels]:
    """Parcels, splits and harmonised class names of each domain of a shift.

    Domains whose bounding boxes touch (two years of one region, say) are divided together, so that a block is test
    in all of them.

    Args:
        store: The store.
        shift: Which domains.
        split: How to divide each.
        coarsen: ``none`` | ``shared`` (the deepest HCAT class that all domains have, per branch) | ``"1"``..``"5"``
            (HCAT depth) | a named legend (``broad_crops``).
        join: New class -> the classes that it stands for; not together with coarsen, which goes by codes.

    Raises:
        ValueError: If a domain is empty, or a split of it is; says what there is. If a class to join is unknown.
    """
    rows = [rows_of(store, domain) for domain in shift.domains]
    names = _class_names(store, rows, coarsen, join or {})
    x, y = (store.index[c].to_numpy(float) for c in ("x", "y"))
    splits = _published(store, rows) if split.kind == "published" else _blocks(x, y, rows, split)
    parcels = []
    for i, domain in enumerate(shift.domains):
        empty = [name for name in NAMES if not (splits[i] == name).any()]
        if empty:
            raise ValueError(
                f"domain {domain.name!r} has {len(rows[i])} parcels but none in {empty}; with split.kind={split.kind} "
                f"got {dict(Counter(splits[i].tolist()))}. Change data.split (block_size={split.block_size:g} m, "
                f"buffer={split.buffer:g} m, seed={split.seed}) or the domain's select"
            )
        at = rows[i]
        parcels.append(
            DomainParcels(
                domain,
                "source" if i < len(shift.sources) else "target",
                at,
                splits[i],
                names[i],
                distance_report(x[at], y[at], splits[i]) if np.isfinite(x[at]).all() else {},
            )
        )
    return parcels


def rows_of(store: Store | SceneStore, domain: Domain, what: str = "parcel") -> np.ndarray:
    """Positions of a domain's samples in a store.

    Raises:
        ValueError: If there are none; says what the store has.
    """
    rows = store.rows(domain.select)
    if len(rows):
        return rows
    there = {column: sorted(store.index[column].unique().tolist())[:20] for column in DOMAIN_COLUMNS}
    raise ValueError(
        f"domain {domain.name!r} selects no {what} with {dict(domain.select)}; the store has "
        + "; ".join(f"{column}: {values}" for column, values in there.items())
    )


def _class_names(
    store: Store, rows: Sequence[np.ndarray], coarsen: str, join: Mapping[str, Sequence[str]]
) -> list[np.ndarray]:
    allowed = ("none", "shared", "1", "2", "3", "4", "5", *hcat.legends())
    if coarsen not in allowed:
        raise ValueError(f"data.coarsen must be one of {list(allowed)}; got {coarsen!r}")
    if join and coarsen != "none":
        raise ValueError(f"data.join goes by names, data.coarsen={coarsen} by HCAT codes: use one of them")
    label = store.index["label"].to_numpy(str).astype(object)
    for new, old in join.items():
        if unknown := sorted(set(old) - set(label)):
            raise ValueError(f"data.join.{new} names {unknown}; the data have {sorted(set(label))}")
        label[np.isin(label, list(old))] = new
    label = label.astype(str)
    if coarsen == "none":
        return [label[at] for at in rows]
    codes = store.index["hcat"].to_numpy(str)
    if missing := int(sum(((codes[at] == "") & (label[at] != "")).sum() for at in rows)):
        raise ValueError(f"data.coarsen={coarsen} needs HCAT codes; {missing} parcels of this shift have none")
    everything = {code for at in rows for code in codes[at].tolist()} - {""}
    spelt = {"": "", **hcat.names()}
    if coarsen in hcat.legends():
        joined = hcat.classes(everything, coarsen)
    elif coarsen == "shared":
        joined = hcat.shared_depth(
            {str(i): set(codes[at].tolist()) - {""} for i, at in enumerate(rows)}, unspecified="parent"
        )
    else:
        known = sorted(everything)
        joined = dict(zip(known, hcat.coarsen(known, int(coarsen)), strict=True))
    joined = {"": "", **joined}
    return [np.array([spelt.get(joined[code], joined[code]) for code in codes[at].tolist()]) for at in rows]


def _published(store: Store, rows: Sequence[np.ndarray]) -> list[np.ndarray]:
    column = store.index["split"].to_numpy(str)
    return [np.where(np.isin(column[at], NAMES), column[at], "buffer") for at in rows]


def _blocks(x: np.ndarray, y: np.ndarray, rows: Sequence[np.ndarray], split: Split) -> list[np.ndarray]:
    ratios = {"train": split.train, "val": split.val, "test": split.test}
    out: dict[int, np.ndarray] = {}
    for group in touching([(x[at], y[at]) for at in rows], split.buffer):
        at = np.unique(np.concatenate([rows[i] for i in group]))
        found = split_blocks(
            x[at], y[at], block_size=split.block_size, buffer=split.buffer, ratios=ratios, seed=split.seed
        )
        for i in group:
            out[i] = found[np.searchsorted(at, rows[i])]
    return [out[i] for i in range(len(rows))]


def touching(places: Sequence[tuple[np.ndarray, np.ndarray]], margin: float) -> list[list[int]]:
    """Numbers of the domains, grouped so that bounding boxes of different groups are more than ``margin`` apart."""
    boxes = [(px.min() - margin, py.min() - margin, px.max() + margin, py.max() + margin) for px, py in places]
    groups: list[list[int]] = []
    for i, a in enumerate(boxes):
        near = [g for g in groups if any(_meet(a, boxes[j]) for j in g)]
        groups = [g for g in groups if g not in near] + [[*(j for g in near for j in g), i]]
    return groups


def _meet(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] <= b[2] and b[0] <= a[2] and a[1] <= b[3] and b[1] <= a[3]


def choose_classes(
    parcels: Sequence[DomainParcels], kind: Kind, classes: Sequence[str], min_per_class: int
) -> LabelSet:
    """The classes of a shift: counted on source-train; of the targets only the set of names is used.

    Args:
        parcels: Every domain's parcels.
        kind: ``closed`` | ``open`` | ``partial``; see :func:`.legend.label_set`.
        classes: Keep only these classes; empty = all.
        min_per_class: Source classes with fewer training parcels are not learnt.

    Raises:
        ValueError: If a class asked for has no source sample, or no class is shared.
    """
    counts: Counter[str] = Counter()
    for domain in parcels:
        if domain.role == "source":
            counts.update(name for name in domain.of("train")[1].tolist() if name)
    if missing := [name for name in classes if not counts[name]]:
        raise ValueError(f"no source training parcel has the classes {missing} asked for; there are {sorted(counts)}")
    wanted = set(classes) or set(counts) | {n for d in parcels for n in d.labels.tolist()}
    targets = [d for d in parcels if d.role == "target"]
    there = {name for d in targets for split in ("train", "val") for name in d.of(split)[1].tolist()} - {""}
    there = there or set(counts)  # no target, or none of its parcels has a label: the source's classes are all we know
    return label_set({name: n for name, n in counts.items() if name in wanted}, there & wanted, kind, min_per_class)


def few(labels: np.ndarray, keep: np.ndarray, shots: int, seed: int) -> np.ndarray:
    """Up to ``shots`` positions of each class, ascending, drawn from ``keep`` by ``seed``."""
    rng = np.random.default_rng([seed, shots])
    drawn = [rng.permutation(keep[labels[keep] == k])[:shots] for k in np.unique(labels[keep])]
    return np.sort(np.concatenate(drawn))


def splits_frame(store: Store, parcels: Sequence[DomainParcels]) -> pd.DataFrame:
    """One row a parcel and domain: parcel_id, domain, role, split (target train is called adapt), x, y."""
    frames = []
    for d in parcels:
        split = np.where((d.split == "train") & (d.role == "target"), "adapt", d.split)
        frame = store.index.iloc[d.rows][["parcel_id", "x", "y"]].assign(domain=d.domain.name, role=d.role, split=split)
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)[["parcel_id", "domain", "role", "split", "x", "y"]]
