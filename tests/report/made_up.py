"""A run that nobody trained, of any number of domains and classes, and a benchmark that nobody ran."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import shapely
import torch

from eo_adapt.benchmarking.collect import Collected
from eo_adapt.benchmarking.output import write_all
from eo_adapt.benchmarking.suite import Published, Suite
from eo_adapt.data.datamodule import DomainDataModule
from eo_adapt.data.parts import Split
from eo_adapt.data.records import Record, Sensor, Series
from eo_adapt.data.writer import StoreWriter
from eo_adapt.metrics import confusion, scores
from eo_adapt.types import Domain, Shift

EVIL = "<script>alert('x')</script> & \"$1_$"
DAYS = np.arange(5, 365, 30)


@dataclass
class MadeUp:
    """What :func:`eo_adapt.report.html.write_run_page` takes."""

    folder: Path
    report: dict[str, Any]
    data: DomainDataModule
    predictions: pd.DataFrame


def made_up(
    folder: Path,
    classes: int = 4,
    domains: int = 2,
    parcels: int = 40,
    bands: tuple[str, ...] = ("B04", "B08"),
    places: bool = True,
    labelled: bool = True,
    outlines: bool = False,
) -> MadeUp:
    """A run directory without a run.

    Args:
        folder: Where to.
        classes: How many; the first has a name that wants to break out.
        domains: How many; the last half (of one: none) are targets.
        parcels: How many a domain.
        bands: Of the one sensor.
        places: Whether parcels have coordinates.
        labelled: Whether targets have labels.
        outlines: Squares of about 1 km instead of points.
    """
    rng = np.random.default_rng(0)
    names = [EVIL, *(f"crop_{i:03d}" for i in range(1, classes))]
    regions = [f"region {i}" if i else "<b>region 0</b>" for i in range(domains)]
    roles = ["source" if i < max(1, domains - domains // 2) else "target" for i in range(domains)]
    sensor = Sensor(bands, dtype="float32", scale=1.0)
    about = {
        "title": "Made up",
        "licence": {"id": "none"},
        "citation": {"text": "Nobody & Co, 100 %", "doi": "10.1/x_y"},
    }
    with StoreWriter(folder / "store", "made_up", {"s": sensor}, about=about) as writer:
        for at, (region, role) in enumerate(zip(regions, roles, strict=True)):
            for i in range(parcels):
                lon, lat = (
                    (10 + at % 20 + rng.uniform(0, 0.3), 45 + at // 20 + rng.uniform(0, 0.2))
                    if places
                    else (np.nan,) * 2
                )
                split = ("train", "val", "test", "test")[i % 4]
                there = labelled or role == "source" or split != "test"
                values = rng.uniform(0.05, 0.6, (len(DAYS), len(bands))).astype(np.float32)
                square = shapely.to_wkb(shapely.box(lon, lat, lon + 0.012, lat + 0.009)) if outlines else None
                writer.add(
                    Record(
                        f"{at}-{i}", names[(i // 4) % classes] if there else "", lon, lat, {"s": Series(values, DAYS)},
                        region=region, split=split, geometry=square,
                    )
                )  # fmt: skip
    made = [Domain(region, "made_up", {"region": region}) for region in regions]
    shift = Shift(
        tuple(d for d, role in zip(made, roles, strict=True) if role == "source"),
        tuple(d for d, role in zip(made, roles, strict=True) if role == "target"),
    )
    data = DomainDataModule(
        shift, 0, "partial", False, "made_up", store=str(folder / "store"), min_per_class=1, split=Split("published")
    )
    data.setup()
    predictions = _predictions(data, rng)
    return MadeUp(folder, _report(data, predictions), data, predictions)


def _predictions(data: DomainDataModule, rng: np.random.Generator) -> pd.DataFrame:
    learnt = list(data.legend.names)
    truth, split = (data.store.index[c].to_numpy(str) for c in ("label", "split"))
    frames = []
    for d in data.parcels:
        p = rng.dirichlet(np.full(len(learnt), 0.3), len(d.rows))
        guess = np.array(learnt)[p.argmax(1)]
        guess = np.where(rng.random(len(guess)) < 0.5, np.where(truth[d.rows] == "", guess, truth[d.rows]), guess)
        adapt = np.where((split[d.rows] == "train") & (d.role == "target"), "adapt", split[d.rows])
        table = {
            "row": d.rows,
            "parcel_id": data.store.index["parcel_id"].to_numpy(str)[d.rows],
            "domain": d.domain.name,
            "role": d.role,
            "split": adapt,
            "label": np.where(split[d.rows] == "test", truth[d.rows], ""),
            "prediction": guess,
            "confidence": p.max(1),
            "entropy": -(p * np.log(np.maximum(p, 1e-300))).sum(1),
        }
        frames.append(pd.DataFrame({**table, **{f"p_{name}": p[:, i] for i, name in enumerate(learnt[:3])}}))
    return pd.concat(frames, ignore_index=True)


def _report(data: DomainDataModule, predictions: pd.DataFrame) -> dict[str, Any]:
    names, shared = data.legend.names, data.label_set.shared
    domains = {}
    for d in data.parcels:
        test = predictions[(predictions["domain"] == d.domain.name) & (predictions["label"] != "")]
        truth, guess = (torch.from_numpy(data.legend.encode(test[c].to_numpy(str))) for c in ("label", "prediction"))
        found = scores(confusion(truth, guess, len(names)), names, shared)
        found = {k: None if isinstance(v, float) and v != v else v for k, v in found.items()}
        domains[d.domain.name] = {"role": d.role, "split": "test", "distances_m": d.distances, **found}
    return {
        "task": "crops", "method": "coral", "encoder": "pse_ltae", "head": "classify", "shift": "made_up",
        "data": "made_up", "seed": 0, "label_set": "partial", "selector": "source_val", "uses_target_labels": False,
        "version": "0", "evaluated_with": "0", "parameters": 1234, "checkpoint": "best", "seconds": 1.5,
        "classes": {
            "learnt": list(names), "shared": list(shared),
            "source_private": list(data.label_set.source_private),
            "target_private": list(data.label_set.target_private),
        },
        "domains": domains,
    }  # fmt: skip


def made_up_benchmark(folder: Path) -> Path:
    """The page of a benchmark with everything on it: warnings, failures, numbers of others.

    Args:
        folder: Where to.
    """
    rng = np.random.default_rng(0)
    methods = ("source_only", "adabn", "few_shot", "target_only", "csn+coral")
    keys = ["shift", "method", "seed", "trial", "epoch"]
    rows = pd.DataFrame(
        [(*k, 0, e) for k in itertools.product(("a", "b"), methods, (0, 1)) for e in (0, 1)], columns=keys
    )
    domains = {"<b>EE</b>": "target", "FR": "source"}
    names = [f"{score}/{d}" for score in ("closed_macro_f1", "ece", "val", "a_distance") for d in domains]
    criteria = ["select/source_val", "select/last", "select/infomax"]
    rows[[*names, *criteria]] = rng.random((len(rows), len(names) + len(criteria)))
    runs = rows[keys[:4]].drop_duplicates().assign(version="1", data_version="d", seconds=2.0, peak_memory_mb=5.0)
    lost = (runs["method"] == "csn+coral") & (runs["shift"] == "b")
    runs = runs.assign(forwards_per_step=2.0, resumed=False, error=np.where(lost, f"ValueError: {EVIL}", ""))
    kept = rows[~((rows["method"] == "csn+coral") & (rows["shift"] == "b"))]
    others = Published(
        "theirs", "macro-F1", 61.2, "Somebody 2020, table 3", "another split, other classes, more parcels"
    )
    suite = Suite("Made up", "crops", ["embedded"], published=[others])
    command = (
        "python -m eo_adapt.benchmark suite=made_up methods=[csn+coral] seeds=2 data.root=/a/long/folder/of/raw/files"
    )
    write_all(Collected(runs, kept, {"a": domains, "b": domains}), suite, "infomax", folder, command)
    return folder / "report.html"
