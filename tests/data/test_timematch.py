"""TimeMatch: genuine layout, round trip, damaged and hostile files."""

from __future__ import annotations

import datetime
import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eo_adapt.data.readers.s2_tiles import pixel_lonlat, tile_corner
from eo_adapt.data.readers.safe_pickle import load_plain
from eo_adapt.data.readers.timematch import BANDS, TimeMatch
from eo_adapt.data.readers.timematch_classes import PUBLISHED
from eo_adapt.data.records import Record
from eo_adapt.data.synthetic.timematch import DATASETS, SEASONS, TimeMatchWorld

DENMARK = DATASETS[0]
World = tuple[Path, list[Record]]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    root = tmp_path_factory.mktemp("timematch")
    return root, TimeMatchWorld(parcels=12, seed=3, images=9).write_known(root)


@pytest.fixture
def denmark(world: World, tmp_path: Path) -> Path:
    shutil.copytree(world[0] / DENMARK, tmp_path / DENMARK)
    return tmp_path


def change(root: Path, **values: Any) -> None:
    path = root / DENMARK / "meta" / "metadata.pkl"
    meta = pickle.loads(path.read_bytes())
    path.write_bytes(pickle.dumps({**meta, **values}))


def test_raw_layout(world: World) -> None:
    about = json.loads((world[0] / DENMARK / "data" / "0.zarr" / ".zarray").read_text())
    assert about["zarr_format"] == 2
    assert about["dtype"] == "<u2"
    assert about["compressor"]["id"] == "blosc"
    assert about["shape"][1] == 10
    for dataset, kind in zip(DATASETS, (float, str, str, str), strict=True):
        meta = pickle.loads((world[0] / dataset / "meta" / "metadata.pkl").read_bytes())
        assert set(meta) == {"start_date", "end_date", "dates", "cloudy_pct", "parcels"}
        assert meta["start_date"] == "20170101"
        assert all(isinstance(date, int) for date in meta["dates"])
        assert all(isinstance(parcel["label"], kind) for parcel in meta["parcels"])
        assert isinstance(meta["parcels"][0]["n_pixels"], np.int32)
        assert len(meta["parcels"]) == len(list((world[0] / dataset / "data").glob("*.zarr")))


def test_round_trip(world: World) -> None:
    found = list(TimeMatch(datasets=DATASETS).read(world[0]))
    assert [record.key for record in found] == [known.key for known in world[1]]
    for record, known in zip(found, world[1], strict=True):
        for name in ("label", "lon", "lat", "country", "region", "year", "sensor", "split", "hcat"):
            assert getattr(record, name) == getattr(known, name)
        mine, theirs = record.series["s2"], known.series["s2"]
        assert mine.values.dtype == np.uint16
        assert mine.values.shape[1:] == (len(mine.days), len(BANDS))
        for name in ("values", "days", "valid_pixels"):
            np.testing.assert_array_equal(getattr(mine, name), getattr(theirs, name))
        np.testing.assert_array_equal(record.attributes, known.attributes)
    assert {record.label for record in found} == set(SEASONS)
    assert any(not record.series["s2"].valid_pixels.all() for record in found)  # type: ignore[union-attr]


def test_all_datasets_by_default_and_options(world: World) -> None:
    reader = TimeMatch(unmapped="", hcat={"corn": "3301010600"})
    found = list(reader.read(world[0]))
    assert len({record.region for record in found}) == 4
    assert "other" not in {record.label for record in found}
    assert {record.hcat for record in found if record.label == "corn"} == {"3301010600"}
    assert reader.sensors["s2"].bands[3:5] == ("B08", "B05")  # 10 m bands first
    renamed = list(
        TimeMatch((DENMARK,), classes={"denmark": {216: "maize", 5.0: "maize", "423": "maize"}}).read(world[0])
    )
    assert {record.label for record in renamed} == {"maize", "other"}


def test_days_may_be_negative(denmark: Path) -> None:
    change(denmark, dates=[20161001 + n for n in range(9)])
    assert next(TimeMatch().read(denmark)).series["s2"].days.tolist() == list(range(-92, -83))


def test_published_classes() -> None:
    assert PUBLISHED["denmark"]["11"] == "winter_wheat"
    assert PUBLISHED["france"]["TRN"] == "sunflowers"
    assert PUBLISHED["austria"]["155"] == "spring_oat"
    assert len(PUBLISHED["denmark"]) == 71


def test_places() -> None:
    assert tile_corner("31TCJ") == ("EPSG:32631", 3e5, 4.9e6)  # published: 300000, 4900020
    assert tile_corner("33UVP") == ("EPSG:32633", 4e5, 5.4e6)  # published: 399960, 5400000
    assert tile_corner("23KPQ")[0] == "EPSG:32723"
    lon, lat = pixel_lonlat("31TCJ", 5490, 5490)
    assert 1 < lon < 1.5
    assert 43.5 < lat < 44
    for name in ("32VNI", "31VNH", "hello", "00VNH"):
        with pytest.raises(ValueError, match=name):
            tile_corner(name)


