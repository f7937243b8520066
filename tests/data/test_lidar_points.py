"""Points of laser scans on their way to the network: turned, cropped and augmented as images are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scanned import SMALL, module, reader, scanned

from eo_adapt.align.augment import turn
from eo_adapt.data.scenes.augment import Augment, Image
from eo_adapt.data.scenes.points import cropped, padded, turned
from eo_adapt.data.scenes.raster import TileError
from eo_adapt.data.scenes.reader import PatchPart, PatchReader
from eo_adapt.data.scenes.records import Points
from eo_adapt.data.scenes.store import SceneStore
from eo_adapt.data.scenes.writer import write_scenes
from eo_adapt.data.synthetic.lidar import LidarWorld
from eo_adapt.types import IGNORE


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SceneStore]:
    return scanned(tmp_path_factory.mktemp("world"))


def test_points_turn_as_the_pixels_that_they_lie_in() -> None:
    rng = np.random.default_rng(0)
    values = torch.from_numpy(rng.uniform(0, 8, (8, 40, 3)).astype(np.float32))
    values[:, 0, :2] = 0.0  # the corner may not leave the patch
    turns = torch.tensor([[i & 1, i >> 1 & 1, i >> 2 & 1] for i in range(8)]).T.bool()
    image = torch.zeros(8, 8, 8)
    for b in range(8):
        image[b, values[b, :, 1].long(), values[b, :, 0].long()] = 1
    after = turned(values, turns, (8, 8))
    again = torch.zeros(8, 8, 8)
    for b in range(8):
        again[b, after[b, :, 1].long(), after[b, :, 0].long()] = 1
    torch.testing.assert_close(again, turn(image, turns))
    torch.testing.assert_close(after[..., 2], values[..., 2])


def test_parts_of_points_are_seen_from_their_corner_and_magnified() -> None:
    values = np.array([[3.0, 5.0, 1.0], [7.99, 5.0, 2.0], [8.0, 5.0, 3.0], [3.0, 4.9, 4.0]], np.float32)
    found = cropped(values, (5, 3, 4, 5), (2.0, 1.0))
    np.testing.assert_allclose(found, [[0, 0, 1], [4.99, 0, 2]], atol=1e-5)
    assert (cropped(values, (0, 0, 6, 8), (1.0, 4.0))[:, 0] < 32).all()
    table, there = padded([values, values[:0], values[:2]])
    assert table.shape == (3, 4, 3)
    assert there.sum(1).tolist() == [4, 0, 2]
    assert padded([values[:0]])[0].shape == (1, 1, 3)


def test_images_points_and_labels_are_augmented_alike(world: tuple[Path, SceneStore]) -> None:
    store = world[1]
    bands = {"lidar": ["dsm"], "points": ["x", "y", "z"]}
    statistics = {"lidar": ([0.0], [1.0]), "points": ([0.0] * 3, [1.0] * 3)}
    data = PatchReader(store, bands, statistics, augment=Augment(d4=True, noise=0.5))
    rows = torch.arange(len(store))
    part = PatchPart(rows, None)
    batch = data.batch(part, torch.arange(16), torch.Generator().manual_seed(0))
    look, image = batch.inputs["points"], batch.inputs["lidar"].values
    assert look.valid is not None
    for b in range(16):
        x, y, z = look.values[b, look.valid[b]].T
        assert len(x) > 100
        top = torch.full((16, 16), -torch.inf)
        top.view(-1).scatter_reduce_(0, y.long() * 16 + x.long(), z, "amax")
        some = top > -torch.inf
        assert np.corrcoef(top[some], image[b, 0][some])[0, 1] > 0.8  # noise is drawn, places agree
    plain = data.batch(part, torch.arange(16))
    assert not torch.equal(plain.inputs["points"].values[0], look.values[0])


def test_crops_hold_the_points_of_their_pixels(world: tuple[Path, SceneStore]) -> None:
    bands = {"lidar": ["density"], "points": ["x", "y", "z"]}
    statistics = {"lidar": ([0.0], [1.0]), "points": ([0.0] * 3, [1.0] * 3)}
    data = PatchReader(world[1], bands, statistics, crop=8)
    batch = data.batch(PatchPart(torch.arange(8), None), torch.arange(8), torch.Generator().manual_seed(0))
    look, density = batch.inputs["points"], batch.inputs["lidar"].values[:, 0]
    assert look.valid is not None
    for b in range(8):
        x, y, _ = look.values[b, look.valid[b]].T
        count = torch.bincount(y.long() * 8 + x.long(), minlength=64).view(8, 8)
        torch.testing.assert_close(count.float(), density[b].clamp_max(4))  # four a pixel are kept


def test_a_module_serves_bands_or_points(world: tuple[Path, SceneStore]) -> None:
    data = module(world[1], {"points": ["x", "y", "z", "height"]})
    assert data.statistics["points"][0][:2] == [0.0, 0.0]
    assert data.statistics["points"][1][:2] == [1.0, 1.0]
    assert data.provides == {"labels", "lonlat"}
    assert data.sensors == {"points": 4}
    labelled = data.labelled[0]
    batch = data.reader.batch(data._labelled_part(labelled, "train"), torch.arange(3))  # type: ignore[union-attr]
    assert batch.inputs["points"].values.shape[::2] == (3, 4)
    assert batch.labels is not None
    assert (batch.labels == IGNORE).any()
    both = module(world[1], {"lidar": ["ndsm"], "points": ["x", "y", "z"]})
    assert both.provides == {"labels", "images", "lonlat"}
    with pytest.raises(LookupError, match=r"bands of points, which are points, start with \['x', 'y'\]; got \['z'\]"):
        module(world[1], {"points": ["z"]})
    with pytest.raises(LookupError, match=r"points has no band \['red'\]"):
        module(world[1], {"points": ["x", "y", "red"]})


def test_colours_of_points_are_left_alone() -> None:
    cloud = Image(torch.rand(2, 5, 3), torch.ones(2, 5, dtype=torch.bool), (4, 4))
    augment = Augment(d4=False, gain=0.5, bias=0.5, noise=0.5, blur=1.0)
    found, _ = augment({"points": cloud}, None, {"points": ["x", "y", "z"]}, {}, torch.Generator().manual_seed(0))
    assert torch.equal(found["points"].values, cloud.values)


def _store(tmp_path: Path, table: Any, points: Points, **imagery: Any) -> None:
    LidarWorld(**SMALL).write(tmp_path / "raw")
    scans = reader(tmp_path / "made")
    scene = next(iter(scans.read(tmp_path / "raw")))
    if table is not None:
        np.save(tmp_path / "raw" / "points.npy", table)
    sensors = {**scans.sensors, "points": replace(scans.sensors["points"], **imagery)}
    one = replace(scene, images={**scene.images, "points": points})
    write_scenes(tmp_path / "store", "scans", tmp_path / "raw", [one], sensors, scans.classes)


def test_damaged_tables_of_points_are_named(tmp_path: Path) -> None:
    good = np.zeros((5, 6), np.float32)
    cases: list[tuple[Any, Points, dict[str, Any], type[Exception], str]] = [
        (None, Points("none.npy", 0, 1), {}, TileError, "none.npy is missing: make it again"),
        (
            good.astype(float),
            Points("points.npy", 0, 1),
            {},
            TileError,
            r"holds float64 \(5, 6\); points with the bands",
        ),
        (good[:, :5], Points("points.npy", 0, 1), {}, TileError, r"are float32 \(N, 6\)"),
        (good, Points("points.npy", 3, 3), {}, TileError, r"has 5 points; the patch is rows 3 \+ 3"),
        (good + 16, Points("points.npy", 0, 5), {}, ValueError, "5 of 5 points in .* lie outside its 16 x 16 pixels"),
        (good * np.nan, Points("points.npy", 0, 5), {}, ValueError, "or have values that are not finite"),
        (good, Points("points.npy", 0, 5), {"bands": ("z", "x", "y", "a", "b", "c")}, ValueError, "start with"),
    ]
    for i, (table, points, imagery, kind, message) in enumerate(cases):
        with pytest.raises(kind, match=message):
            _store(tmp_path / str(i), table, points, **imagery)


def test_the_first_sensor_is_a_raster(world: tuple[Path, SceneStore], tmp_path: Path) -> None:
    folder = world[0]
    scans = reader(folder / "made")
    sensors = dict(reversed(scans.sensors.items()))
    with pytest.raises(ValueError, match="the first sensor is a raster, 'points' holds points"):
        write_scenes(tmp_path / "s", "scans", folder / "raw", scans.read(folder / "raw"), sensors, scans.classes)
