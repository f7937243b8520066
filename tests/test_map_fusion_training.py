"""Fusion of image series in training: every scheme with every kind of method, and reports with sensors removed."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from hydra.errors import ConfigCompositionException
from quick import BRIEF

from eo_adapt.assemble import build_task
from eo_adapt.evaluate import load
from eo_adapt.registry import config
from eo_adapt.robustness import missing_dates, missing_dates_of_run, score_tests, without
from eo_adapt.train import as_plain, run

TILE = "{{_target_: eo_adapt.types.Domain, name: {0}, recipe: synthetic_pastis_r, select: {{region: {0}}}}}"
UTAE = ("widths=[8,16]", "decoder=[8]", "heads=4", "d_model=16")
WORLD = (
    "shift=sits_embedded_r",
    "data.generator.tiles=[T31TFJ,T30UXV]",
    "data.generator.patches=10",
    "data.generator.size=16",
    "data.generator.revisit=60",
    "data.min_per_class=20",
    "data.batch_size=4",
    "data.steps_per_epoch=2",
    f"shift.sources=[{TILE.format('T31TFJ')}]",
    f"shift.targets=[{TILE.format('T30UXV')}]",
    *BRIEF,
    "trainer.max_epochs=1",
)
HEADS = {"decision": "map_decision", "late": "map_auxiliary"}
SENSORS = {"s2", "s1a", "s1d"}


def words(scheme: str, *more: str) -> list[str]:
    head = HEADS.get(scheme, "dense")
    encoder = [f"encoder.branch.{option}" for option in UTAE]
    return ["task=sits", *WORLD, "encoder=series_fusion", f"encoder.scheme={scheme}", f"head={head}", *encoder, *more]


@pytest.mark.parametrize(
    ("scheme", "method"),
    [("late", "dann"), ("late", "self_training"), ("mid", "coral"), ("early", "source_only"), ("decision", "geomt"),
     ("added", "[csn,coral]")],
)  # fmt: skip
def test_every_scheme_trains_and_says_what_each_sensor_is_worth(scheme: str, method: str, tmp_path: Path) -> None:
    more = ["encoder.drop_dates=0.2", "encoder.drop_modality=0.2"]
    more += ["method.start=0"] if method == "self_training" else []
    more += ["encoder.branch.norm=batch"] if "csn" in method else []
    more += ["align_at=all"] if scheme in ("late", "added", "decision") else []
    report = run(config(*words(scheme, f"method={method}", *more)), tmp_path)
    assert set(report["without"]) == SENSORS
    assert report["untrained"] == []
    for domains in report["without"].values():
        assert set(domains) == {"T31TFJ", "T30UXV"}
        assert all(0 <= scores["closed_miou"] <= 1 for scores in domains.values())
    logged = set(pd.read_csv(tmp_path / "metrics.csv"))
    if method in ("dann", "geomt"):
        term = {"dann": "domain", "geomt": "position"}[method]
        assert {f"loss/{name}/{term}" for name in ("fused", *SENSORS)} <= logged
    if scheme in HEADS:
        assert {f"loss/auxiliary/{name}" for name in SENSORS} <= logged


def test_scores_without_a_sensor_or_its_dates_are_those_of_batches_without_them(tmp_path: Path) -> None:
    report = run(config(*words("late")), tmp_path)
    assert set(report["untrained"]) == SENSORS
    task, data = build_task(as_plain(config(*words("late"))))
    load(task, data, tmp_path / "checkpoints" / "best.ckpt")
    with data.opened(lambda: None):
        whole = score_tests(task, data, lambda batch: batch.inputs)
        assert score_tests(task, data, without("s1a")) == report["without"]["s1a"]
        assert all(
            scores["closed_miou"] == pytest.approx(report["domains"][n]["closed_miou"]) for n, scores in whole.items()
        )
        curve = missing_dates(task, data, "s2", shares=(0.0, 0.9), seeds=(0, 1))["domains"]
    for name, scores in whole.items():
        assert curve[name]["closed_miou"][0] == [scores["closed_miou"]] * 2
        assert len(curve[name]["closed_miou"][1]) == 2
    again = missing_dates_of_run(tmp_path, "s2", shares=(0.0,), seeds=(0,))
    assert again["domains"]["T30UXV"]["miou"] == [[pytest.approx(report["domains"]["T30UXV"]["miou"])]]


def test_align_at_needs_branches() -> None:
    with pytest.raises(ValueError, match=r"align_at=branches needs a network with an encoder for each sensor"):
        build_task(as_plain(config(*words("mid", "method=coral", "align_at=branches"))))
    with pytest.raises(ConfigCompositionException, match="align_at=fussed"):
        config(*words("late", "align_at=fussed"))
