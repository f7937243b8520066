"""PASTIS-R pixel sets: genuine layout, round trip to a store, classes and shapes, and what is damaged is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from eo_adapt.data.readers.pastis import METADATA
from eo_adapt.data.readers.pastis_classes import NAMES
from eo_adapt.data.readers.pastis_pixelset import PARCELS, PastisPixelSet
from eo_adapt.data.recipe import Recipe
from eo_adapt.data.store import Store
from eo_adapt.data.synthetic.pastis_pixelset import Parcel, PastisPixelSetWorld
from eo_adapt.registry import config, instantiate, names
from eo_adapt.train import run

BOTH = ("S2", "S1A", "S1D")
SHIFTS = [name for name in names("shift") if name.startswith("pastis_pixelset")]
World = tuple[Path, list[Parcel]]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    root = tmp_path_factory.mktemp("pixelset")
    made = PastisPixelSetWorld(("T30UXV", "T31TFJ"), patches=5, size=16, revisit=40, seed=3)
    return root, made.write_parcels(root)


@pytest.fixture
def copy(world: World, tmp_path: Path) -> Path:
    return Path(shutil.copytree(world[0], tmp_path / "raw"))


def edit(root: Path, column: str, value: Any, row: int = 0) -> None:
    """Change one cell of the table of parcels; None takes the column away."""
    table = pd.read_csv(root / PARCELS)
    if value is None:
        table = table.drop(columns=column)
    else:
        table[column] = table[column].astype(object)
        table.loc[row, column] = value
    table.to_csv(root / PARCELS, index=False)


def test_raw_layout(world: World) -> None:
    root, known = world
    table = pd.read_csv(root / PARCELS)
    assert table.columns[:4].tolist() == ["ID_PARCEL", "ID_PATCH", "Fold", "Label"]
    assert sum(str(name).startswith("GF_") for name in table) == 4
    assert len(table) == len(known) == len(list((root / "DATA_S2").glob("S2_*.npy")))
    patches = {
        f["properties"]["ID_PATCH"]: f["properties"] for f in json.loads((root / METADATA).read_text())["features"]
    }
    for row in table.itertuples():
        for name, bands in (("S2", 10), ("S1A", 3), ("S1D", 3)):
            values = np.load(root / f"DATA_{name}/{name}_{row.ID_PARCEL}.npy")
            assert values.shape[:2] == (len(patches[row.ID_PATCH][f"dates-{name}"]), bands)
            assert values.dtype == (np.int16 if name == "S2" else np.float32)
    assert list(json.loads((root / "NORM_PARCEL_S2_set.json").read_text())["Fold_1"]) == ["mean", "std"]


def test_parcels_are_cut_from_their_patch(world: World) -> None:
    for parcel in world[1]:
        for name, pixels in parcel.pixels.items():
            images = parcel.patch.images[name]
            instance = parcel.number - 100 * parcel.patch.number
            where = np.argwhere(parcel.patch.target[1] == instance)
            want = np.stack([images[:, :, row, column] for row, column in where], -1)
            np.testing.assert_array_equal(pixels, want)
            assert set(parcel.patch.target[0][tuple(where.T)]) == {parcel.label}


def test_round_trip_to_a_store(world: World, tmp_path: Path) -> None:
    root, known = world
    store = Recipe.load("pastis_pixelset").prepare(root, tmp_path / "store")
    assert isinstance(store, Store)
    crops = [parcel for parcel in known if parcel.label != 19]
    assert 0 < len(crops) < len(known), "the generator has parcels of void"
    index = store.index
    assert index["parcel_id"].tolist() == [str(parcel.number) for parcel in crops]
    assert index["label"].tolist() == [NAMES[parcel.label] for parcel in crops]
    assert index["region"].tolist() == [parcel.patch.tile for parcel in crops]
    assert index["split"].tolist() == [{4: "val", 5: "test"}.get(p.patch.fold, "train") for p in crops]
    assert list(store.sensors) == ["s2", "s1a", "s1d"]
    for row, parcel in enumerate(crops):
        for name in BOTH:
            ragged = store.arrays[name.lower()]
            pixels = torch.arange(parcel.pixels[name].shape[2])[None]
            seen = ragged.gather(torch.tensor([row]), range(parcel.pixels[name].shape[1]), pixels)
            assert seen.days is not None
            assert seen.days[0].tolist() == parcel.patch.days[name].tolist()
            physical = parcel.pixels[name] * (1e-4 if name == "S2" else 1.0)
            np.testing.assert_allclose(seen.values[0].numpy(), physical, atol=1e-6)
    shapes = np.load(store.path / "attributes.npy")
    np.testing.assert_allclose(shapes, [list(parcel.shape.values()) for parcel in crops], rtol=1e-6)


def test_places_are_those_of_patches(world: World) -> None:
    for record in PastisPixelSet().read(world[0]):
        assert abs(record.lat - {"T30UXV": 49.2, "T31TFJ": 44.2}[record.region]) < 0.3
    lonely = list(PastisPixelSet(("S1D",)).read(world[0]))
    assert {tuple(record.series) for record in lonely} == {("s1d",)}


def test_no_data_and_negative_counts(copy: Path) -> None:
    first = next(PastisPixelSet().read(copy))
    path = copy / f"DATA_S2/S2_{first.key}.npy"
    values = np.load(path)
    values[1, 3, 0], values[0, :, 1], values[0, 2, 2] = -10000, -10000, -37
    np.save(path, values)
    series = next(PastisPixelSet().read(copy)).series["s2"]
    assert series.valid_pixels is not None
    assert np.argwhere(~series.valid_pixels).tolist() == [[0, 1], [1, 0]]
    assert series.values[2, 0, 2] * 1e-4 - 1 == pytest.approx(-0.0037)


def test_dates_out_of_order(copy: Path) -> None:
    want = next(PastisPixelSet(("S2",)).read(copy))
    path = copy / METADATA
    document = json.loads(path.read_text())
    about = next(f["properties"] for f in document["features"] if f["properties"]["ID_PATCH"] == int(want.key) // 100)
    dates = list(about["dates-S2"].values())
    about["dates-S2"] = {str(i): date for i, date in enumerate(dates[::-1])}
    path.write_text(json.dumps(document))
    file = copy / f"DATA_S2/S2_{want.key}.npy"
    np.save(file, np.load(file)[::-1])
    found = next(PastisPixelSet(("S2",)).read(copy)).series["s2"]
    assert found.days.tolist() == want.series["s2"].days.tolist()
    if len(set(dates)) == len(dates):
        np.testing.assert_array_equal(found.values, want.series["s2"].values)


def test_what_is_damaged_is_named(copy: Path) -> None:
    first = next(PastisPixelSet().read(copy)).key
    radar, optical = copy / f"DATA_S1A/S1A_{first}.npy", copy / f"DATA_S2/S2_{first}.npy"
    good, counts = np.load(radar), np.load(optical)
    np.save(radar, 10 ** (good / 10))
    with pytest.raises(ValueError, match=rf"S1A_{first}.npy: .* no dB: they look linear"):
        list(PastisPixelSet().read(copy))
    np.save(radar, good[:-1])
    with pytest.raises(ValueError, match=rf"S1A_{first}.npy has shape .* lists {len(good)} dates"):
        list(PastisPixelSet().read(copy))
    radar.write_bytes(radar.read_bytes()[:100])
    with pytest.raises(ValueError, match=rf"S1A_{first}.npy cannot be read"):
        list(PastisPixelSet().read(copy))
    radar.unlink()
    with pytest.raises(FileNotFoundError, match=rf"S1A_{first}.npy.*only PASTIS-R has S1A and S1D"):
        list(PastisPixelSet().read(copy))
    np.save(optical, counts * 1e-4)
    with pytest.raises(ValueError, match=rf"S2_{first}.npy should hold whole counts"):
        list(PastisPixelSet(("S2",)).read(copy))
    np.save(optical, np.array(["a"]))
    with pytest.raises(ValueError, match=r"should hold numbers"):
        list(PastisPixelSet(("S2",)).read(copy))


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("Fold", None, r"no column 'Fold' \(for fold\)"),
        ("Label", 23, r"has class 23; known are 0 to 19"),
        ("ID_PATCH", 7, r"has patch 7; metadata.geojson and metadata_parcel.csv belong together"),
        ("ID_PARCEL", 1.5, r"column ID_PARCEL should hold whole numbers"),
        ("GF_cover", np.nan, r"columns .*GF_cover.* should hold finite numbers"),
    ],
)
def test_a_table_that_does_not_fit_is_named(copy: Path, column: str, value: object, message: str) -> None:
    edit(copy, column, value)
    with pytest.raises(ValueError, match=message):
        list(PastisPixelSet(("S2",)).read(copy))


def test_a_table_without_shapes(copy: Path) -> None:
    for name in [str(name) for name in pd.read_csv(copy / PARCELS) if str(name).startswith("GF_")]:
        edit(copy, name, None)
    assert next(PastisPixelSet().read(copy)).attributes is None


def test_impossible_options() -> None:
    with pytest.raises(ValueError, match="satellites are some of"):
        PastisPixelSet(("S3",))
    with pytest.raises(ValueError, match="folds of its own"):
        PastisPixelSet(folds={"train": [1], "val": [1]})


@pytest.mark.parametrize("name", ["pixelset_embedded", *SHIFTS])
def test_shifts_name_recipes_and_tiles_that_are(name: str) -> None:
    built = config(f"shift={name}")
    shift = instantiate(built["shift"])
    assert {d.recipe for d in shift.domains} == {built["data"]["recipe"]}
    assert sorted(d.select["region"] for d in shift.domains) == ["T30UXV", "T31TFJ", "T31TFM", "T32ULU"]
    assert len(SHIFTS) == 4


def test_fused_parcels_train(tmp_path: Path) -> None:
    domain = "{{_target_: eo_adapt.types.Domain, name: {0}, recipe: synthetic_pixelset, select: {{region: {0}}}}}"
    report = run(
        config(
            "task=crops", "shift=pixelset_embedded", "encoder=parcel_fusion", "method=coral", "trainer=smoke",
            "trainer.progress=none", "figures=false", "logger=csv", "data.generator.patches=8",
            "data.generator.tiles=[T31TFM,T30UXV]", f"shift.sources=[{domain.format('T31TFM')}]",
            "data.generator.size=16", "data.generator.revisit=60", "data.min_per_class=2", "data.steps_per_epoch=2",
            "data.batch_size=8",
        ),
        tmp_path,
    )  # fmt: skip
    assert set(report["domains"]) == {"T31TFM", "T30UXV"}


def test_a_parcel_without_pixels_is_dropped(copy: Path, tmp_path: Path) -> None:
    first = next(PastisPixelSet().read(copy)).key
    for name in BOTH:
        path = copy / f"DATA_{name}/{name}_{first}.npy"
        np.save(path, np.load(path)[:, :, :0])
    store = Recipe.load("pastis_pixelset").prepare(copy, tmp_path / "store")
    assert first not in store.index["parcel_id"].tolist()
    assert first in (store.path / "dropped.csv").read_text()
