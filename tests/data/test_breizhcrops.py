"""BreizhCrops: genuine layout, round trip of both levels, refused column orders, damaged files."""

from __future__ import annotations

import csv
import math
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import shapely

from eo_adapt.data.readers.breizhcrops import BreizhCrops
from eo_adapt.data.records import Record
from eo_adapt.data.synthetic.breizhcrops import CLASSES, UNUSED, BreizhCropsWorld

World = tuple[Path, list[Record]]
REGIONS = ("frh03", "frh04")


@pytest.fixture(scope="module", params=["L1C", "L2A"])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Record], str]:
    root = tmp_path_factory.mktemp(request.param)
    made = BreizhCropsWorld(parcels=18, seed=1, level=request.param, regions=REGIONS)
    return root, made.write_known(root), request.param


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("original")
    BreizhCropsWorld(parcels=9, regions=("frh04",)).write(root)
    return root


@pytest.fixture
def root(original: Path, tmp_path: Path) -> Path:
    return shutil.copytree(original, tmp_path / "copy")


def read(root: Path, **options: object) -> list[Record]:
    return list(BreizhCrops(**{"regions": ("frh04",), **options}).read(root))  # type: ignore[arg-type]


def test_raw_layout(world: tuple[Path, list[Record], str]) -> None:
    root, _, level = world
    with (root / "classmapping.csv").open() as file:
        assert next(csv.reader(file)) == ["", "id", "classname", "code"]
    assert (root / "codes.csv").read_text().startswith("Code Culture;Libellé Culture;")
    with (root / "2017" / level / "frh04.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["", "meanQA60", "id", "CODE_CULTU", "path", "idx", "sequencelength"]
    assert UNUSED in {row["CODE_CULTU"] for row in rows}
    assert rows[-1]["sequencelength"] == "0"
    with h5py.File(root / "2017" / level / "frh04.h5") as file:
        for row in rows:
            array = file[row["path"]]
            assert array.dtype == np.float64
            assert array.shape == (int(row["sequencelength"]), {"L1C": 17, "L2A": 14}[level])
        doa = file[rows[0]["path"]][:, {"L1C": 16, "L2A": 0}[level]]
    assert (doa.astype("datetime64[ns]").astype("datetime64[Y]") == np.datetime64("2017")).all()
    assert (np.diff(doa) > 0).all()


def test_round_trip(world: tuple[Path, list[Record], str]) -> None:
    root, known, level = world
    reader = BreizhCrops(level=level, regions=REGIONS, hcat={"ORH": "3301010401"})
    found = list(reader.read(root))
    assert [record.key for record in found] == [record.key for record in known]
    for record, truth in zip(found, known, strict=True):
        for name in ("label", "country", "region", "year", "sensor", "split"):
            assert getattr(record, name) == getattr(truth, name)
        assert (record.lon, record.lat) == pytest.approx((truth.lon, truth.lat), abs=1e-5)
        outline = shapely.from_wkb(record.geometry)
        assert outline.contains(shapely.Point(truth.lon, truth.lat))
        assert outline.area < 1e-5
        mine, theirs = record.series["s2"], truth.series["s2"]
        np.testing.assert_array_equal(mine.days, theirs.days)
        np.testing.assert_array_equal(mine.valid, theirs.valid)
        np.testing.assert_allclose(mine.values, theirs.values, atol=1e-6)
    assert {record.split for record in found} == {"val", "test"}
    assert {record.label for record in found} == {name for name, _, _ in CLASSES}
    assert {record.hcat for record in found if record.label != "barley"} == {""}
    assert "3301010401" in {record.hcat for record in found}


def test_bands_by_name(world: tuple[Path, list[Record], str]) -> None:
    root, _, level = world
    bands = BreizhCrops(level=level).sensors["s2"].bands
    assert bands[:3] == {"L1C": ("B01", "B02", "B03"), "L2A": ("B02", "B03", "B04")}[level]
    assert "B8A" in bands
    series = next(BreizhCrops(level=level, regions=REGIONS).read(root)).series["s2"]
    clear = series.values[series.valid]
    assert (clear[:, bands.index("B08")] / clear[:, bands.index("B04")]).max() > 4
    if level == "L1C":
        assert clear[:, bands.index("B10")].max() < 0.01


def test_flags(root: Path) -> None:
    strict, lenient = read(root)[0].series["s2"].valid, read(root, max_flagged=0.5)[0].series["s2"].valid
    assert strict is not None
    assert lenient is not None
    assert strict.sum() < lenient.sum() < len(strict)
    assert read(root, flags=[])[0].series["s2"].valid.all()  # type: ignore[union-attr]


def test_wrong_column_order_is_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"B10 has median.*set order: letters"):
        read(root, order="numbers")
    BreizhCropsWorld(parcels=9, regions=("frh04",), order="numbers").write(tmp_path)
    with pytest.raises(ValueError, match=r"frh04.h5.*set order: numbers"):
        read(tmp_path)
    same = zip(read(root), read(tmp_path, order="numbers"), strict=True)
    assert all(np.array_equal(a.series["s2"].values, b.series["s2"].values) for a, b in same)


