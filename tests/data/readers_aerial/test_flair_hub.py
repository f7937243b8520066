"""FLAIR-HUB: genuine layout, sensors, COSIA by name, splits of table, GeoPackage and lists; archives, foreign names."""

from __future__ import annotations

import csv
import io
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio

from eo_adapt.data.readers.flair_hub import LABELS, SPLIT_FILE, FlairHub
from eo_adapt.data.recipe import Recipe
from eo_adapt.data.scenes.flair_classes import COSIA, FLAIR
from eo_adapt.data.scenes.labels import UNKNOWN, Remap
from eo_adapt.data.scenes.records import Raster
from eo_adapt.data.scenes.store import SceneStore
from eo_adapt.data.scenes.writer import write_scenes
from eo_adapt.data.synthetic.aerial_world import Patch
from eo_adapt.data.synthetic.flair_hub import HubWorld
from eo_adapt.registry import config, instantiate

REAL = Path(__file__).parents[3] / "../shared/data/flair/FLAIR-HUB_TOY.zip"
ALL = ("AERIAL_RGBI", "DEM_ELEV", "SPOT_RGBI", "AERIAL-RLT_PAN")
World = tuple[Path, dict[str, Patch]]
SMALL: dict[str, Any] = {"departments": ("D006_2020", "D067_2021", "D064_2021"), "zones": 3, "grid": 2, "size": 32}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    root = tmp_path_factory.mktemp("hub")
    return root, HubWorld(**SMALL, seed=5).write_known(root)


@pytest.fixture
def copy(world: World, tmp_path: Path) -> Path:
    return Path(shutil.copytree(world[0], tmp_path / "hub"))


def test_patches(world: World) -> None:
    found = {s.key: s for s in FlairHub(ALL).read(world[0])}
    assert found.keys() == world[1].keys()
    assert len(found) == 3 * 3 * 4
    for key, patch in world[1].items():
        scene, (domain, roi, cell) = found[key], key.split("_")
        assert set(scene.images) == {"aerial", "elevation", "spot", "historical"}
        assert scene.images["spot"] == Raster(f"{domain}_SPOT_RGBI/{roi}/{domain}_SPOT_RGBI_{roi}_{cell}.tif")
        past = domain.replace(domain[-4:], "195X") + "_AERIAL-RLT_PAN"
        assert scene.images["historical"] == Raster(f"{past}/{roi}/{past}_{roi}_{cell}.tif")
        assert scene.mask == Raster(f"{domain}_{LABELS}/{roi}/{domain}_{LABELS}_{roi}_{cell}.tif")
        want = patch.about["patch_centroid_x"], patch.about["patch_centroid_y"]
        assert (scene.x, scene.y) == pytest.approx(want, abs=1e-6)
        assert (scene.zone, scene.region, scene.year) == (f"{domain}/{roi}", domain[:4], int(domain[5:]))
        assert (scene.crs, scene.gsd, scene.country) == ("EPSG:2154", 0.2, "FR")
    assert {(s.region, s.split) for s in found.values()} == {("D006", "train"), ("D067", "val"), ("D064", "test")}
    assert set(next(iter(FlairHub().read(world[0]))).images) == {"aerial"}


def test_raw_layout(world: World) -> None:
    scene = next(iter(FlairHub(ALL).read(world[0])))
    want = {"aerial": (4, "uint8", 0.2, 32), "elevation": (2, "float32", 0.2, 32), "spot": (4, "uint16", 1.6, 4),
            "historical": (1, "uint8", 0.4, 16)}  # fmt: skip
    for name, (count, dtype, gsd, size) in want.items():
        with rasterio.open(world[0] / scene.images[name].path) as file:
            assert (file.count, file.dtypes[0], file.shape) == (count, dtype, (size, size))
            assert file.res == pytest.approx((gsd, gsd))
            assert file.crs.to_epsg() == 2154


def test_a_store_holds_every_sensor_and_cosia_by_name(world: World, tmp_path: Path) -> None:
    reader = FlairHub(ALL, ("D006-2020",), legend="flair19")
    write_scenes(tmp_path / "s", "hub", world[0], reader.read(world[0]), reader.sensors, reader.classes)
    store = SceneStore(tmp_path / "s")
    assert set(store.index["region"]) == {"D006"}
    legend = tuple(FLAIR.values())
    remap = Remap.to(store.classes, legend)
    for row, key in enumerate(store.index["parcel_id"]):
        patch = world[1][key]
        np.testing.assert_array_equal(store.labels(row, remap), patch.mask - 1)  # FLAIR#1's order again
        np.testing.assert_array_equal(store.pixels(row, "aerial", [0, 1, 2, 3])[0], patch.image[:4])
        surface, terrain = store.pixels(row, "elevation", [0, 1])[0]
        np.testing.assert_allclose(surface - terrain, patch.image[4] * 0.2, atol=1e-3)
        blocks = patch.image[3].reshape(4, 8, 4, 8).mean((1, 3))
        np.testing.assert_array_equal(store.pixels(row, "spot", [3])[0][0], np.rint(12 * blocks))


