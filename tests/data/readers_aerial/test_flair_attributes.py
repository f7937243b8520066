"""Metadata of FLAIR patches as numbers: the real entries, the store, what trains and maps; what is missing."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from quick import QUICK_MAPS, ROOT

from eo_adapt.data.fetch.making import make_result
from eo_adapt.data.readers.flair1 import METADATA, Flair1
from eo_adapt.data.readers.flair_attributes import KINDS, attributes_of
from eo_adapt.data.recipe import Recipe
from eo_adapt.data.scenes.moments import statistics_of
from eo_adapt.data.scenes.reader import PatchPart, PatchReader
from eo_adapt.data.scenes.store import SceneStore
from eo_adapt.data.scenes.writer import write_scenes
from eo_adapt.data.synthetic.aerial_world import AerialWorld

REAL = Path(__file__).parents[3] / "../shared/data/flair/flair_toy_metadata.json"
ABOUT: dict[str, Any] = {
    "patch_centroid_x": 924009.6, "patch_centroid_y": 6339451.2, "patch_centroid_z": 1661.94, "date": "2021-05-28",
    "time": "08h06", "camera": "UCE-M3-f120-s07",
}  # fmt: skip
NAMES = ["altitude", "season_sin", "season_cos", "hour_sin", "hour_cos", "camera", "x", "y"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("flair")
    AerialWorld(("D006_2020", "D064_2021"), zones=2, grid=2, size=16).write(root)
    return root


def stored(root: Path, out: Path, names: list[str]) -> SceneStore:
    reader = Flair1(attributes=names)
    write_scenes(out, "flair1", root, reader.read(root), reader.sensors, reader.classes)
    return SceneStore(out)


def test_by_hand() -> None:
    found = attributes_of(list(KINDS), ABOUT, "IMG_000717")
    assert list(found) == NAMES
    assert (found["altitude"], found["camera"], found["x"], found["y"]) == (1661.94, 1.0, 924009.6, 6339451.2)
    assert math.atan2(found["season_sin"], found["season_cos"]) == pytest.approx(2 * math.pi * 147 / 365.25)  # 28 May
    assert math.atan2(found["hour_sin"], found["hour_cos"]) == pytest.approx(2 * math.pi * 8.1 / 24)


@pytest.mark.parametrize(("text", "hours"), [("8h45", 8.75), ("24h00", 0.0), ("00h00", 0.0), ("11h", 11.0)])
def test_times_as_they_are_written(text: str, hours: float) -> None:
    found = attributes_of(["hour"], {**ABOUT, "time": text}, "IMG_1")
    assert found["hour_sin"] == pytest.approx(math.sin(2 * math.pi * hours / 24), abs=1e-12)
    assert found["hour_cos"] == pytest.approx(math.cos(2 * math.pi * hours / 24), abs=1e-12)


@pytest.mark.skipif(not REAL.is_file(), reason="the shared data are not here")
def test_real_metadata() -> None:
    every = json.loads(REAL.read_text())
    rows = [attributes_of(list(KINDS), entry, key) for key, entry in every.items()]
    table = np.array([list(row.values()) for row in rows])
    assert table.shape == (250, 8)
    assert np.isfinite(table).all()
    np.testing.assert_allclose(np.hypot(table[:, 1], table[:, 2]), 1)
    np.testing.assert_allclose(np.hypot(table[:, 3], table[:, 4]), 1)
    assert table[:, 5].sum() == sum("UCE" in entry["camera"] for entry in every.values())


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("hour", "time", "noon"), ("hour", "time", None), ("season", "date", "2021-13-01"), ("camera", "camera", ""),
        ("altitude", "patch_centroid_z", "nan"), ("place", "patch_centroid_x", None),
    ],
)  # fmt: skip
def test_what_metadata_do_not_tell(name: str, field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"IMG_7: its metadata have {field}=.*leave {name} out of the reader"):
        attributes_of([name], {**ABOUT, field: value}, "IMG_7")
    lacking = {key: one for key, one in ABOUT.items() if key != field}
    with pytest.raises(ValueError, match=rf"{field}=None"):
        attributes_of([name], lacking, "IMG_7")


def test_reader_names_and_missing_entries(world: Path) -> None:
    with pytest.raises(ValueError, match=r"attributes of FLAIR are \['altitude'.*'weather'"):
        Flair1(attributes=["weather"])
    with pytest.raises(ValueError, match=r"IMG_000001.*time=None.*leave hour out"):
        list(Flair1(metadata=(), attributes=["hour"]).read(world))
    assert len(list(Flair1(metadata=(), attributes=["place"]).read(world))) == 16  # places are read from the images


def test_store_and_batches(world: Path, tmp_path: Path) -> None:
    store = stored(world, tmp_path / "s", ["altitude", "hour"])
    about = json.loads((world / METADATA).read_text())
    assert store.about["attributes"] == ["altitude", "hour_sin", "hour_cos"]
    assert store.attributes is not None
    heights = [about[key]["patch_centroid_z"] for key in store.index["parcel_id"]]
    np.testing.assert_allclose(store.attributes[:, 0], heights, rtol=1e-6)
    rows = np.arange(3, 11)
    statistics = statistics_of(store, {"aerial": store.sensors["aerial"].bands}, rows)
    mean, std = statistics["attributes"]
    np.testing.assert_allclose(mean[0], np.mean(heights[3:11]), rtol=1e-6)
    np.testing.assert_allclose(std[0], np.std(heights[3:11]), rtol=1e-5)
    reader = PatchReader(store, {"aerial": store.sensors["aerial"].bands}, statistics)
    batch = reader.batch(PatchPart(torch.tensor([5, 2, 9]), None), torch.tensor([2, 0]))
    torch.testing.assert_close(batch.inputs["attributes"].values, store.attributes[[9, 5]])
    plain = stored(world, tmp_path / "plain", [])
    assert plain.attributes is None
    assert "attributes" not in plain.about
    assert plain.fingerprint != store.fingerprint


def test_patches_with_other_attributes_are_refused(world: Path, tmp_path: Path) -> None:
    reader = Flair1(attributes=["camera"])
    scenes = list(reader.read(world))
    scenes[4].attributes.pop("camera")  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match=r"has the attributes \[\].*must give all patches the same"):
        write_scenes(tmp_path / "s", "flair1", world, scenes, reader.sensors, reader.classes)
    scenes[4].attributes["camera"] = math.nan  # type: ignore[index]
    with pytest.raises(ValueError, match=r"attributes \['camera'\] are no finite numbers"):
        write_scenes(tmp_path / "s", "flair1", world, scenes, reader.sensors, reader.classes)


def run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=240)


def test_prepared_trained_and_refused_for_maps(tmp_path: Path) -> None:
    raw, store, made = tmp_path / "raw", tmp_path / "store", tmp_path / "run"
    AerialWorld(("D006_2020", "D064_2021", "D067_2021"), zones=8, grid=2, size=64).write(raw)
    words = [word for word in QUICK_MAPS if not word.startswith(("encoder.", "data.generator"))]
    done = run(
        "eo_adapt.prepare", "recipe=synthetic_aerial", f"raw={raw}", f"out={store}",
        "reader={attributes:[altitude,season,camera]}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    done = run(
        "eo_adapt.train", "task=aerial", "method=coral", *words, f"data.store={store}", "encoder=u_tt",
        "~encoder.branches.s2", "encoder.modalities=[aerial,attributes]", "encoder.branch.backbone=test_resnet",
        f"hydra.run.dir={made}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads((made / "report.json").read_text())
    assert set(report["without"]) == {"aerial", "attributes"}
    image = next(raw.rglob("*.tif"))
    done = run("eo_adapt.predict", f"run={made}", f"input={image}", f"output={tmp_path / 'map.tif'}", "domain=D064")
    assert done.returncode != 0
    assert "reads attributes of patches" in done.stderr


def test_prepare_names_what_a_reader_can_do(world: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no option \['colour'\]; it has \['attributes', 'bands', 'legend'"):
        Recipe.load("flair1").with_options({"legend": "flair13", "colour": "red"})
    words = ("eo_adapt.prepare", "recipe=flair1", f"raw={world}", f"out={tmp_path / 's'}", "fetch=false")
    done = run(*words, "reader=flair13")
    assert "reader= takes options of the recipe's reader, e.g. reader={sentinel2:true}; got 'flair13'" in done.stderr
    assert run(*words, "reader={legend:flair13}").returncode == 0
    assert "other" in SceneStore(tmp_path / "s").names
    with pytest.raises(FileExistsError, match="made of other inputs"):
        make_result(Recipe.load("flair1"), world, tmp_path / "s")
