"""A run on maps from Python: what it leaves, and that its numbers agree with each other."""

from __future__ import annotations

import json
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pytest
import torch

from eo_adapt.assemble import build_task, check_boundary
from eo_adapt.benchmarking.collect import MixedDataError, collect
from eo_adapt.benchmarking.compare import choose
from eo_adapt.benchmarking.plan import Job
from eo_adapt.evaluate import evaluate_run, load
from eo_adapt.metrics import mean_iou
from eo_adapt.registry import config
from eo_adapt.report.map_page import of_pixels
from eo_adapt.report.pictures import painted
from eo_adapt.train import as_plain, run

DOMAIN = "{{_target_: eo_adapt.types.Domain, name: {0}, recipe: synthetic_aerial, select: {{region: {0}}}}}"
TINY = (
    "task=aerial",
    "data.generator.departments=[D006_2020,D064_2021]",
    "data.generator.zones=8",
    "data.generator.grid=2",
    "data.generator.size=32",
    "data.min_per_class=50",
    "data.steps_per_epoch=2",
    "data.batch_size=4",
    f"shift.sources=[{DOMAIN.format('D006')}]",
    f"shift.targets=[{DOMAIN.format('D064')}]",
    "head.widths=[32,32,16,16,8]",
    "trainer=smoke",
    "trainer.progress=none",
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One finished run with figures and all its epochs, and one of the method next to it."""
    folder = tmp_path_factory.mktemp("maps") / "runs" / "aerial_embedded" / "coral" / "seed0_trial0"
    run(config(*TINY, "method=coral", "trainer.keep=all"), folder)
    return folder


def test_the_report_scores_maps(finished: Path) -> None:
    report = json.loads((finished / "report.json").read_text())
    assert (report["score"], report["unit"]) == ("closed_miou", "pixel")
    assert set(report["domains"]) == {"D006", "D064"}
    for d in report["domains"].values():
        matrix = np.array(d["confusion"]["matrix"])
        each = [
            matrix[k, k] / (matrix[k].sum() + matrix[:, k].sum() - matrix[k, k]) for k in np.flatnonzero(matrix.sum(1))
        ]
        assert d["miou"] == pytest.approx(np.mean(each))
        assert d["n"] == matrix.sum() == d["patches"]["test"] * 32 * 32
        assert d["closed_miou_interval"]["lower"] <= d["closed_miou"] <= d["closed_miou_interval"]["upper"]
        assert d["closed_miou_interval"]["zones"] == d["patches"]["test"] / 4
        assert 0 <= d["calibration"]["ece"] <= 1


def test_predictions_hold_areas_of_test_patches(finished: Path) -> None:
    frame = geopandas.read_parquet(finished / "predictions.parquet")
    report = json.loads((finished / "report.json").read_text())
    assert frame.geometry.notna().all()
    assert frame.crs == "EPSG:4326"
    for name, d in report["domains"].items():
        here, matrix = frame[frame["domain"] == name], np.array(d["confusion"]["matrix"])
        for k, c in enumerate(d["confusion"]["classes"]):
            assert here[f"area_{c}"].sum() == pytest.approx(0.2**2 * matrix[:, k].sum())
            assert here[f"true_area_{c}"].sum() == pytest.approx(0.2**2 * matrix[k].sum())
        assert np.average(here["accuracy"], weights=here["labelled"]) == pytest.approx(d["overall_accuracy"])


def test_numbers_are_those_of_one_forward_pass(finished: Path) -> None:
    task, data = build_task(as_plain(config(*TINY, "method=coral", "trainer.keep=all")))
    load(task, data, finished / "checkpoints" / "best.ckpt")
    report = json.loads((finished / "report.json").read_text())
    with data.opened(lambda: None), torch.no_grad():
        part = data.sealed(data.parcels[1])
        batch = data.reader.batch(part, torch.arange(len(part)))
        guess = task.model(batch.inputs).logits.argmax(1)
        matrix = torch.zeros(len(data.scored_classes()), len(data.scored_classes()), dtype=torch.long)
        for t, g in zip(batch.labels.flatten().tolist(), guess.flatten().tolist(), strict=True):
            if t >= 0:
                matrix[t, g] += 1
    assert matrix.tolist() == report["domains"]["D064"]["confusion"]["matrix"]


def test_evaluating_again_changes_nothing_and_shows_the_companion(finished: Path) -> None:
    before = json.loads((finished / "report.json").read_text())
    pixels = dict(np.load(finished / "figures" / "patches.npz"))
    after = evaluate_run(finished, companion=finished, figures=True)
    assert after["domains"] == before["domains"]
    assert {k: v.tolist() for k, v in pixels.items()} == {
        k: v.tolist() for k, v in np.load(finished / "figures" / "patches.npz").items()
    }


def test_boundaries_are_scored_when_asked_for(finished: Path) -> None:
    before = json.loads((finished / "report.json").read_text())
    assert not any("boundary" in d for d in before["domains"].values())
    after = evaluate_run(finished, boundary=2, figures=True)
    for name, d in after["domains"].items():
        edges = d.pop("boundary")
        assert d == before["domains"][name]
        assert edges["tolerance_px"] == 2
        there = [c["f1"] for c in edges["per_class"].values() if c["true"]]
        assert edges["f1"] == pytest.approx(np.mean(there))
        assert [*edges["per_class"]] == d["confusion"]["classes"]
    assert "F1 of the boundaries of each class" in (finished / "report.html").read_text()
    assert evaluate_run(finished, figures=False)["domains"] == before["domains"]  # as the run was told: without
    with pytest.raises(ValueError, match=r"boundary is a whole number of pixels.*got -1"):
        evaluate_run(finished, boundary=-1)
    with pytest.raises(ValueError, match=r"boundary=2 scores the outlines of maps.*set boundary=0"):
        check_boundary(2, maps=False)


def test_other_bands_or_another_order_than_the_checkpoints(finished: Path) -> None:
    for bands in (["green", "red", "blue", "nir", "elevation"], ["red", "green", "blue", "nir"]):
        with pytest.raises(ValueError, match=r"trained with bands .*'red', 'green'.*these data give .*data\.bands="):
            evaluate_run(finished, data_changes={"bands": {"aerial": bands}})


def test_figures_page_and_tensorboard(finished: Path) -> None:
    names = {p.name for p in (finished / "figures").iterdir()}
    assert {"classes.png", "maps_D064.png", "maps_D006.png", "confusion_D064.png", "patches.npz"} <= names
    page = (finished / "report.html").read_text()
    assert "mIoU" in page
    assert "Patches of each domain" in page
    assert "parcels" not in page.split("Reproduce and cite")[0].replace("parcels_per", "").split("<script")[0]
    assert len(list((finished / "tensorboard").glob("events*"))) >= 2
    assert of_pixels("Parcels are a parcel of parcel_id") == "Pixels are a pixel of parcel_id"


def test_colours_are_those_of_the_legend() -> None:
    shown = painted(np.array([[0, 1], [-1, 7]]), ["#ff0000", "#0000ff"])
    assert shown.tolist() == [[[255, 0, 0], [0, 0, 255]], [[217] * 3, [217] * 3]]


def test_benchmarks_compare_maps_by_iou(finished: Path, tmp_path: Path) -> None:
    root = finished.parents[3]
    found = collect([Job("aerial_embedded", "coral", 0, 0)], root)
    assert found.score == "closed_miou"
    report = json.loads((finished / "report.json").read_text())
    chosen = choose(found.candidates, ["infomax", "oracle"], found.roles, found.score).set_index("selector")
    epoch = torch.load(finished / "checkpoints" / "best.ckpt", weights_only=True)["epoch"]
    kept = pd.read_parquet(finished / "candidates.parquet").set_index("epoch")
    assert kept.loc[epoch, "closed_miou/D064"] == pytest.approx(report["domains"]["D064"]["closed_miou"])
    assert chosen.loc["oracle", "score"] in kept["closed_miou/D064"].tolist()
    assert {"val/D064", "a_distance/D064", "ece/D064"} <= set(kept.columns)
    other = root / "runs" / "aerial_embedded" / "dann" / "seed0_trial0"
    other.mkdir(parents=True)
    (other / "candidates.parquet").write_bytes((finished / "candidates.parquet").read_bytes())
    (other / "report.json").write_text(json.dumps({**report, "score": "closed_macro_f1"}))
    with pytest.raises(MixedDataError, match="compared by different scores"):
        collect([Job("aerial_embedded", m, 0, 0) for m in ("coral", "dann")], root)
    assert not np.isnan(mean_iou(torch.eye(2)))
