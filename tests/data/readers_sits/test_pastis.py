"""PASTIS and PASTIS-R: genuine layout, dates of every spelling, folds, tiles, void; what is damaged is named."""

from __future__ import annotations

import datetime
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eo_adapt.data.readers.pastis import METADATA, Pastis, dates_of, tile_of
from eo_adapt.data.readers.pastis_classes import CLASSES
from eo_adapt.data.recipe import Recipe
from eo_adapt.data.scenes.labels import UNKNOWN, Remap
from eo_adapt.data.scenes.records import Raster
from eo_adapt.data.scenes.store import SceneStore
from eo_adapt.data.scenes.writer import write_scenes
from eo_adapt.data.synthetic.pastis import Known, PastisWorld
from eo_adapt.registry import config, instantiate

BOTH = ("S2", "S1A", "S1D")
World = tuple[Path, dict[str, Known]]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    root = tmp_path_factory.mktemp("pastis")
    made = PastisWorld(("T30UXV", "T31TFJ"), patches=6, size=16, revisit=20, seed=3).write_known(root)
    return root, {str(patch.number): patch for patch in made}


@pytest.fixture
def copy(world: World, tmp_path: Path) -> Path:
    return Path(shutil.copytree(world[0], tmp_path / "pastis"))


def iso(days: np.ndarray) -> tuple[str, ...]:
    return tuple((datetime.date(2019, 1, 1) + datetime.timedelta(int(day))).isoformat() for day in days)


def edit(root: Path, change: Any) -> None:
    """Change the properties of every patch in the metadata."""
    path = root / METADATA
    document = json.loads(path.read_text())
    for feature in document["features"]:
        change(feature["properties"])
    path.write_text(json.dumps(document))


def prepared(root: Path, path: Path, satellites: tuple[str, ...] = BOTH) -> SceneStore:
    reader = Pastis(satellites)
    write_scenes(path, "pastis", root, reader.read(root), reader.sensors, reader.classes)
    return SceneStore(path)


def test_raw_layout(world: World) -> None:
    root, known = world
    about = json.loads((root / METADATA).read_text())
    assert about["crs"]["properties"]["name"] == "urn:ogc:def:crs:EPSG::2154"
    first = about["features"][0]["properties"]
    assert {"ID_PATCH", "Fold", "TILE", "N_Parcel", "dates-S2", "dates-S1A", "dates-S1D"} <= first.keys()
    for key, patch in known.items():
        s2 = np.load(root / f"DATA_S2/S2_{key}.npy")
        assert s2.dtype == np.int16
        assert s2.shape == (len(patch.days["S2"]), 10, 16, 16)
        for name in BOTH[1:]:
            radar = np.load(root / f"DATA_{name}/{name}_{key}.npy")
            assert radar.shape == (len(patch.days[name]), 3, 16, 16)
            np.testing.assert_allclose(radar[:, 2], radar[:, 0] - radar[:, 1], atol=1e-4)
        target = np.load(root / f"ANNOTATIONS/TARGET_{key}.npy")
        assert (target.dtype, target.shape) == (np.uint8, (3, 16, 16))
        assert set(np.unique(target[0])) <= set(range(20))
    assert list(json.loads((root / "NORM_S2_patch.json").read_text())["Fold_1"]) == ["mean", "std"]
    assert len({len(p.days["S2"]) for p in known.values()}) > 1
    assert any(len(set(p.days["S2"].tolist())) < len(p.days["S2"]) for p in known.values())  # twice on one day


def test_patches(world: World) -> None:
    root, known = world
    found = {s.key: s for s in Pastis(BOTH).read(root)}
    assert list(found) == sorted(known)
    for key, patch in known.items():
        scene = found[key]
        assert list(scene.images) == ["s2", "s1a", "s1d"]
        for name, series in scene.images.items():
            assert series.paths == (f"DATA_{name.upper()}/{name.upper()}_{key}.npy",)  # type: ignore[union-attr]
            assert series.dates == iso(patch.days[name.upper()])  # type: ignore[union-attr]
        assert scene.mask == Raster(f"ANNOTATIONS/TARGET_{key}.npy", bands=(1,))
        assert (scene.x, scene.y, scene.gsd, scene.crs) == (patch.x, patch.y, 10.0, "EPSG:2154")
        assert (scene.region, scene.year, scene.country) == (patch.tile, 2019, "FR")
        assert scene.split == {4: "val", 5: "test"}.get(patch.fold, "train")
    assert abs(found["10000"].lat - 49.2) < 0.3
    other = Pastis(folds={"train": [5], "test": [1]})
    assert {s.split for s in other.read(root) if known[s.key].fold in (2, 3, 4)} == {""}
    assert {s.split for s in other.read(root) if known[s.key].fold == 1} == {"test"}


def test_a_store_holds_all_frames_on_their_days(world: World, tmp_path: Path) -> None:
    root, known = world
    store = prepared(root, tmp_path / "s")
    names = tuple(CLASSES.names.values())
    remap = Remap.to(store.classes, names)
    for row, key in enumerate(store.index["parcel_id"]):
        patch = known[key]
        for name in BOTH:
            days, valid = store.calendar(row, name.lower())
            assert days.tolist() == patch.days[name].tolist()
            assert valid.all()
            bands = range(len(store.sensors[name.lower()].bands))
            np.testing.assert_array_equal(store.pixels(row, name.lower(), bands)[0], patch.images[name])
        labels = store.labels(row, remap)
        np.testing.assert_array_equal(labels, np.where(patch.target[0] == 19, UNKNOWN, patch.target[0]))
        assert store.counts[row].sum() == (patch.target[0] != 19).sum()
    assert any((p.target[0] == 19).any() for p in known.values())
    alone = prepared(root, tmp_path / "alone", ("S2",))
    assert list(alone.sensors) == ["s2"]


