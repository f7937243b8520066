"""report.json and predictions.parquet of maps: scores from one confusion matrix a patch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..boundaries import boundary_scores
from ..calibration import calibrated, expected_calibration_error, reliability
from ..data.datamodule import DomainDataModule
from ..data.scenes.parts import DomainPatches
from ..metrics import map_scores
from ..panoptic import panoptic_scores
from ..task import AdaptationTask
from .map_scores import MapScores, score_maps
from .parcels import things_of
from .predictions import write_geo
from .run import no_nan, write_domains

INTERNAL = ("row",)  # columns that the file does not hold


def write_map_results(
    folder: Path,
    task: AdaptationTask,
    data: DomainDataModule,
    threshold: float | None,
    facts: Mapping[str, Any],
    boundary: int = 0,
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Score every domain's test patches; write ``report.json`` and ``predictions.parquet``.

    The table has one row a test patch: parcel_id, geometry, domain, role, split, zone, labelled (pixels), accuracy,
    ``area_<class>`` and ``true_area_<class>`` (m2 of the labelled and other pixels called so, and of those that are so;
    pixels where the pixel size is not known).

    Args:
        folder: The run directory.
        task: The trained task.
        data: The domains, opened for the evaluator.
        threshold: Open set: below this calibrated confidence a pixel is called unknown; None otherwise.
        facts: Temperature, seconds and the like, copied into the report.
        boundary: Tolerance of boundary scores, pixels; 0 = there are none.

    Returns:
        The report, and the table without geometry.
    """
    temperature = float(facts["temperature"])
    unsure = below(threshold, temperature)
    classes = data.scored_classes()
    things = things_of(task, data, classes.names, float(facts.get("min_confidence", 0)))
    domains, frames = {}, []
    for i, d in enumerate(data.parcels):
        assert isinstance(d, DomainPatches)  # noqa: S101  (domains of maps)
        number = 0 if data.oracle else i
        found = score_maps(task, data, data.sealed(d), number, len(classes), unsure, boundary, things=things)
        zones, units = zones_of(d, found.rows)
        domains[d.domain.name] = {
            "role": d.role,
            "split": d.scored,
            "transductive": d.transductive,
            "distances_m": d.distances,
            "patches": {name: int((d.split == name).sum()) for name in ("train", "val", "test", "buffer")},
            **map_scores(found.matrices, units, classes.names, data.label_set.shared),
            **_boundary(found, classes.names, boundary),
            **_panoptic(found, units, classes.names, data.label_set.shared),
            "calibration": _calibration(found, temperature, len(data.legend)),
        }
        frames.append(_table(data, d, found, zones, classes.names))
    frame = pd.concat(frames).reset_index(drop=True)
    write_geo(folder / "predictions.parquet", data.store.path / "index.parquet", frame, INTERNAL)
    more = {"score": data.score, "unit": "pixel", "unknown_below": threshold}
    return write_domains(folder / "report.json", task, data, domains, {**more, **facts}), frame


def below(threshold: float | None, temperature: float) -> Callable[[Tensor], Tensor] | None:
    """Open set: logits (B, L, H, W) -> (B, H, W) bool, pixels that are called unknown; None in a closed one."""
    if threshold is None:
        return None
    return lambda logits: torch.softmax(logits.float() / temperature, 1).amax(1) < threshold


def zones_of(d: DomainPatches, rows: Tensor) -> tuple[list[str], list[str]]:
    """Zone of some patches of a domain, and what was dealt to a split with each."""
    places = np.searchsorted(d.rows, rows.numpy())
    return d.zones[places].tolist(), d.units[places].tolist()


def _boundary(found: MapScores, names: Sequence[str], tolerance: int) -> dict[str, Any]:
    if found.outlines is None:
        return {}
    return {"boundary": boundary_scores(found.outlines.sum(0), names, tolerance)}


def _panoptic(found: MapScores, zones: Sequence[str], names: Sequence[str], shared: Sequence[str]) -> dict[str, Any]:
    if found.things is None:
        return {}
    clean: dict[str, Any] = no_nan({"panoptic": panoptic_scores(found.things, zones, names, shared)})
    return clean


def _calibration(found: MapScores, temperature: float, learnt: int) -> dict[str, Any]:
    """Calibration error of the likeliest learnt class on sampled labelled test pixels, after and before scaling."""
    out: dict[str, Any] = {}
    known = found.labels < learnt
    correct = found.logits.argmax(1) == found.labels
    for name, t in (("", temperature), ("_uncalibrated", 1.0)):
        sure = calibrated(found.logits, t).amax(1)
        out[f"ece{name}"] = expected_calibration_error(sure, correct)
        out[f"ece_learnt{name}"] = expected_calibration_error(sure[known], correct[known])
    out["bins"] = reliability(calibrated(found.logits, temperature).amax(1), correct)
    out["pixels"] = len(found.labels)
    clean: dict[str, Any] = no_nan(out)
    return clean


def _table(
    data: DomainDataModule, d: DomainPatches, found: MapScores, zones: list[str], names: tuple[str, ...]
) -> pd.DataFrame:
    rows = found.rows.numpy()
    index = data.store.index.iloc[rows]
    gsd = index["gsd"].to_numpy(float)
    pixel = np.where(np.isfinite(gsd) & (gsd > 0), np.square(gsd), 1.0)
    labelled = found.matrices.sum((1, 2)).numpy()
    right = found.matrices.diagonal(dim1=1, dim2=2).sum(1).numpy()
    table: dict[str, Any] = {
        "row": rows,
        "parcel_id": index["parcel_id"].to_numpy(str),
        "domain": d.domain.name,
        "role": d.role,
        "split": d.scored,
        "zone": zones,
        "labelled": labelled,
        "accuracy": np.where(labelled > 0, right / np.maximum(1, labelled), np.nan),
    }
    for side, counts in (("area", found.areas.numpy()), ("true_area", found.matrices.sum(2).numpy())):
        table |= {f"{side}_{name}": counts[:, k] * pixel for k, name in enumerate(names)}
    return pd.DataFrame(table)
