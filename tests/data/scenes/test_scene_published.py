"""Publishers keep whole departments for the test: a source without a test, a target with nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from quick import BRIEF
from tiles import module, store_of, world

from eo_adapt.data.parts import Split
from eo_adapt.data.recipe import Recipe, make
from eo_adapt.data.scenes.store import SceneStore
from eo_adapt.registry import config
from eo_adapt.report.warn import seen_tests
from eo_adapt.train import run

PUBLISHED = Split("published")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> SceneStore:
    """Region A is published as train and val, B as test, C as train alone, D as train and test."""
    root = tmp_path_factory.mktemp("published")
    parts = {"A": ("train", "val"), "B": ("test",), "C": ("train",), "D": ("train", "test")}
    scenes = [
        replace(s, split=parts[s.region][int(s.zone[1:]) % len(parts[s.region])])
        for s in world(root / "raw", tuple(parts), zones=4, patches=2)
    ]
    return store_of(root / "store", root / "raw", scenes)


def test_a_target_that_is_all_test_is_seen_whole_and_without_labels(store: SceneStore) -> None:
    data = module(store, split=PUBLISHED)
    source, target = data.parcels
    assert (source.scored, source.transductive, target.scored, target.transductive) == ("val", False, "test", True)
    (adapted,) = data.steps().targets
    _, selected = data.val_parts()
    with data.opened(lambda: None):
        scored = data.sealed(target)
    assert set(adapted.rows.tolist()) == set(selected.rows.tolist()) == set(scored.rows.tolist()) == set(target.rows)
    assert adapted.remap is selected.remap is None
    for part in data.steps().sources:
        assert not set(part.rows.tolist()) & set(source.rows[source.split == "val"])


def test_a_source_without_a_test_is_scored_on_its_val(store: SceneStore) -> None:
    data = module(store, split=PUBLISHED)
    with data.opened(lambda: None):
        rows = data.sealed(data.parcels[0]).rows.numpy()
    assert np.array_equal(np.sort(rows), np.sort(data.parcels[0].rows[data.parcels[0].split == "val"]))


@pytest.mark.parametrize(("sources", "targets", "lacking"), [("C", "B", "val"), ("A", "C", "val"), ("A", "D", "val")])
def test_what_else_lacks_a_split_is_refused(store: SceneStore, sources: str, targets: str, lacking: str) -> None:
    with pytest.raises(ValueError, match=rf"none in \[.*'{lacking}'.*published"):
        module(store, sources, targets, split=PUBLISHED)


def test_labels_of_such_a_target_cannot_be_trained_on(store: SceneStore) -> None:
    with pytest.raises(ValueError, match="all kept for the test"):
        module(store, split=PUBLISHED, oracle=True)


def test_the_official_test_of_flair_trains_and_says_what_was_seen(tmp_path: Path) -> None:
    recipe = Recipe.load("flair1")
    world = {"departments": ["D006_2020", "D067_2021", "D064_2021"], "zones": 2, "grid": 2, "size": 32}
    make({**recipe.synthetic, **world}).write(tmp_path / "raw")
    words = ["task=aerial", "shift=flair1_test", "method=coral", f"data.root={tmp_path / 'raw'}", *BRIEF]
    words += ["encoder.backbone=test_resnet", "head.widths=[16,16,16,8,8]", "data.crop=0", "data.min_per_class=1"]
    words += ["data.batch_size=2", "data.steps_per_epoch=2", "data.workers=0", "trainer.keep=all"]
    report = run(config(*words), tmp_path / "run")
    assert report["domains"]["test"]["transductive"]
    assert report["domains"]["train"]["split"] == "val"
    (said,) = seen_tests(report)
    assert "saw the test images of test, without labels" in said
    frame = pd.read_parquet(tmp_path / "run" / "candidates.parquet")
    assert frame["closed_miou/test"].notna().all()
    assert frame["val/test"].isna().all()  # hence no oracle and no regret
