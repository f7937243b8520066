"""Extraction: images, clouds, bands and options that do not fit, and the synthetic world."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from small_tiles import PATTERN, extract, small_grid, values_of, write_dates, write_tif
from stores import FRAME, three_dates

from eo_adapt.data.extract.errors import FatalError
from eo_adapt.data.extract.reader import ParcelExtraction
from eo_adapt.data.recipe import Recipe
from eo_adapt.data.synthetic.sentinel2_safe import SafeWorld
from eo_adapt.paths import configs_dir, recipes_dir


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
