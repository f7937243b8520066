"""Opening and querying a store: nothing is loaded, damage is named, and what to do about it."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from worlds import S1, S2, parcels, record, series, write

from eo_adapt.data.prepared import StoreError
from eo_adapt.data.records import Sensor
from eo_adapt.data.store import Store, band_numbers


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return write(tmp_path / "store", [*parcels("EE", 6), *parcels("LV", 4), *parcels("LV", 2, 2020)])


def test_rows_of_a_query(store: Store) -> None:
    assert store.rows({}).tolist() == list(range(12))
    assert store.rows({"country": "LV"}).tolist() == [6, 7, 8, 9, 10, 11]
    assert store.rows({"country": "LV", "year": 2021}).tolist() == [6, 7, 8, 9]
    assert store.rows({"country": ["LV", "EE"], "year": [2021]}).tolist() == list(range(10))
    assert store.rows({"country": ("EE",), "label": ["wheat", "oats"]}).tolist() == [0, 2, 3, 5]
    assert store.rows({"country": "XX"}).tolist() == []


def test_unknown_column_lists_the_columns(store: Store) -> None:
    with pytest.raises(LookupError, match=r"no column 'contry'; it has .*'country'"):
        store.rows({"contry": "EE"})


def test_rows_of_a_range(tmp_path: Path, rng: np.random.Generator) -> None:
    lats = [-14.0, -13.5, -13.0, np.nan, -12.5]
    made = [record(str(i), series(rng, 2), lat=lat, lon=-55.0, year=2015 + i) for i, lat in enumerate(lats)]
    store = write(tmp_path / "s", made)
    assert store.rows({"lat": {"min": -13.5}}).tolist() == [1, 2, 4]
    assert store.rows({"lat": {"max": -13.5}}).tolist() == [0]
    assert store.rows({"lat": {"min": -13.5, "max": -12.5}}).tolist() == [1, 2]
    assert store.rows({"lat": {"min": -13.5}, "year": {"max": 2017}}).tolist() == [1]
    assert store.rows({"year": {"min": 2016, "max": 2018}, "label": "wheat"}).tolist() == [1, 2]
    assert store.rows({"n_dates": {"min": 3}}).tolist() == []


@pytest.mark.parametrize(
    ("select", "message"),
    [
        ({"lat": {"low": 1}}, r"select.lat=\{'low': 1\} is no range; a range has min, max or both"),
        ({"lat": {"min": 1, "above": 2}}, "is no range"),
        ({"lat": {}}, "is no range"),
        ({"lat": {"min": "-13.5"}}, "min must be a number; got '-13.5'"),
        ({"lat": {"max": None}}, "max must be a number; got None"),
        ({"lat": {"max": True}}, "max must be a number; got True"),
        ({"lat": {"min": float("nan")}}, "min must be a number; got nan"),
        ({"lat": {"min": 2, "max": 2}}, "admits nothing: min must be below max"),
        ({"country": {"min": 1}}, r"column 'country' has no numbers \(.*\); give a value or a list"),
    ],
)
def test_ranges_that_make_no_sense_are_refused(store: Store, select: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        store.rows(select)


def test_a_range_on_an_unknown_column_lists_the_columns(store: Store) -> None:
    with pytest.raises(LookupError, match=r"no column 'latitude'; it has .*'lat'"):
        store.rows({"latitude": {"min": 0}})


def test_length_index_and_places(store: Store) -> None:
    assert len(store) == len(store.index) == 12
    assert "geometry" not in store.index
    expected = store.index[["lon", "lat"]].to_numpy(np.float32)
    np.testing.assert_array_equal(store.lonlat.numpy(), expected)
    assert store.sensors == {"s2": S2}


def test_bands_by_name_and_order(store: Store) -> None:
    rows = torch.tensor([3, 0])
    everything = store.gather(rows, {"s2": ["B02", "B04", "B08"]})["s2"].values
    assert torch.equal(store.gather(rows, {"s2": ["B08", "B02"]})["s2"].values, everything[:, :, [2, 0]])
    assert band_numbers(S2, ["B08", "B02"]) == [2, 0]
    with pytest.raises(LookupError, match=r"s2 has no band \['B99'\]; it has \['B02', 'B04', 'B08'\]"):
        store.gather(rows, {"s2": ["B02", "B99"]})


def test_attributes_come_back(tmp_path: Path, rng: np.random.Generator) -> None:
    numbers = rng.normal(size=(5, 4))
    store = write(tmp_path / "s", [record(str(i), series(rng, 2), attributes=numbers[i]) for i in range(5)])
    rows = torch.tensor([4, 1])
    inputs = store.gather(rows, {"s2": S2.bands})
    np.testing.assert_array_equal(inputs["attributes"].values, numbers[[4, 1]].astype(np.float32))
    assert inputs["attributes"].valid is None


def test_several_sensors_keep_their_own_dates(tmp_path: Path, rng: np.random.Generator) -> None:
    made = [record(str(i), {"s2": series(rng, 2 + i), "s1": series(rng, 5, sensor=S1)}) for i in range(3)]
    store = write(tmp_path / "s", made, {"s2": S2, "s1": S1})
    inputs = store.gather(torch.tensor([0, 2]), {"s2": S2.bands, "s1": ["VH"]})
    assert inputs["s2"].valid.sum(1).tolist() == [2, 4]
    assert inputs["s1"].values.shape == (2, 5, 1)
    np.testing.assert_array_equal(inputs["s1"].values[1, :, 0], made[2].series["s1"].values[:, 1])
    assert store.index["n_dates"].tolist() == [7, 8, 9]
    assert set(store.gather(torch.tensor([0]), {"s2": S2.bands})) == {"s2"}


# -- refusals --------------------------------------------------------------------------------------------------------


def test_missing_store_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no prepared store at .*nowhere; .*eo_adapt\.prepare recipe="):
        Store(tmp_path / "nowhere")


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


@pytest.mark.parametrize("name", ["s2/values.bin", "s2/days.bin", "s2/valid.bin", "s2/sizes.bin", "index.parquet"])
@pytest.mark.parametrize(("harm", "said"), [(Path.unlink, "is missing"), (_cut, r"has \d+ bytes instead of \d+")])
def test_damage_names_the_file_and_the_command(
    store: Store, name: str, harm: Callable[[Path], None], said: str
) -> None:
    harm(store.path / name)
    with pytest.raises(StoreError, match=rf"{name} {said}; .*eo_adapt\.prepare recipe=toy raw=.* out=.*force=true"):
        Store(store.path)


def test_another_format_is_refused(store: Store) -> None:
    about = store.path / "store.json"
    about.write_text(json.dumps({**json.loads(about.read_text()), "format": 0}))
    with pytest.raises(StoreError, match=r"has format 0, this version reads format 1; .*recipe=toy raw=.*force=true"):
        Store(store.path)


def test_sensor_definitions_are_checked() -> None:
    with pytest.raises(ValueError, match="one name a band, all different"):
        Sensor(("B02", "B02"))
    with pytest.raises(ValueError, match="set scale=1, offset=0"):
        Sensor(("VV",), dtype="float32")
    with pytest.raises(ValueError, match="got dtype='int8'"):
        Sensor(("VV",), dtype="int8")  # type: ignore[arg-type]


# -- memory ----------------------------------------------------------------------------------------------------------


def _own_memory() -> int:
    """Bytes of this process that are not pages of mapped files."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) * 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
