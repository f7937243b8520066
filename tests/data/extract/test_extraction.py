"""From images to a store: against exactextract, resumed, with failures, and what is refused."""

from __future__ import annotations

import errno
import filecmp
import json
import logging
import os
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from exactextract import exact_extract
from exactextract.raster import NumPyRasterSource
from small_tiles import PATTERN, boxes, extract, small_grid, values_of, write_dates, write_tif

from eo_adapt.data.extract import unit as unit_module
from eo_adapt.data.extract.errors import FatalError, UnreadableError
from eo_adapt.data.extract.reader import ParcelExtraction
from eo_adapt.data.recipe import Recipe
from eo_adapt.data.synthetic.sentinel2_safe import SafeWorld
from eo_adapt.paths import configs_dir, recipes_dir

GRID = small_grid()
FRAME = boxes((3, 7, 104, 96), (210, 222, 293, 311), (400, 100, 590, 490))


def same(one: Path, other: Path) -> bool:
    """Whether two stores are the same byte for byte."""
    files = sorted(p.relative_to(one) for p in one.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(other) for p in other.rglob("*") if p.is_file())
    match, wrong, errors = filecmp.cmpfiles(
        one, other, [str(f) for f in files if f.name != "extraction.json"], shallow=False
    )
    return not wrong and not errors and bool(match)


def three_dates(root: Path, rng: np.random.Generator, **more: np.ndarray) -> dict[str, np.ndarray]:
    images = {f"A_202105{day}_B04": rng.integers(1, 6000, (50, 60)).astype(np.uint16) for day in ("01", "11", "21")}
    write_dates(root, FRAME, {**images, **more})
    return images


def exact(image: np.ndarray, *statistics: str) -> np.ndarray:
    raster = NumPyRasterSource(image, *GRID.bounds, srs_wkt=FRAME.crs.to_wkt())
    return exact_extract(raster, FRAME, list(statistics), output="pandas").to_numpy(float)


def test_a_store_holds_what_exactextract_finds(tmp_path: Path, rng: np.random.Generator) -> None:
    """Bands of 10 and 20 m, a mask of 20 m, nodata: every statistic of every band."""
    masks = {f"A_202105{d}_SCL": rng.choice([4, 5, 9], (25, 30)).astype(np.uint8) for d in ("01", "11", "21")}
    coarse = {f"A_202105{d}_B11": rng.integers(0, 3, (25, 30)).astype(np.uint16) * 900 for d in ("01", "11", "21")}
    fine = three_dates(tmp_path, rng)
    for name, image in (masks | coarse).items():
        write_tif(tmp_path / "images" / f"{name}.tif", image, small_grid(30, 25, 20.0))
    options = {
        "mask": "scl",
        "bands": ["B11", "B04"],
        "statistics": ["mean", "variance", "median", "share"],
        "min_share": 0,
    }
    store = extract(tmp_path, **options)
    assert store.sensors["s2"].bands[-1] == "valid_share"
    for number, day in enumerate(("01", "11", "21")):
        clear = np.isin(masks[f"A_202105{day}_SCL"], [4, 5])
        shares = []
        for band, image, good in (
            ("B04", fine[f"A_202105{day}_B04"], clear.repeat(2, 0).repeat(2, 1)),
            ("B11", coarse[f"A_202105{day}_B11"], clear),
        ):
            masked = np.where(good & (image != 0), image * 1e-4, np.nan)
            mean, variance, count = exact(masked, "mean", "variance", "count").T
            np.testing.assert_allclose(values_of(store, band)[0][:, number], mean, rtol=1e-6)
            np.testing.assert_allclose(values_of(store, f"{band}_variance")[0][:, number], variance, rtol=1e-5)
            shares.append(count / exact(np.ones(image.shape), "count")[:, 0])
        np.testing.assert_allclose(values_of(store, "valid_share")[0][:, number], np.min(shares, 0), rtol=1e-5)


def test_counts_of_a_store_are_rounded_means(tmp_path: Path, rng: np.random.Generator) -> None:
    images = three_dates(tmp_path, rng)
    store = extract(tmp_path)
    assert (store.sensors["s2"].dtype, store.sensors["s2"].offset) == ("uint16", -0.1)
    means = np.stack([exact(image, "mean")[:, 0] for image in images.values()], 1) * 1e-4
    values, days, valid = values_of(store)
    np.testing.assert_allclose(values, means, atol=5.1e-5)
    assert days[0].tolist() == [120, 130, 140]
    assert valid.all()
    listed = pd.read_parquet(store.path / "acquisitions.parquet")
    assert listed["moment"].tolist() == ["2021-05-01", "2021-05-11", "2021-05-21"]
    assert json.loads((store.path / "extraction.json").read_text())["bands"] == ["B04"]


