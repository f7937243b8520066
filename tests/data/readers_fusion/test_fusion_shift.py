"""The embedded shift of several sensors: its recipe, its batches, and what a pixel's sensors tell of its class."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from eo_adapt.data.recipe import Recipe
from eo_adapt.data.scenes.datamodule import SceneDataModule
from eo_adapt.registry import config, instantiate
from eo_adapt.types import Shift

TINY = ["data.generator.zones=4", "data.generator.grid=1", "data.generator.revisit=30", "data.min_per_class=1"]
SENSORS = ["aerial", "elevation", "s2", "s1_asc", "s1_desc"]


@cache
def data(*more: str) -> SceneDataModule:
    cfg = config("shift=fusion_embedded", *TINY, *more)
    given: dict[str, Any] = {"shift": instantiate(cfg.shift), "seed": 0, "kind": "closed", "oracle": False}
    made: SceneDataModule = instantiate(cfg.data, **given)
    made.setup()
    return made


def test_the_shift_composes() -> None:
    cfg = config("shift=fusion_embedded")
    shift: Shift = instantiate(cfg.shift)
    assert {d.recipe for d in shift.domains} == {cfg.data.recipe} == {"synthetic_fusion"}
    recipe = Recipe.load("synthetic_fusion")
    assert recipe.synthetic.items() <= dict(cfg.data.generator).items()
    departments = {name[:4] for name in cfg.data.generator.departments}
    assert {d.select["region"] for d in shift.domains} == departments


def test_batches_hold_every_sensor() -> None:
    of = data()
    assert list(of.bands) == SENSORS
    assert list(of.bands["elevation"]) == ["height"]
    step = of.steps()[0, 0]
    for batch in (*step.sources, *step.targets):
        assert {name: tuple(x.values.shape[-2:]) for name, x in batch.inputs.items()} == {
            "aerial": (64, 64), "elevation": (64, 64), "s2": (10, 10), "s1_asc": (10, 10), "s1_desc": (10, 10),
        }  # fmt: skip
        for name in SENSORS[2:]:
            look = batch.inputs[name]
            assert look.valid is not None
            assert look.valid.any(1).all()
            assert torch.isfinite(look.values).all()
        radar, optical = batch.inputs["s1_asc"], batch.inputs["s2"]
        assert radar.valid is not None
        assert optical.valid is not None
        assert radar.valid.all()
        assert not optical.valid.all()
    assert (step.sources[0].labels if step.sources[0].labels is not None else torch.empty(0)).shape[1:] == (64, 64)
    assert step.targets[0].labels is None


def clear(of: SceneDataModule) -> dict[str, float]:
    """Share of dates of Sentinel-2 that count, by region."""
    index = of.store.index
    return {str(r): float(np.mean([v for row in g["s2.valid"] for v in row])) for r, g in index.groupby("region")}


def test_targets_are_cloudier_and_a_knob_takes_that_away() -> None:
    found = clear(data())
    assert max(found["D064"], found["D071"]) < 0.7 * min(found["D006"], found["D033"], found["D067"])
    alike = clear(data("data.generator.clouds=0"))
    there, here = (np.mean([alike[r] for r in names]) for names in (("D064", "D071"), ("D006", "D033", "D067")))
    assert 0.75 * here < there < here / 0.75


def test_a_department_without_radar() -> None:
    of = data("+data.generator.lacking={SENTINEL1-DESC_TS: [D071_2020]}")
    about = json.loads((of.store.path / "store.json").read_text())
    assert about["lacking"] == {"elevation": 0, "s2": 0, "s1_asc": 0, "s1_desc": 4}
    lacks = [of.store.lacks(row, "s1_desc") for row in range(len(of.store))]
    assert lacks == (of.store.index["region"] == "D071").tolist()
    for batch in of.steps()[0, 0].targets:
        look = batch.inputs["s1_desc"]
        assert look.valid is not None
        lacking = torch.tensor([lacks[row] for row in batch.rows.tolist()])
        assert torch.equal(~look.valid.any(1), lacking)


def table(of: SceneDataModule) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Of the middle of each cell of 10 x 10 what each sensor sees there, dates as quarters of a year, and the class."""
    seen: dict[str, list[np.ndarray]] = {name: [] for name in SENSORS}
    classes = []
    at = ((np.arange(10) + 0.5) * 6.4).astype(int)
    for d in of.labelled:
        part = of._labelled_part(d, "train")
        batch = of.patches.batch(part, torch.arange(len(part)))
        assert batch.labels is not None
        classes.append(batch.labels.numpy()[:, at][:, :, at].ravel())
        for name, look in batch.inputs.items():
            mean, std = (np.array(s)[:, None, None] for s in of.statistics[name])
            x = (look.values.numpy() - mean) / std
            if look.days is None or look.valid is None:
                x = x[:, :, at][:, :, :, at]
            else:
                quarter = np.clip(look.days.numpy() // 92, 0, 3)
                use = [((quarter == q) & look.valid.numpy())[:, :, None, None, None] for q in range(4)]
                x = np.concatenate([(x * u).sum(1) / np.maximum(u.sum(1), 1) for u in use], 1)
            seen[name].append(np.moveaxis(x, 1, -1).reshape(-1, x.shape[1]))
    return {name: np.concatenate(rows) for name, rows in seen.items()}, np.concatenate(classes)


def right(x: np.ndarray, y: np.ndarray) -> float:
    """Balanced accuracy of the nearest neighbours of the other half's pixels."""
    from scipy.spatial import cKDTree

    half = len(y) // 2
    nearest = cKDTree(x[:half]).query(x[half:], 9)[1]
    votes = np.array([np.bincount(row, minlength=y.max() + 1).argmax() for row in y[:half][nearest]])
    return float(np.mean([(votes[y[half:] == k] == k).mean() for k in np.unique(y[half:])]))


def test_every_modality_says_something_and_they_say_more_together() -> None:
    seen, y = table(data())
    known = y >= 0
    seen, y = {name: x[known] for name, x in seen.items()}, y[known]
    order = np.random.default_rng(0).permutation(len(y))
    alone = {name: right(x[order], y[order]) for name, x in seen.items()}
    chance = 1 / len(np.unique(y))
    assert min(alone.values()) > 1.5 * chance, alone
    assert max(alone.values()) < 0.9, alone
    together = right(np.concatenate(list(seen.values()), 1)[order], y[order])
    assert together > max(alone.values()) + 0.03, (together, alone)
    print(alone, together)


@pytest.mark.parametrize("sensor", ["aerial"])
def test_a_network_of_one_sensor_learns(sensor: str, tmp_path: Any) -> None:
    from eo_adapt.train import run

    small = ["trainer=smoke", "trainer.progress=none", "figures=false", "logger=csv", "data.batch_size=2",
             "data.steps_per_epoch=2", "encoder.backbone=resnet10t", "head.widths=[16,8,8,8,8]"]  # fmt: skip
    report = run(config("task=aerial", "shift=fusion_embedded", f"encoder.sensor={sensor}", *TINY, *small), tmp_path)
    assert set(report["domains"]) == {"D006", "D033", "D067", "D064", "D071"}
