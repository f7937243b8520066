"""TreeSatAI time series that are damaged, lack something or do not fit: all are named."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from forest import change, first

from eo_adapt.data.readers.treesatai_files import PLACES, SENSORS, patch_name
from eo_adapt.data.readers.treesatai_ts import TreeSatAITS
from eo_adapt.data.recipe import Recipe, make
from eo_adapt.data.store import Store
from eo_adapt.data.synthetic.treesatai import TreeSatAIWorld
from eo_adapt.data.writer import StoreWriter


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("trees")
    TreeSatAIWorld(patches=2, revisit=25, seed=1).write(root)
    return root


@pytest.fixture
def copy(raw: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(raw, tmp_path / "raw"))


def test_a_geojson_of_another_crs(copy: Path) -> None:
    text = (copy / PLACES).read_text()
    (copy / PLACES).write_text(text.replace("EPSG::25832", "EPSG::4326"))
    with pytest.raises(
        ValueError, match=r"bb_60m.GeoJSON states the CRS .*4326, which puts patches outside of Germany"
    ):
        list(TreeSatAITS().read(copy))
    (copy / PLACES).write_text(text.replace("IMG_ID", "ID"))
    with pytest.raises(ValueError, match="no column 'IMG_ID'"):
        list(TreeSatAITS().read(copy))


def test_other_names_are_refused() -> None:
    with pytest.raises(ValueError, match="a patch is named <Genus>_<species>"):
        patch_name(Path("patch 7.h5"))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("sen-2-masks", None, r"lacks \['sen-2-masks'\]; it holds .*'sen-2-data'.*optional: \[s2\]"),
        ("sen-1-asc-products", None, r"lacks \['sen-1-asc-products'\]"),
        ("sen-1-asc-data", lambda x: 10 * np.log10(x), r"sen-1-asc-data: .*no linear: they look like decibels"),
        ("sen-2-data", lambda x: x * 1e-4, r"sen-2-data runs up to .*; it should hold counts"),
        ("sen-2-data", lambda x: x * 100, r"sen-2-data: .*no reflectance"),
        ("sen-2-data", lambda x: x[:, :9], r"sen-2-data holds float32 .* should be numbers \(\d+, 10, 6, 6\)"),
        ("sen-1-des-data", lambda x: x[1:], r"sen-1-des-data holds .* with \d+ products"),
        ("sen-2-masks", lambda x: x[:, :1], r"sen-2-masks has shape .* should be \(\d+, 2 or more, 6, 6\)"),
        ("sen-2-masks", lambda x: x * 3 + 1, r"sen-2-masks should hold percent, 0 to 100"),
        ("sen-2-products", lambda x: [b"S2A_MSIL2A_later"] * len(x), r"'S2A_MSIL2A_later' has no such date"),
        (
            "sen-2-products",
            lambda x: [name.replace(b"2020", b"2016") for name in x],
            r"dates from 2016.* its year is 2020",
        ),
    ],
)
def test_arrays_that_do_not_fit_are_named(copy: Path, key: str, value: Any, message: str) -> None:
    change(copy, key, value)
    with pytest.raises(ValueError, match=rf"{first(copy).name}.*{message}"):
        list(TreeSatAITS().read(copy))


def test_a_damaged_file_is_named(copy: Path) -> None:
    path = first(copy)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ValueError, match=rf"{path.name} cannot be read"):
        list(TreeSatAITS().read(copy))


def test_a_sensor_may_lack_when_it_is_optional(copy: Path, tmp_path: Path) -> None:
    for key in ("sen-1-des-data", "sen-1-des-products"):
        change(copy, key, None)
    with pytest.raises(ValueError, match=r"lacks \['sen-1-des-data', 'sen-1-des-products'\].*optional: \[s1_desc\]"):
        list(TreeSatAITS().read(copy))
    one, other, *_ = TreeSatAITS(optional=["s1_desc"]).read(copy)
    assert (one.sensor, other.sensor) == ("s2+s1_asc", "s2+s1_asc+s1_desc")
    assert one.series["s1_desc"].values.shape == (36, 0, 2)
    reader = {**Recipe.load("treesatai_ts").reader, "optional": ["s1_desc"]}
    with StoreWriter(tmp_path / "store", "treesatai_ts", make(reader).sensors, "EPSG:25832") as writer:
        for record in make(reader).read(copy):
            writer.add(record)
    rows, pixels = torch.tensor([0, 1]), torch.arange(36).expand(2, -1)
    seen = Store(tmp_path / "store").arrays["s1_desc"].gather(rows, range(2), pixels)
    assert seen.valid is not None
    assert seen.valid.any(1).tolist() == [False, True]


def test_a_patch_in_two_parts(copy: Path) -> None:
    name = next(TreeSatAITS().read(copy)).key
    for part in ("train", "test"):
        path = copy / "split" / f"{part}_filenames.lst"
        path.write_text(path.read_text() + f"{name}.tif\n")
    with pytest.raises(ValueError, match=rf"{name} is in train, too"):
        list(TreeSatAITS().read(copy))
    shutil.rmtree(copy / "split")
    assert {record.split for record in TreeSatAITS().read(copy)} == {""}


@pytest.mark.parametrize(
    "options",
    [
        {"labels": "tree"},
        {"share": 2.0},
        {"share": 0.5, "labels": "species"},
        {"cloud": 0.0},
        {"optional": list(SENSORS)},
    ],
)
def test_impossible_options(options: Any) -> None:
    with pytest.raises(ValueError, match="got"):
        TreeSatAITS(**options)