def test_columns_of_the_layer_reach_the_index(tmp_path: Path, rng: np.random.Generator) -> None:
    frame = FRAME.assign(
        crop=["maize", "rye", "maize"], code=["3301010600", "3301010300", "3301010600"], part=["t", "t", "v"]
    )
    write_dates(tmp_path, frame, {"A_20210501_B04": rng.integers(1, 9, (50, 60)).astype(np.uint16)})
    frame.assign(jahr=[2021, 2021, 2020]).to_file(tmp_path / "parcels.gpkg", driver="GPKG")
    columns = {"hcat": "code", "split": "part", "year": "jahr"}
    store = extract(tmp_path, label="crop", columns=columns, country="SI", year=0, shapes=True)
    index = store.index
    assert index[["label", "hcat", "split", "country", "region", "year"]].iloc[2].tolist() == [
        "maize", "3301010600", "v", "SI", "A", 2020,
    ]  # fmt: skip
    assert values_of(store)[1][:, 0].tolist() == [120, 120, 486]  # days count from the label year
    assert index["lon"].between(15.0, 15.01).all()
    assert store.attributes[:, 0].numpy() == pytest.approx(FRAME.area.to_numpy(), rel=2e-3)


def test_two_passes_of_a_day_are_two_dates(tmp_path: Path) -> None:
    images = {f"A_20210501T1010{s}_B04": np.full((50, 60), v, np.uint16) for s, v in (("10", 1000), ("59", 3000))}
    write_dates(tmp_path, FRAME, images)
    values, days, _ = values_of(extract(tmp_path))
    assert days[0].tolist() == [120, 120]
    np.testing.assert_allclose(values[0], [0.1, 0.3], atol=1e-6)


def test_orbits_become_series_of_their_own(tmp_path: Path) -> None:
    pattern = r"R(?P<orbit>\d{3})_(?P<date>\d{8})_(?P<band>\w+)\.tif"
    write_dates(
        tmp_path,
        FRAME,
        {f"R{o}_2021050{d}_B04": np.full((50, 60), 1000 * d, np.uint16) for o, d in (("022", 1), ("065", 2))},
    )
    together = extract(tmp_path, pattern=pattern)
    assert values_of(together)[1][0].tolist() == [120, 121]
    store = extract(tmp_path, tmp_path / "apart", pattern=pattern, apart="orbit", work=f"{tmp_path}/store.work")
    assert sorted(store.sensors) == ["s2_r022", "s2_r065"]
    assert values_of(store, sensor="s2_r065")[1].tolist() == [[121]] * 3
    assert store.index["n_dates"].tolist() == [2, 2, 2]
    parts = list((tmp_path / "store.work" / "parts").glob("*.npy"))
    assert len(parts) == 2  # the second store needed no new unit


def test_pixel_sets(tmp_path: Path, rng: np.random.Generator) -> None:
    images = three_dates(tmp_path, rng)
    store = extract(tmp_path, pixels=1000, min_cover=1.0)
    ragged = store.arrays["s2"]
    assert ragged.is_pixel_set
    assert ragged.counts.tolist() == [9 * 8, 8 * 8, 19 * 39]
    got = store.gather(torch.tensor([1]), {"s2": ["B04"]}, pixels=64)["s2"].values[0, :, 0].numpy()
    for date, image in enumerate(images.values()):
        assert np.rint(got[date] * 1e4).astype(int).tolist() == image[23:31, 21:29].ravel().tolist()
    few = extract(tmp_path, tmp_path / "few", pixels=16)
    assert few.arrays["s2"].counts.tolist() == [16, 16, 16]


