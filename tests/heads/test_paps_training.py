"""``task=sits head=paps`` from its config to a report: parcels on sources and targets, with methods that adapt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from quick import QUICK_SERIES

from eo_adapt.assemble import build_task
from eo_adapt.encoders.base import Encoder
from eo_adapt.evaluate import evaluate_run
from eo_adapt.heads.paps import PaPs
from eo_adapt.registry import config
from eo_adapt.report.parcels import GRID, UNTUNED, confidence_facts
from eo_adapt.report.screen import show
from eo_adapt.task import AdaptationTask
from eo_adapt.train import as_plain, run
from eo_adapt.types import IGNORE, Features, Panoptic

WORDS = [word for word in QUICK_SERIES if not word.startswith(("head.", "figures"))]
WORDS = ["task=sits", "head=paps", "head.inner.widths=[]", "head.shape=8", *WORDS]


def built(*more: str) -> tuple[AdaptationTask, Any]:
    return build_task(as_plain(config(*WORDS, "figures=false", *more)))


def test_a_run_reports_parcels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = run(config(*WORDS, "method=coral", "figures=true"), tmp_path / "run")
    for name, d in report["domains"].items():
        found = d["panoptic"]
        assert found["things"] > 0, name
        assert {"pq", "sq", "rq", "closed_pq", "closed_pq_interval", "segments", "per_class"} <= set(found)
        assert "background" not in found["per_class"]
    assert report["min_confidence"] in (*GRID, UNTUNED)
    assert "source-val (T31TFJ, T31TFM)" in report["min_confidence_from"]
    logged = pd.read_csv(tmp_path / "run" / "metrics.csv")
    for term in ("centre", "size", "label", "shape"):
        assert (logged[f"loss/head/{term}"].dropna() > 0).all()
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Parcels found one by one, test patches of each domain" in page
    assert "Panoptic quality of each class" in page
    assert "kirillov2019panoptic" in page
    assert "law2018cornernet" in page
    again = evaluate_run(tmp_path / "run", figures=False)
    for name, d in report["domains"].items():
        assert json.dumps(again["domains"][name]["panoptic"]) == json.dumps(d["panoptic"])
    show(report, tmp_path)
    assert "PQ" in capsys.readouterr().out


@pytest.mark.parametrize("method", ["self_training", "csn"])
def test_methods_train_with_it(method: str, tmp_path: Path) -> None:
    more = ["method.start=0"] if method == "self_training" else []
    report = run(config(*WORDS, f"method={method}", "figures=false", "trainer.max_epochs=1", *more), tmp_path)
    assert all("panoptic" in d for d in report["domains"].values())


def test_parcels_teach_from_labelled_domains_alone() -> None:
    task, data = built("method=coral")
    task.train()
    batch = data.steps()[0, 0]
    seen = [task._view(b, i) for i, b in enumerate((*batch.sources, *batch.targets))]
    assert [bool(own) for *_, own in seen] == [True, True, False]
    assert all(b.instances is None and b.labels is None for b in batch.targets)
    own = torch.stack([*seen[0][2].values()]).sum()
    found = torch.autograd.grad(own, list(task.model.encoder.parameters()), allow_unused=True)
    assert sum(float(g.abs().sum()) for g in found if g is not None) > 0


def test_in_half_precision(tmp_path: Path) -> None:
    report = run(config(*WORDS, "figures=false", "trainer.precision=bf16", "trainer.max_epochs=1"), tmp_path)
    assert all("panoptic" in d for d in report["domains"].values())


class Sure(PaPs):
    """Says the parcels of the truth, with confidence 0.3, and one that is none, with 0.05."""

    def __init__(self, encoder: Encoder, classes: int, truth: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
        super().__init__(encoder, classes, shape=8)
        self.truth = iter(truth)

    def panoptic(self, features: Features, logits: torch.Tensor) -> Panoptic:
        segments, classes = next(self.truth)
        stray = segments == 0
        confidence = torch.where(stray, 0.05, 0.3)
        return Panoptic(torch.where(stray, 999, segments), torch.where(stray, 1, classes), confidence)


def test_the_least_confidence_is_that_of_the_best_quality_on_source_val() -> None:
    task, data = built()
    truth = []
    for part in data.val_parts()[: len(data.labelled)]:
        batch = data.reader.batch(part, torch.arange(len(part)))
        thing = (batch.labels > 0) & (batch.instances > 0)
        truth.append((batch.instances * thing, batch.labels.where(thing, IGNORE)))
    task.model.head = head = Sure(task.model.encoder, len(data.legend), truth)
    facts = confidence_facts(task, data)
    assert 0.05 < facts["min_confidence"] <= 0.3
    assert facts["min_confidence_from"] == "best PQ on source-val (T31TFJ, T31TFM)"
    head.min_confidence = 0.4
    assert confidence_facts(task, data) == {"min_confidence": 0.4, "min_confidence_from": "head.min_confidence"}
