"""``task=sits`` from its config to a report: Sentinel-2 alone, and one sensor of three, cropped and augmented."""

from __future__ import annotations

from pathlib import Path

import pytest

from eo_adapt.data.synthetic.pastis import PastisWorld
from eo_adapt.registry import config, names
from eo_adapt.train import run

TILES = ("T31TFJ", "T31TFM", "T30UXV")
DOMAIN = "{{_target_: eo_adapt.types.Domain, name: {0}, recipe: {1}, select: {{region: {0}}}}}"


def tiny(recipe: str) -> list[str]:
    one, other, target = (DOMAIN.format(tile, recipe) for tile in TILES)
    return [
        "trainer=smoke", "trainer.progress=none", "figures=false", "logger=csv",
        f"data.generator.tiles=[{','.join(TILES)}]", "data.generator.patches=10", "data.generator.size=16",
        "data.generator.revisit=40", "data.min_per_class=20", "data.batch_size=4", "data.steps_per_epoch=2",
        f"shift.sources=[{one},{other}]", f"shift.targets=[{target}]",
        "encoder.widths=[16,16]", "encoder.decoder=[16]", "encoder.heads=4", "encoder.d_model=32", "head.widths=[]",
    ]  # fmt: skip


needs_utae = pytest.mark.skipif("utae" not in names("encoder"), reason="no encoder for image series")


@needs_utae
@pytest.mark.parametrize(
    ("shift", "more"),
    [
        ("sits_embedded", ["method=coral"]),
        ("sits_embedded_r", ["method=self_training", "method.start=0", "encoder.sensor=s1a", "data.crop=8",
                             "data.augment.gain=0.1", "data.augment.noise=0.1"]),
    ],
)  # fmt: skip
def test_two_epochs(shift: str, more: list[str], tmp_path: Path) -> None:
    recipe = shift.replace("sits_embedded", "synthetic_pastis")
    report = run(config("task=sits", f"shift={shift}", *tiny(recipe), *more), tmp_path)
    assert set(report["domains"]) == set(TILES)
    for found in report["domains"].values():
        assert 0 <= found["miou"] <= 1


@needs_utae
def test_the_published_folds_score_the_fifth(tmp_path: Path) -> None:
    PastisWorld(("T31TFM", "T30UXV"), patches=10, size=16, revisit=60).write(tmp_path / "raw")
    words = [word for word in tiny("pastis") if "generator" not in word and "shift" not in word]
    place = [f"data.root={tmp_path / 'raw'}", "method=adabn", "data.workers=0"]
    report = run(config("task=sits", "shift=pastis_folds", *words, *place), tmp_path / "run")
    assert {name: d["patches"] for name, d in report["domains"].items()} == {
        "folds_1_to_4": {"train": 12, "val": 4, "test": 0, "buffer": 0},
        "fold_5": {"train": 0, "val": 0, "test": 4, "buffer": 0},
    }
    assert report["domains"]["fold_5"]["transductive"]
