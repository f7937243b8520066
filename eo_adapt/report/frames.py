"""The tables of a run's page, from its report alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch

from ..metrics import per_class
from .figures import known, pooled
from .look import spoken
from .warn import Report, chosen_by, count, listing, shares

SCORES_NOTE = (
    "All scores are 1 at best. Accuracy: share of parcels that are right; compare it with the share of the most "
    "frequent class. Macro-F1: mean over the classes that occur, rare ones count as much as frequent ones. Closed: "
    "only parcels of classes that sources and targets share. Kappa: agreement beyond chance."
)
CLASSES_NOTE = (
    "Precision: of the parcels called so, the share that is so. Recall: of the parcels that are so, the share that is "
    "called so. F1: their harmonic mean."
)
WITHOUT_NOTE = (
    "Test samples shown to the same network as if nobody had the sensor; no network is trained for it. What falls is "
    "what this network takes from the sensor, not what the sensor could be worth."
)
SPLITS_NOTE = (
    "Sources train with labels; targets adapt without. Parcels between the splits are left out (buffer). Distance: the "
    "smallest from a test parcel to a training parcel."
)
AREA_NOTE = (
    "Mapped: all parcels, as they are called. Estimated: corrected by the mistakes on the test parcels; lower and "
    "upper bound a 95 % interval."
)
MISTAKES_NOTE = "In the targets; in the sources where targets have no labels."
MISTAKES = 15
SHARES = ("target share, %", "predicted share, %")


def scores(report: Report) -> pd.DataFrame:
    """One row a domain."""
    rows = []
    for name, d in report["domains"].items():
        truth = np.array(d["confusion"]["matrix"]).sum(1)
        rows.append(
            {
                "domain": spoken(name),
                "role": d["role"],
                "test parcels": d["n"],
                "accuracy": _score(d["overall_accuracy"]),
                "most frequent class": float(truth.max() / truth.sum()) if truth.sum() else None,
                "macro-F1": _score(d["macro_f1"]),
                "closed macro-F1": _score(d["closed_macro_f1"]),
                "kappa": _score(d["kappa"]),
            }
        )
    return pd.DataFrame(rows)


def without(report: Report) -> pd.DataFrame:
    """One row a sensor that was removed from a fusion, one column a domain, as points lost."""
    key = report.get("score", "closed_macro_f1")
    rows = []
    for sensor, domains in report.get("without", {}).items():
        row: dict[str, Any] = {"without": spoken(sensor)}
        for name, scores in domains.items():
            whole, left = report["domains"][name][key], scores[key]
            there = known(whole) and known(left)
            row[f"{spoken(name)} ({report['domains'][name]['role']})"] = left if there else None
            row[f"{spoken(name)}, change"] = left - whole if there else None
        rows.append(row)
    return pd.DataFrame(rows)


def _score(value: float | None) -> float | None:
    return value if known(value) else None


def facts(report: Report, chosen: int | None, simulated: bool) -> dict[str, str]:
    """What was run, in short: the epoch that was scored, and whether no satellite has ever seen the data."""
    found = {
        "method": report["method"],
        "encoder": report["encoder"],
        "shift": report["shift"],
        "data": report["data"] + (" (simulated)" if simulated else ""),
        "label set": report["label_set"],
        "classes learnt": str(len(report["classes"]["learnt"])),
        "seed": str(report["seed"]),
        "checkpoint": f"epoch {chosen}" if chosen else report.get("checkpoint", ""),
        "chosen by": chosen_by(report),
        "target labels used": "yes" if report["uses_target_labels"] else "no",
        "parameters": f"{report['parameters']:,d}",
        "training": f"{report['seconds']:.0f} s" if "seconds" in report else "",
        "version": report["version"],
    }
    return {key: value for key, value in found.items() if value}


def classes(report: Report) -> pd.DataFrame:
    """One row a class: sources against targets, domains pooled; classes that nobody has are left out."""
    names = _names(report)
    sides = {role: m for role in ("source", "target") if (m := pooled(report, role)) is not None}
    learnt = set(report["classes"]["learnt"])
    table = pd.DataFrame({"class": [spoken(n) for n in names], "learnt": [n in learnt for n in names]})
    for role, matrix in sides.items():
        there = matrix.sum(1).numpy()
        detail = {key: np.where(there > 0, value.numpy(), np.nan) for key, value in per_class(matrix).items()}
        table[f"{role} parcels"] = there
        if role == "target":
            table["target precision"], table["target recall"] = detail["precision"], detail["recall"]
            table[SHARES[0]] = 100 * shares(there)
            table[SHARES[1]] = 100 * shares(matrix.sum(0))
        table[f"{role} F1"] = detail["f1"]
    if len(sides) == 2:
        table["F1, target - source"] = table["target F1"] - table["source F1"]
    used = sum(m.sum(0) + m.sum(1) for m in sides.values())
    return table[torch.as_tensor(used).numpy() > 0].reset_index(drop=True)


def _names(report: Report) -> list[str]:
    return list(next(iter(report["domains"].values()))["confusion"]["classes"])


def f1_by_domain(report: Report) -> pd.DataFrame:
    """One row a class, one column a domain."""
    table = pd.DataFrame({"class": [spoken(name) for name in _names(report)]})
    for name, d in report["domains"].items():
        cells = d["per_class"].values()
        table[f"{spoken(name)} ({d['role']})"] = [c["f1"] if c["support"] else None for c in cells]
    return table


def confusions(report: Report, most: int = MISTAKES) -> pd.DataFrame:
    """The most frequent pairs of a true and another predicted class, in the targets if they have labels."""
    target = pooled(report, "target")
    matrix = target if target is not None and target.sum() else pooled(report, "source")
    if matrix is None:
        return pd.DataFrame()
    counts = matrix.numpy().copy()
    totals = counts.sum(1)
    np.fill_diagonal(counts, 0)
    names, rows = _names(report), []
    for at in np.argsort(-counts, axis=None, kind="stable")[:most]:
        i, j = divmod(int(at), len(names))
        if counts[i, j]:
            share = 100 * counts[i, j] / totals[i]
            rows.append((spoken(names[i]), spoken(names[j]), int(counts[i, j]), share))
    return pd.DataFrame(rows, columns=["is", "was called", "test parcels", "% of the class"])


def splits(report: Report, predictions: pd.DataFrame) -> pd.DataFrame:
    """One row a domain: parcels by split, and how far tests lie from training."""
    counts = pd.crosstab(predictions["domain"], predictions["split"])
    train = sum((counts[c] for c in ("train", "adapt") if c in counts), pd.Series(0, index=counts.index))
    rows = []
    for name, d in report["domains"].items():
        part = {key: int(counts[key].get(name, 0)) if key in counts else 0 for key in ("val", "test", "buffer")}
        total = int(counts.loc[name].sum()) if name in counts.index else 0
        gap = d["distances_m"].get("train-test")
        rows.append(
            {
                "domain": spoken(name),
                "role": d["role"],
                "parcels": total,
                "train or adapt": int(train.get(name, 0)),
                **part,
                "labelled test": d["n"],
                "distance, m": None if gap is None else round(gap),
            }
        )
    return pd.DataFrame(rows)


# -- blocks that a report may have -----------------------------------------------------------------------------------


def calibration(report: Report) -> pd.DataFrame:
    """One row a domain that has a calibration error."""
    rows = [
        {
            "domain": spoken(name),
            "role": d["role"],
            "error": block["ece"],
            "before scaling": block.get("ece_uncalibrated"),
        }
        for name, d in report["domains"].items()
        if (block := d.get("calibration")) and known(block.get("ece"))
    ]
    return pd.DataFrame(rows).dropna(axis=1, how="all")


def temperature(report: Report) -> str:
    """What the probabilities were scaled by."""
    if "temperature" not in report:
        return ""
    where = report.get("temperature_from", "")
    return f"Probabilities are softmax(logits / {report['temperature']:.3g}). Temperature: {where}."


def bins(report: Report, domain: str) -> pd.DataFrame | None:
    """The bins of a reliability diagram that hold parcels; None without any."""
    block: dict[str, Any] = report["domains"][domain].get("calibration") or {}
    table = pd.DataFrame(block.get("bins") or [])
    if not {"confidence", "accuracy", "count"} <= set(table.columns):
        return None
    table = table.astype(float).dropna(subset=["confidence", "accuracy"])
    return table if len(table) else None


def areas(block: list[dict[str, Any]]) -> pd.DataFrame:
    """One row a class: mapped and estimated area in hectares or parcels."""
    unit = str(block[0].get("unit", "ha"))
    keys = {"mapped": "mapped", "area": "estimated", "lower": "lower", "upper": "upper"}
    rows = [
        {
            "class": spoken(row["class"]),
            **{f"{said}, {unit}": row[f"{key}_{unit}"] for key, said in keys.items() if f"{key}_{unit}" in row},
        }
        for row in block
    ]
    table = pd.DataFrame(rows).dropna(axis=1, how="all")
    return table[(table.drop(columns="class").fillna(0) != 0).any(axis=1)]


def area_note(report: Report) -> str:
    """What the estimator assumes, as the report says it, and which classes it cannot tell anything of."""
    blocks = {name: d.get("area_accuracy") or {} for name, d in report["domains"].items() if d["role"] == "target"}
    note = next((str(block["note"]) for block in blocks.values() if block.get("note")), "")
    few = {name: block["too_few"] for name, block in blocks.items() if block.get("too_few")}
    if not few:
        return note
    name, classes = next(iter(few.items()))
    return (
        f"{note}\n\nToo few test parcels for an interval in {count(len(few), 'domain')}; in {spoken(name)} fewer than "
        f"two are called {listing(classes)}."
    )
