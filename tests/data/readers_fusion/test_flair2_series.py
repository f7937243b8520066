"""FLAIR#2's Sentinel-2 superpatches: the footprint of each aerial patch, products' dates, masks; what can be wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from eo_adapt.data.readers.flair1 import Flair2
from eo_adapt.data.readers.flair2_series import CENTRES, FOLDERS
from eo_adapt.data.scenes.records import Series
from eo_adapt.data.scenes.store import SceneStore
from eo_adapt.data.scenes.writer import write_scenes
from eo_adapt.data.synthetic.aerial_world import AerialWorld

DAYS = ("20210114", "20210306", "20210306", "20211208")
SIZE = (40, 36)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Aerial patches, and superpatches whose values say date, band, row and column."""
    root = tmp_path_factory.mktemp("flair2")
    departments = ("D033_2021", "D064_2021")
    AerialWorld(departments, zones=2, grid=2, size=16, release="flair2").write(root)
    centres = {}
    for aerial, sentinel in FOLDERS.items():
        for zone in sorted((root / aerial).glob("*/*")):
            folder = root / sentinel / zone.parent.name / zone.name / "sen"
            folder.mkdir(parents=True)
            stem = f"SEN2_sp_{zone.parent.name}-{zone.name}"
            t, c, row, column = np.ogrid[: len(DAYS), :10, : SIZE[0], : SIZE[1]]
            np.save(folder / f"{stem}_data.npy", (5000 * t + 400 * c + 10 * row + column % 10).astype(np.uint16))
            masks = np.zeros((len(DAYS), 2, *SIZE), np.uint8)
            masks[1, 1, :, :14] = 60
            masks[2, 0, 12:14] = 59
            np.save(folder / f"{stem}_masks.npy", masks)
            lines = [f"S2A_MSIL2A_{day}T105421_N9999_R051_T31TCJ_20210114T140159.SAFE" for day in DAYS]
            (folder / f"{stem}_products.txt").write_text("\n".join(lines) + "\n")
            for i, image in enumerate(sorted(zone.glob("img/*.tif"))):
                centres[image.name] = [10 + 10 * (i // 2), 9 + 10 * (i % 2)]
    (root / CENTRES).write_text(json.dumps(centres))
    return root


@pytest.fixture
def copy(world: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(world, tmp_path / "flair2"))


def test_the_footprint_of_each_patch(world: Path, tmp_path: Path) -> None:
    reader = Flair2(sentinel2=True)
    assert list(reader.sensors) == ["aerial", "s2"]
    write_scenes(tmp_path / "s", "flair2", world, reader.read(world), reader.sensors, reader.classes)
    store = SceneStore(tmp_path / "s")
    assert len(store) == 16
    centres = json.loads((world / CENTRES).read_text())
    for row, scene in enumerate(reader.read(world)):
        series = scene.images["s2"]
        assert isinstance(series, Series)
        assert series.dates == ("2021-01-14", "2021-03-06", "2021-03-06", "2021-12-08")
        top, left = (n - 5 for n in centres[f"{scene.key}.tif"])
        values, seen = store.pixels(row, "s2", [0, 9])
        data = np.load(world / series.paths[0])
        np.testing.assert_array_equal(values, data[:, [0, 9], top : top + 10, left : left + 10])
        cloud = np.arange(left, left + 10) < 14
        np.testing.assert_array_equal(~seen[1].any(0), cloud)
        assert seen[[0, 2, 3]].all()
        assert store.calendar(row, "s2")[1].tolist() == [True, bool(cloud.mean() <= 0.5), True, True]
    assert {bool(store.calendar(row, "s2")[1][1]) for row in range(4)} == {True, False}
    assert "s2" not in next(iter(Flair2().read(world))).images


def test_what_is_missing_or_odd(copy: Path, tmp_path: Path) -> None:
    def read() -> None:
        reader = Flair2(sentinel2=True)
        write_scenes(tmp_path / "s", "flair2", copy, reader.read(copy), reader.sensors, reader.classes)

    products = next((copy / "flair_sen_train").rglob("*_products.txt"))
    text = products.read_text()
    products.write_text(text.splitlines()[0])
    with pytest.raises(ValueError, match=r"_data.npy has 4 frames, its record names 1 dates"):
        read()
    products.write_text("S2A_MSIL2A\n")
    with pytest.raises(ValueError, match=r"products.txt has lines without the date of a Sentinel-2 product, as 'S2A"):
        read()
    products.write_text(text)
    centres = json.loads((copy / CENTRES).read_text())
    first = next(iter(centres))
    for value, message in (
        (None, rf"{CENTRES} has None for {first}; it should be \[row, column\]"),
        ([3, 9], r"has 40 x 36 pixels; the window \(-2, 4, 10, 10\) .* reaches beyond"),
    ):
        (copy / CENTRES).write_text(json.dumps({**centres, first: value}))
        with pytest.raises(ValueError, match=message):
            read()
    (copy / CENTRES).write_text("{")
    with pytest.raises(ValueError, match=rf"{CENTRES} cannot be read"):
        read()
    (copy / CENTRES).write_text(json.dumps(centres))
    next((copy / "flair_sen_train").rglob("*_masks.npy")).unlink()
    with pytest.raises(FileNotFoundError, match=r"_masks.npy, which is not there .*sentinel2: false"):
        read()
    (copy / CENTRES).unlink()
    with pytest.raises(FileNotFoundError, match=rf"{CENTRES}, which is not there .*sentinel2: false"):
        read()
    (copy / CENTRES).write_text("{}")
    (copy / "flair_aerial_train").rename(copy / "mine")
    with pytest.raises(ValueError, match=r"folders with superpatches are known of .*sentinel2: false"):
        list(Flair2({"mine": "flair_labels_train"}, sentinel2=True).read(copy))