def test_dates_of_every_spelling(world: World, copy: Path) -> None:
    want = {s.key: s.images["s2"] for s in Pastis().read(copy)}

    def as_text(about: dict[str, Any]) -> None:
        listed = about["dates-S2"]
        backwards = {key: str(listed[key]) for key in sorted(listed, key=int, reverse=True)}
        about["dates-S2"], about["TILE"] = json.dumps(backwards), about["TILE"][1:].upper()

    edit(copy, as_text)
    assert {s.key: s.images["s2"] for s in Pastis().read(copy)} == want
    assert {s.region for s in Pastis().read(copy)} == {"T30UXV", "T31TFJ"}
    assert tile_of("t31tfm") == tile_of("31TFM") == "T31TFM"


@pytest.mark.parametrize(
    "found", [None, {}, "[1, 2]", "no", {"0": 2019}, {"0": "2019-01-01"}, {"1": 20190101}, {"a": 20190101}, 3]
)
def test_dates_that_are_none_are_named(found: Any) -> None:
    about: Mapping[str, Any] = {"dates-S2": found}
    with pytest.raises(ValueError, match=r"patch 7 has dates-S2=.*a mapping of 0, 1, 2 ... to YYYYMMDD"):
        dates_of(Path("m"), 7, about, "S2")


def test_damaged_folders_are_named(copy: Path, tmp_path: Path) -> None:
    shutil.rmtree(copy / "DATA_S1A")
    with pytest.raises(FileNotFoundError, match=r"DATA_S1A.*only PASTIS-R has S1A and S1D"):
        list(Pastis(BOTH).read(copy))
    key = next(Pastis().read(copy)).key
    values = np.load(copy / f"DATA_S2/S2_{key}.npy")
    np.save(copy / f"DATA_S2/S2_{key}.npy", values[:-1])
    with pytest.raises(ValueError, match=rf"S2_{key}.npy has {len(values) - 1} frames, its record names {len(values)}"):
        prepared(copy, tmp_path / "s", ("S2",))
    np.save(copy / f"DATA_S2/S2_{key}.npy", values[..., :8])
    with pytest.raises(ValueError, match=rf"the mask .*TARGET_{key}.npy has 16 x 16 pixels, the image 16 x 8"):
        prepared(copy, tmp_path / "s", ("S2",))
    np.save(copy / f"DATA_S2/S2_{key}.npy", values.astype(np.float32) * 1e-4)
    with pytest.raises(ValueError, match=rf"S2_{key}.npy holds float32, s2 is declared as int16"):
        prepared(copy, tmp_path / "s", ("S2",))


def test_damaged_metadata_are_named(copy: Path) -> None:
    edit(copy, lambda about: about.pop("Fold"))
    with pytest.raises(ValueError, match=r"metadata.geojson has no column 'Fold'"):
        list(Pastis().read(copy))
    text = (copy / METADATA).read_text()
    (copy / METADATA).write_text(text.replace("EPSG::2154", "EPSG::4326"))
    with pytest.raises(ValueError, match=r"states the CRS .*4326; PASTIS comes in EPSG:2154"):
        list(Pastis().read(copy))
    (copy / METADATA).write_text(text[:200])
    with pytest.raises(ValueError, match=r"metadata.geojson cannot be read"):
        list(Pastis().read(copy))
    with pytest.raises(FileNotFoundError, match=r"zenodo.org/records/5012942"):
        list(Pastis().read(copy / "DATA_S2"))


@pytest.mark.parametrize("options", [{"satellites": ()}, {"satellites": ("S2", "S2")}, {"satellites": ("S3",)}])
def test_impossible_satellites(options: Any) -> None:
    with pytest.raises(ValueError, match=r"satellites are some of \['S2', 'S1A', 'S1D'\], each once"):
        Pastis(**options)


@pytest.mark.parametrize("folds", [{"train": [1, 2], "val": [2]}, {"training": [1]}])
def test_impossible_folds(folds: Any) -> None:
    with pytest.raises(ValueError, match=r"folds gives each of \['train', 'val', 'test'\] folds of its own"):
        Pastis(folds=folds)


@pytest.mark.parametrize("name", ["pastis", "pastis_r", "synthetic_pastis", "synthetic_pastis_r"])
def test_recipes_read_what_their_generators_write(name: str, tmp_path: Path) -> None:
    recipe = Recipe.load(name)
    small = PastisWorld(("T31TFM",), patches=2, size=8, revisit=60, radar=name.endswith("_r"))
    small.write(tmp_path / "raw")
    store = recipe.prepare(tmp_path / "raw", tmp_path / "store")
    assert list(store.sensors) == (["s2", "s1a", "s1d"] if name.endswith("_r") else ["s2"])


@pytest.mark.parametrize(
    "name",
    ["sits_embedded", "sits_embedded_r", "pastis_folds"]
    + [f"{r}_to_{t}" for r in ("pastis", "pastis_r") for t in ("t30uxv", "t31tfj", "t31tfm", "t32ulu")],
)
def test_shifts_name_recipes_and_tiles_that_are(name: str) -> None:
    built = config(f"shift={name}")
    shift = instantiate(built["shift"])
    assert {d.recipe for d in shift.domains} == {built["data"]["recipe"]}
    tiles = [d.select["region"] for d in shift.domains if "region" in d.select]
    assert sorted(tiles) == ([] if name == "pastis_folds" else ["T30UXV", "T31TFJ", "T31TFM", "T32ULU"])
    assert built["data"]["split"]["kind"] == ("published" if name == "pastis_folds" else "blocks")
