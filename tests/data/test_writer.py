"""Writing a store: all of it or nothing, and nothing that could not be read back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pyproj
import pytest
import shapely
import torch
from worlds import S1, S2, parcels, record, series, write

from eo_adapt.data.prepared import StoreError
from eo_adapt.data.records import Record, Sensor, Series
from eo_adapt.data.store import Store
from eo_adapt.data.writer import StoreWriter

COLUMNS = "parcel_id lon lat country region year sensor label hcat split n_dates x y geometry"
RNG = np.random.default_rng(0)
PLAIN, CUBE = series(RNG, 3), series(RNG, 3, 2)


def _bad_value(value: float | int) -> Series:
    return replace(PLAIN, values=np.full((3, 3), value))


# -- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (record("a", PLAIN), r"'a' occurs twice in the toy data"),
        (record("b", {"s1": PLAIN}), r"'b' has sensors \['s1'\]; this store holds \['s2'\]"),
        (record("b", {"s2": PLAIN, "s1": PLAIN}), r"has sensors \['s1', 's2'\]"),
        (
            record("b", replace(PLAIN, values=PLAIN.values[:, :2])),
            r"shape \(3, 2\); .* must be \(3, 3\) or \(pixels, 3, 3\)",
        ),
        (record("b", replace(PLAIN, values=PLAIN.values[:2])), r"shape \(2, 3\)"),
        (record("b", replace(PLAIN, values=PLAIN.values[:, 0])), r"shape \(3,\)"),
        (record("b", replace(PLAIN, valid=np.array([True]))), r"valid has shape \(1,\); it must be \(3,\)"),
        (record("b", replace(PLAIN, gdd=np.zeros(4))), r"gdd has shape \(4,\); it must be \(3,\)"),
        (
            record("b", replace(CUBE, valid_pixels=np.ones(3, bool))),
            r"valid_pixels has shape \(3,\); it must be \(2, 3\)",
        ),
        (record("b", replace(PLAIN, days=np.array([0, 1, 40_000]))), r"whole numbers .* got \[40000\]"),
        (record("b", replace(PLAIN, days=np.array([0, np.nan, 2]))), r"whole numbers .* got \[nan\]"),
        (record("b", replace(PLAIN, gdd=np.array([0, np.nan, 2]))), r"NaN or infinite on valid dates"),
        (record("b", _bad_value(np.nan)), r"'b' has no valid date .*on_empty: drop"),
        (record("b", replace(PLAIN, valid=np.zeros(3, bool))), r"'b' has no valid date"),
        (record("b", Series(np.zeros((0, 3)), np.zeros(0))), r"'b' has no valid date"),
        (record("b", _bad_value(7.0)), r"\[7, 7\] reflectance; .* holds \[0, 6.5535\].*dtype: float32"),
        (record("b", _bad_value(-0.01)), r"\[-0.01, -0.01\] reflectance"),
        (record("b", _bad_value(70_000)), r"\[7, 7\] reflectance"),
        (record("b", _bad_value(-3)), r"\[-0.0003, -0.0003\] reflectance"),
        (record("b", CUBE), r"some parcels have pixels for 's2' and some do not, 'b' is the first"),
        (record("b", replace(PLAIN, gdd=np.zeros(3))), r"some parcels have gdd"),
        (record("b", PLAIN, attributes=np.ones(2)), r"'b' has 2 attributes, those before have none"),
        (record("b", PLAIN, attributes=np.array([1, np.nan])), r"attributes must be finite"),
    ],
)
def test_what_does_not_fit_is_refused_and_leaves_nothing(tmp_path: Path, second: Record, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write(tmp_path / "store", [record("a", PLAIN), second])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (record("a", CUBE), record("b", PLAIN), "some parcels have pixels"),
        (record("a", replace(PLAIN, gdd=np.zeros(3))), record("b", PLAIN), "some parcels have gdd"),
        (record("a", PLAIN, attributes=np.ones(2)), record("b", PLAIN), "has no attributes, those before have 2"),
        (record("a", PLAIN, attributes=np.ones(2)), record("b", PLAIN, attributes=np.ones(3)), "has 3 attributes"),
    ],
)
def test_what_the_first_parcel_has_all_must_have(tmp_path: Path, first: Record, second: Record, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write(tmp_path / "store", [first, second])


def test_a_refused_parcel_leaves_no_trace_in_the_arrays(tmp_path: Path) -> None:
    """A caller may log a refused parcel and go on: those after it must not slide."""
    last = series(RNG, 5)
    with StoreWriter(tmp_path / "s", "toy", {"s2": S2, "s1": S2}) as writer:
        writer.add(record("a", {"s2": PLAIN, "s1": PLAIN}))
        with pytest.raises(ValueError, match="some parcels have pixels for 's1'"):
            writer.add(record("b", {"s2": PLAIN, "s1": CUBE}))
        writer.add(record("b", {"s2": last, "s1": PLAIN}))
    store = Store(tmp_path / "s")
    assert len(store) == 2
    np.testing.assert_allclose(
        store.gather(torch.tensor([1]), {"s2": S2.bands})["s2"].values[0], last.values / 1e4, rtol=1e-6
    )


def test_nodata_under_a_mask_is_not_out_of_range(tmp_path: Path) -> None:
    values = np.array([[100, 200, 300], [-9999, -9999, -9999]])
    store = write(tmp_path / "s", [record("a", Series(values, np.array([1, 2]), np.array([True, False])))])
    assert store.arrays["s2"].valid.tolist() == [True, False]
    assert store.arrays["s2"].values.tolist() == [[100, 200, 300], [0, 0, 0]]


def test_floats_are_rounded_to_counts_and_may_miss_heat_on_masked_dates(tmp_path: Path) -> None:
    values = np.array([[0.1, 0.3, 0.65534], [np.nan, 0.2, 0.2]], np.float32)
    one = Series(values, np.array([1.0, 2.0]), gdd=np.array([5.0, np.nan]))
    ragged = write(tmp_path / "s", [record("a", one)]).arrays["s2"]
    assert ragged.values[0].tolist() == [1000, 3000, 6553]
    assert ragged.gdd.tolist() == [5, 0]


def test_half_precision_values_keep_their_precision(tmp_path: Path) -> None:
    values = np.full((1, 3), 0.5, np.float16)
    values[0, 1] = 6.5  # 65000 counts are beyond float16's steps of one
    ragged = write(tmp_path / "s", [record("a", Series(values, np.array([1])))]).arrays["s2"]
    assert (ragged.values.int() & 0xFFFF).tolist() == [[5000, 65000, 5000]]


def test_no_data_at_all(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"toy data gave no usable parcel \(0 without"):
        write(tmp_path / "s", [])
    with pytest.raises(StoreError, match=r"\(1 without a valid date\)"):
        write(tmp_path / "s", [record("a", _bad_value(np.nan))], on_empty="drop")
    assert list(tmp_path.iterdir()) == []


def test_drop_lists_what_was_left_out(tmp_path: Path) -> None:
    made = [record("a", PLAIN), record("b", _bad_value(np.nan)), record("c", PLAIN)]
    store = write(tmp_path / "s", made, on_empty="drop")
    assert store.index["parcel_id"].tolist() == ["a", "c"]
    dropped = pd.read_csv(store.path / "dropped.csv")
    assert dropped.to_dict("list") == {"parcel_id": ["b"], "reason": ["no valid date"]}
    assert store.about["dropped"] == 1
    with pytest.raises(ValueError, match="occurs twice"):
        write(tmp_path / "t", [*made, record("b", PLAIN)], on_empty="drop")


def test_a_parcel_blind_to_one_sensor_is_kept(tmp_path: Path) -> None:
    store = write(tmp_path / "s", [record("a", {"s2": PLAIN, "s1": series(RNG, 0, sensor=S1)})], {"s2": S2, "s1": S1})
    assert len(store) == 1


# -- all or nothing --------------------------------------------------------------------------------------------------


def _contents(path: Path) -> dict[str, bytes]:
    return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def test_interrupted_writing_leaves_the_old_store_alone(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "store"
    write(path, [record("a", PLAIN)])
    before = _contents(path)

    def until_ctrl_c() -> Iterator[Record]:
        yield record("b", PLAIN)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(path, until_ctrl_c())
    assert _contents(path) == before
    assert [p.name for p in path.parent.iterdir()] == ["store"]


def test_failure_at_the_very_end_leaves_the_old_store_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import eo_adapt.data.writer as module

    path = tmp_path / "store"
    write(path, [record("a", PLAIN)])
    before, move, calls = _contents(path), module.os.replace, []

    def full_disk(old: Path, new: Path) -> None:
        calls.append(new)
        if len(calls) == 2:
            raise OSError("no space left")
        move(old, new)

    monkeypatch.setattr(module.os, "replace", full_disk)
    with pytest.raises(OSError, match="no space"):
        write(path, [record("b", PLAIN)])
    assert _contents(path) == before
    assert [p.name for p in tmp_path.iterdir()] == ["store"]


def test_a_replaced_store_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "store"
    write(path, [record(k, CUBE, attributes=np.ones(2)) for k in "abc"])
    old = Store(path)
    old_values = old.arrays["s2"].values.clone()
    store = write(path, [record("z", PLAIN)])
    assert store.index["parcel_id"].tolist() == ["z"]
    assert store.attributes is None
    assert sorted(p.name for p in (path / "s2").iterdir()) == ["days.bin", "sizes.bin", "valid.bin", "values.bin"]
    assert [p.name for p in tmp_path.iterdir()] == ["store"]
    assert torch.equal(old.arrays["s2"].values, old_values)  # who has it open reads on


def test_a_folder_that_is_no_store_is_never_replaced(tmp_path: Path) -> None:
    precious = tmp_path / "thesis"
    precious.mkdir()
    (precious / "chapter1.tex").write_text("...")
    with pytest.raises(FileExistsError, match=r"thesis exists and is no store; it would be lost"):
        write(precious, [record("a", PLAIN)])
    assert [p.name for p in tmp_path.rglob("*")] == ["thesis", "chapter1.tex"]
    (tmp_path / "empty").mkdir()
    assert len(write(tmp_path / "empty", [record("a", PLAIN)])) == 1


def test_a_store_behind_a_link_is_replaced_where_it_lies(tmp_path: Path) -> None:
    write(tmp_path / "disk" / "store", [record("a", PLAIN)])
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "store")
    store = write(tmp_path / "link", [record("b", PLAIN)])
    assert store.index["parcel_id"].tolist() == ["b"]
    assert (tmp_path / "link").is_symlink()


def test_what_the_store_says_of_itself(tmp_path: Path) -> None:
    about = {"licence": {"id": "CC0"}, "accessed": date(2024, 5, 1)}  # yaml makes dates of such text
    store = write(tmp_path / "s", [record("a", PLAIN)], about=about)
    assert store.about["about"] == {"licence": {"id": "CC0"}, "accessed": "2024-05-01"}
    assert store.about["recipe"] == "toy"
    listed = json.loads((store.path / "store.json").read_text())["files"]
    assert {name: len(data) for name, data in _contents(store.path).items() if name != "store.json"} == listed
    assert (store.path.stat().st_mode & 0o777) == 0o755


# -- the index -------------------------------------------------------------------------------------------------------


def test_index_is_geoparquet(tmp_path: Path) -> None:
    square = shapely.box(25.0, 58.0, 25.1, 58.1)
    made = [
        record("a", PLAIN, region="EE008", sensor="s2", split="train", geometry=shapely.to_wkb(square)),
        record("b", PLAIN, lon=26.0, lat=58.5),
        record("c", PLAIN, lon=np.nan, lat=np.nan),
    ]
    frame = geopandas.read_parquet(write(tmp_path / "s", made).path / "index.parquet")
    assert list(frame.columns) == COLUMNS.split()
    assert frame.crs == "EPSG:4326"
    assert frame.geometry[0].equals(square)
    assert frame.geometry[1].equals(shapely.Point(26.0, 58.5))
    assert frame.geometry[2] is None
    texts = frame.loc[0, ["parcel_id", "country", "region", "sensor", "label", "hcat", "split"]].tolist()
    assert texts == ["a", "EE", "EE008", "s2", "wheat", "3301010100", "train"]
    assert frame[["year", "n_dates"]].to_numpy().tolist() == [[2021, 3]] * 3
    assert frame[["x", "y"]].isna().all(axis=1).tolist() == [False, False, True]


@pytest.mark.parametrize("crs", ["", "EPSG:3035"])
def test_x_and_y_are_metres(tmp_path: Path, crs: str) -> None:
    index = write(tmp_path / "s", [*parcels("EE", 25), *parcels("LV", 25)], crs=crs).index
    lon, lat, x, y = (index[c].to_numpy() for c in ("lon", "lat", "x", "y"))
    i, j = np.triu_indices(len(index), 1)
    metres = pyproj.Geod(ellps="WGS84").inv(lon[i], lat[i], lon[j], lat[j])[2]
    np.testing.assert_allclose(np.hypot(x[i] - x[j], y[i] - y[j]), metres, rtol=0.01)


def test_parcels_without_any_place(tmp_path: Path) -> None:
    store = write(tmp_path / "s", [record("a", PLAIN, lon=np.nan, lat=np.nan)])
    assert store.index[["x", "y"]].isna().all(axis=None)
    assert geopandas.read_parquet(store.path / "index.parquet").geometry[0] is None


def test_float_sensor_takes_any_number(tmp_path: Path) -> None:
    wide = Sensor(("h",), units="m", scale=1.0, dtype="float32")
    values = np.array([[-431.5], [8848.0]])
    store = write(tmp_path / "s", [record("a", Series(values, np.array([1, 2])))], {"s2": wide})
    np.testing.assert_array_equal(store.gather(torch.tensor([0]), {"s2": ["h"]})["s2"].values[0], values)


@pytest.mark.parametrize("parcels", [1, 250])
@pytest.mark.parametrize("pixels", [0, 4])
def test_linear_radar_in_a_sensor_of_decibels_is_refused(tmp_path: Path, parcels: int, pixels: int) -> None:
    rng = np.random.default_rng(0)

    def made(i: int, linear: bool) -> Record:
        look = series(rng, 5, pixels, S1)
        values = 10 ** (look.values / 10) if linear else look.values
        values[..., 0, :] = np.nan if i % 2 else values[..., 0, :]
        values[..., 1, 0] -= 0.2 * linear * (i == 0)  # one value below 0 is no decibel
        return record(f"p{i}", {"s1": replace(look, values=values)})

    with pytest.raises(ValueError, match=r"sensor 's1' of the toy data, in its first parcels: .* units: linear"):
        write(tmp_path / "store", (made(i, linear=True) for i in range(parcels)), {"s1": S1})
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match=r"'s1' .* no linear: they look like decibels"):
        write(tmp_path / "store", [made(1, linear=False)], {"s1": replace(S1, units="linear")})
    assert len(write(tmp_path / "store", (made(i, linear=False) for i in range(parcels)), {"s1": S1})) == parcels
