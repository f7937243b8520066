"""FLAIR#1: genuine layout, round trip with the generator, the published names, damaged files."""

from __future__ import annotations

import csv
import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from eo_adapt.data.readers.flair1 import METADATA, PARTS, Flair1
from eo_adapt.data.scenes.records import Raster, Scene
from eo_adapt.data.synthetic.aerial_world import SECOND, SECOND_METADATA, AerialWorld

REAL = Path(__file__).parents[3] / "../shared/data/flair"
World = tuple[Path, list[Scene]]
SMALL: dict[str, Any] = {"departments": ("D006_2020", "D067_2021", "D064_2021"), "zones": 2, "grid": 2, "size": 16}
TRAIN, TEST = PARTS
TOY = {
    f"flair_1_toy_dataset/{part}/flair_1_toy_aerial_{part}": f"flair_1_toy_dataset/{part}/flair_1_toy_labels_{part}"
    for part in ("train", "test")
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    root = tmp_path_factory.mktemp("flair")
    return root, AerialWorld(**SMALL, seed=3).write_known(root)


@pytest.fixture
def copy(world: World, tmp_path: Path) -> Path:
    return Path(shutil.copytree(world[0], tmp_path / "flair"))


def test_round_trip(world: World) -> None:
    found = list(Flair1().read(world[0]))
    assert found == world[1]
    assert len(found) == 24
    assert {(s.region, s.year, s.split) for s in found} == {
        ("D006", 2020, "train"), ("D067", 2021, "val"), ("D064", 2021, "test"),
    }  # fmt: skip
    assert [s.key for s in found[:2]] == ["IMG_000001", "IMG_000002"]
    assert found[-1].key == "IMG_061720"
    assert len({s.zone for s in found}) == 6
    assert found[0].sensor == "UCE-M3-f120-s06"
    assert found[0].date == "2020-07-09"


def test_raw_layout(world: World) -> None:
    for scene in world[1]:
        assert scene.mask is not None
        with rasterio.open(world[0] / scene.images["aerial"].path) as file:
            assert (file.count, file.dtypes[0], file.crs.to_epsg()) == (5, "uint8", 2154)
            assert file.res == (0.2, 0.2)
            assert file.xy(7.5, 7.5) == pytest.approx((scene.x, scene.y), abs=1e-6)
        with rasterio.open(world[0] / scene.mask.path) as file:
            assert (file.count, file.dtypes[0]) == (1, "uint8")
            assert set(np.unique(file.read())) <= set(range(1, 20))
    about = json.loads((world[0] / METADATA).read_text())["IMG_000001"]
    assert set(about) == {
        "domain", "zone", "patch_centroid_x", "patch_centroid_y", "patch_centroid_z", "date", "time", "camera",
    }  # fmt: skip


def test_degrees_against_pyproj(world: World) -> None:
    from pyproj import Transformer

    scene = world[1][0]
    x, y = Transformer.from_crs("EPSG:4326", "EPSG:2154", always_xy=True).transform(scene.lon, scene.lat)
    assert (x, y) == pytest.approx((scene.x, scene.y), abs=0.01)
    assert 6 < scene.lon < 8  # Nice
    assert 43 < scene.lat < 45


def test_places_come_from_the_images_without_metadata(world: World) -> None:
    found = list(Flair1(metadata=()).read(world[0]))
    for scene, known in zip(found, world[1], strict=True):
        assert (scene.x, scene.y) == pytest.approx((known.x, known.y), abs=1e-6)
        assert (scene.sensor, scene.date, scene.gsd) == ("", "", 0.2)


def test_an_entry_without_centroid_is_read_from_its_image(copy: Path, world: World) -> None:
    about = json.loads((copy / METADATA).read_text())
    del about["IMG_000002"]["patch_centroid_x"], about["IMG_000003"]
    (copy / METADATA).write_text(json.dumps(about))
    found = list(Flair1().read(copy))
    assert (found[1].x, found[2].x) == pytest.approx((world[1][1].x, world[1][2].x), abs=1e-6)
    assert (found[1].sensor, found[2].sensor) == (world[1][1].sensor, "")


def test_half_a_centroid_is_none(copy: Path, world: World) -> None:
    about = json.loads((copy / METADATA).read_text())
    del about["IMG_000002"]["patch_centroid_y"]
    about["IMG_000003"]["patch_centroid_x"] = None
    (copy / METADATA).write_text(json.dumps(about))
    found = list(Flair1().read(copy))
    for i in (1, 2):
        assert (found[i].x, found[i].y) == pytest.approx((world[1][i].x, world[1][i].y), abs=1e-6)
        assert found[i].sensor == world[1][i].sensor
    about["IMG_000004"]["patch_centroid_x"] = "east"
    (copy / METADATA).write_text(json.dumps(about))
    with pytest.raises(ValueError, match=r"IMG_000004\.tif: its patch_centroid_x .* is 'east', no number of metres"):
        list(Flair1().read(copy))


def test_a_damaged_image_is_left_to_who_reads_its_pixels(copy: Path, world: World) -> None:
    for number in (1, 3):
        next(copy.rglob(f"IMG_00000{number}.tif")).write_bytes(b"II*")
    found = list(Flair1(metadata=()).read(copy))
    assert [math.isnan(s.x) for s in found[:4]] == [True, False, True, False]
    assert (found[0].crs, found[0].gsd, found[2].gsd) == ("", 0.2, 0.2)
    assert list(Flair1().read(copy)) == world[1]  # the metadata know


def test_an_image_without_any_place(copy: Path) -> None:
    path = copy / Flair1(metadata=()).read(copy).__next__().images["aerial"].path
    with rasterio.open(path) as file:
        values = file.read()
    path.unlink()
    with rasterio.open(path, "w", driver="GTiff", width=16, height=16, count=5, dtype="uint8") as file:
        file.write(values)
    first = next(Flair1(metadata=()).read(copy))
    assert math.isnan(first.lon + first.lat + first.x + first.y)
    assert first.crs == ""


def test_bands_and_legends(world: World) -> None:
    reader = Flair1(bands=("nir", "red", "green"), legend="flair12", splits="uda_nas")
    assert reader.sensors["aerial"].bands == ("nir", "red", "green")
    assert reader.classes.ignored == set(range(13, 20))
    found = list(reader.read(world[0]))
    assert found[0].images["aerial"].bands == (4, 1, 2)
    assert {s.split for s in found if s.region == "D064"} == {"test"}
    with pytest.raises(
        ValueError, match=r"bands of FLAIR are .*'elevation'\]; got \['red', 'swir'\], of which \['swir'"
    ):
        Flair1(bands=("red", "swir"))
    with pytest.raises(LookupError, match="did you mean 'flair12'"):
        Flair1(legend="flair_12")
    with pytest.raises(LookupError, match="no split called 'official'"):
        Flair1(splits="official")


def test_a_second_sensor_is_a_part_of_its_own(tmp_path: Path) -> None:
    known = AerialWorld(**{**SMALL, "zones": 1}, second=True).write_known(tmp_path)
    reader = Flair1({**PARTS, **SECOND}, (METADATA, SECOND_METADATA), ("red", "green", "blue"))
    found = list(reader.read(tmp_path))
    coarse = [s for s in found if s.sensor == "RGB40"]
    assert len(found) == 2 * len(known) == 2 * len(coarse)
    assert {s.gsd for s in coarse} == {0.4}
    assert [(s.x, s.y, s.zone, s.region) for s in coarse] == [(s.x, s.y, s.zone, s.region) for s in known]
    assert coarse[0].mask is not None
    with rasterio.open(tmp_path / coarse[0].images["aerial"].path) as image:
        assert (image.count, image.shape, image.res) == (3, (8, 8), (0.4, 0.4))
    with rasterio.open(tmp_path / coarse[0].mask.path) as mask:
        assert mask.shape == (8, 8)


def test_unlabelled_and_missing_parts(copy: Path) -> None:
    shutil.rmtree(copy / PARTS[TEST])
    found = list(Flair1().read(copy))
    assert {s.mask is None for s in found if s.region == "D064"} == {True}
    assert all(s.mask for s in found if s.region != "D064")
    shutil.rmtree(copy / TEST)
    assert len(list(Flair1().read(copy))) == 16
    shutil.rmtree(copy / TRAIN)
    with pytest.raises(FileNotFoundError, match=r"flair_aerial_train, which is not there .*Fetch FLAIR#1"):
        list(Flair1().read(copy))


def test_damaged_layouts(copy: Path) -> None:
    mask = next((copy / PARTS[TRAIN]).rglob("MSK_*.tif"))
    mask.rename(copy / "away.tif")
    with pytest.raises(FileNotFoundError, match=rf"{mask.name}.*the mask of flair_aerial_train.*IMG_"):
        list(Flair1().read(copy))
    (copy / "away.tif").rename(mask)
    (copy / METADATA).write_text('{"IMG_000001": {')
    with pytest.raises(ValueError, match=r"flair_aerial_metadata.json cannot be read .*cut short"):
        list(Flair1().read(copy))
    (copy / METADATA).write_text("[]")
    with pytest.raises(ValueError, match="should map patch names to mappings"):
        list(Flair1().read(copy))
    (copy / METADATA).unlink()
    with pytest.raises(FileNotFoundError, match=r"aerial_metadata.json.*reader's metadata: \[\]"):
        list(Flair1().read(copy))


def test_foreign_names(copy: Path) -> None:
    image = sorted((copy / TRAIN).rglob("IMG_*.tif"))[0]
    image.rename(image.with_name("patch.tif"))
    with pytest.raises(ValueError, match=r"patch.tif: images of FLAIR are named as IMG_000826.tif"):
        list(Flair1().read(copy))
    shutil.rmtree(image.parent)
    (copy / TRAIN / "D067_2021").rename(copy / TRAIN / "alsace")
    (copy / PARTS[TRAIN] / "D067_2021").rename(copy / PARTS[TRAIN] / "alsace")
    with pytest.raises(ValueError, match=r"'alsace' should be named <department>_<year>, as D004_2021"):
        list(Flair1().read(copy))


@pytest.mark.skipif(not REAL.is_dir(), reason="no ../shared/data")
def test_real_names_and_real_metadata(tmp_path: Path) -> None:
    """Tiny images under all published names of the toy data, with their real metadata."""
    rows = []
    for part in ("train", "val", "test"):
        with (REAL / f"flair-1-paths-toy-{part}.csv").open() as file:
            rows += [[name.removeprefix("../data/") for name in row] for row in csv.reader(file)]
    assert len(rows) == 250
    for image, mask in rows:
        for name in (image, mask):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(b"")
    about = json.loads((REAL / "flair_toy_metadata.json").read_text())
    shutil.copy(REAL / "flair_toy_metadata.json", tmp_path / METADATA)
    found = {s.key: s for s in _tiny(tmp_path)}
    assert found.keys() == about.keys() == {Path(image).stem for image, _ in rows}
    for image, mask in rows:
        scene, entry = found[Path(image).stem], about[Path(image).stem]
        assert (scene.images["aerial"].path, scene.mask) == (image, Raster(mask))
        assert (scene.x, scene.y) == (entry["patch_centroid_x"], entry["patch_centroid_y"])
        assert (scene.sensor, scene.date) == (entry["camera"], entry["date"])
        assert scene.zone == f"{entry['domain']}/{entry['zone']}"
        assert -5.2 < scene.lon < 9.6
        assert 41.3 < scene.lat < 51.1


def _tiny(root: Path) -> list[Scene]:
    """The reader opens the first image of a part for its pixel size, the others only where metadata lack a place."""
    for part in TOY:
        first = min((root / part).glob("*/*/img/*.tif"), key=lambda path: path.stem)
        with rasterio.open(first, "w", driver="GTiff", width=2, height=2, count=5, dtype="uint8") as file:
            file.write(np.ones((5, 2, 2), np.uint8))
    return list(Flair1(TOY).read(root))
