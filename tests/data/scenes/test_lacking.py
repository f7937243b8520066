"""Sensors that a patch may lack, and bands that are the difference of two in the file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiles import AERIAL, X, Y, draw, module, one, paint, scene, store_of, write_tiff

from eo_adapt.data.prepared import StoreError
from eo_adapt.data.scenes.augment import Augment
from eo_adapt.data.scenes.records import Hidden, Imagery, Raster, Scene, Series
from eo_adapt.data.scenes.store import SceneStore

HIDDEN = Hidden(1, (60,))
S2 = Imagery(("b4", "b8"), "reflectance", 1e-4, dtype="uint16", kind="series", hidden=HIDDEN, optional=True)
SPOT = Imagery(("grey",), dtype="uint16", optional=True)
SENSORS = {**AERIAL, "s2": S2, "spot": SPOT}
DATES = ("2020-03-01", "2020-06-01", "2020-09-01")


def world(root: Path) -> list[Scene]:
    """Region A: every second patch lacks S2, the first zone SPOT; region B has no SPOT at all."""
    made = []
    for r, region in enumerate("AB"):
        rng = np.random.default_rng([r, 3])
        for zone in range(8):
            for patch in range(2):
                key = f"{region}{zone}_{patch}"
                x, y = 5e5 + 1e5 * r + 2000.0 * zone + 8.0 * patch, 6.6e6
                mask = draw(rng)
                write_tiff(root / f"{key}_m.tif", mask, x, y)
                write_tiff(root / f"{key}.tif", paint(mask, rng), x, y)
                write_tiff(root / f"{key}_s.tif", mask[None, ::2, ::2].astype(np.uint16), x, y, 1.0)
                np.save(root / f"{key}.npy", rng.integers(100, 4000, (3, 2, 4, 4)).astype(np.uint16))
                np.save(root / f"{key}_c.npy", np.zeros((3, 1, 4, 4), np.uint8))
                images: dict[str, Raster | Series] = {"aerial": Raster(f"{key}.tif")}
                if patch == 0 or region == "B":
                    images["s2"] = Series((f"{key}.npy",), DATES, masks=(f"{key}_c.npy",))
                if region == "A" and zone:
                    images["spot"] = Raster(f"{key}_s.tif")
                made.append(scene(key, x, y, f"z{zone}", region, images=images))
    return made


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> SceneStore:
    root = tmp_path_factory.mktemp("raw")
    return store_of(root / "store", root, world(root), sensors=SENSORS)


def test_what_lacks_is_counted_and_reads_as_nothing(store: SceneStore) -> None:
    about = json.loads((store.path / "store.json").read_text())
    assert about["lacking"] == {"s2": 8, "spot": 18}
    assert about["unseen"] == {"s2": 8}
    assert store.sensors == SENSORS
    row = store.index["parcel_id"].tolist().index("A0_1")
    assert [store.lacks(row, name) for name in SENSORS] == [False, True, True]
    assert (store.size(row, "s2"), store.size(row, "spot")) == ((4, 4), (8, 8))
    values, seen = store.pixels(row, "s2", [1])
    assert (values.shape, values.dtype, seen.shape) == ((1, 1, 4, 4), np.uint16, (1, 4, 4))
    assert not values.any()
    assert not seen.any()
    assert [x.tolist() for x in store.calendar(row, "s2")] == [[0], [False]]
    for keep in (True, False):
        store.keep = keep
        values, seen = store.pixels(row, "spot", [0], (2, 3, 4, 5))
        assert (values.shape, seen.any()) == ((1, 4, 5), False)
    assert SceneStore(store.path).fingerprint == store.fingerprint


@pytest.mark.parametrize("crop", [0, 8])
def test_batches_say_who_lacks_what(store: SceneStore, crop: int) -> None:
    data = module(store, crop=crop, augment=Augment(gain=0.1, noise=0.1, blur=0.5))
    part = data._labelled_part(data.labelled[0], "train")
    stream = torch.Generator().manual_seed(0) if crop else None
    batch = data.patches.batch(part, torch.arange(len(part)), stream)
    s2, spot = batch.inputs["s2"], batch.inputs["spot"]
    assert s2.valid is not None
    assert s2.valid_pixels is not None
    assert spot.valid_pixels is not None
    rows = batch.rows.tolist()
    lacks = {name: torch.tensor([store.lacks(row, name) for row in rows]) for name in ("s2", "spot")}
    assert 0 < lacks["s2"].sum() < len(rows)
    assert torch.equal(~s2.valid.any(1), lacks["s2"])
    assert torch.equal(~s2.valid_pixels.flatten(1).any(1), lacks["s2"])
    assert torch.equal(~spot.valid_pixels.flatten(1).any(1), lacks["spot"])
    for observed, name in ((s2, "s2"), (spot, "spot")):
        mean = torch.tensor(data.statistics[name][0])[:, None, None]
        of = observed.values[lacks[name]]
        torch.testing.assert_close(of, mean.expand(of.shape))  # 0 once normalised
    assert torch.isfinite(s2.values).all()


def test_a_domain_without_a_sensor(store: SceneStore) -> None:
    data = module(store, bands={"spot": ["grey"], "s2": ["b8"]})
    step = data.steps()[0, 0]
    target = step.targets[0].inputs["spot"]
    assert target.valid_pixels is not None
    assert target.values.shape[1:] == (1, 8, 8)
    assert not target.valid_pixels.any()
    index = store.index
    n = index["s2.n"].to_numpy()
    assert set(n) == {0, 48}
    rows = data._labelled_part(data.labelled[0], "train").rows.numpy()
    shown = np.concatenate([store.pixels(r, "spot", [0])[0].ravel() for r in rows if not store.lacks(r, "spot")])
    np.testing.assert_allclose(data.statistics["spot"], [[shown.mean()], [shown.std()]])


def test_only_optional_sensors_may_lack(tmp_path: Path) -> None:
    image = np.full((3, 16, 16), 9, np.uint8)
    patch = one(tmp_path, image)

    def write(sensors: Mapping[str, Imagery], **images: Raster) -> SceneStore:
        return store_of(tmp_path / "s", tmp_path, [replace(patch, images={**patch.images, **images})], sensors=sensors)

    with pytest.raises(ValueError, match=r"has sensors \['aerial'\]; .* \['aerial', 'spot'\], of which .* lack \[\]"):
        write({**AERIAL, "spot": replace(SPOT, optional=False)})
    with pytest.raises(ValueError, match=r"has sensors \['aerial', 'sopt'\].*a patch may lack \['spot'\]"):
        write({**AERIAL, "spot": SPOT}, sopt=Raster("p.tif"))
    with pytest.raises(ValueError, match=r"has sensors \['aerial'\].* lack \['aerial'\]"):
        write({"spot": SPOT, "aerial": replace(AERIAL["aerial"], optional=True)})
    with pytest.raises(StoreError, match="no patch has the sensor 'spot': leave it out"):
        write({**AERIAL, "spot": SPOT})


HEIGHT = Imagery(("height", "surface"), "metre", dtype="float32", nodata=-9999.0, minus=(2, 0))


def test_a_band_that_is_a_difference(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(100, 5, (2, 16, 16)).astype(np.float32)
    values[1, 3, 4] = -9999.0  # nothing is known of the terrain there
    write_tiff(tmp_path / "e.tif", values, X, Y)
    patch = scene("p", X, Y, "z", "A", images={"e": Raster("e.tif", bands=(1, 1))}, mask=None)
    store = store_of(tmp_path / "s", tmp_path, [patch], sensors={"e": HEIGHT})
    assert store.sensors["e"] == HEIGHT
    for wanted, want in (([0], values[:1] - values[1:]), ([1, 0], np.stack([values[0], values[0] - values[1]]))):
        found, seen = store.pixels(0, "e", wanted, (2, 3, 9, 8))
        assert np.argwhere(~seen).tolist() == [[1, 1]]
        np.testing.assert_array_equal(found[:, seen], want[:, 2:11, 3:11][:, seen])
    known = np.delete((values[0] - values[1]).ravel(), 3 * 16 + 4).astype(np.float64)
    np.testing.assert_allclose(store.index["e.mean"][0][0], known.mean(), rtol=1e-6)
    assert json.loads((store.path / "store.json").read_text())["sensors"]["e"]["minus"] == [2, 0]
    with pytest.raises(ValueError, match=r"e.tif has 2 bands and lacks \['height'\]"):
        store_of(tmp_path / "x", tmp_path, [patch], sensors={"e": replace(HEIGHT, minus=(3, 0))})
    for wrong in ({"minus": (1,)}, {"dtype": "uint8"}, {"kind": "series"}):
        with pytest.raises(ValueError, match=r"minus has one number for each of the bands .* of a type with a sign"):
            replace(HEIGHT, **wrong)
