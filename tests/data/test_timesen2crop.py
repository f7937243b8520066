"""TimeSen2Crop: genuine layout, round trip, flags, damaged files."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eo_adapt.data.readers.timesen2crop import BANDS, CLASSES, TimeSen2Crop
from eo_adapt.data.recipe import Recipe
from eo_adapt.data.records import Record
from eo_adapt.data.store import Store
from eo_adapt.data.synthetic.timesen2crop import TimeSen2CropWorld


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("timesen2crop")
    TimeSen2CropWorld(tiles=("33UVP", "2019_33UVP"), pixels=2).write(root)
    return root


@pytest.fixture
def root(original: Path, tmp_path: Path) -> Path:
    return shutil.copytree(original, tmp_path / "copy")


def read(root: Path, **options: Any) -> list[Record]:
    return list(TimeSen2Crop(**options).read(root))


def test_layout_is_genuine(original: Path) -> None:
    tile = original / "33UVP"
    assert {path.name for path in tile.iterdir()} == {"dates.csv", *map(str, range(16))}
    header, *dates = (tile / "dates.csv").read_text().split()
    assert header == "acquisition_date"
    assert all(len(date) == 8 and date[:4] in ("2017", "2018") for date in dates)
    first, *rows = (tile / "0" / "0.csv").read_text().split()
    assert first == "B1,B2,B3,B4,B5,B6,B7,B8,B9,Flag"
    assert len(rows) == len(dates)


def test_round_trip(original: Path) -> None:
    records = read(original)
    assert len(records) == 2 * 16 * 2
    assert [record.label for record in records[:32:2]] == list(CLASSES)
    record = next(r for r in records if r.key == "33UVP-2-1")
    array = np.loadtxt(original / "33UVP" / "2" / "1.csv", delimiter=",", skiprows=1)
    series = record.series["s2"]
    np.testing.assert_allclose(series.values, array[:, :9] / 1e4, rtol=1e-6)
    assert series.valid is not None
    np.testing.assert_array_equal(series.valid, array[:, 9] == 0)
    dates = (original / "33UVP" / "dates.csv").read_text().split()[1:]
    one = np.datetime64(f"{dates[0][:4]}-{dates[0][4:6]}-{dates[0][6:]}") - np.datetime64("2018-01-01")
    assert series.days[0] == one.astype(int)
    assert (record.country, record.region, record.year, record.label) == ("AT", "33UVP", 2018, "maize")
    assert (record.lon, record.lat) == pytest.approx((14.3, 48.2), abs=0.2)  # Upper Austria
    assert {r.year for r in records if r.key.startswith("2019")} == {2019}
    assert TimeSen2Crop().sensors["s2"].bands == BANDS


def test_options(original: Path) -> None:
    assert {r.key.split("-")[0] for r in read(original, tiles=["2019_33UVP"])} == {"2019_33UVP"}
    assert len(read(original, most=1)) == 32
    strict, lenient = (read(original, keep=keep)[0].series["s2"].valid for keep in (["clear"], ["clear", "cloud"]))
    assert strict is not None
    assert lenient is not None
    assert strict.sum() < lenient.sum()
    assert read(original, hcat={"maize": "3301010600"})[4].hcat == "3301010600"


def test_one_folder_deeper(root: Path, tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    root.rename(tmp_path / "raw" / "TimeSen2Crop")
    assert len(read(tmp_path / "raw")) == 64


def test_empty_files_are_left_out(root: Path) -> None:
    (root / "33UVP" / "3" / "0.csv").write_text("")
    assert len(read(root)) == 63


def test_pixels_are_in_the_order_of_their_numbers(root: Path) -> None:
    for number in (10, 9):
        shutil.copy(root / "33UVP" / "0" / "0.csv", root / "33UVP" / "0" / f"{number}.csv")
    assert [r.key for r in read(root, tiles=["33UVP"])][:4] == [f"33UVP-0-{i}" for i in (0, 1, 9, 10)]


def test_the_recipe_makes_a_store(original: Path, tmp_path: Path) -> None:
    store = Recipe.load("timesen2crop").prepare(original, tmp_path / "out")
    assert isinstance(store, Store)
    assert set(store.index["year"]) == {2018, 2019}
    assert store.index.loc[store.index["label"] == "rye", "hcat"].unique().tolist() == ["3301010300"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("dates.csv", "acquisition_date\n2017-09-01\n", "one date a line, YYYYMMDD"),
        ("dates.csv", "acquisition_date\n", "one date a line, YYYYMMDD"),
        ("dates.csv", "acquisition_date\n20171399\n", "cannot be read"),
        ("dates.csv", "acquisition_date\n20180301\n20180201\n", "dates are not in order"),
        ("0/0.csv", "B1,Flag\n1,0\n", r"has shape \(1, 2\); its tile has \d+ dates"),
        ("0/0.csv", "<html>", "cannot be read"),
        ("0/0.csv", "B1\nx,y\n", "cannot be read"),
    ],
)
@pytest.mark.filterwarnings("ignore:loadtxt")
def test_damaged_files(root: Path, name: str, text: str, message: str) -> None:
    (root / "33UVP" / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        read(root)


def test_flags_that_mean_nothing(root: Path) -> None:
    path = root / "33UVP" / "0" / "0.csv"
    header, first, *rest = path.read_text().split()
    path.write_text("\n".join([header, first.rsplit(",", 1)[0] + ",7", *rest]))
    with pytest.raises(ValueError, match=r"flags are 0 to 3; it has \[7\.0\]"):
        read(root)


def test_missing_and_foreign_folders(root: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"dates\.csv, which is not there .*zenodo\.org/records/4715631"):
        read(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"no tiles \['32TNT'\] below"):
        read(root, tiles=["32TNT"])
    (root / "33UVP").rename(root / "upper_austria")
    with pytest.raises(ValueError, match="is called as no Sentinel-2 tile is"):
        read(root)


@pytest.mark.parametrize(
    "wrong",
    [{"tiles": "33UVP"}, {"keep": "clear"}, {"keep": ["sunny"]}, {"keep": []}, {"most": -1}, {"hcat": {"oat": "1"}}],
)
def test_wrong_options(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"is a list|keep lists|hcat has codes for"):
        TimeSen2Crop(**wrong)
