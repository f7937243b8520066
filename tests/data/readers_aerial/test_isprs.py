"""ISPRS Potsdam and Vaihingen: genuine layout, colours, bands by name, windows, places, the contest's tiles."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from eo_adapt.data.readers.isprs import CITIES, Isprs
from eo_adapt.data.recipe import Recipe
from eo_adapt.data.scenes.labels import UNKNOWN, Remap
from eo_adapt.data.scenes.land_cover import ISPRS_COLOURS, isprs_classes
from eo_adapt.data.scenes.records import Raster, Scene
from eo_adapt.data.scenes.store import SceneStore
from eo_adapt.data.scenes.writer import write_scenes
from eo_adapt.data.synthetic.isprs import BOUNDARY, CORNERS, IsprsWorld, Tile
from eo_adapt.registry import config, instantiate

SIZE = 96
World = tuple[Path, dict[tuple[str, str], Tile]]
NAMES = tuple(ISPRS_COLOURS)
pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    root = tmp_path_factory.mktemp("isprs")
    return root, {(tile.city, tile.name): tile for tile in IsprsWorld(size=SIZE, seed=2).write_known(root)}


@pytest.fixture
def copy(world: World, tmp_path: Path) -> Path:
    return Path(shutil.copytree(world[0], tmp_path / "isprs"))


def store_of(out: Path, root: Path, **changes: Any) -> SceneStore:
    reader = Isprs(**{"multiple": 1, **changes})
    write_scenes(out, "isprs", root, reader.read(root), reader.sensors, reader.classes)
    return SceneStore(out)


def by_tile(scenes: list[Scene]) -> dict[str, list[Scene]]:
    return {zone: [s for s in scenes if s.zone == zone] for zone in dict.fromkeys(s.zone for s in scenes)}


def test_published_names(world: World) -> None:
    """As the archives' contents are listed."""
    for name in (
        "Potsdam/2_Ortho_RGB/top_potsdam_2_10_RGB.tif",
        "Potsdam/3_Ortho_IRRG/top_potsdam_2_10_IRRG.tif",
        "Potsdam/4_Ortho_RGBIR/top_potsdam_2_10_RGBIR.tif",
        "Potsdam/4_Ortho_RGBIR/top_potsdam_2_10_RGBIR.tfw",
        "Potsdam/5_Labels_all/top_potsdam_2_10_label.tif",
        "Potsdam/5_Labels_all_noBoundary/top_potsdam_2_10_label_noBoundary.tif",
        "Vaihingen/top/top_mosaic_09cm_area1.tif",
        "Vaihingen/ISPRS_semantic_labeling_Vaihingen_ground_truth_COMPLETE/top_mosaic_09cm_area1.tif",
        "Vaihingen/ISPRS_semantic_labeling_Vaihingen_ground_truth_eroded_COMPLETE/top_mosaic_09cm_area1_noBoundary.tif",
    ):
        assert (world[0] / name).is_file(), name
    with rasterio.open(world[0] / "Potsdam/4_Ortho_RGBIR/top_potsdam_2_10_RGBIR.tif") as file:
        assert (file.count, file.dtypes[0], file.crs.to_epsg(), file.res) == (4, "uint8", 32633, (0.05, 0.05))
    with rasterio.open(world[0] / "Vaihingen/top/top_mosaic_09cm_area1.tif") as file:
        assert (file.count, file.dtypes[0], file.crs) == (3, "uint8", None)
    with rasterio.open(world[0] / "Potsdam/5_Labels_all/top_potsdam_2_10_label.tif") as file:
        assert (file.count, file.dtypes[0], file.crs) == (3, "uint8", None)


