"""Scenes become Cloud-Optimised GeoTIFFs: every pixel where it belongs, whatever the sizes, with what GIS need."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import echo
import numpy as np
import pytest
import rasterio
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio.transform import from_origin
from rio_cogeo import cog_validate

from eo_adapt.mapping.maps import Settings, map_scene

SMALL = Settings(tile=32, overlap=8, batch=3)


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 40), st.data())
def test_a_network_that_says_what_it_sees_gives_back_its_input(
    tmp_path: Path, height: int, width: int, tile: int, data: st.DataObject
) -> None:
    overlap = data.draw(st.integers(0, tile - 1))
    image = echo.classes(height, width, height)
    echo.write(tmp_path / "in.tif", image)
    how = Settings(tile=tile, overlap=overlap, batch=data.draw(st.integers(1, 5)), overwrite=True, readers=1)
    facts = map_scene(echo.mapper(), tmp_path / "in.tif", tmp_path / "out.tif", how)
    np.testing.assert_array_equal(echo.read(tmp_path / "out.tif"), image)
    assert facts["seen"] == height * width
    assert list(facts["pixels"].values()) == np.bincount(image.ravel(), minlength=echo.CLASSES).tolist()


def test_files_say_what_they_are(tmp_path: Path) -> None:
    image = echo.classes(1100, 700)
    image[:, :40, :30] = 9  # nodata
    echo.write(tmp_path / "in.tif", image, nodata=9)
    how = Settings(tile=128, probabilities=True, entropy=True)
    facts = map_scene(echo.mapper(), tmp_path / "in.tif", tmp_path / "map.tif", how, command="predict run=x")
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "in.tif", "map.tif", "map.tif.aux.xml", "map_entropy.tif", "map_probabilities.tif"
    ]  # fmt: skip
    for path in facts["files"]:
        assert cog_validate(path) == (True, [], [])
    with rasterio.open(tmp_path / "map.tif") as file, rasterio.open(tmp_path / "in.tif") as given:
        assert (file.crs, file.transform, file.shape) == (given.crs, given.transform, given.shape)
        assert (file.nodata, file.dtypes, file.descriptions) == (255, ("uint8",), ("class",))
        assert file.overviews(1)
        assert file.colormap(1)[0] == (0xE6, 0x9F, 0x00, 255)
        assert file.colormap(1)[255][3] == 0
        tags = file.tags()
        found = file.read()
    assert tags["EO_ADAPT_DOMAIN"] == "here"
    assert tags["EO_ADAPT_CHECKPOINT_SHA256"] == "0" * 64
    assert tags["EO_ADAPT_COMMAND"] == "predict run=x"
    assert json.loads(tags["EO_ADAPT_LEGEND"])["1"] == ["class 1", "#56B4E9"]
    assert "<Category>class 4</Category>" in (tmp_path / "map.tif.aux.xml").read_text()
    assert (found[0, :40, :30] == 255).all()
    expected = np.where(image == 9, 255, image)
    np.testing.assert_array_equal(found, expected)
    assert facts["seen"] == int((image != 9).sum())
    with rasterio.open(tmp_path / "map_probabilities.tif") as file:
        assert file.descriptions == tuple(f"class {i}" for i in range(5))
        assert file.scales == (1 / 254,) * 5
        probabilities = file.read()
    one_hot = np.where(expected == 255, 255, 254 * (expected == np.arange(5)[:, None, None]))
    np.testing.assert_array_equal(probabilities, one_hot)
    entropy = echo.read(tmp_path / "map_entropy.tif")
    np.testing.assert_array_equal(entropy, np.where(expected == 255, 255, 0))


def test_probabilities_are_means_of_softmaxes(tmp_path: Path) -> None:
    """Against numpy: each window by itself, softmax(logits / T), the weighted mean, bytes."""
    image = echo.classes(50, 61)
    echo.write(tmp_path / "in.tif", image)
    from dataclasses import replace

    from eo_adapt.mapping.blend import weight_of

    mapper = replace(echo.mapper(echo.blurring), temperature=2.0)
    how = Settings(tile=32, overlap=8, batch=3, probabilities=True, entropy=True)
    map_scene(mapper, tmp_path / "in.tif", tmp_path / "map.tif", how)
    weight, network = weight_of(32, 8).numpy().astype(float), echo.blurring(torch.device("cpu"))
    sums, weights = np.zeros((5, 50, 61)), np.zeros((50, 61))
    for row in (0, 18):
        for column in (0, 24, 29):
            part = torch.from_numpy(image[None, :, row : row + 32, column : column + 32].astype(np.float32))
            from eo_adapt.types import Observation

            logits = network({"img": Observation(part)})[0].numpy().astype(float) / 2
            p = np.exp(logits - logits.max(0)) / np.exp(logits - logits.max(0)).sum(0)
            at = np.s_[..., row : row + 32, column : column + 32]
            sums[at] += weight * p
            weights[at] += weight
    mean = sums / weights
    assert (np.abs(echo.read(tmp_path / "map_probabilities.tif") - 254 * mean) <= 0.51).all()
    np.testing.assert_array_equal(echo.read(tmp_path / "map.tif")[0], mean.argmax(0))
    entropy = -(mean * np.log(mean)).sum(0) / np.log(5)
    assert (np.abs(echo.read(tmp_path / "map_entropy.tif")[0] - 254 * entropy) <= 0.51).all()


def test_bands_are_found_by_name(tmp_path: Path) -> None:
    image = echo.classes(40, 40)
    others = np.full((2, 40, 40), 7, np.uint8)
    echo.write(tmp_path / "named.tif", np.concatenate([others, image]), ["a", "b", "class"])
    echo.write(tmp_path / "bare.tif", np.concatenate([others[:1], image]), [])
    map_scene(echo.mapper(), tmp_path / "named.tif", tmp_path / "1.tif", SMALL)
    how = Settings(tile=32, bands=["x", "class"])
    map_scene(echo.mapper(), tmp_path / "bare.tif", tmp_path / "2.tif", how)
    how = Settings(tile=32, bands={"class": "b"})  # by another name
    map_scene(echo.mapper(), tmp_path / "named.tif", tmp_path / "3.tif", how)
    np.testing.assert_array_equal(echo.read(tmp_path / "1.tif"), image)
    np.testing.assert_array_equal(echo.read(tmp_path / "2.tif"), image)
    assert (echo.read(tmp_path / "3.tif") == 4).all()  # 7, cut to the last class


@pytest.mark.parametrize("views", ["flips", "d4"])
def test_views_of_a_window_are_turned_back(views: str, tmp_path: Path) -> None:
    image = echo.classes(70, 45)
    echo.write(tmp_path / "in.tif", image)
    map_scene(echo.mapper(), tmp_path / "in.tif", tmp_path / "out.tif", Settings(tile=32, overlap=8, tta=views))
    np.testing.assert_array_equal(echo.read(tmp_path / "out.tif"), image)


def test_scales_see_the_same_ground(tmp_path: Path) -> None:
    image = np.kron(echo.classes(4, 5), np.ones((1, 16, 16), np.uint8))
    echo.write(tmp_path / "in.tif", image)
    how = Settings(tile=64, overlap=0, scales=(1.0, 2.0))
    map_scene(echo.mapper(), tmp_path / "in.tif", tmp_path / "out.tif", how)
    inner = np.s_[:, 3:13, 3:13]
    found = echo.read(tmp_path / "out.tif")
    for i in range(4):
        for j in range(5):
            block = np.s_[:, 16 * i : 16 * i + 16, 16 * j : 16 * j + 16]
            np.testing.assert_array_equal(found[block][inner], image[block][inner])


def test_a_coarser_sensor_is_read_on_its_own_pixels(tmp_path: Path) -> None:
    fine, coarse = echo.classes(96, 80), echo.classes(24, 20, 1)
    echo.write(tmp_path / "fine.tif", fine)
    echo.write(tmp_path / "coarse.tif", coarse, transform=from_origin(600_000, 5_600_000, 40, 40))
    sensors = {"img": echo.spec(), "other": echo.spec()}
    mapper = echo.mapper(partial(_second, sensor="other"), sensors)
    mapper.card["gsd"]["other"] = 40.0
    given = {"img": str(tmp_path / "fine.tif"), "other": str(tmp_path / "coarse.tif")}
    map_scene(mapper, given, tmp_path / "out.tif", Settings(tile=32, overlap=8))
    np.testing.assert_array_equal(echo.read(tmp_path / "out.tif")[0], np.kron(coarse[0], np.ones((4, 4), np.uint8)))


def _second(device: torch.device, sensor: str) -> object:
    """What a coarse sensor says, on the pixels of the leading one."""
    network = echo.echo(device, sensor)

    def said(inputs):
        side = inputs["img"].values.shape[-1]
        return torch.nn.functional.interpolate(network(inputs), (side, side))

    return said


def test_nothing_seen_is_a_map_of_nodata(tmp_path: Path) -> None:
    echo.write(tmp_path / "in.tif", np.full((1, 50, 50), 3, np.uint8), nodata=3)
    facts = map_scene(echo.mapper(_never), tmp_path / "in.tif", tmp_path / "out.tif", SMALL)
    assert (echo.read(tmp_path / "out.tif") == 255).all()
    assert facts["seen"] == 0


def _never(device: torch.device) -> object:
    def said(inputs):
        raise AssertionError("there is nothing to look at")

    return said
