"""Classes of images: which are learnt and scored, and how often each is drawn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiles import SIZE, draw, module, raster, shift, store_of, world, write_tiff

from eo_adapt.data.parts import SealedLabelsError
from eo_adapt.data.scenes.augment import Augment
from eo_adapt.data.scenes.datamodule import SceneDataModule
from eo_adapt.data.scenes.records import Raster, Scene
from eo_adapt.data.scenes.store import SceneStore
from eo_adapt.types import IGNORE


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> SceneStore:
    root = tmp_path_factory.mktemp("module")
    return store_of(root / "store", root / "raw", world(root / "raw"))


# -- classes ---------------------------------------------------------------------------------------------------------


def test_joined_and_chosen_classes(store: SceneStore) -> None:
    data = module(store, join={"land": ["forest", "roof"]})
    assert data.legend.names == ("land", "water")
    chosen = module(store, classes=["water", "roof"])
    assert chosen.legend.names == ("roof", "water")
    assert (chosen.steps()[0, 0].sources[0].labels == IGNORE).any()
    with pytest.raises(ValueError, match=r"data\.join\.land names \['sea'\]; the data have"):
        module(store, join={"land": ["sea"]})
    with pytest.raises(ValueError, match=r"no source training pixel has the classes \['lava'\]"):
        module(store, classes=["lava"])


def test_private_classes_by_kind(tmp_path: Path) -> None:
    scenes = [*world(tmp_path, ("A",), ids=(1, 2, 3)), *world(tmp_path / "b", ("x", "B"), ids=(1, 2, 4))[32:]]
    scenes = [
        s
        if s.region == "A"
        else replace(s, images={"aerial": Raster(f"b/{s.key}.tif")}, mask=Raster(f"b/{s.key}_m.tif"))
        for s in scenes
    ]
    store = store_of(tmp_path / "s", tmp_path, scenes)
    for kind, learnt, scored in (
        ("closed", ("forest", "water"), ("forest", "water", "pool", "roof")),
        ("partial", ("forest", "roof", "water"), ("forest", "roof", "water", "pool")),
        ("open", ("forest", "roof", "water"), ("forest", "roof", "water", "unknown")),
    ):
        data = module(store, kind=kind)
        assert data.legend.names == learnt
        with data.opened(lambda: None):
            assert data.scored_classes().names == scored
            part = data.sealed(data.parcels[1])
            labels = torch.cat([data.reader.batch(part, chunk).labels for chunk in data.reader.chunks(part, 9)])
            last = scored.index("unknown" if kind == "open" else "pool")
            masks = np.stack(
                [raster(store.root / "b" / f"{k}_m.tif")[0] for k in store.index["parcel_id"].iloc[part.rows]]
            )
            assert np.array_equal((labels == last).numpy(), masks == 4)


def test_labels_of_targets_are_sealed(store: SceneStore) -> None:
    data = module(store)
    with pytest.raises(SealedLabelsError, match="'B' are sealed"):
        data.sealed(data.parcels[1])
    with pytest.raises(SealedLabelsError):
        data.few_labelled(data.parcels[1], 2)
    assert data.parcels[1].counts.sum() == 0
    with data.opened(lambda: None):
        few = data.few_labelled(data.parcels[1], 1)
    assert 2 <= len(few) <= 3
    assert set(few.rows.tolist()) <= set(data.parcels[1].of("train")[0].tolist())


def test_oracle_and_few_shots_train_on_the_target(store: SceneStore) -> None:
    data = module(store, oracle=True)
    rows = {r for b in data.train_dataloader() for r in b.sources[0].rows.tolist()}
    assert rows == set(data._sealed["B"].of("train")[0].tolist())
    few = module(store, oracle=True, shots=1)
    assert len(few.steps().sources[0]) <= 3


# -- sampling --------------------------------------------------------------------------------------------------------


def test_rare_classes_are_drawn_as_often_as_asked(tmp_path: Path) -> None:
    scenes = world(tmp_path, ids=(1,))
    rng = np.random.default_rng(0)
    for s in scenes[:32:6]:
        mask = np.ones((SIZE, SIZE), np.uint8)
        mask[2:5, 9:12] = 3
        write_tiff(tmp_path / f"{s.key}_m.tif", mask, s.x, s.y)
    for s in scenes[32:]:
        write_tiff(tmp_path / f"{s.key}_m.tif", draw(rng, ids=(1, 3)), s.x, s.y)
    store = store_of(tmp_path / "s", tmp_path, scenes)
    share = {}
    for sampling in ("uniform", "balanced", "rare"):
        data = module(store, sampling=sampling, crop=6, temperature=0.5, batch_size=50, steps_per_epoch=6)
        roof = data.legend.names.index("roof")
        share[sampling] = np.mean(
            [(b.sources[0].labels == roof).flatten(1).any(1).float().mean() for b in data.train_dataloader()]
        )
    assert share["uniform"] < 0.1
    assert share["balanced"] > 0.35  # of the half that is drawn for it, a crop in ten tries
    f = data.store.counts[data.parcels[0].of("train")[0]].sum(0)[[0, 2]] / 1.0
    p = np.exp((1 - f / f.sum()) / 0.5)
    assert data.class_weights[roof] == pytest.approx(p[1] / p.sum())
    assert share["rare"] > share["balanced"]
    data.reweigh(torch.eye(2, dtype=torch.float64)[roof])
    batch = data.loader.steps[1, 0].sources[0]
    assert (data.store.counts[batch.rows][:, 2] > 0).all()


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"sampling": "even"}, ValueError, r"data\.sampling must be one of .*got 'even'"),
        ({"on_corrupt": "ignore"}, ValueError, r"data\.on_corrupt must be one of"),
        ({"crop": -1}, ValueError, r"data\.crop must be >= 0"),
        ({"batch_size": 1}, ValueError, r"data\.batch_size must be at least 2"),
        ({"temperature": 0.0, "sampling": "rare"}, ValueError, r"data\.temperature must be positive"),
        ({"bands": {"aerial": ["nir"]}}, LookupError, r"aerial has no band \['nir'\]"),
        ({"augment": Augment(leave=["height"])}, LookupError, r"data\.augment\.leave names bands \['height'\]"),
        ({"min_per_class": 10**6}, ValueError, "share no class"),
    ],
)
def test_what_does_not_fit_is_refused(
    store: SceneStore, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        module(store, **changes).steps()


def test_constructing_reads_nothing() -> None:
    SceneDataModule(shift(), 0, "closed", False, "toy", store="/nowhere")
    assert isinstance(Scene("k", {}, None, 0, 0, 0, 0, "", 1, "z").key, str)