def test_tiles_and_windows(world: World) -> None:
    found = list(Isprs(window=40, multiple=1).read(world[0]))
    tiles = by_tile(found)
    assert list(tiles) == [*(f"Potsdam/{n}" for n in ("2_10", "2_11", "2_13", "2_14", "3_10")),
                           *(f"Vaihingen/{n}" for n in ("1", "2", "3", "4", "5", "30"))]  # fmt: skip
    first = found[1]
    assert (first.key, first.region, first.country, first.gsd) == ("Potsdam-2_10-0-1", "Potsdam", "DE", 0.05)
    assert first.images == {
        "aerial": Raster("Potsdam/4_Ortho_RGBIR/top_potsdam_2_10_RGBIR.tif", (0, 40, 40, 40), (4, 1, 2))
    }
    assert first.mask == Raster("Potsdam/5_Labels_all/top_potsdam_2_10_label.tif", (0, 40, 40, 40))
    for (city, name), tile in world[1].items():
        covered = np.zeros(tile.ids.shape, int)
        for scene in tiles.get(f"{city}/{name}", []):
            top, left, height, width = scene.images["aerial"].window or (0, 0, *tile.ids.shape)
            covered[top : top + height, left : left + width] += 1
        assert (covered == (f"{city}/{name}" != "Potsdam/7_10")).all()
    assert {s.gsd for s in found if s.region == "Vaihingen"} == {0.09}
    whole = list(Isprs(window=0, multiple=1).read(world[0]))
    assert whole[0].key == "Potsdam-2_10"
    assert whole[0].images["aerial"].window is None
    assert "Potsdam-7_10" in {s.key for s in Isprs(window=0, multiple=1, skip=()).read(world[0])}


def test_sides_are_multiples(world: World) -> None:
    found = list(Isprs(window=64).read(world[0]))
    for zone, windows in by_tile(found).items():
        height, width = world[1][zone.split("/")[0], zone.split("/")[1]].ids.shape
        cuts = [s.images["aerial"].window or (0, 0, height, width) for s in windows]
        assert all(h % 32 == 0 and w % 32 == 0 for _, _, h, w in cuts)
        assert max(left + w for _, left, _, w in cuts) == width // 32 * 32
        assert sum(h * w for _, _, h, w in cuts) == (height // 32 * 32) * (width // 32 * 32)
        assert [s.mask.window for s in windows] == [s.images["aerial"].window for s in windows]  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="got window=100, multiple=32"):
        Isprs(window=100)
    whole = {s.zone: s.images["aerial"].window for s in Isprs(window=0).read(world[0])}
    assert whole["Potsdam/2_10"] is None
    assert whole["Vaihingen/3"] == (0, 0, 96, 64)


def test_the_contests_tiles(world: World) -> None:
    """Lists as torchgeo has them; 33 and 38 tiles."""
    assert len(CITIES["Potsdam"].test) == 14
    assert len(CITIES["Vaihingen"].test) == 17
    train = {1, 3, 5, 7, 11, 13, 15, 17, 21, 23, 26, 28, 30, 32, 34, 37}
    assert not {int(tile) for tile in CITIES["Vaihingen"].test} & train
    splits = {(s.region, s.zone.split("/")[1]): s.split for s in Isprs(skip=()).read(world[0])}
    assert {k for k, v in splits.items() if v == "test"} == {
        ("Potsdam", "2_13"), ("Potsdam", "2_14"), ("Vaihingen", "2"), ("Vaihingen", "4"),
    }  # fmt: skip
    assert {k for k, v in splits.items() if v == "val"} == {("Potsdam", "2_10"), ("Vaihingen", "30")}


def test_pixels_and_labels_of_both_cities(world: World, tmp_path: Path) -> None:
    store = store_of(tmp_path / "s", world[0], window=0, skip=())
    remap = Remap.to(store.classes, NAMES)
    for row, key in enumerate(store.index["parcel_id"]):
        city, name = key.split("-")
        tile = world[1][city, name]
        pixels, seen = store.pixels(row, "aerial", [0, 1, 2])
        np.testing.assert_array_equal(pixels, tile.image[[3, 0, 1]])  # near infrared, red, green by name
        assert seen.all()
        np.testing.assert_array_equal(store.labels(row, remap), tile.ids - 1)
        assert store.counts[row].tolist() == [int((tile.ids == i).sum()) for i in range(1, 7)]
    assert set(store.names) == set(NAMES)


