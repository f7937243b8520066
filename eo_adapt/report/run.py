"""report.json: what was run, who chose it, and every score, by domain."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..area import area_report, parcel_hectares
from ..calibration import expected_calibration_error, fit_temperature, reliability, why_not
from ..data.datamodule import DomainDataModule
from ..data.legend import Legend
from ..metrics import confusion, scores
from ..rundir import version, write_text
from ..task import AdaptationTask


def write_report(
    path: Path, task: AdaptationTask, data: DomainDataModule, predictions: pd.DataFrame, facts: Mapping[str, Any]
) -> dict[str, Any]:
    """Write and return the report of one run.

    Args:
        path: Where to.
        task: The trained task; says who chose it.
        data: The domains.
        predictions: As :func:`.predictions.write_predictions` made it.
        facts: Temperature, seconds, throughput and the like, copied in.
    """
    return write_domains(path, task, data, _domains(data, predictions), facts)


def write_domains(
    path: Path, task: AdaptationTask, data: DomainDataModule, domains: Mapping[str, Any], facts: Mapping[str, Any]
) -> dict[str, Any]:
    """Write and return a report of domains that are scored already, of parcels or of maps."""
    config = task.card["config"]
    choices = config.get("choices", {})
    oracle, selector = task.alignment.uses_target_labels, _selector(task, facts)
    report = {
        **{key: choices.get(key, "") for key in ("task", "method", "encoder", "head", "shift", "data")},
        "seed": config["seed"],
        "label_set": config["label_set"],
        "selector": selector,
        "chosen_by": _spelt(task, selector, len(data.unlabelled)),
        "uses_target_labels": oracle or task.criteria[task.selection].uses_target_labels,
        "version": version(),
        "evaluated_with": version(),
        "data_version": data.store.fingerprint,
        "classes": {
            "learnt": list(data.legend.names),
            "shared": list(data.label_set.shared),
            "source_private": list(data.label_set.source_private),
            "target_private": list(data.label_set.target_private),
        },
        "parameters": sum(p.numel() for p in task.model.parameters()),
        "domains": domains,
        **facts,
    }
    write_text(path, json.dumps(no_nan(report), indent=1))
    return report


def _selector(task: AdaptationTask, facts: Mapping[str, Any]) -> str:
    """Who chose the checkpoint that was scored; the last one was not chosen at all."""
    if facts["checkpoint"] == "last":
        return "last"
    labelled_val = task.alignment.uses_target_labels and task.selection == "source_val"
    return "oracle" if labelled_val else task.selection


def _spelt(task: AdaptationTask, selector: str, targets: int) -> str:
    """Who chose, for people: ``auto`` with the criterion that it handed on to."""
    return task.criteria[selector].spelt(selector, targets) if selector == task.selection else selector


def _domains(data: DomainDataModule, predictions: pd.DataFrame) -> dict[str, Any]:
    legend, shared = data.scored_classes(), data.label_set.shared
    hectares = parcel_hectares(data.store.path / "index.parquet", predictions["row"].to_numpy())
    found = {}
    for d in data.parcels:
        here = (predictions["domain"] == d.domain.name).to_numpy()
        parcels = predictions[here]
        test = parcels[parcels["label"] != ""]
        truth, guess = (torch.from_numpy(legend.encode(test[c].to_numpy(str))) for c in ("label", "prediction"))
        matrix = confusion(truth, guess, len(legend))
        found[d.domain.name] = {
            "role": d.role,
            "split": "test",
            "distances_m": d.distances,
            **scores(matrix, legend.names, shared),
            "calibration": _calibration(test, data.legend.names),
            **_areas(legend, parcels, None if hectares is None else hectares[here], matrix),
        }
    return found


def _calibration(test: pd.DataFrame, learnt: Sequence[str]) -> dict[str, Any]:
    """Calibration error of the likeliest learnt class on labelled test parcels, after and before scaling.

    Parcels of a class that was never learnt are always wrong; ``_learnt`` leaves them out.
    """
    correct = torch.tensor((test["label"] == test["likeliest"]).to_numpy(bool))
    known = torch.tensor(test["label"].isin(list(learnt)).to_numpy(bool))
    found: dict[str, Any] = {}
    for name, column in (("", "confidence"), ("_uncalibrated", "uncalibrated")):
        confidence = torch.tensor(test[column].to_numpy(float))
        found[f"ece{name}"] = expected_calibration_error(confidence, correct)
        found[f"ece_learnt{name}"] = expected_calibration_error(confidence[known], correct[known])
    found["bins"] = reliability(torch.tensor(test["confidence"].to_numpy(float)), correct)
    clean: dict[str, Any] = no_nan(found)
    return clean


def _areas(legend: Legend, parcels: pd.DataFrame, hectares: np.ndarray | None, matrix: Tensor) -> dict[str, Any]:
    """Areas of a domain's classes: hectares where every outline is known, else numbers of parcels."""
    known = hectares is not None and bool(np.isfinite(hectares).all() and hectares.sum() > 0)
    sizes = hectares if known else np.ones(len(parcels))
    classes = legend.encode(parcels["prediction"].to_numpy(str))
    mapped = np.bincount(classes, sizes, minlength=len(legend))
    found: dict[str, Any] = no_nan(
        area_report(legend.names, matrix.T.numpy(), mapped, "ha" if known else "parcels")  # rows = mapped classes
    )
    return found


def temperature_facts(data: DomainDataModule, logits: Tensor, labels: Tensor) -> dict[str, Any]:
    """The temperature that every domain's probabilities are scaled by, and what it was fitted on, for the report.

    Args:
        data: The domains.
        logits: (N, K) of the labelled domains' validation parcels, pooled.
        labels: (N,) their classes.
    """
    role = "target" if data.oracle else "source"
    where = f"{role}-val ({', '.join(d.domain.name for d in data.labelled)})"
    if reason := "few shots leave no labelled parcel to spare" if data.shots else why_not(logits, labels):
        return {"temperature": 1.0, "temperature_from": f"not fitted on {where}: {reason}"}
    return {
        "temperature": fit_temperature(logits, labels),
        "temperature_from": f"{where}, {len(labels)} {'pixels' if data.maps else 'parcels'}",
    }


def no_nan(node: Any) -> Any:
    """JSON has no NaN: scores that do not exist become null."""
    if isinstance(node, Mapping):
        return {k: no_nan(v) for k, v in node.items()}
    if isinstance(node, list):
        return [no_nan(v) for v in node]
    return None if isinstance(node, float) and not abs(node) < float("inf") else node
