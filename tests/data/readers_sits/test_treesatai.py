"""TreeSatAI time series: the real sample, the generator's genuine layout, units, masks and labels."""

from __future__ import annotations

import datetime
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import rasterio
import torch
from forest import change

from eo_adapt.data.readers.treesatai_files import PLACES, patch_name, species_of
from eo_adapt.data.readers.treesatai_ts import FOLDER, LABELS, TreeSatAITS
from eo_adapt.data.recipe import Recipe
from eo_adapt.data.store import Store
from eo_adapt.data.synthetic.treesatai import SITES, Known, TreeSatAIWorld
from eo_adapt.registry import config, instantiate
from eo_adapt.train import run

REAL = Path(__file__).parents[4] / "shared/data/treesat_sample"
NAME = "Abies_alba_1_1005_WEFL_NLF"
KEYS = {"s2": "sen-2", "s1_asc": "sen-1-asc", "s1_desc": "sen-1-des"}
World = tuple[Path, dict[str, Known]]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    root = tmp_path_factory.mktemp("trees")
    made = TreeSatAIWorld(patches=6, revisit=25, seed=1, aerial=True).write_known(root)
    return root, {patch.name: patch for patch in made}


@pytest.fixture
def copy(world: World, tmp_path: Path) -> Path:
    return Path(shutil.copytree(world[0], tmp_path / "raw"))


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    """The real patch in the folders of the archive."""
    if not REAL.is_dir():
        pytest.skip("no ../shared/data")
    for folder, name in ((FOLDER, f"{NAME}.h5"), ("aerial/60m", f"{NAME}.tif")):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / name).symlink_to(REAL / name)
    return tmp_path


def test_the_real_sample(sample: Path) -> None:
    (found,) = TreeSatAITS(labels="species").read(sample)
    assert (found.key, found.label, found.year, found.region) == (NAME, "Abies alba", 2020, "T32UNC")
    assert (found.country, found.split, found.sensor) == ("DE", "", "s2+s1_asc+s1_desc")
    assert (found.lon, found.lat) == pytest.approx((9.9585, 52.0852), abs=1e-3)  # south of Hanover
    new_year = datetime.date(2020, 1, 1)
    with h5py.File(REAL / f"{NAME}.h5") as file:
        for sensor, key in KEYS.items():
            series, raw = found.series[sensor], file[f"{key}-data"][()]
            place = 2 if sensor == "s2" else 4  # of the date among the parts of a product's name
            stamps = [name.decode().split("_")[place][:8] for name in file[f"{key}-products"][()]]
            days = [(datetime.datetime.strptime(stamp, "%Y%m%d").date() - new_year).days for stamp in stamps]
            assert series.days.tolist() == days
            scale = 1e-4 if sensor == "s2" else 1
            for row, column in ((0, 0), (2, 5), (5, 5)):
                pixel = series.values[6 * row + column]
                np.testing.assert_allclose(pixel, raw[:, :, row, column] * scale, rtol=1e-6)
        snow, cloud = (file["sen-2-masks"][:, band].reshape(146, 36).T for band in (0, 1))
    assert found.series["s2"].valid_pixels is not None
    np.testing.assert_array_equal(found.series["s2"].valid_pixels, (snow < 60) & (cloud < 60))
    clear, late = found.series["s2"].valid_pixels.mean(0) > 0.9, len(set(found.series["s1_desc"].days.tolist()))
    assert 60 < clear.sum() < 90
    assert late == 61, "25 days have two products of the descending orbit, and both stay"


def test_the_real_sample_in_a_store(sample: Path, tmp_path: Path) -> None:
    (sample / LABELS).parent.mkdir()
    (sample / LABELS).write_text(json.dumps({f"{NAME}.tif": [["Picea", 0.2], ["Abies", 0.8]]}))
    store = Recipe.load("treesatai_ts").prepare(sample, tmp_path / "store")
    assert isinstance(store, Store)
    assert store.index["label"].tolist() == ["Abies"]
    with h5py.File(REAL / f"{NAME}.h5") as file:
        for sensor, key in KEYS.items():
            raw = file[f"{key}-data"][()]
            seen = store.arrays[sensor].gather(torch.tensor([0]), range(raw.shape[1]), torch.arange(36)[None])
            assert seen.valid_pixels is not None
            want = raw.reshape(*raw.shape[:2], 36) * (1e-4 if sensor == "s2" else 1)
            there = seen.valid_pixels[0].numpy()
            mine = seen.values[0].numpy().transpose(0, 2, 1)[there]
            np.testing.assert_allclose(mine, want.transpose(0, 2, 1)[there], rtol=1e-5, atol=1e-6)