def test_no_data_below_zero(tmp_path: Path) -> None:
    BreizhCropsWorld(parcels=9, regions=("frh04",), level="L2A").write(tmp_path)
    with h5py.File(tmp_path / "2017" / "L2A" / "frh04.h5", "r+") as file:
        keys: list[str] = []
        file.visititems(lambda name, item: keys.append(name) if isinstance(item, h5py.Dataset) and len(item) else None)
        for key in keys:
            file[key][0, 1] = -4000.0
    for record in read(tmp_path, level="L2A"):
        assert np.isnan(record.series["s2"].values[0, 0])
        assert not np.isnan(record.series["s2"].values[1:]).any()


def test_without_shapefile(root: Path) -> None:
    (root / "2017" / "frh04.shp").unlink()
    with pytest.raises(FileNotFoundError, match=r"frh04.shp.*geometry: false"):
        read(root)
    record = read(root, geometry=False)[0]
    assert math.isnan(record.lon)
    assert math.isnan(record.lat)
    assert record.geometry is None


def test_unpacked_archive_is_found(root: Path) -> None:
    nested = root / "2017" / "L1C" / "data" / "BreizhCrops" / "L1C_img" / "data" / "2017" / "L1C"
    nested.mkdir(parents=True)
    (root / "2017" / "L1C" / "frh04.h5").rename(nested / "frh04.h5")
    assert len(read(root)) == 9


@pytest.mark.parametrize("name", ["classmapping.csv", "2017/L1C/frh04.csv", "2017/L1C/frh04.h5"])
def test_missing_and_cut_files(root: Path, name: str) -> None:
    data = (root / name).read_bytes()
    (root / name).write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(ValueError, match=rf"{name.split('/')[-1]} cannot be read"):
        read(root)
    (root / name).unlink()
    with pytest.raises(FileNotFoundError, match=name):
        read(root)


def test_index_that_does_not_fit(root: Path) -> None:
    path = root / "2017" / "L1C" / "frh04.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, lines[1], ""]))
    with pytest.raises(ValueError, match=r"frh04.csv: 1 parcel ids occur twice, first \['\d+'\]"):
        read(root)
    path.write_text("\n".join([*lines, lines[1].replace("/frh04/", "/frh05/1"), ""]))
    with pytest.raises(ValueError, match=r"frh04.h5 has no parcel 'csv/frh05/1"):
        read(root, geometry=False)
    path.write_text("\n".join([lines[0].replace("CODE_CULTU", "CODE_CULTURE"), *lines[1:], ""]))
    with pytest.raises(ValueError, match=r"no column 'CODE_CULTU'.*nearest: \['CODE_CULTURE'\]"):
        read(root)
    path.write_text("\n".join([*lines, lines[1].rsplit(",", 2)[0], ""]))
    with pytest.raises(ValueError, match=r"frh04.csv cannot be read.*line 13 has 5 fields, the header has 7"):
        read(root)


def test_level_of_another_file(root: Path) -> None:
    (root / "2017" / "L1C").rename(root / "2017" / "L2A")
    with pytest.raises(ValueError, match=r"frh04.h5.*has shape .*expected \(dates, 14\)"):
        read(root, level="L2A")


def test_dates_of_another_unit(root: Path) -> None:
    with h5py.File(root / "2017" / "L1C" / "frh04.h5", "r+") as file:
        for array in file["csv/frh04"].values():
            array[:, 16] /= 1e3  # microseconds, as a newer pandas would write
    with pytest.raises(ValueError, match=r"column 16 should be the date .*1970"):
        read(root)


@pytest.mark.parametrize("wrong", [{"level": "L3"}, {"order": "random"}, {"regions": "frh04"}, {"regions": ["fr"]}])
def test_wrong_options(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"L3|random|frh04|fr"):
        BreizhCrops(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"has the flags \['QA60'\]"):
        BreizhCrops(flags=["CLD"])