def test_sentinel_1_is_averaged_as_power(tmp_path: Path, rng: np.random.Generator) -> None:
    """Decibel files, ascending and descending apart, beside Sentinel-2 in one store."""
    three_dates(tmp_path, rng)
    power = {name: rng.gamma(4, 0.05, (25, 30)) for name in ("asc_20210502_VV", "desc_20210503_VV")}
    for name, image in power.items():
        for band in ("VV", "VH"):
            path = tmp_path / "s1" / f"{name[:-2]}{band}.tif"
            write_tif(path, (10 * np.log10(image)).astype(np.float32), small_grid(30, 25, 20.0))
    options = {"sentinel1": "s1", "sentinel1_pattern": r"(?P<direction>\w+)_(?P<date>\d{8})_(?P<band>V.)\.tif"}
    store = extract(tmp_path, **options, backscatter="db")
    assert sorted(store.sensors) == ["s1_asc", "s1_desc", "s2"]
    assert store.sensors["s1_asc"].units == "dB"
    mean = exact(power["asc_20210502_VV"], "mean")[:, 0]
    np.testing.assert_allclose(values_of(store, "VV", "s1_asc")[0][:, 0], 10 * np.log10(mean), rtol=1e-5)
    assert values_of(store, "VH", "s1_desc")[1].tolist() == [[122]] * 3
    with pytest.raises(FatalError, match=r"declared to hold linear power.*say backscatter=db"):
        extract(tmp_path, tmp_path / "wrong", **options, backscatter="linear")


def test_masks_that_lie_apart(tmp_path: Path, rng: np.random.Generator) -> None:
    three_dates(tmp_path, rng)
    for day in ("01", "11", "21"):
        cloud = np.zeros((50, 60), np.uint8)
        cloud[:, :30] = 90 if day == "11" else 5
        write_tif(tmp_path / "clouds" / f"A_202105{day}.tif", cloud, GRID)
    given = {"mask": "s2cloudless", "masks": "clouds", "masks_pattern": r"(?P<tile>[A-Z])_(?P<date>\d{8})"}
    assert values_of(extract(tmp_path, **given))[2].tolist() == [[True, False, True]] * 2 + [[True, True, True]]
    (tmp_path / "clouds" / "A_20210511.tif").unlink()
    store = extract(tmp_path, tmp_path / "two", **given, max_failed=0.5)
    assert "has no mask; mask=none reads images without" in (store.path / "failed.csv").read_text()
    assert values_of(store)[1][0].tolist() == [120, 140]


# -- what is done stays done -------------------------------------------------------------------------------------------