def test_masks_without_boundaries(world: World, tmp_path: Path) -> None:
    store = store_of(tmp_path / "s", world[0], window=50, boundaries=False, legend="isprs5", cities=["Vaihingen"])
    remap = Remap.to(store.classes, NAMES[:5])
    tile = world[1]["Vaihingen", "1"]
    want = np.where(tile.inner & (tile.ids < 6), tile.ids - 1, UNKNOWN)
    row = store.index["parcel_id"].tolist().index("Vaihingen-1-1-0")
    np.testing.assert_array_equal(store.labels(row, remap), want[50:, :50])
    assert 0 < (~tile.inner).sum() < tile.inner.size
    near = tile.ids[BOUNDARY:-BOUNDARY, BOUNDARY:-BOUNDARY]
    same = np.ones(near.shape, bool)
    for dy in range(2 * BOUNDARY + 1):
        for dx in range(2 * BOUNDARY + 1):
            same &= tile.ids[dy : dy + near.shape[0], dx : dx + near.shape[1]] == near
    np.testing.assert_array_equal(tile.inner[BOUNDARY:-BOUNDARY, BOUNDARY:-BOUNDARY], same)


def test_other_orthophotos_and_bands(world: World, tmp_path: Path) -> None:
    rgb = next(Isprs(cities=["Potsdam"], ortho="2_Ortho_RGB", bands=["blue", "red"]).read(world[0]))
    assert rgb.images["aerial"].path == "Potsdam/2_Ortho_RGB/top_potsdam_2_10_RGB.tif"
    assert rgb.images["aerial"].bands == (3, 1)
    assert next(Isprs(ortho="3_Ortho_IRRG").read(world[0])).images["aerial"].bands == (1, 2, 3)
    with pytest.raises(
        ValueError, match=r"images of Vaihingen have bands .*of which it lacks \['blue'\]. Change bands"
    ):
        Isprs(bands=["red", "blue"])
    with pytest.raises(ValueError, match=r"images of Potsdam have bands \['red', 'green', 'blue'\].*lacks \['nir'\]"):
        Isprs(ortho="2_Ortho_RGB")
    with pytest.raises(ValueError, match=r"have bands .*got \[\]"):
        Isprs(bands=[])
    with pytest.raises(ValueError, match="ortho is one of"):
        Isprs(ortho="RGBIR")
    with pytest.raises(ValueError, match=r"of which \['Toronto'\] are none"):
        Isprs(cities=["Toronto"])
    with pytest.raises(ValueError, match=r"window is a number of pixels .*got window=-1, multiple=32"):
        Isprs(window=-1)
    with pytest.raises(LookupError, match="did you mean 'isprs6'"):
        Isprs(legend="isprs")


def test_places(world: World, copy: Path) -> None:
    found = {s.key: s for s in Isprs(window=40, multiple=1).read(copy)}
    scene = found["Potsdam-2_10-1-2"]  # 40 rows down, 80 columns right, 40 by 16 pixels
    x, y = CORNERS["Potsdam"]
    assert (scene.x, scene.y) == pytest.approx((x + 0.05 * 88, y - 0.05 * 60), abs=1e-6)
    assert scene.crs == "EPSG:32633"
    assert (scene.lon, scene.lat) == pytest.approx((13.03, 52.41), abs=0.02)  # Potsdam
    area = found["Vaihingen-1-0-0"]
    assert math.isnan(area.x + area.y + area.lon + area.lat)
    assert (area.crs, area.gsd) == ("", 0.09)
    image = copy / "Vaihingen/top/top_mosaic_09cm_area1.tif"
    image.with_suffix(".tfw").write_text("0.09\n0\n0\n-0.09\n496274.985\n5420850.075\n")
    area = next(s for s in Isprs(window=40, multiple=1).read(copy) if s.key == "Vaihingen-1-0-0")
    assert (area.x, area.y) == pytest.approx((496274.94 + 0.09 * 20, 5420850.12 - 0.09 * 20), abs=1e-3)
    assert (area.crs, area.gsd) == ("EPSG:32632", pytest.approx(0.09))
    assert (area.lon, area.lat) == pytest.approx((8.95, 48.94), abs=0.02)  # Vaihingen an der Enz


