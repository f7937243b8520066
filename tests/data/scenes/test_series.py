"""Series of images as sensors of a scene store: layouts, dates, masks, windows, padding, turns."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from tiles import CRS, NAMES, X, Y, draw, module, paint, scene, store_of, write_tiff

from eo_adapt.data.scenes.augment import Augment
from eo_adapt.data.scenes.labels import UNKNOWN, Remap
from eo_adapt.data.scenes.records import Classes, Hidden, Imagery, Raster, Scene, Series
from eo_adapt.data.scenes.store import SceneStore
from eo_adapt.types import IGNORE, Batch

S2 = Imagery(("b4", "b8"), "reflectance", 1e-4, nodata=-10000, dtype="int16", kind="series")
CLOUDS = replace(S2, hidden=Hidden(2, (60, None), ((), (3, 9)), clear=0.5))
S1 = Imagery(("vv",), "dB", dtype="float32", kind="series")
DATES = ("2019-10-31", "2020-01-05", "2020-03-01", "2020-03-01", "2020-12-31")
CLASSES = Classes(NAMES, frozenset({0}))


def frames(rng: np.random.Generator, t: int = 5, size: int = 8) -> np.ndarray:
    return rng.integers(200, 4000, (t, 2, size, size)).astype(np.int16)


def write(root: Path, layout: str, values: np.ndarray, dates: tuple[str, ...] = DATES, **more: Any) -> Series:
    """A series in one of the layouts."""
    if layout == "npy":
        np.save(root / "s.npy", values)
        return Series(("s.npy",), dates, **more)
    if layout == "h5":
        with h5py.File(root / "s.h5", "w") as file:
            file["sen-2-data"], file["other"] = values, values[:1]
        return Series(("s.h5",), dates, key="sen-2-data", **more)
    if layout == "stack":
        write_tiff(root / "s.tif", values.reshape(-1, *values.shape[2:]), X, Y, 10.0)
        return Series(("s.tif",), dates, **more)
    for i, frame in enumerate(values):
        write_tiff(root / f"s{i}.tif", frame, X, Y, 10.0)
    return Series(tuple(f"s{i}.tif" for i in range(len(values))), dates, **more)


def patch(series: dict[str, Series], mask: Raster | None = None, **more: Any) -> Scene:
    return scene("p", X, Y, "z", "A", images=series, mask=mask, gsd=10.0, **more)


def prepared(path: Path, scenes: list[Scene], sensors: dict[str, Imagery], **more: Any) -> SceneStore:
    return store_of(path / "store", path, scenes, sensors=sensors, classes=CLASSES, **more)


@pytest.mark.parametrize("layout", ["npy", "h5", "stack", "files"])
def test_every_layout_gives_the_same_frames_windows_and_days(tmp_path: Path, layout: str) -> None:
    values = frames(np.random.default_rng(0))
    values[2, 1, 3, 4] = -10000
    series = write(tmp_path, layout, values)
    store = prepared(tmp_path, [patch({"s2": series})], {"s2": S2})
    found, seen = store.pixels(0, "s2", [1], (2, 3, 4, 5))
    np.testing.assert_array_equal(found, values[:, [1], 2:6, 3:8])
    assert not seen[2, 1, 1]
    assert seen.sum() == seen.size - 1
    days, valid = store.calendar(0, "s2")
    assert days.tolist() == [-62, 4, 60, 60, 365]  # 2020 is a leap year
    assert valid.all()
    assert (store.index["height"][0], store.index["width"][0]) == (8, 8)
    flat = np.where(values == -10000, np.nan, values).transpose(1, 0, 2, 3).reshape(2, -1) * 1e-4
    flat[0, np.isnan(flat[1])] = np.nan  # a pixel without one band is none
    n = int(store.index["s2.n"][0])
    assert n == flat.shape[1] - 1
    np.testing.assert_allclose(store.index["s2.mean"][0], np.nanmean(flat, 1), rtol=1e-9)
    np.testing.assert_allclose(np.sqrt(np.array(store.index["s2.m2"][0]) / n), np.nanstd(flat, 1), rtol=1e-9)
    again = SceneStore(store.path)
    assert again.fingerprint == store.fingerprint
    again.keep = True
    np.testing.assert_array_equal(again.pixels(0, "s2", [1], (2, 3, 4, 5))[0], found)


def test_frames_are_sorted_with_their_dates_and_two_on_a_day_stay(tmp_path: Path) -> None:
    values = frames(np.random.default_rng(1))
    order = [3, 0, 4, 2, 1]
    series = write(tmp_path, "npy", values[order], tuple(DATES[i] for i in order))
    store = prepared(tmp_path, [patch({"s2": series})], {"s2": S2})
    assert store.calendar(0, "s2")[0].tolist() == [-62, 4, 60, 60, 365]
    np.testing.assert_array_equal(store.pixels(0, "s2", [0, 1])[0], values[[0, 1, 3, 2, 4]])  # 3 came before 2


def test_bands_by_number_and_windows_of_the_file(tmp_path: Path) -> None:
    values = np.random.default_rng(2).integers(0, 99, (5, 4, 8, 8)).astype(np.int16)
    series = write(tmp_path, "stack", values, window=(1, 2, 6, 5), bands=(4, 2))
    store = prepared(tmp_path, [patch({"s2": series})], {"s2": S2})
    np.testing.assert_array_equal(store.pixels(0, "s2", [0, 1])[0], values[:, [3, 1], 1:7, 2:7])
    assert store.size(0, "s2") == (6, 5)


def test_masks_hide_pixels_and_dates(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    values, mask = frames(rng), np.zeros((5, 2, 8, 8), np.uint8)
    mask[1, 0, :2] = 60  # a quarter: the date stays
    mask[2, 1, :, :5] = 9  # five eighths: it does not
    mask[3, 0], mask[3, 1] = 59, 4  # nothing hides here
    np.save(tmp_path / "m.npy", mask)
    store = prepared(tmp_path, [patch({"s2": write(tmp_path, "npy", values, masks=("m.npy",))})], {"s2": CLOUDS})
    _, seen = store.pixels(0, "s2", [0])
    want = np.ones((5, 8, 8), bool)
    want[1, :2], want[2, :, :5] = False, False
    np.testing.assert_array_equal(seen, want)
    assert store.calendar(0, "s2")[1].tolist() == [True, True, False, True, True]
    np.testing.assert_allclose(store.index["s2.clear"][0], [1, 0.75, 0.375, 1, 1])
    shown = values[[0, 1, 3, 4]].transpose(1, 0, 2, 3)[:, want[[0, 1, 3, 4]]] * 1e-4
    np.testing.assert_allclose(store.index["s2.mean"][0], shown.mean(1), rtol=1e-9)
    assert SceneStore(store.path).sensors["s2"] == CLOUDS


def world(root: Path, clouds: bool = True) -> list[Scene]:
    """Aerial images of 16 pixels, S2 of 8 with clouds, S1 of 4, on one ground; 3 to 6 dates."""
    made = []
    for r, region in enumerate("AB"):
        rng = np.random.default_rng([r, 9])
        for zone in range(8):
            key, t = f"{region}{zone}", 3 + zone % 4
            x, y = 5e5 + 1e5 * r + 2000.0 * zone, 6.6e6
            mask = draw(rng)
            write_tiff(root / f"{key}_m.tif", mask, x, y)
            write_tiff(root / f"{key}.tif", paint(mask, rng), x, y)
            coarse = mask[::2, ::2]
            counts = coarse.astype(np.int16) * 500 + 100 * np.arange(t, dtype=np.int16)[:, None, None]
            np.save(root / f"{key}_2.npy", counts[:, None].repeat(2, 1))
            hidden = np.zeros((t, 2, 8, 8), np.uint8)
            hidden[1, 0, :, :6] = 99 * clouds
            np.save(root / f"{key}_c.npy", hidden)
            np.save(root / f"{key}_1.npy", -5.0 - mask[::4, ::4].astype(np.float32)[None, None].repeat(2, 0))
            images = {
                "aerial": Raster(f"{key}.tif"),
                "s2": Series((f"{key}_2.npy",), DATES[:1] * (t - 3) + DATES[:3], masks=(f"{key}_c.npy",)),
                "s1": Series((f"{key}_1.npy",), ("2020-05-05", "2020-06-06")),
            }  # fmt: skip
            made.append(scene(key, x, y, f"z{zone}", region, images=images))
    return made


AERIAL = Imagery(("red", "green", "elevation"), nodata=255.0)
ALL = {"aerial": AERIAL, "s2": CLOUDS, "s1": S1}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> SceneStore:
    root = tmp_path_factory.mktemp("raw")
    return store_of(root / "store", root, world(root), sensors=ALL)


def check_batch(batch: Batch, side: int) -> None:
    """Every sensor shows the same classes at the same places, and dates are padded."""
    aerial, s2, s1 = batch.inputs["aerial"], batch.inputs["s2"], batch.inputs["s1"]
    assert aerial.values.shape[2:] == (side, side)
    assert s2.values.shape[2:] == (2, side // 2, side // 2)
    assert s1.values.shape[1:] == (2, 1, side // 4, side // 4)
    assert batch.labels is not None
    assert s2.days is not None
    assert s2.valid is not None
    assert s2.valid_pixels is not None
    for i, count in enumerate((s2.days != 0).sum(1).tolist()):
        assert not s2.valid[i, count:].any()
        assert not s2.valid_pixels[i, count:].any()
        first = int(s2.valid[i].nonzero()[0])
        classes = s2.values[i, first, 0] * 1e4 - 100 * first
        ids = torch.tensor([1, 2, 3])[batch.labels[i]]
        torch.testing.assert_close(classes, 500.0 * ids[::2, ::2], atol=0.5, rtol=0)
        torch.testing.assert_close(s1.values[i, 1, 0], -5.0 - ids[::4, ::4])


def test_batches_are_padded_and_cropped_on_the_same_ground(store: SceneStore) -> None:
    data = module(store, classes=["water", "forest", "roof"], crop=8, augment=Augment(), batch_size=4)
    assert data.legend.names == ("forest", "roof", "water")
    assert "days" in data.provides
    names = {"forest": 2, "roof": 3, "water": 1}
    step = data.steps()[0, 0]
    for batch in (*step.sources, *step.targets):
        assert batch.inputs["s2"].values.shape[-1] == 4
    batch = step.sources[0]
    ids = torch.tensor([names[n] for n in data.legend.names])[batch.labels]
    check_batch(replace(batch, labels=ids - 1), 8)
    assert set(data.statistics) == {"aerial", "s2", "s1"}


def test_whole_patches_keep_clouds_and_every_label(store: SceneStore) -> None:
    data = module(store, bands={"s2": ["b8"]})
    part = data._labelled_part(data.labelled[0], "train")
    batch = data.patches.batch(part, torch.arange(len(part)))
    s2 = batch.inputs["s2"]
    assert s2.valid is not None
    assert s2.valid_pixels is not None
    assert not s2.valid[:, 1].any()  # three quarters are cloud
    assert s2.valid[:, 0].all()
    assert torch.equal(s2.valid, s2.valid_pixels.flatten(2).any(2))
    mean = torch.tensor(data.statistics["s2"][0])
    hidden = ~s2.valid_pixels[:, :, None]
    torch.testing.assert_close(s2.values[hidden], mean.expand(int(hidden.sum())))
    assert batch.labels is not None
    assert (batch.labels != IGNORE).all()
    assert s2.days is not None
    for row, days, valid in zip(batch.rows.tolist(), s2.days, s2.valid, strict=True):
        want, good = store.calendar(row, "s2")
        assert days[: len(want)].tolist() == want.tolist()
        assert valid[: len(want)].tolist() == good.tolist()
        assert not valid[len(want) :].any()


def test_colours_change_all_dates_of_a_sample_alike() -> None:
    from eo_adapt.data.scenes.augment import Image

    torch.manual_seed(0)
    x = torch.randn(2, 3, 2, 4, 4)
    image = Image(x, torch.ones(2, 3, 4, 4, dtype=torch.bool))
    how = Augment(d4=False, gain=0.5, bias=0.5, blur=1.0)
    plain = {"s2": ([0.0, 0.0], [1.0, 1.0])}
    stream = torch.Generator().manual_seed(1)
    flat = Image(torch.ones_like(x), image.seen)
    changed = how({"s2": flat}, None, {"s2": ["a", "b"]}, plain, stream)[0]["s2"].values
    assert torch.equal(changed, changed[:, :1, :, :1, :1].expand_as(changed))
    assert len(changed[:, 0, :, 0, 0].unique()) == 4


def test_a_single_date_and_patches_all_cloud(tmp_path: Path) -> None:
    values = frames(np.random.default_rng(4), 1)
    np.save(tmp_path / "m.npy", np.full((1, 2, 8, 8), 99, np.uint8))
    np.save(tmp_path / "r.npy", np.full((2, 1, 4, 4), -9, np.float32))
    cloudy = write(tmp_path, "npy", values, DATES[1:2], masks=("m.npy",))
    clear = replace(cloudy, masks=())
    radar = Series(("r.npy",), DATES[:2])
    scenes = [replace(patch({"s2": s, "s1": radar}), key=k) for k, s in (("clear", clear), ("cloudy", cloudy))]
    store = prepared(tmp_path, scenes, {"s2": CLOUDS, "s1": S1})
    assert [store.calendar(i, "s2")[1].tolist() for i in (0, 1)] == [[True], [False]]
    assert json.loads((store.path / "store.json").read_text())["unseen"] == {"s2": 1, "s1": 0}
    alone = [replace(s, images={"s2": s.images["s2"]}) for s in scenes]
    with pytest.raises(ValueError, match=r"'cloudy' holds nothing but nodata or cloud \(s.npy\).*on_empty: drop"):
        store_of(tmp_path / "x", tmp_path, alone, sensors={"s2": CLOUDS})
    dropped = store_of(tmp_path / "y", tmp_path, alone, sensors={"s2": CLOUDS}, on_empty="drop")
    assert dropped.index["parcel_id"].tolist() == ["clear"]
    assert "or cloud" in (tmp_path / "y" / "dropped.csv").read_text()


def test_labels_may_be_a_channel_of_an_array(tmp_path: Path) -> None:
    target = np.random.default_rng(5).integers(1, 4, (3, 8, 8)).astype(np.uint8)
    np.save(tmp_path / "t.npy", target)
    series = write(tmp_path, "npy", frames(np.random.default_rng(6)))
    store = prepared(tmp_path, [patch({"s2": series}, Raster("t.npy", bands=(2,)))], {"s2": S2})
    found = store.labels(0, Remap.to(CLASSES, ["water", "forest", "roof"]), (1, 2, 3, 4))
    np.testing.assert_array_equal(found, target[1, 1:4, 2:6] - 1)
    assert store.counts[0].sum() == 64
    assert UNKNOWN not in np.unique(found)
    assert store.index["crs"][0] == CRS
