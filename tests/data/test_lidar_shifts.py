"""Shifts of laser scans: what composes, what they select, and whole trainings on bands and on points."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from eo_adapt.data.recipe import Recipe
from eo_adapt.registry import config, instantiate, names
from eo_adapt.train import run
from eo_adapt.types import Shift

REAL = Path(__file__).parents[2] / "../shared/data/lidar"
ROOT = Path(__file__).parents[2]
SHIFTS = [name for name in names("shift") if name.startswith("lidar_")]
POINTS = {
    "lidar": ("data=lidar_points", "encoder=point_pillars"),
    "synthetic_lidar": ("data=synthetic_lidar_points", "encoder=point_pillars"),
}


@pytest.mark.parametrize("name", SHIFTS)
def test_shifts_compose_for_bands_and_for_points(name: str) -> None:
    plain = config("task=aerial", f"shift={name}")
    points = config("task=aerial", f"shift={name}", *POINTS[plain.data.recipe])
    for cfg, sensor in ((plain, "lidar"), (points, "points")):
        shift: Shift = instantiate(cfg.shift)
        assert {domain.recipe for domain in shift.domains} == {cfg.data.recipe}
        assert Recipe.load(cfg.data.recipe).name == cfg.data.recipe
        assert list(cfg.data.bands) == [sensor]
    assert list(points.encoder.size) == [32, 32] == [Recipe.load("lidar").reader["making"]["window"]] * 2
    assert plain.data.recipe == points.data.recipe


def test_the_suites_run_the_same_shifts_on_bands_and_on_points() -> None:
    bands, points = (OmegaConf.load(ROOT / "configs" / "suite" / f"{name}.yaml") for name in ("lidar", "lidar_points"))
    assert set(bands.shifts) == set(points.shifts) == set(SHIFTS) - {"lidar_embedded"}
    assert tuple(points.overrides) == POINTS["lidar"]


@pytest.mark.skipif(not REAL.is_dir(), reason="no ../shared/data")
def test_domains_are_sites_that_are_there_and_labelled() -> None:
    with (REAL / "sites.csv").open() as file:
        sites = {row["site"] for row in csv.DictReader(file)}
    assert sites == {path.stem for path in REAL.glob("*.laz")}
    unlabelled = set(Recipe.load("lidar").reader["unlabelled"])
    assert unlabelled < sites
    for name in set(SHIFTS) - {"lidar_embedded"}:
        shift: Shift = instantiate(config(f"shift={name}").shift)
        chosen = [d.select["region"] for d in shift.domains]
        regions = [r for one in chosen for r in ([one] if isinstance(one, str) else one)]
        assert len(set(regions)) == len(regions)
        assert set(regions) <= sites - unlabelled


@pytest.mark.parametrize("branch", ["bands", "points"])
def test_a_whole_training_learns_more_than_the_largest_class(branch: str, tmp_path: Path) -> None:
    words = POINTS["synthetic_lidar"] if branch == "points" else ()
    small = ("data.steps_per_epoch=12", "data.batch_size=4", "encoder.backbone=test_resnet")
    quiet = ("trainer=smoke", "trainer.progress=none", "figures=false", "logger=csv", "head.widths=[32,32,16,16,8]")
    cfg = config(
        "task=aerial", "shift=lidar_embedded", *words, *small, *quiet, "optim.lr=0.003", "trainer.max_epochs=4"
    )
    run(cfg, tmp_path / "run")
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert set(report["domains"]) == {"dense", "sparse"}
    assert report["domains"]["dense"]["miou"] > 0.36  # one class everywhere: at most 0.33
