"""From the domains of a shift to a diagnosis: tables, measures of each target, findings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from .classes import coarser
from .leakage import between, duplicates, fingerprints
from .measures import measure
from .priors import total_variation
from .rules import Finding, judge, recommend
from .table import ParcelTable, read_tables

if TYPE_CHECKING:
    from ..data.datamodule import DomainDataModule

MOST = 1500  # parcels a domain


@dataclass(frozen=True)
class TargetDiagnosis:
    """One target against the sources.

    Attributes:
        target: The domain's name.
        dominant: What explains most of the distance; ``none`` where it is no larger than chance.
        findings: The causes in order of what they explain, then notes.
        measures: All numbers.
    """

    target: str
    dominant: str
    findings: tuple[Finding, ...]
    measures: Mapping[str, Any]

    @property
    def recommended(self) -> tuple[str, str]:
        """Entry of configs/method and why; see :func:`.rules.recommend`."""
        return recommend(self.measures)


@dataclass(frozen=True)
class Diagnosis:
    """What separates the domains of a shift.

    Attributes:
        targets: One a target domain.
        sources: Names of the sources.
        hygiene: Distances, duplicates, HCAT advice of the whole shift.
        labels_opened: Whether target labels were used; False by default.
        runs: Rows of the table of trained networks, and warnings; empty without runs.
    """

    targets: tuple[TargetDiagnosis, ...]
    sources: tuple[str, ...]
    hygiene: Mapping[str, Any]
    labels_opened: bool = False
    runs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def dominant(self) -> str:
        """The dominant cause; of several targets, that of the farthest."""
        far = max(self.targets, key=lambda t: t.measures["explanation"]["distance"])
        return far.dominant

    @property
    def recommended(self) -> tuple[str, str]:
        """Entry of configs/method for all targets and why: one careful answer outweighs bold ones."""
        answers = [t.recommended for t in self.targets]
        return next((answer for answer in answers if answer[0] == "source_only"), answers[0])

    @property
    def sentences(self) -> list[str]:
        """What was found and what to try, each once, the dominant cause of each target first."""
        said: dict[str, str] = {}
        told: set[str] = set()
        for f in (f for t in self.targets for f in t.findings):
            said.setdefault(f.sentence, f.sentence if f.tries in told else f"{f.sentence} {f.tries}".strip())
            told.add(f.tries)
        return [*said.values(), *dict.fromkeys(self.runs.get("warnings", ()))]

    def to_dict(self) -> dict[str, Any]:
        """Everything, fit for json."""
        found = {
            "sources": list(self.sources),
            "dominant": self.dominant,
            "recommended": dict(zip(("method", "why"), self.recommended, strict=True)),
            "sentences": self.sentences,
            "labels_opened": self.labels_opened,
            "hygiene": self.hygiene,
            "targets": {
                t.target: {
                    "dominant": t.dominant,
                    "findings": [f.to_dict() for f in t.findings],
                    "measures": t.measures,
                }
                for t in self.targets
            },
            "runs": dict(self.runs),
        }
        return dict(_plain(found))


def diagnose(
    data: DomainDataModule, seed: int = 0, parcels: int = MOST, truth: Mapping[str, np.ndarray] | None = None
) -> Diagnosis:
    """Diagnose the shift of a data module, from train and val parcels; the test parcels stay sealed.

    Args:
        data: The domains; set up here if they are not yet.
        seed: Of everything random; the global streams are left alone.
        parcels: Parcels a domain, at most.
        truth: Target domain -> class name of each of its parcels, where labels were opened; "" on those that were not.

    Raises:
        ValueError: If the shift has no target, or a domain too few parcels.
    """
    data.setup()
    if not any(d.role == "target" for d in data.parcels):
        raise ValueError(
            f"a diagnosis compares sources with a target; this shift has none (sources: "
            f"{[d.domain.name for d in data.parcels]}). Choose a shift with targets: python -m eo_adapt.list shifts"
        )
    tables = read_tables(data, parcels, seed, truth)
    hygiene = look_for_leaks(data)
    hygiene["source_variation"] = between_sources(tables.sources)
    hygiene["block"] = tables.edge
    found = []
    for target in tables.targets:
        measures = measure(data, tables.sources, target, seed)
        measures["lacking"] = dict(tables.lacking)
        findings, dominant = judge(target.name, measures, hygiene)
        found.append(TargetDiagnosis(target.name, dominant, tuple(findings), measures))
    return Diagnosis(tuple(found), tuple(t.name for t in tables.sources), hygiene, truth is not None)


def between_sources(sources: tuple[ParcelTable, ...]) -> dict[str, float]:
    """Total variation of the class shares of each pair of sources."""
    names = sorted({n for t in sources for n in t.labels.tolist()})
    shares = {t.name: np.array([(t.labels == n).mean() for n in names]) for t in sources}
    return {f"{a}-{b}": total_variation(shares[a], shares[b]) for a, b in combinations(shares, 2)}


def look_for_leaks(data: DomainDataModule) -> dict[str, Any]:
    """Distances between splits and domains, identical series, and what would join classes of different names."""
    place = data.store.index[["x", "y"]].to_numpy(float)
    arrays = [data.store.arrays[name] for name in data.bands]
    hashes = {d.domain.name: fingerprints(arrays, d.rows) for d in data.parcels}
    return {
        "within": {d.domain.name: dict(d.distances) for d in data.parcels},
        "between": between({d.domain.name: place[d.rows] for d in data.parcels}),
        "buffer": data.split.buffer,
        "duplicates": duplicates(hashes, data.parcels, data.store.index["parcel_id"].to_numpy(str)),
        "coarser": joinable(data),
    }


def joinable(data: DomainDataModule) -> dict[str, Any]:
    """What ``data.coarsen`` would join; of the target's labels only the set of codes is read, as for the label set."""
    codes: dict[str, set[str]] = {"source": set(), "target": set()}
    if data.coarsen == "none" and not data.join and "hcat" in data.store.index:
        for d in data.parcels:
            rows = d.rows[np.isin(d.split, ("train", "val"))]
            codes[d.role] |= set(data.store.index["hcat"].to_numpy(str)[rows].tolist())
    return coarser(codes["source"], codes["target"])


def _plain(node: Any) -> Any:
    """Numbers, strings, lists and dicts; what is not finite becomes None, because json has no NaN."""
    if isinstance(node, Mapping):
        return {str(k): _plain(v) for k, v in node.items()}
    if isinstance(node, list | tuple | set):
        return [_plain(v) for v in node]
    if isinstance(node, np.ndarray):
        return _plain(node.tolist())
    if isinstance(node, np.generic):
        return _plain(node.item())
    return None if isinstance(node, float) and not np.isfinite(node) else node
