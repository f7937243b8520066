"""From images to a store: against exactextract, by date, orbit, pixel and mask."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from small_tiles import extract, small_grid, values_of, write_dates, write_tif
from stores import FRAME, GRID, exact, three_dates

from eo_adapt.data.extract.errors import FatalError


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