def test_a_rerun_computes_only_what_is_missing(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = three_dates(tmp_path, rng)
    store = extract(tmp_path)
    ran: list[str] = []
    work = unit_module.run_unit
    monkeypatch.setattr("eo_adapt.data.extract.run.run_unit", lambda a, t, p: (ran.append(a.moment), work(a, t, p)))
    again = extract(tmp_path, tmp_path / "again", work=f"{store.path}.work")
    assert ran == []
    assert same(store.path, again.path)
    write_tif(tmp_path / "images" / "A_20210531_B04.tif", images["A_20210501_B04"], GRID)
    more = extract(tmp_path, tmp_path / "more", work=f"{store.path}.work")
    assert ran == ["2021-05-31"]
    assert values_of(more)[0].shape == (3, 4)
    write_tif(tmp_path / "images" / "A_20210531_B04.tif", images["A_20210511_B04"].astype(np.float32), GRID)
    fetched = extract(tmp_path, tmp_path / "fetched", work=f"{store.path}.work")
    assert ran == ["2021-05-31"] * 2  # a file of another size is another file
    np.testing.assert_allclose(values_of(fetched)[0][:, 3], values_of(fetched)[0][:, 1])
    ran.clear()
    extract(tmp_path, tmp_path / "other", work=f"{store.path}.work", statistics=["median"])
    assert len(ran) == 4  # other options, other parts


def test_a_broken_image_is_listed_and_mended_by_a_rerun(
    tmp_path: Path, rng: np.random.Generator, caplog: pytest.LogCaptureFixture
) -> None:
    three_dates(tmp_path, rng)
    path = tmp_path / "images" / "A_20210511_B04.tif"
    whole = path.read_bytes()
    path.write_bytes(whole[:3000])
    with pytest.raises(
        FatalError, match=r"(?s)1 of 3 images failed, first:\n  s2 A 2021-05-11: .*B04\.tif cannot be read.*max_failed"
    ):
        extract(tmp_path)
    assert not (tmp_path / "store").exists()
    lines = [json.loads(line) for line in (tmp_path / "store.work/manifest.jsonl").read_text().splitlines()]
    assert sorted((line["unit"], line["state"], line["attempt"]) for line in lines) == [
        ("s2 A 2021-05-01", "done", 1), ("s2 A 2021-05-11", "failed", 3), ("s2 A 2021-05-21", "done", 1),
    ]  # fmt: skip
    with caplog.at_level(logging.WARNING, "eo_adapt.extract"):
        store = extract(tmp_path, max_failed=0.4)
    assert "missing in the store and listed in its failed.csv" in caplog.text
    assert values_of(store)[1][0].tolist() == [120, 140]
    assert pd.read_csv(store.path / "failed.csv")["image"].tolist() == ["s2 A 2021-05-11"]
    path.write_bytes(whole)
    mended = extract(tmp_path)
    assert values_of(mended)[1][0].tolist() == [120, 130, 140]
    assert not (mended.path / "failed.csv").exists()


def test_a_unit_that_fails_once_is_tried_again(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    three_dates(tmp_path, rng)
    work, tried = unit_module.run_unit, []

    def shaky(acquisition: Any, task: Any, part: str) -> str:
        tried.append(acquisition.moment)
        if tried.count(acquisition.moment) == 1:
            raise UnreadableError("the disk hiccuped")
        return work(acquisition, task, part)

    monkeypatch.setattr("eo_adapt.data.extract.run.run_unit", shaky)
    assert len(extract(tmp_path)) == 3
    assert len(tried) == 6


def test_a_full_disk_stops_the_work_and_keeps_what_is_done(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    three_dates(tmp_path, rng)
    save, saved = np.save, []

    def full(file: Any, array: np.ndarray, **more: Any) -> None:
        if "parts" in str(getattr(file, "name", "")):
            saved.append(file)
            if len(saved) == 2:
                raise OSError(errno.ENOSPC, "No space left on device")
        save(file, array, **more)

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(
        FatalError, match=r"cannot write .*parts.*No space left on device.*Finished units are kept: make room"
    ):
        extract(tmp_path)
    parts = list((tmp_path / "store.work" / "parts").iterdir())
    assert [p.suffix for p in parts] == [".npy"]  # nothing half-written
    assert len(extract(tmp_path)) == 3
    assert len(saved) == 4


def test_a_part_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever happens before the last step, nothing carries the part's name."""
    path = tmp_path / "parts" / "a.npy"

    def die(*_: Any) -> None:
        assert not path.exists()
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", die)
    with pytest.raises(KeyboardInterrupt):
        unit_module.write_array(path, np.zeros(3))
    assert list(path.parent.iterdir()) == []


def test_no_right_to_write(tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    three_dates(tmp_path, rng)
    make = Path.mkdir

    def refused(self: Path, *a: Any, **k: Any) -> None:
        if self.name == "parts":
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        make(self, *a, **k)

    monkeypatch.setattr(Path, "mkdir", refused)
    with pytest.raises(
        FatalError, match=r"cannot write .*store\.work \(Permission denied\).*name another folder with work="
    ):
        extract(tmp_path)


def test_one_extraction_at_a_time(tmp_path: Path, rng: np.random.Generator) -> None:
    from eo_adapt.data.extract.run import locked

    three_dates(tmp_path, rng)
    (tmp_path / "store.work").mkdir()
    with (
        locked(tmp_path / "store.work"),
        pytest.raises(FatalError, match=r"another extraction is at work in .*store\.work"),
    ):
        extract(tmp_path)


def test_a_torn_manifest_is_read_on(tmp_path: Path, rng: np.random.Generator) -> None:
    from eo_adapt.data.extract.manifest import Manifest

    three_dates(tmp_path, rng)
    extract(tmp_path)
    path = tmp_path / "store.work" / "manifest.jsonl"
    path.write_text(path.read_text() + '{"id": "0123')
    (path.parent / "parts" / ".abc.tmp").touch()
    extract(tmp_path, tmp_path / "again", work=str(path.parent), statistics=["median"])
    manifest = Manifest(path.parent)
    assert len(manifest.lines()) == 6
    assert not (path.parent / "parts" / ".abc.tmp").exists()
    manifest.close()


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_an_image_on_another_grid_is_left_out_or_warped(tmp_path: Path, rng: np.random.Generator) -> None:
    images = three_dates(tmp_path, rng)
    shifted = small_grid(80, 70, corner=(500000.0 - 105, 5100000.0 + 95))
    write_tif(tmp_path / "images" / "A_20210531_B04.tif", np.full((70, 80), 2000, np.uint16), shifted, nodata=0)
    with pytest.raises(FatalError, match=r"2021-05-31: .*lies on another grid .*reproject=nearest"):
        extract(tmp_path)
    store = extract(tmp_path, max_failed=0.5)
    assert values_of(store)[0].shape == (3, len(images))
    warped = extract(tmp_path, tmp_path / "warped", reproject="nearest")
    np.testing.assert_allclose(values_of(warped)[0][:, 3], 0.2, atol=1e-6)


def test_clouds_everywhere(tmp_path: Path) -> None:
    images = {"A_20210501_B04": np.ones((50, 60), np.uint16), "A_20210501_SCL": np.full((50, 60), 9, np.uint16)}
    write_dates(tmp_path, FRAME, images)
    with pytest.raises(ValueError, match=r"gave no usable parcel \(3 without a valid date\)"):
        extract(tmp_path, mask="scl")
    assert not (tmp_path / "store").exists()


def test_missing_bands_and_images(tmp_path: Path, rng: np.random.Generator) -> None:
    three_dates(tmp_path, rng)
    with pytest.raises(
        ValueError, match=r"none of 3 images can be used.*no band 'B4', did you mean 'B04'\? it has \['B04'\]"
    ):
        extract(tmp_path, bands=["B4"])
    with pytest.raises(ValueError, match=r"no image of dates=\['2019-01-01', '2019-02-01'\]"):
        extract(tmp_path, dates=["2019-01-01", "2019-02-01"])
    with pytest.raises(FileNotFoundError, match=r"no folder .*images=.*elsewhere"):
        extract(tmp_path, images="elsewhere")
    with pytest.raises(
        ValueError, match=r"holds no Sentinel-2 product \(\*\.SAFE\). For GeoTIFFs say how they are named"
    ):
        extract(tmp_path, pattern="")


def test_the_label_year_is_not_guessed(tmp_path: Path) -> None:
    images = {f"A_{day}_B04": np.ones((50, 60), np.uint16) for day in ("20201201", "20210501")}
    write_dates(tmp_path, FRAME, images)
    with pytest.raises(ValueError, match=r"images are of 2020 to 2021: .*so say year="):
        extract(tmp_path, year=0)
    store = extract(tmp_path, year=0, dates=["2021-01-01", "2021-12-31"])
    assert store.index["year"].tolist() == [2021] * 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"apart": "tile"}, r"apart='tile' is none of \['auto'"),
        ({"images": ""}, "say where the images are"),
        ({"columns": {"lable": "x"}}, r"columns has \['lable'\]"),
        ({"bands": []}, "bands needs at least one name"),
        ({"statistics": ["mode"]}, r"statistics has \['mode'\]"),
        ({"statistics": ["share"]}, "needs mean or median"),
        ({"statistics": ["variance"]}, "needs the mean, too"),
        ({"pixels": 8, "statistics": ["mean", "share"]}, "pixel sets .* hold pixels and no statistics"),
        ({"sentinel1": "x", "statistics": ["mean", "variance"]}, "decibels=false"),
        ({"min_share": 50}, "min_share is a share from 0 to 1; got 50"),
        ({"offset": "none"}, "offset is auto or a number of counts"),
        ({"memory": "much"}, "memory='much' is no size; one is 2GB"),
        ({"mask": "fmask"}, "mask='fmask' is none of"),
        ({"pattern": "(?P<x>"}, "is no regular expression"),
    ],
)
def test_options_that_cannot_be_meant(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ParcelExtraction(**options)


def test_unknown_options_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"the reader of recipe cawa has no option \['parcels'\]; it has \['attributes'"
    ):
        Recipe.load("cawa").with_options({"parcels": "x"})


