"""report.json: what was run, who chose it, and every score, by domain."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from ..data.datamodule import DomainDataModule
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
        facts: Seconds, throughput and the like, copied in.
    """
    config = task.card["config"]
    choices = config.get("choices", {})
    oracle = task.alignment.uses_target_labels
    report = {
        **{key: choices.get(key, "") for key in ("task", "method", "encoder", "head", "shift", "data")},
        "seed": config["seed"],
        "label_set": config["label_set"],
        "selector": "oracle" if oracle else _selector(task, choices, facts),
        "uses_target_labels": oracle or task.selection.uses_target_labels,
        "version": version(),
        "evaluated_with": version(),
        "classes": {
            "learnt": list(data.legend.names),
            "shared": list(data.label_set.shared),
            "source_private": list(data.label_set.source_private),
            "target_private": list(data.label_set.target_private),
        },
        "parameters": sum(p.numel() for p in task.model.parameters()),
        "domains": _domains(data, predictions),
        **facts,
    }
    write_text(path, json.dumps(_no_nan(report), indent=1))
    return report


def _selector(task: AdaptationTask, choices: Mapping[str, str], facts: Mapping[str, Any]) -> str:
    """Who chose the checkpoint that was scored; the last one was not chosen at all."""
    return "last" if facts["checkpoint"] == "last" else choices.get("selection", type(task.selection).__name__)


def _domains(data: DomainDataModule, predictions: pd.DataFrame) -> dict[str, Any]:
    legend, shared = data.scored_classes(), data.label_set.shared
    found = {}
    for d in data.parcels:
        test = predictions[(predictions["domain"] == d.domain.name) & (predictions["label"] != "")]
        truth, guess = (torch.from_numpy(legend.encode(test[c].to_numpy(str))) for c in ("label", "prediction"))
        matrix = confusion(truth, guess, len(legend))
        found[d.domain.name] = {
            "role": d.role,
            "split": "test",
            "distances_m": d.distances,
            **scores(matrix, legend.names, shared),
        }
    return found


def _no_nan(node: Any) -> Any:
    """JSON has no NaN: scores that do not exist become null."""
    if isinstance(node, Mapping):
        return {k: _no_nan(v) for k, v in node.items()}
    if isinstance(node, list):
        return [_no_nan(v) for v in node]
    return None if isinstance(node, float) and not abs(node) < float("inf") else node
