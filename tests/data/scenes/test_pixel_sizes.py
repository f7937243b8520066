"""Sensors whose pixels differ from patch to patch, and sensors that every labelled patch lacks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiles import AERIAL, GSD, SIZE, module, raster, scene, store_of, world, write_tiff

from eo_adapt.data.loader import Part
from eo_adapt.data.scenes.records import Imagery, Raster
from eo_adapt.data.scenes.store import SceneStore
from eo_adapt.data.scenes.windows import nearest

SENSORS = {**AERIAL, "coarse": Imagery(("red",), optional=True)}


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> SceneStore:
    """The red band again, averaged over 2 x 2 pixels in every other patch and over 4 x 4 in the rest."""
    root = tmp_path_factory.mktemp("mixed")
    scenes = []
    for i, s in enumerate(world(root, zones=6)):
        side = 2 if i % 2 else 4
        red = raster(root / f"{s.key}.tif")[:1]
        coarse = red.reshape(1, SIZE // side, side, SIZE // side, side).mean((2, 4)).astype(np.uint8)
        write_tiff(root / f"{s.key}_c.tif", coarse, s.x, s.y, side * GSD)
        scenes.append(replace(s, images={**s.images, "coarse": Raster(f"{s.key}_c.tif")}))
    return store_of(root / "s", root, scenes, sensors=SENSORS)


@pytest.mark.parametrize("first", [0, 1], ids=["coarse first", "fine first"])
def test_pixels_of_two_sizes_lie_on_the_same_ground_in_a_batch(mixed: SceneStore, first: int) -> None:
    reader = module(mixed).reader
    rows = torch.tensor([first, 1 - first, first + 2])
    batch = reader.batch(Part(rows, None), torch.arange(3))
    coarse, fine = batch.inputs["coarse"], batch.inputs["aerial"].values[:, 0]
    side = SIZE // (2 if first else 4)
    assert coarse.values.shape == (3, 1, side, side)
    assert coarse.valid_pixels is not None
    assert coarse.valid_pixels.all()
    step = SIZE // side
    want = fine.reshape(3, side, step, side, step).mean((2, 4))
    for a, b in zip(coarse.values[:, 0], want, strict=True):
        assert np.corrcoef(a.flatten(), b.flatten())[0, 1] > 0.8


def test_crops_of_two_sizes_too(mixed: SceneStore) -> None:
    batch = module(mixed, crop=8).steps()[0, 0].sources[0]
    coarse = batch.inputs["coarse"].values
    fine = batch.inputs["aerial"].values[:, 0]
    step = 8 // coarse.shape[-1]
    want = fine.reshape(len(fine), 8 // step, step, 8 // step, step).mean((2, 4))
    assert np.corrcoef(coarse.flatten(), want.flatten())[0, 1] > 0.8


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 5))
def test_nearest_repeats_whole_pixels_and_picks_their_middle(height: int, width: int, factor: int) -> None:
    array = np.arange(2 * height * width).reshape(2, height, width)
    larger = nearest(array, (height * factor, width * factor))
    assert (larger == array.repeat(factor, 1).repeat(factor, 2)).all()
    assert (nearest(larger, (height, width)) == array).all()


def test_sides_out_of_proportion_are_refused_where_no_file_says_its_place(tmp_path: Path) -> None:
    def stored(height: int, width: int) -> SceneStore:
        for name, shape in (("a", (2, 16, 16)), ("a_m", (1, 16, 16)), ("a_c", (1, height, width))):
            write_tiff(tmp_path / f"{name}.tif", np.ones(shape, np.uint8), crs="")
        one = scene(
            "a", 6e5, 6.6e6, "z", "A", images={"aerial": Raster("a.tif", bands=(1, 2)), "coarse": Raster("a_c.tif")}
        )
        sensors = {"aerial": Imagery(("red", "green")), "coarse": SENSORS["coarse"]}
        return store_of(tmp_path / f"s{height}", tmp_path, [one], sensors=sensors)

    assert len(stored(8, 8)) == 1
    with pytest.raises(ValueError, match=r"coarse .*a_c.tif has 17 x 16 pixels, that .* 16 x 16: no size"):
        stored(17, 16)


def test_a_sensor_that_every_labelled_patch_lacks_is_said_and_is_no_error(tmp_path: Path) -> None:
    scenes = []
    for s in world(tmp_path, zones=6):
        if s.region == "B":
            write_tiff(tmp_path / f"{s.key}_c.tif", raster(tmp_path / f"{s.key}.tif")[:1], s.x, s.y, GSD)
            s = replace(s, images={**s.images, "coarse": Raster(f"{s.key}_c.tif")})
        scenes.append(s)
    prepared = store_of(tmp_path / "s", tmp_path, scenes, sensors=SENSORS)
    with pytest.warns(UserWarning, match="no labelled training patch has 'coarse'.*data.bands or encoder.modalities"):
        data = module(prepared)
    pixels = np.concatenate([raster(tmp_path / f"{s.key}_c.tif").ravel() for s in scenes if s.region == "B"])
    (mean,), (std,) = data.statistics["coarse"]
    assert mean == pytest.approx(pixels.mean(), rel=1e-5)
    assert std == pytest.approx(pixels.std(), rel=1e-5)
