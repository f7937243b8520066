"""Images through the same doors as parcels: zones stay together, target labels stay sealed, draws follow the seed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiles import (
    AERIAL,
    CRS,
    GSD,
    SIZE,
    SPLIT,
    TO_DEGREES,
    draw,
    module,
    paint,
    raster,
    store_of,
    world,
    write_tiff,
)

from eo_adapt.align.coral import CORAL
from eo_adapt.align.geomt import GeoMT
from eo_adapt.assemble import check_places
from eo_adapt.data.loader import DomainLoader
from eo_adapt.data.parts import Split
from eo_adapt.data.scenes.augment import Augment
from eo_adapt.data.scenes.parts import DomainPatches
from eo_adapt.data.scenes.records import Imagery, Raster
from eo_adapt.data.scenes.store import SceneStore
from eo_adapt.model import Normalise
from eo_adapt.types import IGNORE, Batch, DomainBatch


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> SceneStore:
    root = tmp_path_factory.mktemp("module")
    return store_of(root / "store", root / "raw", world(root / "raw"))


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> SceneStore:
    """Thirty-two zones of two patches, 2 km apart, in four columns."""
    root = tmp_path_factory.mktemp("wide")
    return store_of(root / "store", root / "raw", world(root / "raw", zones=32, patches=2))


def same(a: DomainBatch, b: DomainBatch) -> bool:
    def equal(x: Batch, y: Batch) -> bool:
        labels = x.labels is None if y.labels is None else x.labels is not None and torch.equal(x.labels, y.labels)
        inputs = all(torch.equal(x.inputs[n].values, y.inputs[n].values) for n in x.inputs)
        return labels and inputs and torch.equal(x.lonlat, y.lonlat) and torch.equal(x.rows, y.rows)

    return all(equal(x, y) for x, y in zip(sum(a, ()), sum(b, ()), strict=True))


# -- splits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "split", [SPLIT, Split(block_size=3000.0, buffer=0.0, seed=3), replace(SPLIT, kind="published")]
)
def test_zones_are_never_cut(wide: SceneStore, split: Split) -> None:
    data = module(wide, split=split)
    for d in data.parcels:
        for zone in set(d.zones):
            assert len(set(d.split[d.zones == zone])) == 1
        assert {"train", "val", "test"} <= set(d.split)


def test_blocks_hold_neighbouring_zones_together(wide: SceneStore) -> None:
    d = module(wide, split=Split(block_size=3000.0, buffer=0.0)).parcels[0]
    x, y = wide.index[["x", "y"]].to_numpy()[d.rows].T
    origin = np.random.default_rng(0).uniform(0, 3000.0, 2)
    middle = {z: (x[d.zones == z].mean(), y[d.zones == z].mean()) for z in set(d.zones)}
    blocks: dict[tuple[int, int], set[str]] = {}
    for zone, at in middle.items():
        key = tuple(int((c + o) // 3000.0) for c, o in zip(at, origin, strict=True))
        blocks.setdefault(key, set()).update(d.split[d.zones == zone])
    assert len(blocks) > 3
    assert all(len(splits) == 1 for splits in blocks.values())
    assert isinstance(d, DomainPatches)
    assert len(set(d.units)) == len(blocks), "intervals are drawn over blocks"
    assert all(len(set(d.units[d.zones == zone])) == 1 for zone in set(d.zones))


def test_the_buffer_leaves_near_patches_out(wide: SceneStore) -> None:
    d = module(wide, split=Split(block_size=6000.0, buffer=2100.0, train=0.6, val=0.2, test=0.2, seed=1)).parcels[0]
    at = wide.index[["x", "y"]].to_numpy()[d.rows]
    gaps = np.linalg.norm(at[:, None] - at[None], axis=-1)
    for early, late in (("train", "val"), ("train", "test"), ("val", "test")):
        assert gaps[np.ix_(d.split == early, d.split == late)].min() > 2100.0
    assert (d.split == "buffer").any()


def test_places_that_are_not_known_are_divided_by_zone(tmp_path: Path) -> None:
    nowhere = {k: float("nan") for k in ("lon", "lat", "x", "y")}
    scenes = [replace(s, crs="", **nowhere) for s in world(tmp_path)]
    data = module(store_of(tmp_path / "s", tmp_path, scenes))
    for d in data.parcels:
        assert all(len(set(d.split[d.zones == z])) == 1 for z in set(d.zones))
        assert d.distances == {}
    assert data.provides == {"labels", "images"}  # geomt is refused: it needs lonlat
    assert module(tmp_store := data.store, kind="partial").store is not tmp_store


def test_a_domain_that_does_not_exist(store: SceneStore) -> None:
    with pytest.raises(ValueError, match=r"domain 'C' selects no patch with .*region: \['A', 'B'\]"):
        module(store, targets="C")
    with pytest.raises(ValueError, match=r"domain 'A' has 32 patches in 8 zones but none in \['val'\].*block_size=0"):
        module(store, split=Split(block_size=0.0, buffer=0.0, train=0.8, val=0.01, test=0.19))


# -- what training sees ----------------------------------------------------------------------------------------------


def test_batches_hold_pixels_labels_by_name_and_no_target_label(store: SceneStore) -> None:
    data = module(store, bands={"aerial": ["elevation", "red"]})
    assert data.sensors == {"aerial": 2}
    names = {1: "water", 2: "forest", 3: "roof"}
    for batch in data.train_dataloader():
        (source,), (target,) = batch
        assert target.labels is None
        for i, row in enumerate(source.rows.tolist()):
            key = store.index["parcel_id"].iloc[row]
            image, mask = (raster(store.root / f"{key}{end}.tif") for end in ("", "_m"))
            assert torch.equal(source.inputs["aerial"].values[i], torch.tensor(image[[2, 0]]).float())
            want = np.vectorize(lambda k: data.legend.names.index(names[k]))(mask[0])
            assert np.array_equal(source.labels[i].numpy(), want)
    rows = {r for b in data.train_dataloader() for r in b.sources[0].rows.tolist()}
    assert rows == set(data.parcels[0].of("train")[0].tolist())


def test_dealing_target_labels_anew_changes_nothing(tmp_path: Path) -> None:
    made = []
    for name in ("true", "dealt"):
        scenes = world(tmp_path / name)
        rng = np.random.default_rng(5)
        for s in scenes if name == "dealt" else []:
            if s.region == "B":
                write_tiff(tmp_path / name / f"{s.key}_m.tif", draw(rng), s.x, s.y)
        options = {"augment": Augment(gain=0.2, noise=0.1), "crop": 8, "sampling": "rare"}
        made.append(module(store_of(tmp_path / f"{name}_s", tmp_path / name, scenes), **options))
    one, other = made
    assert not np.array_equal(one.store.counts, other.store.counts)
    assert one.statistics == other.statistics
    assert one.label_set == other.label_set
    assert all(same(a, b) for a, b in zip(one.train_dataloader(), other.train_dataloader(), strict=True))


def test_nodata_is_the_mean_and_has_no_label(tmp_path: Path) -> None:
    scenes = world(tmp_path)
    for s in scenes:
        image = raster(tmp_path / f"{s.key}.tif")
        image[:, 4:9] = 255
        write_tiff(tmp_path / f"{s.key}.tif", image, s.x, s.y)
    data = module(store_of(tmp_path / "s", tmp_path, scenes), augment=Augment(d4=False, gain=0.3, noise=0.2, blur=2.0))
    batch = data.steps()[0, 0].sources[0]
    normed = Normalise(data.statistics)(batch.inputs)["aerial"].values
    assert (normed[:, :, 4:9] == 0).all()
    assert (normed[:, :, :4] != 0).float().mean() > 0.99
    assert (batch.labels[:, 4:9] == IGNORE).all()
    assert (batch.labels[:, :4] >= 0).all()


def test_the_place_is_that_of_the_crop(store: SceneStore) -> None:
    data = module(store, crop=6)
    seen = set()
    for step in range(4):
        for batch in sum(data.steps()[0, step], ()):
            for i, row in enumerate(batch.rows.tolist()):
                s = store.index.iloc[row]
                image = torch.tensor(raster(store.root / f"{s.parcel_id}.tif")).float()
                right, down = ((batch.xy[i].numpy() - [s.x, s.y]) / GSD * [1, -1] + SIZE / 2 - 3).round(6)
                top, left = int(down), int(right)
                assert (top, left) == (down, right)
                assert torch.equal(batch.inputs["aerial"].values[i], image[:, top : top + 6, left : left + 6])
                want = TO_DEGREES.transform(*batch.xy[i].tolist())
                np.testing.assert_allclose(batch.lonlat[i], want, atol=1e-5)
                seen.add((top, left))
    assert len(seen) > 10
    assert CRS == "EPSG:2154"


def test_a_patch_smaller_than_the_crop_is_padded_without_label(store: SceneStore) -> None:
    batch = module(store, crop=20).steps()[0, 0].sources[0]
    assert batch.inputs["aerial"].values.shape == (6, 3, 20, 20)
    assert (batch.labels[:, SIZE:] == IGNORE).all()
    assert (batch.labels[:, :SIZE, :SIZE] >= 0).all()


def test_steps_follow_from_the_seed_wherever_they_are_made(store: SceneStore) -> None:
    options: dict[str, Any] = {
        "crop": 8,
        "augment": Augment(scale=(0.8, 1.25), gain=0.2, noise=0.1),
        "sampling": "rare",
    }
    steps = module(store, **options).steps()
    whole = list(DomainLoader(steps, position=lambda: (3, 0)))
    late = list(DomainLoader(module(store, **options).steps(), position=lambda: (3, 2)))
    assert all(same(a, b) for a, b in zip(whole[2:], late, strict=True))
    worked = list(DomainLoader(steps, workers=1, position=lambda: (3, 0)))
    assert all(same(a, b) for a, b in zip(whole, worked, strict=True))
    assert not same(whole[0], module(store, seed=1, **options).steps()[3, 0])
    kept, read = (module(store, keep=keep, **options).steps()[0, 0] for keep in (512, 0))
    assert same(kept, read)


def test_validation_reads_whole_patches_once(store: SceneStore) -> None:
    data = module(store, crop=4, augment=Augment(gain=1.0), most=3)
    source, target = (list(loader) for loader in data.val_dataloader())
    assert [len(b) for b in source] == [2, 2]  # never one alone
    assert all(b.inputs["aerial"].values.shape[-2:] == (SIZE, SIZE) for b in source)
    assert all(b.labels is None for b in target)
    parallel = module(store, crop=4, most=3, workers=1)
    for a, b in zip(source, parallel.val_dataloader()[0], strict=True):
        assert torch.equal(a.inputs["aerial"].values, b.inputs["aerial"].values)
        assert torch.equal(a.labels, b.labels)


def test_patches_of_two_sizes_are_never_batched_together(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scenes = world(tmp_path)
    for s in scenes[::3]:
        for end, values in (("", rng.integers(0, 200, (3, 8, 12)).astype(np.uint8)), ("_m", draw(rng, (8, 12)))):
            write_tiff(tmp_path / f"{s.key}{end}.tif", values, s.x, s.y)
    data = module(store_of(tmp_path / "s", tmp_path, scenes))
    part = data._unlabelled_part(data.parcels[0], "train")
    chunks = data.reader.chunks(part, 100)
    assert torch.equal(torch.cat(chunks), torch.arange(len(part)))
    assert all(len({tuple(data.store.sizes[r]) for r in part.rows[c].tolist()}) == 1 for c in chunks)
    assert data.steps()[0, 0].sources[0].inputs["aerial"].values.shape[-2:] == (SIZE, SIZE)


def test_images_that_are_not_square(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scenes = world(tmp_path)
    for s in scenes:
        mask = draw(rng, (8, 12))
        write_tiff(tmp_path / f"{s.key}.tif", paint(mask, rng), s.x, s.y)
        write_tiff(tmp_path / f"{s.key}_m.tif", mask, s.x, s.y)
    store = store_of(tmp_path / "s", tmp_path, scenes)
    whole = module(store, augment=Augment(scale=(0.8, 1.25))).steps()[0, 0]
    cropped = module(store, crop=6).steps()[0, 0]
    for batch in sum(whole, ()):
        assert batch.inputs["aerial"].values.shape == (6, 3, 8, 12)
    for batch in sum(cropped, ()):
        assert batch.inputs["aerial"].values.shape == (6, 3, 6, 6)
    assert whole.sources[0].labels.shape == (6, 8, 12)


def test_a_domain_of_one_training_patch_still_fills_a_batch(tmp_path: Path) -> None:
    data = module(store_of(tmp_path / "s", tmp_path, world(tmp_path, zones=4, patches=1)), split=Split("published"))
    assert [(d.split == "train").sum() for d in data.parcels] == [1, 1]
    assert [len(b) for b in sum(data.steps()[0, 0], ())] == [6, 6]  # batch norm wants two at least


def test_places_that_some_patches_lack_are_named(tmp_path: Path) -> None:
    scenes = world(tmp_path)
    scenes[5] = replace(scenes[5], crs="", **{k: float("nan") for k in ("lon", "lat", "x", "y")})
    data = module(store_of(tmp_path / "s", tmp_path, scenes), split=replace(SPLIT, buffer=0.0))
    with pytest.raises(ValueError, match=r"GeoMT reads places, and 1 of 64 samples have none, first \['A1_1'\]: give"):
        check_places(GeoMT(), data)
    check_places(CORAL(), data)


def test_a_second_sensor_follows_the_crop(tmp_path: Path) -> None:
    scenes = []
    for s in world(tmp_path, zones=6):
        image = raster(tmp_path / f"{s.key}.tif")
        coarse = image[:1].reshape(1, SIZE // 4, 4, SIZE // 4, 4).mean((2, 4)).astype(np.uint8)
        write_tiff(tmp_path / f"{s.key}_c.tif", coarse, s.x, s.y, 4 * GSD)
        scenes.append(replace(s, images={**s.images, "coarse": Raster(f"{s.key}_c.tif")}))
    sensors = {**AERIAL, "coarse": Imagery(("red",))}
    batch = module(store_of(tmp_path / "s", tmp_path, scenes, sensors=sensors), crop=8).steps()[0, 0].sources[0]
    assert batch.inputs["coarse"].values.shape == (6, 1, 2, 2)
    fine = batch.inputs["aerial"].values[:, 0].reshape(6, 2, 4, 2, 4).mean((2, 4))
    assert np.corrcoef(fine.flatten(), batch.inputs["coarse"].values.flatten())[0, 1] > 0.9
