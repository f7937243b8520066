"""LoveDA: genuine layout, round trip with the generator, damaged folders."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio

from eo_adapt.data.readers.loveda import LoveDA
from eo_adapt.data.scenes.records import Raster, Scene
from eo_adapt.data.synthetic.loveda import LoveDAWorld

World = tuple[Path, list[Scene]]
pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    root = tmp_path_factory.mktemp("loveda")
    return root, LoveDAWorld(images=4, size=64, seed=1).write_known(root)


@pytest.fixture
def copy(world: World, tmp_path: Path) -> Path:
    return Path(shutil.copytree(world[0], tmp_path / "loveda"))


def test_round_trip(world: World) -> None:
    assert list(map(str, LoveDA(parts=("Train", "Val", "Test")).read(world[0]))) == list(
        map(str, world[1])
    )  # nan != nan
    found = list(LoveDA().read(world[0]))
    assert [s.key for s in found] == [s.key for s in world[1] if s.split != "test"]
    assert {(s.region, s.split, s.mask is None) for s in world[1]} == {
        (scene, split, split == "test") for scene in ("Urban", "Rural") for split in ("train", "val", "test")
    }
    first = found[0]
    assert first.key == first.zone == "Train-Urban-1366"
    assert first.mask == Raster("Train/Urban/masks_png/1366.png")
    assert math.isnan(first.lon + first.lat + first.x + first.y)
    assert (first.crs, first.gsd, first.country) == ("", 0.3, "CN")


def test_raw_layout(world: World) -> None:
    seen: set[int] = set()
    for scene in world[1]:
        with rasterio.open(world[0] / scene.images["aerial"].path) as file:
            assert (file.driver, file.count, file.dtypes[0], file.shape) == ("PNG", 3, "uint8", (64, 64))
        if isinstance(scene.mask, Raster):
            with rasterio.open(world[0] / scene.mask.path) as file:
                assert (file.count, file.dtypes[0], file.shape) == (1, "uint8", (64, 64))
                seen |= {int(n) for n in np.unique(file.read())}
    assert seen == set(range(8))


def test_numbers_are_sorted_as_numbers(copy: Path) -> None:
    for part in ("images_png", "masks_png"):
        (copy / "Train/Rural" / part / "3.png").rename(copy / "Train/Rural" / part / "10.png")
    keys = [s.key for s in LoveDA(parts=("Train",)).read(copy) if s.region == "Rural"]
    assert keys == [f"Train-Rural-{n}" for n in (0, 1, 2, 10)]


def test_damaged_folders(copy: Path) -> None:
    mask = copy / "Val/Rural/masks_png/2523.png"
    mask.unlink()
    with pytest.raises(FileNotFoundError, match=r"2523.png.*the mask of Val/Rural/images_png/2523.png"):
        list(LoveDA().read(copy))
    (copy / "Val/Rural/images_png/2523.png").rename(copy / "Val/Rural/images_png/copy of 2.png")
    with pytest.raises(ValueError, match=r"named by a number, as 1366.png; got \['copy of 2.png'\]"):
        list(LoveDA().read(copy))
    shutil.rmtree(copy / "Val")
    assert len(list(LoveDA(parts=("Train",)).read(copy))) == 8
    with pytest.raises(FileNotFoundError, match=r"Val/Urban/images_png.*Fetch LoveDA"):
        list(LoveDA().read(copy))


def test_options() -> None:
    assert LoveDA(legend="lovecs4").classes.ignored == {0, 1}
    assert LoveDA().sensors["aerial"].bands == ("red", "green", "blue")
    with pytest.raises(LookupError, match="no legend called 'lovecs'; did you mean 'lovecs4'"):
        LoveDA(legend="lovecs")
    with pytest.raises(ValueError, match=r"\['Train', 'Val', 'Test'\]; got \['train'\], of which \['train'\] are none"):
        LoveDA(parts=("train",))
