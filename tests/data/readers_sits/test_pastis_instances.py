"""Parcels one by one: read where they are there, cut, turned and magnified with the labels, sealed like them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from eo_adapt.data.parts import Split
from eo_adapt.data.readers.pastis import INSTANCES, Pastis
from eo_adapt.data.scenes.augment import Augment
from eo_adapt.data.scenes.datamodule import SceneDataModule
from eo_adapt.data.scenes.instances import read_instances
from eo_adapt.data.scenes.records import Raster
from eo_adapt.data.scenes.store import SceneStore
from eo_adapt.data.scenes.writer import write_scenes
from eo_adapt.data.synthetic.pastis import Known, PastisWorld
from eo_adapt.types import IGNORE, Domain, Shift

TILES = ("T31TFM", "T30UXV")
SPLIT = Split(block_size=0.0, buffer=500.0)
World = tuple[Path, dict[str, Known]]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    root = tmp_path_factory.mktemp("parcels")
    made = PastisWorld(TILES, patches=10, size=16, revisit=60, radar=False).write_known(root / "raw")
    return root, {str(patch.number): patch for patch in made}


def prepared(raw: Path, out: Path) -> SceneStore:
    reader = Pastis()
    write_scenes(out, "synthetic_pastis", raw, reader.read(raw), reader.sensors, reader.classes)
    return SceneStore(out)


@pytest.fixture(scope="module")
def store(world: World) -> SceneStore:
    return prepared(world[0] / "raw", world[0] / "store")


def module(store: SceneStore, **options: Any) -> SceneDataModule:
    first, second = (Domain(tile, "synthetic_pastis", {"region": tile}) for tile in TILES)
    given: dict[str, Any] = {"recipe": "synthetic_pastis", "store": str(store.path), "batch_size": 4, "split": SPLIT}
    data = SceneDataModule(Shift((first,), (second,)), 0, "closed", False, **{**given, **options})
    data.setup()
    data.give_instances()
    return data


def test_the_store_tells_parcels_apart(world: World, store: SceneStore) -> None:
    _, known = world
    assert store.has_instances
    assert store.classes.stuff == {"background"}
    for row, key in enumerate(store.index["parcel_id"]):
        found = store.instances(row)
        np.testing.assert_array_equal(found, known[key].target[1])
        assert found.dtype == np.int32
        np.testing.assert_array_equal(store.instances(row, (3, 5, 8, 6)), found[3:11, 5:11])
        assert store.index["instances.n"].iloc[row] == len(np.unique(found)) - 1
    assert store.about["instances"] == store.index["instances.n"].sum() > 20


def test_a_copy_without_them_makes_the_store_that_it_made_before(world: World, tmp_path: Path) -> None:
    raw = Path(shutil.copytree(world[0] / "raw", tmp_path / "raw"))
    shutil.rmtree(raw / INSTANCES)
    plain = prepared(raw, tmp_path / "store")
    assert not plain.has_instances
    assert not [column for column in plain.index.columns if "instances" in column]
    about = json.loads((plain.path / "store.json").read_text())
    assert "instances" not in about
    assert "stuff" not in about["classes"]
    with pytest.raises(ValueError, match=r"synthetic_pastis does not tell parcels apart.*or another head, e.g. head="):
        module(plain)


def test_damaged_instances_are_named(world: World, tmp_path: Path) -> None:
    raw = Path(shutil.copytree(world[0] / "raw", tmp_path / "raw"))
    path = raw / INSTANCES / f"INSTANCES_{next(iter(world[1]))}.npy"
    good = np.load(path)
    np.save(path, good[:8])
    with pytest.raises(ValueError, match=rf"the instances .*{path.name} has 8 x 16 pixels, the image 16 x 16"):
        prepared(raw, tmp_path / "store")
    for bad, what in ((good + 0.5, "holds float64; instances are told apart by whole"), (good - 1, "from -1 to")):
        np.save(path, bad)
        with pytest.raises(ValueError, match=what):
            prepared(raw, tmp_path / "store")
    np.save(path, good.astype(np.float64))
    np.testing.assert_array_equal(read_instances(raw, Raster(f"{INSTANCES}/{path.name}")), good)
    path.unlink()
    with pytest.raises(ValueError, match=rf"{path.name} is missing"):
        prepared(raw, tmp_path / "store")


@pytest.mark.parametrize("scale", [[1.0, 1.0], [2.0, 2.0]])
def test_they_go_where_the_labels_go(world: World, store: SceneStore, scale: list[float]) -> None:
    """Each crop is a window of its patch, turned: labels and instances of every pixel belong together."""
    data = module(store, crop=8, augment=Augment(scale=scale), min_per_class=1)
    known = {row: world[1][key].target for row, key in enumerate(store.index["parcel_id"])}
    number = {name: i for i, name in enumerate(data.legend.names)}
    ids = store.classes.names
    seen = 0
    for step in range(3):
        batch = data.steps()[0, step].sources[0]
        assert batch.instances is not None
        assert batch.labels is not None
        assert batch.instances.shape == batch.labels.shape == (4, 8, 8)
        for row, label, instance in zip(batch.rows.tolist(), batch.labels, batch.instances, strict=True):
            target = known[row]
            pairs = {
                (number.get(ids.get(int(k), ""), IGNORE), int(i))
                for k, i in zip(target[0].flatten(), target[1].flatten(), strict=True)
            }
            found = set(zip(label.flatten().tolist(), instance.flatten().tolist(), strict=True))
            assert found <= pairs
            seen += len(found)
            side = 4 if scale[0] == 2 else 8
            windows = [np.kron(target[1][r : r + side, c : c + side], np.ones((8 // side, 8 // side), int))
                       for r in range(17 - side) for c in range(17 - side)]  # fmt: skip
            turned = [np.rot90(x, k) for k in range(4) for x in (instance.numpy(), instance.numpy().T)]
            assert any((window == x).all() for window in windows for x in turned)
    assert seen > 20


def test_targets_stay_sealed_and_nobody_gets_what_nobody_asked_for(store: SceneStore) -> None:
    data = module(store)
    batch = data.steps()[0, 0]
    assert batch.sources[0].instances is not None
    assert batch.targets[0].labels is None
    assert batch.targets[0].instances is None
    assert data.patches.read(data.steps().targets[0], torch.arange(2)).instances is None
    loaders = data.val_dataloader()
    assert next(iter(loaders[1])).instances is None
    assert next(iter(data.adapt_dataloaders()[1])).instances is None
    with data.opened(lambda: None):
        part = data.sealed(data.parcels[1])
        tested = data.reader.batch(part, torch.arange(len(part)))  # type: ignore[attr-defined]
    assert tested.instances is not None
    assert tested.instances.to(torch.int32).numpy().max() > 1
    assert tested.to("cpu").instances is not None
    plain = SceneDataModule(data.shift, 0, "closed", False, "synthetic_pastis", store=str(store.path), split=SPLIT)
    plain.setup()
    assert plain.steps()[0, 0].sources[0].instances is None


def test_kept_in_memory_they_are_the_same(store: SceneStore) -> None:
    kept = SceneStore(store.path)
    kept.keep = True
    np.testing.assert_array_equal(kept.instances(2, (1, 2, 5, 6)), store.instances(2, (1, 2, 5, 6)))
    np.testing.assert_array_equal(kept.instances(2), store.instances(2))


def test_stuff_follows_joined_classes(store: SceneStore) -> None:
    joined = module(store, join={"land": ["background", "meadow"]})
    assert joined.stuff == {"land"}
