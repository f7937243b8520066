"""Sentinel-2 products: what is read of one, offsets of processing baselines, and products that are not whole."""

from __future__ import annotations

import dataclasses
import shutil
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import rasterio
from small_tiles import values_of

from eo_adapt.data.extract.errors import BadImageError
from eo_adapt.data.extract.images import Acquisition, Image, apart, once, with_bands, within
from eo_adapt.data.extract.safe import baseline_offset, products, read_product
from eo_adapt.data.recipe import Recipe
from eo_adapt.data.synthetic.sentinel2_safe import Product, SafeWorld

WORLD = SafeWorld(parcels=4, dates=2, size=64, bands=("B04", "B11"))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("safe")
    WORLD.write(root)
    return root


@pytest.fixture
def product(world: Path, tmp_path: Path) -> Path:
    """A copy of the newer product, to be damaged."""
    newest = products(world / "images")[-1]
    return Path(shutil.copytree(newest, tmp_path / newest.name))


def test_a_product_says_what_it_is(product: Path) -> None:
    found = read_product(product, "s2", "scl")
    assert found.name == "s2 33TVM 2022-01-25T10:10:31 S2A orbit 022"
    assert (found.baseline, found.direction, list(found.bands)) == ("04.00", "desc", ["B04", "B11"])
    assert found.mask is not None
    assert found.mask.path.endswith("SCL_20m.jp2")
    red = found.bands["B04"]
    assert (red.scale, red.offset, red.nodata) == (1e-4, pytest.approx(-0.1), (0.0,))
    with rasterio.open(red.path) as file:
        assert (file.driver, file.res, file.crs.to_epsg()) == ("JP2OpenJPEG", (10.0, 10.0), 32633)
    assert Acquisition.from_json(found.as_json()) == found
    assert read_product(product, "s2", "none", 0).bands["B04"].offset == 0


def test_series_compare_across_the_change_of_baseline(tmp_path: Path) -> None:
    """The same ground, counts raised by 1000 in the newer product: the store holds the same reflectance."""
    frame = WORLD.fields()
    frame.to_file(tmp_path / "parcels.gpkg", driver="GPKG")
    for day, baseline in ((date(2021, 3, 1), "03.01"), (date(2021, 3, 11), "04.00"), (date(2021, 3, 21), "05.10")):
        safe = WORLD.product(tmp_path / "images", Product(date(2021, 3, 1), baseline), frame)
        named = safe.with_name(safe.name.replace("20210301T101031", f"{day:%Y%m%d}T101031", 1))
        safe.rename(named)  # same image, other day
    options = {"bands": ["B04", "B11"], "scheduler": "synchronous", "work": str(tmp_path / "work")}
    store = Recipe.load("sentinel2_parcels").with_options(options).prepare(tmp_path, tmp_path / "store")
    for band in ("B04", "B11"):
        values, days, valid = values_of(store, band)
        assert valid.all()
        assert days[0].tolist() == [59, 69, 79]
        assert values.min() > 0.01
        np.testing.assert_array_equal(values, values[:, :1].repeat(3, 1))
    assert store.index["label"].tolist() == frame["label"].tolist()


def test_counts_of_both_baselines_differ_by_1000(tmp_path: Path) -> None:
    frame = WORLD.fields()
    counts = []
    for baseline in ("03.01", "04.00"):
        safe = WORLD.product(tmp_path / baseline, Product(date(2021, 3, 1), baseline), frame)
        with rasterio.open(read_product(safe, "s2", "none").bands["B04"].path) as file:
            counts.append(file.read(1).astype(int))
    assert np.unique(counts[1] - counts[0]).tolist() == [1000]


@pytest.mark.parametrize(
    ("baseline", "offset"),
    [("02.14", 0), ("03.01", 0), ("04.00", -1000), ("05.11", -1000), ("N0400", -1000), ("0301", 0), ("99.99", -1000)],
)
def test_offsets_of_baselines(baseline: str, offset: float) -> None:
    assert baseline_offset(baseline) == offset


