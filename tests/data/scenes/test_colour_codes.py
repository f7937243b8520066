"""Masks drawn in colours: decoding against a loop, stores and folders of them, what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiles import AERIAL, Tiles, raster, scene, write_tiff

from eo_adapt.data.readers.scene_folder import SceneFolder
from eo_adapt.data.scenes.colour_codes import check_codes, decode
from eo_adapt.data.scenes.labels import UNKNOWN, Remap
from eo_adapt.data.scenes.records import Classes, Raster
from eo_adapt.data.scenes.store import SceneStore
from eo_adapt.data.scenes.writer import write_scenes

CODES = {"#ffffff": 3, "#0000ff": 1, "#00FFff": 2, "#000000": 0, "#010203": 1}
COLOURS = np.array([[255, 255, 255], [0, 0, 255], [0, 255, 255], [0, 0, 0], [1, 2, 3]], np.uint8)
IDS = np.array([3, 1, 2, 0, 1])
CLASSES = Classes({1: "water", 2: "grass", 3: "road"}, frozenset({0}), {"water": "#0000ff"}, CODES)
LEGEND = ("grass", "road")


@given(st.integers(1, 9), st.integers(1, 9), st.randoms(use_true_random=False))
@settings(max_examples=30, deadline=None)
def test_each_colour_becomes_its_id(height: int, width: int, random: object) -> None:
    drawn = np.array([[random.randrange(5) for _ in range(width)] for _ in range(height)])  # type: ignore[attr-defined]
    np.testing.assert_array_equal(decode(COLOURS[drawn].transpose(2, 0, 1), CODES, "m.tif"), IDS[drawn])


def test_a_colour_that_is_not_listed_is_an_error() -> None:
    values = np.zeros((3, 4, 4), np.uint8)
    values[:, 0, :3] = np.array([[252], [255], [0]])
    values[:, 1, 0] = 254
    with pytest.raises(
        ValueError, match=r"6_7.tif has colours \['#fcff00', '#fefefe'\] in 4 pixels; known are .*reader's codes"
    ):
        decode(values, CODES, "6_7.tif")
    with pytest.raises(ValueError, match=r"m.tif holds uint16; a mask drawn in colours holds uint8"):
        decode(values.astype(np.uint16), CODES, "m.tif")


def test_codes_are_checked() -> None:
    check_codes(CODES, {0, 1, 2, 3})
    with pytest.raises(ValueError, match=r'colours written as "#rrggbb" to ids; got \[\'#fff\', \'red\'\]'):
        check_codes({"#fff": 1, "red": 2}, {1, 2})
    with pytest.raises(ValueError, match=r"neither names nor ignored lists: \{'#000000': 9\}; there are \[1, 2\]"):
        check_codes({"#000000": 9, "#000001": 1}, {1, 2})


def coloured(root: Path, bands: int = 3) -> np.ndarray:
    """A patch whose mask is drawn in colours; its ids (16, 16)."""
    rng = np.random.default_rng(4)
    drawn = rng.integers(0, 5, (16, 16))
    image = rng.integers(1, 200, (3, 16, 16)).astype(np.uint8)
    write_tiff(root / "p.tif", image)
    mask = COLOURS[drawn].transpose(2, 0, 1)
    extra = np.full((1, 16, 16), 255, np.uint8)
    write_tiff(root / "p_m.tif", np.concatenate([mask, extra])[:bands] if bands > 3 else mask[:bands])
    return IDS[drawn]


@pytest.mark.parametrize("bands", [3, 4])  # 4: with an alpha band
def test_a_store_counts_and_reads_them(tmp_path: Path, bands: int) -> None:
    ids = coloured(tmp_path / "raw", bands)
    scenes = [scene("p", 6e5, 6.6e6, "z", "A")]
    write_scenes(tmp_path / "s", "tiles", tmp_path / "raw", scenes, AERIAL, CLASSES)
    store = SceneStore(tmp_path / "s")
    assert dict(zip(store.names, store.counts[0].tolist(), strict=True)) == {
        name: int((ids == number).sum()) for number, name in CLASSES.names.items()
    }
    assert store.classes == CLASSES
    want = np.select([ids == 2, ids == 3], [0, 1], UNKNOWN)
    remap = Remap.to(store.classes, LEGEND)
    np.testing.assert_array_equal(store.labels(0, remap), want)
    np.testing.assert_array_equal(store.labels(0, remap, (2, 5, 7, 4)), want[2:9, 5:9])


def test_stores_of_ids_say_nothing_of_codes(tmp_path: Path) -> None:
    coloured(tmp_path / "raw")
    write_tiff(tmp_path / "raw" / "p_m.tif", np.ones((16, 16), np.uint8))
    reader = Tiles([scene("p", 6e5, 6.6e6, "z", "A")], classes=replace(CLASSES, codes={}))
    write_scenes(tmp_path / "s", "t", tmp_path / "raw", reader.read(tmp_path), AERIAL, reader.classes)
    assert "codes" not in json.loads((tmp_path / "s" / "store.json").read_text())["classes"]
    assert SceneStore(tmp_path / "s").classes == reader.classes


def test_masks_with_too_few_bands(tmp_path: Path) -> None:
    coloured(tmp_path, 1)
    with pytest.raises(
        ValueError, match=r"p_m.tif has 1 bands, of which \[1, 2, 3\] should be red.*codes out if masks"
    ):
        write_scenes(tmp_path / "s", "t", tmp_path, [scene("p", 6e5, 6.6e6, "z", "A")], AERIAL, CLASSES)
    two = scene("p", 6e5, 6.6e6, "z", "A", mask=Raster("p.tif", bands=(1, 2)))
    with pytest.raises(ValueError, match=r"of which \[1, 2\] should be red"):
        write_scenes(tmp_path / "s", "t", tmp_path, [two], AERIAL, CLASSES)


def test_scene_folders_take_codes(tmp_path: Path) -> None:
    ids = coloured(tmp_path)
    spec = {
        "images": "p.tif",
        "path": r"(?P<n>\w)\.tif",
        "imagery": {"aerial": {"bands": ["red", "green", "elevation"]}},
        "names": {1: "water", 2: "grass", 3: "road"},
        "ignored": [0],
        "codes": CODES,
        "mask": "{n}_m.tif",
        "columns": {"key": "{n}", "zone": "{n}"},
        "window": 10,
    }
    reader = SceneFolder(**spec)
    write_scenes(tmp_path / "s", "t", tmp_path, reader.read(tmp_path), reader.sensors, reader.classes)
    store = SceneStore(tmp_path / "s")
    assert len(store) == 4
    assert store.counts.sum(0).tolist() == [int((ids == i).sum()) for i in (1, 2, 3)]
    assert raster(tmp_path / "p_m.tif").shape == (3, 16, 16)
    with pytest.raises(ValueError, match="neither names nor ignored lists"):
        SceneFolder(**{**spec, "ignored": []})
