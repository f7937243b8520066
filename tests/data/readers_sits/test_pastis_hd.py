"""PASTIS-HD: the series of PASTIS-R and a finer SPOT image on the same ground; a batch of both."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio

from eo_adapt.data.readers.pastis import Pastis
from eo_adapt.data.readers.pastis_hd import SPOT, PastisHD
from eo_adapt.data.recipe import Recipe
from eo_adapt.data.scenes.records import Raster
from eo_adapt.data.scenes.store import SceneStore
from eo_adapt.data.synthetic.pastis import Known
from eo_adapt.data.synthetic.pastis_hd import GAIN, ZOOM, PastisHDWorld
from eo_adapt.registry import config, instantiate, names

SHIFTS = [name for name in names("shift") if name.startswith("pastis_hd")]
World = tuple[Path, dict[str, Known]]


def make(root: Path) -> World:
    made = PastisHDWorld(("T31TFM",), patches=3, size=12, revisit=40, seed=2).write_known(root)
    return root, {str(patch.number): patch for patch in made}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make(tmp_path_factory.mktemp("hd"))


def test_raw_layout(world: World) -> None:
    root, known = world
    for key, patch in known.items():
        path = root / f"DATA_SPOT/PASTIS_SPOT6_RVB_1M00_2019/SPOT6_RVB_1M00_2019_{key}.tif"
        with rasterio.open(path) as file:
            assert (file.count, file.height, file.width, file.dtypes[0]) == (3, 120, 120, "uint8")
            assert file.res == (1.0, 1.0)
            assert file.crs.to_epsg() == 2154
            box = file.bounds
            assert ((box.left + box.right) / 2, (box.bottom + box.top) / 2) == (patch.x, patch.y)


def test_spot_shows_the_fields_of_the_series(world: World) -> None:
    root, known = world
    for key, patch in known.items():
        with rasterio.open(root / SPOT.format(key)) as file:
            assert apart(patch.images["S2"] * 1e-4, file.read()) < 0.01


def test_patches(world: World) -> None:
    root, known = world
    scenes = list(PastisHD(("S2", "S1A")).read(root))
    plain = list(Pastis(("S2", "S1A")).read(root))
    assert [scene.key for scene in scenes] == sorted(known)
    for scene, other in zip(scenes, plain, strict=True):
        assert list(scene.images) == ["s2", "s1a", "spot"]
        assert scene.images["spot"] == Raster(SPOT.format(scene.key))
        assert {name: scene.images[name] for name in other.images} == other.images
        assert (scene.mask, scene.x, scene.gsd, scene.split) == (other.mask, other.x, other.gsd, other.split)


def test_a_store_reads_fine_pixels_beside_series(world: World, tmp_path: Path) -> None:
    root, known = world
    store = Recipe.load("pastis_hd").prepare(root, tmp_path / "store")
    assert isinstance(store, SceneStore)
    assert list(store.sensors) == ["s2", "s1a", "s1d", "spot"]
    for row, key in enumerate(store.index["parcel_id"]):
        assert store.size(row, "s2") == (12, 12)
        assert store.size(row, "spot") == (120, 120)
        with rasterio.open(root / SPOT.format(key)) as file:
            np.testing.assert_array_equal(store.pixels(row, "spot", range(3))[0], file.read())
        np.testing.assert_array_equal(store.pixels(row, "s2", range(10))[0], known[key].images["S2"])


def test_what_is_missing_or_of_another_kind_is_named(tmp_path: Path) -> None:
    root, known = make(tmp_path / "raw")
    path = root / SPOT.format(next(iter(known)))
    with rasterio.open(path) as file:
        image, profile = file.read(), file.profile
    with rasterio.open(path, "w", **{**profile, "dtype": "uint16"}) as file:
        file.write(image.astype(np.uint16))
    with pytest.raises(ValueError, match=rf"{path.name}.*uint16.*uint8"):
        Recipe.load("pastis_hd").prepare(root, tmp_path / "store")
    path.unlink()
    with pytest.raises((FileNotFoundError, ValueError), match=path.name):
        Recipe.load("pastis_hd").prepare(root, tmp_path / "store")
    for other in path.parent.glob("*.tif"):
        other.unlink()
    path.parent.rmdir()
    with pytest.raises(FileNotFoundError, match=r"looked for .*PASTIS_SPOT6_RVB_1M00_2019.*IGNF/PASTIS-HD"):
        list(PastisHD().read(root))


@pytest.mark.parametrize("name", ["sits_embedded_hd", *SHIFTS])
def test_shifts_name_recipes_and_tiles_that_are(name: str) -> None:
    built = config(f"shift={name}")
    shift = instantiate(built["shift"])
    assert {d.recipe for d in shift.domains} == {built["data"]["recipe"]}
    assert sorted(d.select["region"] for d in shift.domains) == ["T30UXV", "T31TFJ", "T31TFM", "T32ULU"]
    assert len(SHIFTS) == 4


def test_crops_and_turns_show_the_same_ground_in_both() -> None:
    built = config(
        "shift=sits_embedded_hd", "data.min_per_class=1", "data.crop=8", "data.batch_size=4", "data.generator.size=16",
        "data.generator.patches=10", "data.generator.revisit=40", "data.steps_per_epoch=1",
    )  # fmt: skip
    data = instantiate(built["data"], shift=instantiate(built["shift"]), seed=0, kind="closed", oracle=False)
    data.setup()
    (batch,) = data.train_dataloader()
    for part in (*batch.sources, *batch.targets):
        series, fine = part.inputs["s2"].values.numpy(), part.inputs["spot"].values.numpy()
        assert series.shape[-2:] == (8, 8)
        assert fine.shape[1:] == (3, 80, 80)
        for frames, image in zip(series, fine, strict=True):
            assert apart(frames, image) < 0.01
            assert apart(frames, image[..., ::-1]) > 2 * apart(frames, image)


def apart(frames: np.ndarray, image: np.ndarray) -> float:
    """Mean distance of SPOT, in the pixels of Sentinel-2 that it did not clip, from the date that is nearest."""
    side = image.shape[-1] // ZOOM
    pixels = image.astype(float).reshape(3, side, ZOOM, side, ZOOM)
    dark = pixels.max((0, 2, 4)) < 255
    near = np.abs(frames[:, [2, 1, 0]] - pixels.mean((2, 4)) / GAIN)[:, :, dark]
    return float(near.mean((1, 2)).min()) if dark.any() else 0.0
