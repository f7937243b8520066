"""FLAIR-HUB's Sentinel series: genuine layout, dates, masks, radar units, height, and what patches may lack."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
import torch

from eo_adapt.data.readers.flair_hub import FlairHub
from eo_adapt.data.readers.flair_hub_series import BANDS, SERIES
from eo_adapt.data.recipe import Recipe
from eo_adapt.data.scenes.augment import Augment
from eo_adapt.data.scenes.labels import Remap
from eo_adapt.data.scenes.reader import PatchPart, PatchReader
from eo_adapt.data.scenes.records import Raster, Series
from eo_adapt.data.scenes.store import SceneStore
from eo_adapt.data.scenes.writer import write_scenes
from eo_adapt.data.synthetic.aerial_world import Patch
from eo_adapt.data.synthetic.flair_hub import HubWorld

ALL = ("AERIAL_RGBI", "DEM_ELEV", "SENTINEL2_TS", "SENTINEL1-ASC_TS", "SENTINEL1-DESC_TS")
DEPARTMENTS = ("D006_2020", "D064_2021")
SMALL: dict[str, Any] = {
    "departments": DEPARTMENTS,
    "zones": 1,
    "grid": 2,
    "gsd": 1.6,
    "modalities": ALL,
    "revisit": 40,
}
World = tuple[Path, dict[str, Patch]]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    root = tmp_path_factory.mktemp("hub")
    return root, HubWorld(**SMALL, seed=3).write_known(root)


@pytest.fixture
def copy(world: World, tmp_path: Path) -> Path:
    return Path(shutil.copytree(world[0], tmp_path / "hub"))


def reader(**more: Any) -> FlairHub:
    return FlairHub(**{"modalities": ALL, "radar": "dB", **more})


def stored(path: Path, root: Path, **more: Any) -> SceneStore:
    of = reader(**more)
    write_scenes(path, "hub", root, of.read(root), of.sensors, of.classes)
    return SceneStore(path)


def tif(root: Path, scene_path: str) -> np.ndarray:
    with rasterio.open(root / scene_path) as file:
        return np.asarray(file.read())


def table(root: Path, modality: str) -> tuple[Path, geopandas.GeoDataFrame]:
    path = root / SERIES[modality][1]
    return path, geopandas.read_file(path)


def test_raw_layout(world: World) -> None:
    root, known = world
    scenes = list(reader().read(root))
    assert {s.key for s in scenes} == set(known)
    assert set(scenes[0].images) == {"aerial", "elevation", "s2", "s1_asc", "s1_desc"}
    for scene in scenes[:2]:
        domain, roi, cell = scene.key.split("_")
        for modality, (name, dates) in SERIES.items():
            series = scene.images[name]
            assert isinstance(series, Series)
            assert series.paths == (f"{domain}_{modality}/{roi}/{domain}_{modality}_{roi}_{cell}.tif",)
            count, dtype = (10, "uint16") if name == "s2" else (2, "float32")
            with rasterio.open(root / series.paths[0]) as file:
                assert (file.count, file.dtypes[0], file.shape) == (count * len(series.dates), dtype, (10, 10))
                assert file.res == pytest.approx((10.24, 10.24))
                assert file.crs.to_epsg() == 2154
                centre = file.transform @ (5, 5)
            assert centre == pytest.approx((scene.x, scene.y), abs=1e-6)
            frame = geopandas.read_file(root / dates)
            listed = json.loads(dict(zip(frame["patch_id"], frame["acquisition_dates"], strict=True))[scene.key])
            assert list(listed) == [str(i) for i in range(len(series.dates))]
            assert series.dates == tuple(f"{d[:4]}-{d[4:6]}-{d[6:]}" for d in listed.values())
        masks = scene.images["s2"].masks  # type: ignore[union-attr]
        assert masks == (f"{domain}_SENTINEL2_MSK-SC/{roi}/{domain}_SENTINEL2_MSK-SC_{roi}_{cell}.tif",)
        with rasterio.open(root / masks[0]) as file:
            assert (file.count, file.dtypes[0]) == (2 * len(scene.images["s2"].dates), "uint8")  # type: ignore[union-attr]


def test_dates_count_by_the_publishers_rule(world: World, tmp_path: Path) -> None:
    root = world[0]
    store = stored(tmp_path / "s", root)
    partly = 0
    for row, scene in enumerate(reader().read(root)):
        series = scene.images["s2"]
        assert isinstance(series, Series)
        mask = tif(root, series.masks[0]).reshape(-1, 2, 10, 10)
        clear = (mask <= 1).all(1)
        keep = clear.mean((1, 2)) >= 0.95
        values, seen = store.pixels(row, "s2", [3, 6])
        np.testing.assert_array_equal(values, tif(root, series.paths[0]).reshape(-1, 10, 10, 10)[:, [3, 6]])
        np.testing.assert_array_equal(seen, clear)
        np.testing.assert_array_equal(store.calendar(row, "s2")[1], keep)
        partly += int((~keep).sum())
    assert partly
    assert store.sensors["s2"].bands == BANDS
    assert stored(tmp_path / "all", root, clear=0.0).index["s2.n"].sum() > store.index["s2.n"].sum()


def test_height_is_surface_less_terrain(world: World, tmp_path: Path) -> None:
    root, known = world
    store = stored(tmp_path / "s", root, modalities=("AERIAL_RGBI", "DEM_ELEV"), elevation=("height",))
    assert store.sensors["elevation"].bands == ("height",)
    for row, key in enumerate(store.index["parcel_id"]):
        np.testing.assert_allclose(store.pixels(row, "elevation", [0])[0][0], known[key].image[4] * 0.2, atol=1e-3)
    scene = next(iter(reader(elevation=("terrain", "height", "surface")).read(root)))
    image = scene.images["elevation"]
    assert isinstance(image, Raster)
    assert image.bands == (2, 1, 1)
    assert reader(elevation=("terrain", "height", "surface")).sensors["elevation"].minus == (0, 2, 0)


def test_radar_declared_in_the_wrong_unit(world: World, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"s1_asc .*which is no linear: they look like decibels: declare units: dB"):
        stored(tmp_path / "s", world[0], radar="linear")


def test_options() -> None:
    with pytest.raises(ValueError, match=r"'SENTINEL1-DESC_TS'\]; got .* of which \['SENTINEL3_TS'\] are none"):
        reader(modalities=("AERIAL_RGBI", "SENTINEL3_TS"))
    with pytest.raises(ValueError, match=r"the first modality is one of"):
        reader(modalities=("SENTINEL2_TS", "AERIAL_RGBI"))
    with pytest.raises(ValueError, match=r"optional names some of the modalities but the first, .*got \['AERIAL_RGBI'"):
        reader(optional=("AERIAL_RGBI",))
    with pytest.raises(ValueError, match=r"elevation is some of \['surface', 'terrain', 'height'\]; got \['ndsm'\]"):
        reader(elevation=("ndsm",))
    with pytest.raises(ValueError, match=r"radar is one of \['linear', 'dB'\]; got 'db'"):
        reader(radar="db")
    with pytest.raises(ValueError, match="clear between 0 and 1"):
        _ = reader(clear=95).sensors


def test_dates_that_are_missing_or_odd(copy: Path, tmp_path: Path) -> None:
    path, frame = table(copy, "SENTINEL1-ASC_TS")
    key = sorted(frame["patch_id"])[0]
    for change, message in (
        (
            frame[frame["patch_id"] != key],
            rf"ASC_MTD_DATES.gpkg has no dates of patch {key}, whose series is .*optional",
        ),
        (
            frame.assign(acquisition_dates="2020-01-01"),
            r"has acquisition_dates='2020-01-01'; it should be a mapping of 0",
        ),
        (frame.assign(acquisition_dates='{"0": "20200230"}'), rf"patch '{key}': s1_asc has the date '2020-02-30'"),
        (frame.rename(columns={"acquisition_dates": "days"}), r"has no column 'acquisition_dates' \(for dates\)"),
    ):
        path.unlink()
        change.to_file(path, driver="GPKG")
        with pytest.raises(ValueError, match=message):
            stored(tmp_path / "s", copy)
    path.write_bytes(b"cut")
    with pytest.raises(ValueError, match=r"ASC_MTD_DATES.gpkg cannot be read .*fetch it again"):
        list(reader().read(copy))
    path.unlink()
    with pytest.raises(
        FileNotFoundError, match=r"ASC_MTD_DATES.gpkg, which is not there .*the dates of SENTINEL1-ASC_TS"
    ):
        list(reader().read(copy))


def test_another_number_of_dates_than_frames(copy: Path, tmp_path: Path) -> None:
    path, frame = table(copy, "SENTINEL2_TS")
    listed = json.loads(frame["acquisition_dates"][0])
    for count, message in ((-1, r"bands, which is no multiple of the \d+ dates"), (-5, r"has 20 bands a date")):
        fewer = json.dumps(dict(list(listed.items())[:count]))
        path.unlink()
        frame.assign(acquisition_dates=fewer).to_file(path, driver="GPKG")
        with pytest.raises(ValueError, match=message):
            stored(tmp_path / "s", copy)


def test_what_a_domain_or_a_patch_may_lack(copy: Path, tmp_path: Path) -> None:
    shutil.rmtree(copy / "D064-2021_SENTINEL1-DESC_TS")
    with pytest.raises(FileNotFoundError, match=r"D064-2021_SENTINEL1-DESC_TS, which is not there"):
        list(reader().read(copy))
    next((copy / "D006-2020_SENTINEL2_TS").rglob("*.tif")).unlink()
    with pytest.raises(FileNotFoundError, match=r"the SENTINEL2_TS of patch D006-2020_"):
        list(reader(optional=("SENTINEL1-DESC_TS",)).read(copy))
    store = stored(tmp_path / "s", copy, optional=("SENTINEL1-DESC_TS", "SENTINEL2_TS"))
    assert json.loads((store.path / "store.json").read_text())["lacking"] == {"s2": 1, "s1_desc": 4}
    lacks = [store.lacks(row, "s1_desc") for row in range(len(store))]
    assert lacks == (store.index["region"] == "D064").tolist()
    for row, lacking in enumerate(lacks):
        assert store.calendar(row, "s1_desc")[1].any() != lacking
    shutil.rmtree(copy / "D006-2020_SENTINEL2_MSK-SC")
    with pytest.raises(FileNotFoundError, match=r"the SENTINEL2_MSK-SC of patch D006-2020_"):
        list(reader(optional=("SENTINEL1-DESC_TS", "SENTINEL2_TS")).read(copy))


def test_the_generator_leaves_modalities_out(tmp_path: Path) -> None:
    lacking = {"SENTINEL1-DESC_TS": ["D064_2021"]}
    HubWorld(**{**SMALL, "grid": 1}, lacking=lacking).write(tmp_path)
    assert {p.name for p in tmp_path.glob("*DESC_TS")} == {"D006-2020_SENTINEL1-DESC_TS"}
    frame = table(tmp_path, "SENTINEL1-DESC_TS")[1]
    assert {key[:4] for key in frame["patch_id"]} == {"D006"}
    assert not list(tmp_path.glob("*_SPOT_RGBI"))
    recipe = Recipe.load("flair_hub")
    assert recipe.reader["modalities"] == ["AERIAL_RGBI"]


# -- crops and turns -------------------------------------------------------------------------------------------------


def coded(copy: Path) -> SceneStore:
    """Every pixel of every modality and date says its own place: row and column of its middle, in aerial pixels."""
    for scene in reader().read(copy):
        files = {i.paths[0] if isinstance(i, Series) else i.path: n for n, i in scene.images.items()}
        masks = scene.images["s2"].masks  # type: ignore[union-attr]
        for path, name in {**files, masks[0]: "mask", scene.mask.path: "labels"}.items():  # type: ignore[union-attr]
            with rasterio.open(copy / path, "r+") as file:
                n = file.shape[0]
                at = (np.arange(n) + 0.5) * 64 / n
                row, column = np.broadcast_arrays(at[:, None], at)
                band = np.arange(file.count)[:, None, None]
                if name == "s2":
                    values = np.where(band % 10 == 0, row, column) * 100
                elif name in ("s1_asc", "s1_desc"):
                    values = -np.where(band % 2 == 0, row, column)
                elif name == "labels":
                    values = ((row // 32) * 2 + column // 32)[None]
                else:
                    values = np.zeros((file.count, n, n)) if name == "mask" else np.where(band % 2 == 0, row, column)
                file.write(np.broadcast_to(values, (file.count, n, n)).astype(file.dtypes[0]))
    return stored(copy / "store", copy, legend="flair19")


@pytest.mark.parametrize(("crop", "within"), [(0, 0.0), (32, 0.0), (16, 6.4)])
def test_crops_and_turns_are_those_of_all_modalities_and_labels(copy: Path, crop: int, within: float) -> None:
    """64 aerial pixels on 10 of the series: crops of half a patch lie on whole pixels of both."""
    store = coded(copy)
    bands = {name: sensor.bands[:2] for name, sensor in store.sensors.items()}
    flat = {name: ([0.0, 0.0], [1.0, 1.0]) for name in bands}
    part = PatchPart(torch.arange(len(store)), None, Remap.to(store.classes, list(store.names)))
    reads = PatchReader(store, bands, flat, crop, augment=Augment())
    turns, starts = set(), set()
    for seed in range(8):
        batch = reads.batch(part, torch.arange(len(part)), torch.Generator().manual_seed(seed))
        assert batch.labels is not None
        aerial = batch.inputs["aerial"].values[:, :2] + 0.5  # counts have no halves
        names = [store.classes.names[i] for i in range(4)]
        of = torch.tensor([store.names.index(name) for name in names])
        assert torch.equal(batch.labels, of[((aerial[:, 0] // 32) * 2 + aerial[:, 1] // 32).long()])
        np.testing.assert_array_equal(batch.inputs["elevation"].values, aerial)
        down, right = aerial[:, :, 1, 0] - aerial[:, :, 0, 0], aerial[:, :, 0, 1] - aerial[:, :, 0, 0]
        turns |= {tuple(torch.cat([d, r]).tolist()) for d, r in zip(down, right, strict=True)}
        starts |= {tuple(corner) for corner in aerial.amin((2, 3)).tolist()}
        side = aerial.shape[-1]
        for name, scale in (("s2", 100.0), ("s1_asc", -1.0), ("s1_desc", -1.0)):
            frames = batch.inputs[name].values * scale
            n = frames.shape[-1]
            assert n == {64: 10, 32: 5, 16: 2}[side]
            at = (torch.arange(n) + 0.5) * side / n - 0.5  # places do not bend, so a cell's mean is that of its middle
            want = aerial[:, :, :1, :1] + down[:, :, None, None] * at[:, None] + right[:, :, None, None] * at
            assert (frames - want[:, None]).abs().max() <= within + 1e-3
    assert len(turns) == 8
    assert len(starts) == {0: 1, 32: 4}.get(crop, len(starts))
