"""Series that do not fit what their records, the reader or their units say are refused, by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from tiles import X, Y, scene, store_of, write_tiff

from eo_adapt.data.scenes.arrays import TileError
from eo_adapt.data.scenes.records import Classes, Hidden, Imagery, Raster, Scene, Series
from eo_adapt.data.scenes.units import misfit

CLASSES = Classes({1: "water", 2: "forest"}, frozenset({0}))
S2 = Imagery(("b4", "b8"), "reflectance", 1e-4, dtype="int16", kind="series")
DATES = ("2020-01-05", "2020-03-01", "2020-06-01")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    np.save(tmp_path / "s.npy", np.full((3, 2, 8, 8), 900, np.int16))
    np.save(tmp_path / "flat.npy", np.full((3, 8, 8), 900, np.int16))
    np.save(tmp_path / "m.npy", np.zeros((3, 1, 8, 8), np.uint8))
    np.save(tmp_path / "small.npy", np.zeros((3, 1, 4, 8), np.uint8))
    np.save(tmp_path / "t.npy", np.ones((3, 4, 4), np.uint8))
    (tmp_path / "cut.npy").write_bytes((tmp_path / "s.npy").read_bytes()[:300])
    (tmp_path / "cut.h5").write_bytes(b"no h5 at all")
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file["sen-1-asc-data"] = np.zeros((3, 2, 8, 8), np.int16)
    write_tiff(tmp_path / "five.tif", np.full((5, 8, 8), 900, np.int16), X, Y, 10.0)
    for i, size in enumerate((8, 8, 6)):
        write_tiff(tmp_path / f"f{i}.tif", np.full((2, size, size), 900, np.int16), X, Y, 10.0)
    return tmp_path


def prepare(root: Path, given: Series | Raster, imagery: Imagery = S2, **more: Any) -> Scene:
    patch = scene("p", X, Y, "z", "A", images={"s2": given}, mask=more.pop("mask", None), gsd=10.0, **more)
    store_of(root / "store", root, [patch], sensors={"s2": imagery}, classes=CLASSES)
    return patch


GOOD = Series(("s.npy",), DATES)


def test_the_good_one_is_good(root: Path) -> None:
    prepare(root, GOOD)
    assert (root / "store" / "store.json").is_file()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (replace(GOOD, dates=()), r"'p': s2 has no dates"),
        (replace(GOOD, dates=DATES[:2]), r"s.npy has 3 frames, its record names 2 dates"),
        (replace(GOOD, dates=("2020-1-5", *DATES[1:])), r"s2 has the date '2020-1-5'; dates are YYYY-MM-DD"),
        (replace(GOOD, dates=(*DATES[:2], "2022-01-01")), r"the date 2022-01-01, more than a year .* its labels, 2020"),
        (replace(GOOD, dates=("2018-12-31", *DATES[1:])), r"the date 2018-12-31, more than a year"),
        (replace(GOOD, paths=("flat.npy",)), r"flat.npy holds an array \(3, 8, 8\); a series is \(dates, bands, h"),
        (replace(GOOD, paths=("five.tif",)), r"five.tif has 5 bands, which is no multiple of the 3 dates"),
        (replace(GOOD, paths=("f0.tif", "f1.tif")), r"f0.tif and so on are 2 files, the record names 3 dates"),
        (replace(GOOD, paths=("f0.tif", "f1.tif", "f2.tif")), r"f2.tif has 6 x 6 pixels .* share one grid"),
        (replace(GOOD, window=(4, 4, 8, 8)), r"s.npy has 8 x 8 pixels; the window \(4, 4, 8, 8\).*reaches beyond"),
        (replace(GOOD, bands=(1, 3)), r"s.npy has 2 bands a date, the reader of s2 names .* numbers \[1, 3\]"),
        (replace(GOOD, masks=("m.npy",)), r"s2 has masks, and its imagery no rule \(hidden\)"),
        (Raster("s.npy"), r"s2 is declared as 'series', its record is a Raster"),
    ],
)
def test_records_that_do_not_fit(root: Path, given: Series | Raster, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        prepare(root, given)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (replace(GOOD, paths=("s.h5",), key="sen-2-data"), r"s.h5 has no data set 'sen-2-data'; it has \['sen-1-asc-"),
        (replace(GOOD, paths=("none.npy",)), r"none.npy is missing"),
        (replace(GOOD, paths=("cut.npy",)), r"cut.npy cannot be read .*on_corrupt=skip"),
        (replace(GOOD, paths=("cut.h5",), key="x"), r"cut.h5 cannot be read"),
    ],
)
def test_damaged_files_are_named_and_can_be_skipped(root: Path, given: Series, says: str) -> None:
    with pytest.raises(TileError, match=says):
        prepare(root, given)
    some = [scene(k, X, Y, "z", "A", images={"s2": s}, mask=None) for k, s in (("bad", given), ("good", GOOD))]
    store = store_of(root / "skip", root, some, sensors={"s2": S2}, classes=CLASSES, on_corrupt="skip")
    assert store.index["parcel_id"].tolist() == ["good"]


def test_sizes_of_label_mask_and_number_types(root: Path) -> None:
    with pytest.raises(ValueError, match=r"the mask .*t.npy has 4 x 4 pixels, the image 8 x 8"):
        prepare(root, GOOD, mask=Raster("t.npy"))
    rule = replace(S2, hidden=Hidden(1, (60,)))
    with pytest.raises(ValueError, match=r"small.npy has 1 bands a date of 4 x 8 pixels; s2 needs 1 of 8 x 8"):
        prepare(root, replace(GOOD, masks=("small.npy",)), rule)
    with pytest.raises(ValueError, match=r"m.npy has 1 bands a date .* s2 needs 2"):
        prepare(root, replace(GOOD, masks=("m.npy",)), replace(S2, hidden=Hidden(2)))
    with pytest.raises(ValueError, match=r"s.npy holds int16, s2 is declared as float"):
        prepare(root, GOOD, replace(S2, dtype="float"))
    with pytest.raises(ValueError, match="a mask of 2 bands needs as many entries"):
        Hidden(2, (60,))
    with pytest.raises(ValueError, match="set kind=series"):
        Imagery(("a",), hidden=Hidden())


def test_modalities_that_do_not_overlap(root: Path) -> None:
    write_tiff(root / "aerial.tif", np.ones((1, 16, 16), np.uint8), X, Y, 5.0)
    write_tiff(root / "near.tif", np.full((6, 8, 8), 900, np.int16), X, Y, 10.0)
    write_tiff(root / "far.tif", np.full((6, 8, 8), 900, np.int16), X + 500, Y, 10.0)
    sensors = {"aerial": Imagery(("pan",)), "s2": S2}

    def both(path: str) -> Scene:
        images = {"aerial": Raster("aerial.tif"), "s2": Series((path,), DATES)}
        return scene("p", X, Y, "z", "A", images=images, mask=None)

    store_of(root / "store", root, [both("near.tif")], sensors=sensors)
    with pytest.raises(ValueError, match=r"the image of s2 .*far.tif covers .*, the image of the first sensor"):
        store_of(root / "other", root, [both("far.tif")], sensors=sensors)


@pytest.mark.parametrize(
    ("units", "values", "says"),
    [
        ("dB", np.array([0.01, 0.2]), "no dB: they look linear: declare units: linear"),
        ("linear", np.array([-12.0, 0.1]), "no linear: they look like decibels: declare units: dB"),
        ("reflectance", np.array([900.0, 2000.0]), "no reflectance: scale them"),
        ("dB", np.array([-12.0, 6.0]), ""),
        ("linear", np.array([0.01, 3.0]), ""),
        ("reflectance", np.array([-0.01, 1.4]), ""),
        ("digital number", np.array([-1e9]), ""),
        ("dB", np.array([]), ""),
        ("reflectance", np.r_[np.full(99, 0.3), 900.0], ""),
    ],
)
def test_units_are_checked_by_range(units: str, values: np.ndarray, says: str) -> None:
    assert (says in misfit(values, units)) if says else misfit(values, units) == ""


LINEAR = np.random.default_rng(0).gamma(2, 0.05, (3, 400))  # some four looks of land
NOISY = np.where(np.arange(400) == 7, -1e-5, LINEAR)


@pytest.mark.parametrize(
    ("bands", "values", "says"),
    [
        (("VV",), NOISY[:1], "median of 0.0"),
        (("VV", "VH", "VV-VH"), np.r_[NOISY[:2], 7 + NOISY[2:]], "in VV, "),
        (("VV", "VH", "VV-VH"), np.r_[10 * np.log10(LINEAR[:1]), LINEAR[1:2], -7 + NOISY[2:]], "in VH, "),
        (("VV", "VH", "VV/VH"), np.r_[10 * np.log10(LINEAR[:2]), 7 + LINEAR[2:]], ""),
        (("vh_asc", "angle"), np.r_[10 * np.log10(LINEAR[:1]), 38 + LINEAR[:1]], ""),
        (("ratio",), 7 + LINEAR[:1], ""),
        (("VV",), np.r_[np.full(90, 3.0), np.full(10, -4.0)][None], ""),  # a town, and a lawn
        (("VV",), np.where(np.arange(400) < 100, np.nan, NOISY[:1]), "no dB"),
    ],
)
def test_backscatter_is_judged_band_by_band(bands: tuple[str, ...], values: np.ndarray, says: str) -> None:
    found = misfit(values, "dB", bands)
    assert (says in found and "declare units: linear" in found) if says else found == ""


@pytest.mark.parametrize(("units", "value"), [("dB", 0.05), ("linear", -9.0)])
def test_radar_of_another_unit_is_refused_with_its_file(root: Path, units: str, value: float) -> None:
    np.save(root / "r.npy", np.full((3, 1, 8, 8), value, np.float32))
    radar = Imagery(("vv",), units, dtype="float", kind="series")
    with pytest.raises(ValueError, match=rf"'p': s2 .*r.npy: its values run from .* no {units}"):
        prepare(root, Series(("r.npy",), DATES), radar)
    other = replace(radar, units={"dB": "linear", "linear": "dB"}[units])
    prepare(root, Series(("r.npy",), DATES), other)
