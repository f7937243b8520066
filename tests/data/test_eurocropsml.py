"""The EuroCropsML reader on files made here in the publisher's layout."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from eo_adapt.data.readers.eurocropsml import EuroCropsML
from eo_adapt.data.records import Record

ROOT = Path(__file__).parents[2]
WHEAT = "3301010101"
NAMES = {WHEAT: "winter_common_soft_wheat", "3302000000": "pasture_meadow_grassland_grass"}
DATES = ("2021-01-04", "2021-03-15", "2021-12-31")


def put(root: Path, name: str = f"EE008_17_{WHEAT}.npz", folder: str = "preprocess", **changes: Any) -> Path:
    rng = np.random.default_rng(0)
    arrays = {
        "data": rng.integers(0, 9000, (3, 13)),
        "dates": np.array(DATES, dtype="datetime64[D]"),
        "center": np.array([26.6, 58.1]),
    } | changes
    path = root / folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    return path


def read(root: Path, **settings: Any) -> list[Record]:
    return list(EuroCropsML(names=NAMES, **settings).read(root))


@pytest.mark.parametrize("folder", ["preprocess", "preprocess/S2"])
def test_a_file_becomes_a_record(tmp_path: Path, folder: str) -> None:
    with np.load(put(tmp_path, folder=folder)) as file:
        data = file["data"]
    (record,) = read(tmp_path)
    assert (record.key, record.hcat, record.label) == ("EE008_17", WHEAT, "winter_common_soft_wheat")
    assert (record.country, record.region, record.year, record.sensor) == ("EE", "EE008", 2021, "s2")
    assert (record.lon, record.lat, record.split, record.geometry) == (26.6, 58.1, "", None)
    series = record.series["s2"]
    assert series.values.dtype == np.uint16
    np.testing.assert_array_equal(series.values, data)
    np.testing.assert_array_equal(series.days, [3, 73, 364])
    assert series.valid is not None
    assert series.valid.all()


def test_the_sensor_has_thirteen_bands_in_the_publishers_order() -> None:
    sensor = EuroCropsML().sensors["s2"]
    published = ["01", "02", "03", "04", "05", "06", "07", "08", "8A", "09", "10", "11", "12"]
    assert sensor.bands == tuple(f"B{band}" for band in published)
    assert (sensor.scale, sensor.offset, sensor.units, sensor.dtype) == (1e-4, 0.0, "reflectance", "uint16")


def test_missing_rows_are_invalid_and_zero_is_data(tmp_path: Path) -> None:
    data = np.full((3, 13), 500)
    data[0], data[1] = -999, 0
    put(tmp_path, data=data)
    series = read(tmp_path)[0].series["s2"]
    assert series.valid is not None
    np.testing.assert_array_equal(series.valid, [False, True, True])
    assert series.values[1].max() == 0
    assert series.values[0].max() == 0


def test_a_single_missing_band_or_nan_makes_the_date_invalid(tmp_path: Path) -> None:
    data = np.full((3, 13), 500.4)
    data[0, 4], data[2, 7] = -999, np.nan
    put(tmp_path, data=data)
    series = read(tmp_path)[0].series["s2"]
    assert series.valid is not None
    np.testing.assert_array_equal(series.valid, [False, True, False])
    assert series.values[1, 0] == 500


def test_days_count_from_the_label_year_and_are_sorted(tmp_path: Path) -> None:
    dates = np.array(["2021-02-01", "2020-12-31", "2021-01-01"], dtype="datetime64[D]")
    data = np.arange(3)[:, None] * np.ones((3, 13), dtype=np.int64)
    put(tmp_path, dates=dates, data=data)
    series = read(tmp_path)[0].series["s2"]
    np.testing.assert_array_equal(series.days, [-1, 0, 31])
    np.testing.assert_array_equal(series.values[:, 0], [1, 2, 0])


def test_order_follows_names_and_reading_streams(tmp_path: Path) -> None:
    for parcel in (30, 4, 200):
        put(tmp_path, f"EE008_{parcel}_{WHEAT}.npz")
    put(tmp_path, f"LV003_4_{WHEAT}.npz")  # the same number in another country is another parcel
    assert [record.key for record in read(tmp_path)] == ["EE008_200", "EE008_30", "EE008_4", "LV003_4"]
    assert isinstance(EuroCropsML(names=NAMES).read(tmp_path), Iterator)


def test_constructor_reads_nothing_and_takes_a_list() -> None:
    EuroCropsML(splits=["nowhere.json"])
    with pytest.raises(TypeError, match="list of paths"):
        EuroCropsML(splits="nowhere.json")


@pytest.mark.parametrize("suffix", ["json", "yaml"])
def test_splits_of_the_publisher(tmp_path: Path, suffix: str) -> None:
    files = [put(tmp_path, f"EE008_{n}_{WHEAT}.npz").name for n in range(4)]
    base = tmp_path / "split" / "latvia_vs_estonia"
    (base / "finetune").mkdir(parents=True)
    parts = {"train": files[:1], "val": files[1:2], "test": [f"S2/{files[2]}", "EE008_99_3302000000.npz"]}
    text = json.dumps(parts) if suffix == "json" else yaml.safe_dump(parts)
    (base / "finetune" / f"region_split_all.{suffix}").write_text(text)
    found = read(tmp_path, splits=[f"latvia_vs_estonia/finetune/region_split_all.{suffix}"])
    assert [record.split for record in found] == ["train", "val", "test", ""]


def test_nested_meta_splits_are_flattened_and_contradictions_refused(tmp_path: Path) -> None:
    name = put(tmp_path).name
    (tmp_path / "split").mkdir()
    (tmp_path / "split" / "meta.json").write_text(json.dumps({"train": {"EE008": {WHEAT: [name]}}, "val": {}}))
    assert read(tmp_path, splits=["meta.json"])[0].split == "train"
    (tmp_path / "split" / "other.json").write_text(json.dumps({"val": [name]}))
    with pytest.raises(ValueError, match=r"EE008_17.*'val'.*'train'"):
        read(tmp_path, splits=["meta.json", "other.json"])


@pytest.mark.parametrize("text", ["[1, 2]", '{"train": 3}', '{"holdout": []}', "{broken"])
def test_a_split_file_of_another_form_is_refused(tmp_path: Path, text: str) -> None:
    put(tmp_path)
    (tmp_path / "split").mkdir()
    (tmp_path / "split" / "x.json").write_text(text)
    with pytest.raises(ValueError, match=r"x\.json"):
        read(tmp_path, splits=["x.json"])


def test_missing_folders_and_files_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="Download"):
        read(tmp_path)
    (tmp_path / "preprocess").mkdir()
    with pytest.raises(FileNotFoundError, match="unpack"):
        read(tmp_path)
    put(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"none\.json"):
        read(tmp_path, splits=["none.json"])


@pytest.mark.parametrize("share", [0.0, 0.3, 0.8, 0.99])
def test_a_truncated_file_is_named(tmp_path: Path, share: float) -> None:
    path = put(tmp_path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ValueError, match=rf"{path.name}.*truncated"):
        read(tmp_path)


def test_pickles_are_refused(tmp_path: Path) -> None:
    path = put(tmp_path, data=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ValueError, match=path.name):
        read(tmp_path)


@pytest.mark.parametrize(
    "name", ["EE008_17.npz", "EE008_17_33010101.npz", "ee008_17_3301010101.npz", "EE008_1_7_3301010101.npz", "x.npz"]
)
def test_a_wrong_name_shows_the_pattern(tmp_path: Path, name: str) -> None:
    put(tmp_path, name)
    with pytest.raises(ValueError, match=r"<NUTS3>_<parcelid>_<EC_hcat_c>\.npz"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dates": np.array(DATES[:2], dtype="datetime64[D]")}, "one a row"),
        ({"dates": np.arange(3)}, "datetime64"),
        ({"data": np.zeros((3, 12), dtype=np.int64)}, r"\(T, 13\)"),
        ({"center": np.array([26.6, 58.1, 0.0])}, "longitude"),
        ({"center": np.array([26.6, 158.1])}, "degrees"),
        ({"center": None}, "center"),
        ({"data": np.full((3, 13), -5)}, "-999"),
        ({"data": np.full((3, 13), 70_000)}, "65535"),
    ],
)
def test_inconsistent_arrays_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = put(tmp_path, **changes)
    with pytest.raises(ValueError, match=message) as error:
        read(tmp_path)
    assert path.name in str(error.value)


def test_an_id_is_one_parcel_of_a_country(tmp_path: Path) -> None:
    put(tmp_path, f"EE008_17_{WHEAT}.npz")
    put(tmp_path, "EE009_17_3302000000.npz")
    with pytest.raises(ValueError, match=r"'17' of EE occurs twice.*EE008.*EE009"):
        read(tmp_path)


def test_unknown_codes_are_refused(tmp_path: Path) -> None:
    put(tmp_path, "EE008_17_3301019876.npz")
    with pytest.raises(ValueError, match="3301019876"):
        read(tmp_path)


def test_names_come_from_the_shipped_table(tmp_path: Path) -> None:
    put(tmp_path)
    assert next(iter(EuroCropsML().read(tmp_path))).label == "winter_common_soft_wheat"


@pytest.mark.parametrize("name", ["eurocropsml", "synthetic"])
def test_the_recipe_prepares_a_store_from_its_generator(name: str, tmp_path: Path) -> None:
    from eo_adapt.data.recipe import Recipe, make

    spec = yaml.safe_load((ROOT / "data_recipes" / f"{name}.yaml").read_text(encoding="utf-8"))
    recipe = Recipe(**{**spec, "sources": tuple(spec["sources"])})
    make({**recipe.synthetic, "parcels_per_country": 40}).write(tmp_path / "raw")
    store = recipe.prepare(tmp_path / "raw", tmp_path / "store")
    assert len(store) == 40 * len(recipe.synthetic["countries"])
    assert set(store.index["country"]) == set(recipe.synthetic["countries"])