def test_every_option_is_listed_where_people_look() -> None:
    names = [f.name for f in fields(ParcelExtraction) if f.init]
    command = yaml.safe_load((configs_dir() / "prepare.yaml").read_text())
    assert [name for name in command if name in names] == names
    assert all(command[name] is None for name in names)
    recipe = yaml.safe_load((recipes_dir() / "sentinel2_parcels.yaml").read_text())["reader"]
    assert [name for name in recipe if name != "_target_"] == names
    plain = ParcelExtraction()
    for name in names:
        default = getattr(plain, name)
        assert recipe[name] == (list(default) if isinstance(default, tuple) else default) or name == "label", name


def test_the_synthetic_world_becomes_a_store(tmp_path: Path) -> None:
    """What a recipe without raw files does: generate, extract, keep."""
    root = tmp_path / "raw"
    root.mkdir()
    SafeWorld(parcels=9, dates=3, size=60, bands=("B04", "B8A")).write(root)
    options = {"bands": ["B04", "B8A"], "scheduler": "synchronous", "year": 2022, "work": str(tmp_path / "work")}
    store = Recipe.load("sentinel2_parcels").with_options(options).prepare(root, tmp_path / "store")
    assert len(store) == 9
    assert store.about["about"]["citation"]["text"].startswith("Contains modified Copernicus")
    assert PATTERN  # the pattern of the other tests is not the recipe's: SAFE folders need none
