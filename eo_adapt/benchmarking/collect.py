"""Run directories -> two tables: what each run was, and what each of its checkpoints scored."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from .job import CANDIDATES, FAILURE, REPORT
from .plan import Job

KEYS = ["shift", "method", "seed", "trial"]
PARCELS = "closed_macro_f1"  # what reports that name no score are compared by
FACTS = (
    "version",
    "data_version",
    "selector",
    "seconds",
    "peak_memory_mb",
    "forwards_per_step",
    "uses_target_labels",
    "resumed",
)


class MixedDataError(ValueError):
    """Results on different data in one table."""


@dataclass(frozen=True)
class Collected:
    """Everything that a benchmark's runs left behind.

    Attributes:
        runs: One row a run: shift, method, seed, trial, error ("" = none) and facts of the report.
        candidates: One row a checkpoint: shift, method, seed, trial, epoch, scores by domain.
        roles: Shift -> domain -> source or target.
        score: What the task's methods are compared by: ``closed_macro_f1``, or of maps ``closed_miou``.
    """

    runs: pd.DataFrame
    candidates: pd.DataFrame
    roles: Mapping[str, Mapping[str, str]]
    score: str = PARCELS


def collect(jobs: Sequence[Job], root: Path) -> Collected:
    """Read what the runs of a plan left.

    A run without scores, and one whose target score is not a number, is a failure with a reason; none is left out.

    Raises:
        MixedDataError: If runs of one shift saw different data; lists them.
        ValueError: If no run has scores.
    """
    runs, candidates = [], []
    roles: dict[str, dict[str, str]] = {}
    compared: dict[str, Job] = {}
    for job in jobs:
        keys: dict[str, Any] = {"shift": job.shift, "method": job.method, "seed": job.seed, "trial": job.trial}
        facts, scored = _read(job.place(root))
        roles[job.shift] = roles.get(job.shift, {}) | facts.pop("roles", {})
        if score := facts.pop("score", ""):
            compared.setdefault(score, job)
        runs.append({**keys, **facts})
        if scored is not None and not facts["error"]:
            candidates.append(scored.assign(**keys))
    frame = pd.DataFrame(runs)
    if not candidates:
        reasons = frame["error"].value_counts().head(3).to_dict()
        raise ValueError(f"none of {len(frame)} runs in {root} has scores; reasons: {reasons}")
    _check_versions(frame)
    if len(compared) > 1:
        some = {score: f"{job.shift}, {job.method}" for score, job in compared.items()}
        raise MixedDataError(f"runs are compared by different scores, e.g. {some}: put one task into a suite")
    return Collected(frame, pd.concat(candidates, ignore_index=True), roles, next(iter(compared)))


def _read(place: Path) -> tuple[dict[str, Any], pd.DataFrame | None]:
    if not (place / REPORT).exists():
        if (place / FAILURE).exists():
            return {"error": json.loads((place / FAILURE).read_text())["error"]}, None
        return {"error": "not run"}, None
    report = json.loads((place / REPORT).read_text())
    roles = {name: domain["role"] for name, domain in report["domains"].items()}
    score = report.get("score", PARCELS)
    facts = {**{key: report.get(key) for key in FACTS}, "roles": roles, "score": score}
    if not (place / CANDIDATES).exists():
        return {**facts, "error": "no checkpoint was kept (candidates.parquet is missing)"}, None
    scored = pd.read_parquet(place / CANDIDATES)
    tests = [f"{score}/{name}" for name, role in roles.items() if role == "target"]
    bad = int(scored.reindex(columns=tests).isna().any(axis=1).sum())
    return {**facts, "error": f"target score is not a number in {bad} of {len(scored)} epochs" if bad else ""}, scored


def _check_versions(runs: pd.DataFrame) -> None:
    seen = runs[runs["data_version"].notna()]
    for shift, group in seen.groupby("shift"):
        if group["data_version"].nunique() > 1:
            some = group.groupby("data_version").apply(lambda g: f"{g['method'].iloc[0]} seed {g['seed'].iloc[0]}")
            listed = "; ".join(f"{version}: e.g. {example}" for version, example in some.items())
            raise MixedDataError(
                f"runs of {shift} saw different data ({listed}). They cannot stand in one table: set out=<another "
                "folder> or delete the runs of the old data"
            )