class Evil:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_hostile_pickle_is_refused(denmark: Path, protocol: int) -> None:
    path, trace = denmark / DENMARK / "meta" / "metadata.pkl", denmark / "was_here"
    path.write_bytes(pickle.dumps({"dates": [], "parcels": Evil(trace)}, protocol))
    with pytest.raises(ValueError, match=r"metadata.pkl asks to load (posix|nt).mkdir.*nothing was loaded"):
        list(TimeMatch().read(denmark))
    assert not trace.exists()
    pickle.loads(path.read_bytes())
    assert trace.exists()  # the file would have done it


@pytest.mark.parametrize("name", [b"cbuiltins\neval\n.", b"cbuiltins\ngetattr\n.", b"cnumpy\nload\n."])
def test_other_names_are_refused(tmp_path: Path, name: bytes) -> None:
    (tmp_path / "x.pkl").write_bytes(name)
    with pytest.raises(ValueError, match="nothing was loaded"):
        load_plain(tmp_path / "x.pkl")


def test_plain_values_of_numpy_1_and_2(tmp_path: Path) -> None:
    plain = {
        "a": np.arange(3.0),
        "n": np.int32(4),
        "d": datetime.date(2017, 1, 2),
        "s": {1},
        "b": b"x",
        "o": [None, 1j],
    }
    for protocol in range(6):
        data = pickle.dumps(plain, protocol)
        for raw in (data, data.replace(b"numpy._core", b"numpy.core")) if protocol < 4 else (data,):
            (tmp_path / "x.pkl").write_bytes(raw)
            found = load_plain(tmp_path / "x.pkl")
            assert found.keys() == plain.keys()
            assert found["n"] == 4
            assert found["d"] == plain["d"]
            assert found["b"] == b"x"
            np.testing.assert_array_equal(found["a"], np.arange(3.0))


def test_cut_metadata(denmark: Path) -> None:
    path = denmark / DENMARK / "meta" / "metadata.pkl"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match=r"metadata.pkl is no readable pickle.*cut short"):
        list(TimeMatch().read(denmark))


def test_cut_and_missing_pixels(denmark: Path) -> None:
    folder = denmark / DENMARK / "data" / "3.zarr"
    chunk = next(p for p in folder.iterdir() if not p.name.startswith("."))
    whole = chunk.read_bytes()
    chunk.write_bytes(whole[: len(whole) // 2])  # zarr itself would return garbage without an error
    with pytest.raises(ValueError, match=r"3\.zarr cannot be read.* bytes"):
        list(TimeMatch().read(denmark))
    chunk.unlink()
    with pytest.raises(ValueError, match=r"3\.zarr cannot be read.*0 of 1 chunks"):
        list(TimeMatch().read(denmark))
    (folder / ".zarray").write_text('{"chunks')
    with pytest.raises(ValueError, match=r"3\.zarr cannot be read"):
        list(TimeMatch().read(denmark))
    shutil.rmtree(folder)
    with pytest.raises(FileNotFoundError, match=r"3\.zarr.*Zenodo"):
        list(TimeMatch().read(denmark))


def test_metadata_that_do_not_fit(denmark: Path) -> None:
    meta = pickle.loads((denmark / DENMARK / "meta" / "metadata.pkl").read_bytes())
    change(denmark, dates=meta["dates"][:-1])
    with pytest.raises(ValueError, match=r"0\.zarr.*the metadata say uint16 \(8, 10,"):
        list(TimeMatch().read(denmark))
    change(denmark, dates=["2017-13-01"])
    with pytest.raises(ValueError, match="YYYYMMDD"):
        list(TimeMatch().read(denmark))
    change(denmark, dates=meta["dates"], parcels=[{**meta["parcels"][0], "block": 100}])
    with pytest.raises(ValueError, match="block 100"):
        list(TimeMatch().read(denmark))
    change(denmark, parcels=[{"id": 1}])
    with pytest.raises(ValueError, match=r"should hold \['id', 'label'"):
        list(TimeMatch().read(denmark))


def test_folders_that_do_not_fit(denmark: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"<country>/<tile>/<year>/meta/metadata.pkl"):
        list(TimeMatch().read(denmark / "elsewhere"))
    with pytest.raises(FileNotFoundError, match=r"austria/33UVP/2017/meta/metadata.pkl"):
        list(TimeMatch(("austria/33UVP/2017",)).read(denmark))
    with pytest.raises(ValueError, match="country/tile/year"):
        TimeMatch(("denmark",))
    (denmark / "denmark").rename(denmark / "sweden")
    with pytest.raises(ValueError, match="no class mapping for 'sweden'"):
        list(TimeMatch().read(denmark))
