"""Recipes of parcel tables (and the generators of all six) on made-up and real files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import shapely
import yaml

from eo_adapt.data.recipe import Recipe, make
from eo_adapt.data.records import Record
from eo_adapt.data.synthetic.parcel_steps import RondoniaWorld, StepsWorld
from eo_adapt.data.synthetic.parcel_table import CawaWorld

ROOT = Path(__file__).parents[2]
REAL = ROOT / "../shared/data"
RECIPES = ("cawa", "brazil_matogrosso", "brazil_rondonia", "timematch", "breizhcrops")
real_data = pytest.mark.skipif(not (REAL / "cawa" / "ndvi.parquet").is_file(), reason="no ../shared/data")


def recipe(name: str) -> Recipe:
    spec = yaml.safe_load((ROOT / "data_recipes" / f"{name}.yaml").read_text(encoding="utf-8"))
    return Recipe(**{**spec, "sources": tuple(spec["sources"])})


def read(name: str, root: Path) -> list[Record]:
    return list(make(recipe(name).reader).read(root))


def same(found: Record, known: Record) -> None:
    for name in ("key", "label", "country", "region", "year", "sensor"):
        assert getattr(found, name) == getattr(known, name)
    assert (found.lon, found.lat) == pytest.approx((known.lon, known.lat), abs=1e-9)
    (mine,), (theirs,) = found.series.values(), known.series.values()
    assert mine.values.dtype == np.float32
    np.testing.assert_array_equal(mine.values, theirs.values)
    np.testing.assert_array_equal(mine.days, theirs.days)


@pytest.fixture
def cawa(tmp_path: Path) -> tuple[Path, list[Record]]:
    return tmp_path, CawaWorld(parcels=70, seed=5).write_known(tmp_path)


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_are_whole(name: str, tmp_path: Path) -> None:
    made = recipe(name)
    assert (ROOT / "data_recipes" / f"{name}.yaml").read_text(encoding="utf-8").startswith("# ")
    assert made.name == name
    make({**made.synthetic, "parcels": 20}).write(tmp_path)
    store = made.prepare(tmp_path, tmp_path / "store")
    assert len(store) >= 20
    assert set(store.index["label"]) <= {*made.legend, "other"}
    if isinstance(made.legend, Mapping):
        codes = set(pd.read_csv(ROOT / "data_recipes" / "legends" / "hcat3.csv", dtype=str)["code"])
        assert set(made.legend.values()) - {""} <= codes


def test_cawa_round_trip(cawa: tuple[Path, list[Record]]) -> None:
    raw = pd.read_parquet(cawa[0] / "ndvi.parquet")
    assert list(raw)[12:14] == ["ndvi_doy001", "ndvi_doy017"]
    assert raw["is_duplicate"].sum() == 2
    assert raw["ndvi_doy353"].dtype == np.float32
    found = read("cawa", cawa[0])
    assert len(found) == len(cawa[1]) == 68
    for record, known in zip(found, cawa[1], strict=True):
        same(record, known)
        assert shapely.from_wkb(record.geometry).contains(shapely.Point(known.lon, known.lat))
    assert np.isnan(np.concatenate([record.series["ndvi"].values for record in found])).mean() == pytest.approx(
        0.3, abs=0.05
    )


def test_steps_round_trip(tmp_path: Path) -> None:
    known = StepsWorld(parcels=30).write_known(tmp_path)
    found = read("brazil_matogrosso", tmp_path)
    for record, truth in zip(found, known, strict=True):
        same(record, truth)
    assert found[0].series["vi"].days[[0, -1]].tolist() == [-109, 240]  # 2013-09-14 and 2014-08-29


def test_two_tables(tmp_path: Path) -> None:
    known = RondoniaWorld(parcels=20).write_known(tmp_path)
    found = read("brazil_rondonia", tmp_path)
    assert [record.key for record in found] == [truth.key for truth in known]
    assert {(r.sensor, r.series["vi"].values.shape) for r in found} == {("s2", (36, 2)), ("l8", (25, 2))}
    assert {record.label for record in found} == {"NonForest", "Forest", "Deforestation"}
    np.testing.assert_array_equal(found[0].series["vi"].values, known[0].series["vi"].values[:, :2])


@real_data
def test_real_cawa() -> None:
    found = read("cawa", REAL / "cawa")
    assert len(found) == 7232 - 92
    assert len({record.label for record in found}) == 9
    values = np.stack([record.series["ndvi"].values for record in found])
    raw = pd.read_parquet(REAL / "cawa" / "ndvi.parquet").query("not is_duplicate")
    np.testing.assert_array_equal(values[..., 0], raw.filter(like="ndvi_").to_numpy())
    share = {
        r: np.isnan(values[[f.region == r for f in found]]).mean() for r in ("Samarkand", "Fergana", "Kashkadarya")
    }
    assert share["Samarkand"] == pytest.approx(0.54, abs=0.01)
    assert np.isnan(values).mean() == pytest.approx(0.297, abs=0.01)
    assert found[0].series["ndvi"].days.tolist() == list(range(0, 353, 16))
    assert {record.year for record in found} == {2011, 2015, 2016, 2017, 2018}
    assert all(shapely.from_wkb(r.geometry).distance(shapely.Point(r.lon, r.lat)) < 0.01 for r in found[::50])


@real_data
def test_real_brazil() -> None:
    found = read("brazil_matogrosso", REAL / "brazil_series")
    assert len(found) == 1892
    assert len({record.label for record in found}) == 9
    assert {record.series["vi"].values.shape for record in found} == {(23, 6)}
    days = np.stack([record.series["vi"].days for record in found])
    assert set(days[:, 0]) <= {-110, -109}
    assert set(days[:, -1]) <= {240}
    assert (np.diff(days) >= 15).all()
    assert {record.year for record in found} == set(range(2001, 2017))
    assert not any(math.isnan(record.lon) for record in found)
    both = read("brazil_rondonia", REAL / "brazil_series")
    assert [sum(record.sensor == name for record in both) for name in ("s2", "l8")] == [481, 160]