def test_level_1c_products_are_read(product: Path, tmp_path: Path) -> None:
    """Another layout: no folders by resolution, other tags, clouds in QI_DATA."""
    one = tmp_path / product.name.replace("MSIL2A", "MSIL1C")
    product.rename(one)
    text = (one / "MTD_MSIL2A.xml").read_text().replace("BOA_ADD_OFFSET", "RADIO_ADD_OFFSET")
    text = text.replace("BOA_QUANTIFICATION_VALUE", "QUANTIFICATION_VALUE")
    (one / "MTD_MSIL1C.xml").write_text(text)
    (one / "MTD_MSIL2A.xml").unlink()
    for path in list(one.glob("GRANULE/*/IMG_DATA/R*/*.jp2")):
        path.rename(path.parents[1] / f"{path.stem.rsplit('_', 1)[0]}.jp2")
    found = read_product(one, "s2", "none")
    assert sorted(found.bands) == ["B04", "B11"]
    assert found.bands["B11"].offset == pytest.approx(-0.1)
    with pytest.raises(BadImageError, match=r"no QI_DATA/MSK_CLASSI_B00\.jp2"):
        read_product(one, "s2", "classi")
    quality = next(one.glob("GRANULE/*")) / "QI_DATA"
    quality.mkdir()
    (quality / "MSK_CLASSI_B00.jp2").touch()
    assert read_product(one, "s2", "classi").mask == Image(str(quality / "MSK_CLASSI_B00.jp2"))


def test_products_that_are_not_whole_are_named(product: Path) -> None:
    metadata = product / "MTD_MSIL2A.xml"
    text = metadata.read_text()
    metadata.write_text(text[:300])
    with pytest.raises(BadImageError, match=r"MTD_MSIL2A\.xml cannot be read .*cut short"):
        read_product(product, "s2", "scl")
    metadata.write_text(text.replace("PROCESSING_BASELINE", "PROCESSING"))
    with pytest.raises(BadImageError, match="says nothing of PROCESSING_BASELINE"):
        read_product(product, "s2", "scl")
    metadata.unlink()
    with pytest.raises(BadImageError, match=r"has no MTD_MSIL2A\.xml or MTD_MSIL1C\.xml"):
        read_product(product, "s2", "scl")
    metadata.write_text(text)
    next(product.rglob("*SCL_20m.jp2")).unlink()
    with pytest.raises(BadImageError, match=r"has no SCL image .*mask=none"):
        read_product(product, "s2", "scl")
    shutil.rmtree(product / "GRANULE")
    with pytest.raises(BadImageError, match="has no images"):
        read_product(product, "s2", "none")


def _one(**changes: object) -> Acquisition:
    plain = Acquisition("s2", "T", "2021-05-01T10:10:31", {"B04": Image("a")}, platform="S2A", orbit="022")
    return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]


def test_missing_bands_are_named() -> None:
    assert list(with_bands(_one(bands={"B02": Image("a"), "B04": Image("b")}), ["B04", "B02"], "x").bands) == [
        "B04",
        "B02",
    ]
    with pytest.raises(
        ValueError, match=r"x \(s2 T .*\) has no band 'B8', did you mean 'B08'\? it has \['B04', 'B08'\]"
    ):
        with_bands(_one(bands={"B08": Image("a"), "B04": Image("b")}), ["B8"], "x")


def test_one_pass_twice_is_an_error_or_the_latest_processing() -> None:
    old = _one(baseline="03.00", bands={"B04": Image("/a/N0300")})
    new = _one(baseline="05.00", bands={"B04": Image("/a/N0500")})
    with pytest.raises(ValueError, match=r"1 dates occur twice, first s2 T 2021-05-01.*N0300.*twice=latest"):
        once([new, old], "error")
    assert once([new, old], "latest") == [new]
    later = _one(moment="2021-05-01T10:20:41")  # a second pass of that day is no copy
    other = _one(platform="S2B")
    assert len(once([old, later, other], "error")) == 3


def test_series_are_kept_apart_by_what_names_say() -> None:
    both = [_one(), _one(orbit="065", moment="2021-05-02")]
    assert [one.sensor for one in apart(both, "none")] == ["s2", "s2"]
    assert [one.sensor for one in apart(both, "orbit")] == ["s2_r022", "s2_r065"]
    assert {one.family for one in apart(both, "orbit")} == {"s2"}
    assert apart([_one(direction="asc")], "direction")[0].sensor == "s2_asc"
    with pytest.raises(ValueError, match="apart=direction: nothing says the direction of s2 T"):
        apart(both, "direction")


def test_dates_are_two_days_in_order() -> None:
    some = [_one(moment=f"2021-05-0{day}") for day in (1, 2, 3)]
    assert [one.moment for one in within(some, ["2021-05-02", "2021-05-03"])] == ["2021-05-02", "2021-05-03"]
    assert within(some, []) == some
    for wrong, message in ((["2021-05"], "are two days"), (["2021-05-03", "2021-05-01"], "lies before")):
        with pytest.raises(ValueError, match=message):
            within(some, wrong)