def test_an_unknown_colour_names_its_file(copy: Path, tmp_path: Path) -> None:
    path = copy / "Potsdam/5_Labels_all/top_potsdam_2_11_label.tif"
    with rasterio.open(path, "r+") as file:
        values = file.read()
        values[:, 0, 0] = (252, 255, 0)
        file.write(values)
    with pytest.raises(ValueError, match=r"top_potsdam_2_11_label.tif has colours \['#fcff00'\] in 1 pixels"):
        store_of(tmp_path / "s", copy)
    with rasterio.open(path, "r+") as file:  # black is a boundary in the other masks only
        values[:, 0, 0] = 0
        file.write(values)
    with pytest.raises(ValueError, match=r"2_11_label.tif has colours \['#000000'\] in 1 pixels"):
        store_of(tmp_path / "s", copy)
    store = store_of(tmp_path / "s", copy, skip=["Potsdam/2_11", "Potsdam/7_10"], cities=["Potsdam"])
    assert "Potsdam/2_11" not in set(store.index["zone"])


def test_what_is_missing(copy: Path) -> None:
    (copy / "Potsdam/5_Labels_all/top_potsdam_2_11_label.tif").unlink()
    with pytest.raises(FileNotFoundError, match=r"2_11_label.tif.*the mask of .*2_11_RGBIR.tif, or name .* skip"):
        list(Isprs().read(copy))
    shutil.rmtree(copy / "Potsdam/5_Labels_all")
    assert {s.mask is None for s in Isprs(cities=["Potsdam"]).read(copy)} == {True}
    shutil.rmtree(copy / "Vaihingen")
    with pytest.raises(FileNotFoundError, match=r"area<tile>.tif, which is not there .*Fetch ISPRS"):
        list(Isprs().read(copy))


def test_legends() -> None:
    assert isprs_classes().names == dict(enumerate(NAMES, start=1))
    assert isprs_classes("isprs5").ignored == {6}
    assert isprs_classes("isprs5", boundaries=False).ignored == {0, 6}
    shared = isprs_classes("land_cover")
    assert shared.names == {1: "sealed", 2: "building", 3: "low vegetation", 4: "woody"}
    assert shared.ignored == {5, 6}
    assert set(shared.colours) == set(shared.names.values())
    assert len(shared.codes) == 6
    assert isprs_classes(boundaries=False).codes == {**shared.codes, "#000000": 0}


@pytest.mark.parametrize("name", ["isprs_potsdam_to_vaihingen", "isprs_vaihingen_to_potsdam"])
def test_a_shift_feeds_both_cities(name: str, world: World, tmp_path: Path) -> None:
    cfg = config(f"shift={name}")
    Recipe.load("isprs").prepare(world[0], tmp_path / "store")
    changes = {"store": str(tmp_path / "store"), "min_per_class": 1, "crop": 32, "workers": 0, "steps_per_epoch": 1}
    given = {"shift": instantiate(cfg.shift), "seed": 0, "kind": "closed", "oracle": False}
    data = instantiate({**cfg.data, **changes}, **given)
    data.setup()
    source, target = name.removeprefix("isprs_").split("_to_")
    assert [(d.domain.name.lower(), d.role) for d in data.parcels] == [(source, "source"), (target, "target")]
    batch = next(iter(data.train_dataloader()))
    for one in (*batch.sources, *batch.targets):
        assert one.inputs["aerial"].values.shape == (8, 3, 32, 32)
    assert batch.sources[0].labels is not None
    assert data.bands == {"aerial": ("nir", "red", "green")}