def test_raw_layout(world: World) -> None:
    root, known = world
    for name, patch in known.items():
        with h5py.File(root / FOLDER / f"{name}_2020.h5") as file:
            assert sorted(file) == sorted(
                [f"{k}-{w}" for k in KEYS.values() for w in ("data", "products")] + ["sen-2-masks"]
            )
            for key in KEYS.values():
                dates, bands = len(patch.days[key]), 10 if key == "sen-2" else 2
                assert (file[f"{key}-data"].dtype, file[f"{key}-data"].shape) == (np.float32, (dates, bands, 6, 6))
                assert isinstance(file[f"{key}-products"][0], bytes)
        with rasterio.open(root / f"aerial/60m/{name}.tif") as file:
            assert (file.count, file.height, file.width, file.dtypes[0]) == (4, 304, 304, "uint8")
        assert sum(share for _, share in patch.shares) == pytest.approx(1)


def test_round_trip(world: World) -> None:
    root, known = world
    found = list(TreeSatAITS().read(root))
    assert [record.key for record in found] == list(known)
    for record in found:
        patch = known[record.key]
        assert record.label == patch.shares[0][0]
        assert (record.split, record.region, record.year) == (patch.part, SITES[patch.site][2], 2020)
        hidden = (patch.masks[:, :2].reshape(-1, 2, 36) >= 60).any(1).T
        for sensor, key in KEYS.items():
            series = record.series[sensor]
            assert series.days.tolist() == patch.days[key].tolist()
            values = patch.data[key].reshape(*patch.data[key].shape[:2], 36).transpose(2, 0, 1)
            np.testing.assert_allclose(series.values, values * (1e-4 if sensor == "s2" else 1), rtol=1e-6)
            want = ~hidden if sensor == "s2" else np.ones(values.shape[:2], bool)
            np.testing.assert_array_equal(series.valid_pixels, want)
    assert {patch.site for patch in known.values()} == {"west", "east"}


def test_both_sources_of_places_agree(copy: Path) -> None:
    of_geojson = {record.key: (record.lon, record.lat) for record in TreeSatAITS().read(copy)}
    (copy / PLACES).unlink()
    for record in TreeSatAITS().read(copy):
        assert (record.lon, record.lat) == pytest.approx(of_geojson[record.key], abs=1e-6)
    shutil.move(copy / "aerial/60m", copy / "aerial60")
    with pytest.raises(FileNotFoundError, match=r"nothing says where .* lies: .*bb_60m.GeoJSON does not list it"):
        list(TreeSatAITS().read(copy))


def test_the_largest_share_is_the_class(copy: Path, world: World) -> None:
    known = world[1]
    mixed = {name for name, patch in known.items() if patch.shares[0][1] < 0.8}
    assert 0 < len(mixed) < len(known)
    assert {record.key for record in TreeSatAITS(share=0.8).read(copy)} == set(known) - mixed
    name = next(iter(known))
    shares = json.loads((copy / LABELS).read_text())
    shares[f"{name}.tif"] = [["Acer", 0.3], ["Cleared", 0.5], ["Alnus", 0.2]]
    (copy / LABELS).write_text(json.dumps(shares))
    assert next(TreeSatAITS().read(copy)).label == "Cleared"
    assert next(TreeSatAITS(labels="species").read(copy)).label == species_of(name)
    del shares[f"{name}.tif"]
    (copy / LABELS).write_text(json.dumps(shares))
    with pytest.raises(ValueError, match=rf"does not list {name}.tif"):
        list(TreeSatAITS().read(copy))
    (copy / LABELS).write_text(json.dumps({f"{name}.tif": [["Acer", 30.0]]}))
    with pytest.raises(ValueError, match=rf"{name} has .* share, 0 to 1"):
        list(TreeSatAITS().read(copy))
    (copy / LABELS).write_text("{")
    with pytest.raises(ValueError, match=r"multi_labels.json cannot be read"):
        list(TreeSatAITS().read(copy))