def test_scored_classes(world: World, tmp_path: Path) -> None:
    classes = FlairHub().classes
    assert classes.ignored == {15, 16, 17, 18}
    assert classes.names[3] == "impervious surface" != FLAIR[3 + 1]
    assert set(classes.names) | classes.ignored == set(COSIA)
    scene = next(iter(FlairHub().read(world[0])))
    path = tmp_path / "mask.tif"
    shutil.copy(world[0] / scene.mask.path, path)  # type: ignore[union-attr]
    with rasterio.open(path, "r+") as file:
        values = file.read(1)
        values[:2], values[2] = 18, 2
        file.write(values, 1)
    from eo_adapt.data.scenes.labels import read_labels

    labels = read_labels(tmp_path, Raster("mask.tif"), Raster("mask.tif"), Remap.to(classes, ["swimming pool"]))
    assert (labels[:2] == UNKNOWN).all()
    assert (labels[2] == 0).all()


def test_splits_of_the_geopackage_and_of_lists(world: World, copy: Path) -> None:
    frame = geopandas.read_file(world[0] / SPLIT_FILE)
    for column in ("split_1", "split_3"):
        want = {k: {"valid": "val"}.get(v, v) for k, v in zip(frame["patch_id"], frame[column], strict=True)}
        assert {s.key: s.split for s in FlairHub(splits=column).read(world[0])} == want
    table = {s.key: s.split for s in FlairHub().read(world[0])}
    assert table == {s.key: s.split for s in FlairHub(splits="split_1").read(world[0])}
    keys = sorted(table)
    (copy / "a.csv").write_text("patch_id,AERIAL_RGBI\n" + "".join(f"{k},../x.tif\n" for k in keys[:3]))
    (copy / "b.csv").write_text("patch_id,AERIAL_RGBI\n" + "".join(f"{k},../x.tif\n" for k in keys[3:5]))
    found = {s.key: s.split for s in FlairHub(splits={"train": "a.csv", "val": "b.csv"}).read(copy)}
    assert [found[k] for k in keys[:6]] == ["train"] * 3 + ["val"] * 2 + [""]


def test_bad_splits(copy: Path) -> None:
    with pytest.raises(ValueError, match=r"SPLIT.gpkg has no column 'split_6' \(for split\); nearest"):
        list(FlairHub(splits="split_6").read(copy))
    with pytest.raises(ValueError, match=r"splits maps train, val and test to csv files; got \['dev'\]"):
        FlairHub(splits={"dev": "a.csv"})
    frame = geopandas.read_file(copy / SPLIT_FILE)
    frame["split_2"] = "hold out"
    frame.to_file(copy / SPLIT_FILE, driver="GPKG")
    with pytest.raises(ValueError, match=r"column 'split_2' holds \['hold out'\]; parts are"):
        list(FlairHub(splits="split_2").read(copy))
    (copy / SPLIT_FILE).write_bytes((copy / SPLIT_FILE).read_bytes()[:300])
    with pytest.raises(ValueError, match=r"SPLIT.gpkg cannot be read .*fetch it again"):
        list(FlairHub(splits="split_1").read(copy))
    (copy / SPLIT_FILE).unlink()
    with pytest.raises(FileNotFoundError, match=r"SPLIT.gpkg, which is not there .*splits: flair_hub"):
        list(FlairHub(splits="split_1").read(copy))


def test_options() -> None:
    with pytest.raises(ValueError, match=r"'SENTINEL1-DESC_TS'\]; got .* of which \['ALL_LABEL-LPIS'\] are none"):
        FlairHub(("AERIAL_RGBI", "ALL_LABEL-LPIS"))
    for wrong in ((), ("SPOT_RGBI",), ("AERIAL_RGBI", "AERIAL_RGBI")):
        with pytest.raises(ValueError, match=r"the first modality is one of .*labels lie.*got \["):
            FlairHub(wrong)
    with pytest.raises(LookupError, match="did you mean 'flair15'"):
        FlairHub(legend="flair_15")
    assert list(FlairHub(["DEM_ELEV", "SPOT_RGBI"]).sensors) == ["elevation", "spot"]


def test_archives_are_to_be_unpacked(copy: Path) -> None:
    folder = copy / "D006-2020_SPOT_RGBI"
    shutil.make_archive(str(folder), "zip", folder)
    assert len(list(FlairHub(ALL).read(copy))) == 36  # an archive beside its folder does no harm
    shutil.rmtree(folder)
    with pytest.raises(ValueError, match=r"D006-2020_SPOT_RGBI.zip is an archive.*Unpack it .*unzip D006.* domains"):
        list(FlairHub(ALL).read(copy))
    assert len(list(FlairHub(ALL, ("D064-2021",)).read(copy))) == 12
    shutil.make_archive(str(copy / "D099-2020_AERIAL_RGBI"), "zip", folder.parent / SPLIT_FILE.split("/")[0])
    with pytest.raises(ValueError, match=r"D099-2020_AERIAL_RGBI.zip is an archive"):
        list(FlairHub().read(copy))