def test_reading_a_large_store_stays_flat(tmp_path: Path) -> None:
    wide = Sensor(tuple(f"b{i}" for i in range(500)))
    values, days = np.ones((1000, 500), np.uint16), np.arange(1000)
    before = _own_memory()
    store = write(
        tmp_path / "s",
        (record(str(i), series(np.random.default_rng(0), 1, values=values, days=days)) for i in range(96)),
        {"s2": wide},
    )  # 96 MB
    written = _own_memory()
    seen = 0.0
    for row in range(96):
        seen += float(store.gather(torch.tensor([row]), {"s2": ["b0", "b499"]})["s2"].values.sum())
    assert seen == pytest.approx(96 * 1000 * 2 * 1e-4, rel=1e-4)
    assert store.arrays["s2"].nbytes > 96e6
    assert "values.bin" in Path("/proc/self/maps").read_text()
    assert written - before < 40e6
    assert _own_memory() - written < 40e6


def test_a_worker_gets_the_path_and_not_the_arrays(store: Store) -> None:
    rows = torch.tensor([0, 5])
    expected = store.gather(rows, {"s2": S2.bands})["s2"].values
    packed = pickle.dumps(store)
    assert len(packed) < 1000
    assert torch.equal(pickle.loads(packed).gather(rows, {"s2": S2.bands})["s2"].values, expected)


def test_reading_does_not_write(store: Store) -> None:
    before = (store.path / "s2" / "values.bin").read_bytes()
    store.gather(torch.arange(12), {"s2": S2.bands})["s2"].values.fill_(7)
    store.arrays["s2"].values.fill_(7)  # copy-on-write pages
    assert (store.path / "s2" / "values.bin").read_bytes() == before


def test_codes_stay_text(store: Store) -> None:
    assert pd.api.types.is_integer_dtype(store.index["year"])
    assert store.index["hcat"].iloc[0] == "3301010100"