@pytest.mark.parametrize(
    ("stem", "name", "year", "species"),
    [
        (NAME, NAME, 0, "Abies alba"),
        (f"{NAME}_2020", NAME, 2020, "Abies alba"),
        ("Cleared_0_153_BI_NLF_2017", "Cleared_0_153_BI_NLF", 2017, "Cleared"),
        ("Betula_spec_2_7_BI_NLF", "Betula_spec_2_7_BI_NLF", 0, "Betula spec"),
    ],
)
def test_names(stem: str, name: str, year: int, species: str) -> None:
    assert patch_name(Path(f"{stem}.h5")) == (name, year)
    assert species_of(name) == species


def test_dates_out_of_order_and_missing_values(copy: Path) -> None:
    want = next(TreeSatAITS().read(copy)).series["s1_asc"]
    change(copy, "sen-1-asc-products", lambda x: list(x[::-1]))
    change(copy, "sen-1-asc-data", lambda x: x[::-1])
    found = next(TreeSatAITS().read(copy)).series["s1_asc"]
    assert found.days.tolist() == want.days.tolist()
    np.testing.assert_array_equal(found.values, want.values)

    def lost(values: np.ndarray) -> np.ndarray:
        values = values.copy()
        values[-1, 0, 0, 3] = np.nan  # the earliest date, for the file is backwards
        return values

    change(copy, "sen-1-asc-data", lost)
    seen = next(TreeSatAITS().read(copy)).series["s1_asc"].valid_pixels
    assert seen is not None
    assert np.argwhere(~seen).tolist() == [[3, 0]]


def test_knobs_take_the_shift_away() -> None:
    def apart(**knobs: Any) -> tuple[float, float]:
        """Days by which beeches are later in the east, and how much brighter summers are there."""
        with tempfile.TemporaryDirectory() as folder:
            world = TreeSatAIWorld(patches=30, revisit=5, clouds=0.0, **knobs).write_known(Path(folder))
        days, bright = {}, {}
        for site in SITES:
            some = [p for p in world if p.site == site and p.name.startswith("Fagus")]
            days[site] = np.mean([_onset(p) for p in some])
            summer = [p.data["sen-2"][(p.days["sen-2"] > 180) & (p.days["sen-2"] < 260)] for p in some]
            bright[site] = np.mean(np.concatenate(summer))
        return float(days["east"] - days["west"]), float(bright["east"] / bright["west"])

    later, brighter = apart()
    assert 8 < later < 20
    assert 1.12 < brighter < 1.18
    later, brighter = apart(phenology=0.0, radiometry=0.0)
    assert abs(later) < 6
    assert abs(brighter - 1) < 0.02


def _onset(patch: Known) -> float:
    """Day on which the mean of B08 is half way between the least of winter and the most of summer."""
    days, near = patch.days["sen-2"], patch.data["sen-2"][:, 6].mean((1, 2))
    spring = (days > 70) & (days < 200)
    half = (near[spring].min() + near[spring].max()) / 2
    return float(np.interp(half, np.maximum.accumulate(near[spring]), days[spring]))


def test_forest_trains(tmp_path: Path) -> None:
    report = run(
        config(
            "task=crops", "shift=treesatai_embedded", "encoder=parcel_fusion", "method=coral", "trainer=smoke",
            "trainer.progress=none", "figures=false", "logger=csv", "data.generator.patches=24",
            "data.generator.revisit=40", "data.min_per_class=2", "data.steps_per_epoch=2", "data.batch_size=8",
        ),
        tmp_path,
    )  # fmt: skip
    assert set(report["domains"]) == {"west", "east"}
    shift = instantiate(config("shift=treesatai_west_to_east")["shift"])
    assert [d.select for d in shift.domains] == [{"lon": {"max": 9.5}}, {"lon": {"min": 9.5}}]