def test_what_is_missing(copy: Path) -> None:
    labels = copy / f"D006-2020_{LABELS}"
    next(labels.rglob("*.tif")).unlink()
    with pytest.raises(FileNotFoundError, match=r"COSIA_.*the AERIAL_LABEL-COSIA of patch D006-2020_"):
        list(FlairHub().read(copy))
    shutil.rmtree(labels)
    assert {s.region for s in FlairHub().read(copy) if s.mask is None} == {"D006"}
    shutil.rmtree(copy / "D067-195X_AERIAL-RLT_PAN")
    with pytest.raises(FileNotFoundError, match=r"D067-195X_AERIAL-RLT_PAN, which is not there.*reader's domains"):
        list(FlairHub(ALL).read(copy))
    with pytest.raises(FileNotFoundError, match=r"D001-2020_AERIAL_RGBI, which is not there"):
        list(FlairHub(domains=("D001-2020",)).read(copy))
    image = next((copy / "D006-2020_AERIAL_RGBI").rglob("*.tif"))
    image.rename(image.with_name("patch.tif"))
    with pytest.raises(ValueError, match=r"patch.tif: images are named as D006-2020_AERIAL_RGBI/FF-S1-14/D006"):
        list(FlairHub().read(copy))
    shutil.rmtree(copy)
    copy.mkdir()
    with pytest.raises(FileNotFoundError, match=r"<year>_AERIAL_RGBI, which is not there .*Fetch FLAIR-HUB"):
        list(FlairHub().read(copy))


def test_the_shift_feeds_every_sensor(tmp_path: Path, world: World) -> None:
    recipe = Recipe.load("flair_hub")
    replace(recipe, reader={**recipe.reader, "modalities": list(ALL)}).prepare(world[0], tmp_path / "store")
    cfg = config("shift=flair_hub_fold1")
    split = {"_target_": "eo_adapt.data.parts.Split", "block_size": 0.0, "buffer": 0.0,
             "train": 0.4, "val": 0.3, "test": 0.3}  # fmt: skip
    changes = {"store": str(tmp_path / "store"), "min_per_class": 1, "crop": 16, "workers": 0, "split": split}
    given = {"shift": instantiate(cfg.shift), "seed": 0, "kind": "closed", "oracle": False}
    data = instantiate({**cfg.data, **changes}, **given)
    data.setup()
    regions = [set(data.store.index["region"].to_numpy()[d.rows]) for d in data.parcels]
    assert regions == [{"D006", "D067"}, {"D064"}]
    batch = next(iter(data.train_dataloader())).sources[0]
    shapes = {name: tuple(observed.values.shape[1:]) for name, observed in batch.inputs.items()}
    assert shapes == {"aerial": (4, 16, 16), "elevation": (2, 16, 16), "spot": (4, 2, 2), "historical": (1, 8, 8)}


@pytest.mark.skipif(not REAL.is_file(), reason="no ../shared/data")
def test_real_names(tmp_path: Path) -> None:
    """Tiny images under all published names of the toy data."""
    column = dict(zip(ALL, ALL, strict=True)) | {LABELS: LABELS}
    rows: dict[str, tuple[str, dict[str, str]]] = {}
    with zipfile.ZipFile(REAL) as archive:
        for part in ("TRAIN", "VALID", "TEST"):
            name = f"FLAIR-HUB_TOY-DATASET_{part}.csv"
            (tmp_path / name).write_bytes(archive.read(name))
            for row in csv.DictReader(io.StringIO(archive.read(name).decode())):
                rows[row["patch_id"]] = (part, {m: row[c].removeprefix("../") for m, c in column.items()})
    assert len(rows) == 250
    for name in {file for _, files in rows.values() for file in files.values()}:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        with rasterio.open(tmp_path / name, "w", driver="GTiff", width=1, height=1, count=1, dtype="uint8") as file:
            file.write(np.ones((1, 1, 1), np.uint8))
    lists = {"train": "TRAIN", "val": "VALID", "test": "TEST"}
    splits = {part: f"FLAIR-HUB_TOY-DATASET_{name}.csv" for part, name in lists.items()}
    found = {s.key: s for s in FlairHub(ALL, splits=splits).read(tmp_path)}
    assert found.keys() == rows.keys()
    for key, (part, files) in rows.items():
        scene = found[key]
        assert [raster.path for raster in scene.images.values()] == [files[m] for m in ALL]
        assert scene.mask == Raster(files[LABELS])
        assert lists[scene.split] == part
