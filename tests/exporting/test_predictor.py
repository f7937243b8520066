"""What a predictor takes and refuses: names, units, shapes, dates."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import made

from eo_adapt.exporting.predictor import Predictor
from eo_adapt.types import Observation


def predictor(name: str) -> Predictor:
    network, _, _, about = made(name)
    return Predictor(about, network)


SERIES, SETS, IMAGES, FRAMES, TWO = (predictor(n) for n in ("series", "pse_ltae", "unet", "utae", "parcel_fusion"))
RNG = np.random.default_rng(0)
VALUES = RNG.random((2, 5, 4), np.float32)
DAYS = np.sort(RNG.integers(0, 360, (2, 5)), 1)
BANDS = ["B0", "B1", "B2", "B3"]


@settings(max_examples=20, deadline=None)
@given(st.permutations([0, 1, 2, 3]), st.booleans())
def test_bands_are_found_by_name(order: list[int], extra: bool) -> None:
    expected = SERIES({"s2": {"values": VALUES, "days": DAYS, "bands": BANDS}}).probabilities
    names, values = [BANDS[i] for i in order], VALUES[:, :, order]
    if extra:
        names, values = [*names, "B9"], np.concatenate([values, values[:, :, :1]], 2)
    found = SERIES({"s2": {"values": values, "days": DAYS, "bands": names}})
    np.testing.assert_array_equal(found.probabilities, expected)
    np.testing.assert_allclose(found.probabilities.sum(1), 1, rtol=1e-5)
    assert found.classes.shape == (2,)
    assert found.names == ("maize", "soft wheat", "other")
    assert (np.asarray(found.names, object)[found.probabilities.argmax(1)] == found.classes).all()


def test_numpy_torch_and_observations_are_alike() -> None:
    expected = SERIES({"s2": {"values": VALUES, "days": DAYS}}).probabilities
    tensors = {"values": torch.from_numpy(VALUES), "days": torch.from_numpy(DAYS), "valid": torch.ones(2, 5).bool()}
    np.testing.assert_array_equal(SERIES({"s2": tensors}).probabilities, expected)
    look = Observation(tensors["values"], tensors["days"], tensors["valid"])
    np.testing.assert_array_equal(SERIES({"s2": look}).probabilities, expected)
    logits = SERIES.logits({"s2": look})
    np.testing.assert_allclose((logits / 1.7).softmax(1).numpy(), expected, rtol=1e-5)
    np.testing.assert_allclose(SERIES.probabilities({"s2": look}).numpy(), expected)


def test_cubes_are_read_by_the_names_of_their_axes() -> None:
    expected = SERIES({"s2": {"values": VALUES[:1], "days": DAYS[:1]}}).probabilities
    stamps = np.datetime64("2021-01-01") + DAYS[0].astype("timedelta64[D]")
    cube = xr.DataArray(
        VALUES[0].T[::-1], dims=("band", "time"), coords={"band": BANDS[::-1], "time": stamps},
        attrs={"year": 2021, "units": "reflectance"},
    )  # fmt: skip
    np.testing.assert_allclose(SERIES({"s2": cube}).probabilities, expected, rtol=1e-6)
    days = cube.assign_coords(days=("time", DAYS[0]))
    np.testing.assert_allclose(SERIES({"s2": days}).probabilities, expected, rtol=1e-6)
    with pytest.raises(ValueError, match=r"attrs\['year'\]"):
        SERIES({"s2": cube.assign_attrs(year=None).drop_vars("time")})
    with pytest.raises(ValueError, match=r"has the dimensions \['band', 'moon'\].*rename \['moon'\]"):
        SERIES({"s2": cube.rename(time="moon")})


def test_nan_in_a_cube_is_what_was_not_seen() -> None:
    values = RNG.random((4, 64, 96), np.float32)
    hidden = values.copy()
    hidden[:, 5:9, 7] = np.nan
    seen = ~np.isnan(hidden[0])[None]
    expected = IMAGES({"aerial": {"values": values[None], "valid_pixels": seen}}).probabilities
    found = IMAGES({"aerial": xr.DataArray(hidden, dims=("band", "y", "x"))})
    np.testing.assert_allclose(found.probabilities, expected, rtol=1e-6)
    assert found.classes.shape == (1, 64, 96)


def test_a_series_is_a_set_of_one_pixel_and_dates_may_be_shared() -> None:
    expected = SETS({"s2": {"values": VALUES[..., None], "days": DAYS}}).probabilities
    np.testing.assert_allclose(SETS({"s2": {"values": VALUES, "days": DAYS}}).probabilities, expected, rtol=1e-6)
    shared = SERIES({"s2": {"values": VALUES, "days": DAYS[0]}}).probabilities
    twice = SERIES({"s2": {"values": VALUES, "days": np.stack([DAYS[0]] * 2)}}).probabilities
    np.testing.assert_array_equal(shared, twice)


def test_a_sensor_may_be_missing_where_the_network_can_do_without() -> None:
    s2 = {"values": VALUES, "days": DAYS}
    s1 = {"values": VALUES[:, :3, :2] - 0.4, "days": DAYS[:, :3], "valid": np.zeros((2, 3), bool)}
    expected = TWO({"s2": s2, "s1": s1}).probabilities
    np.testing.assert_allclose(TWO({"s2": s2}).probabilities, expected, rtol=1e-6)
    with pytest.raises(ValueError, match=r"the network reads \['aerial'\]; got \[\]"):
        IMAGES({})


GOOD = {"values": VALUES, "days": DAYS}
REFUSED: dict[str, tuple[Predictor, Any, str]] = {
    "sensor": (SERIES, {"s3": GOOD}, r"some of \['s2'\], to what they saw; got \['s3'\]"),
    "no mapping": (SERIES, VALUES, "give a mapping of sensors"),
    "key": (SERIES, {"s2": {**GOOD, "mask": 1}}, r"unknown keys \['mask'\]"),
    "values": (SERIES, {"s2": {"days": DAYS}}, "has no values"),
    "band": (SERIES, {"s2": {**GOOD, "bands": ["B0", "B1", "B2", "B8"]}}, r"lacks the bands \['B3'\]"),
    "twice": (SERIES, {"s2": {**GOOD, "bands": ["B0", "B0", "B2", "B3"]}}, "name each once"),
    "number": (SERIES, {"s2": {**GOOD, "values": VALUES[:, :, :3]}}, "got 3 without names"),
    "counts": (SERIES, {"s2": {**GOOD, "values": (VALUES * 1e4).astype(np.uint16)}}, "whole numbers"),
    "scale": (SERIES, {"s2": {**GOOD, "values": VALUES * 1e4}}, r"which is no reflectance: scale them"),
    "units": (SERIES, {"s2": {**GOOD, "units": "dB"}}, "given in 'dB'; the network was trained on 'reflectance'"),
    "nan": (SERIES, {"s2": {**GOOD, "values": np.where(VALUES > 0.9, np.nan, VALUES)}}, "nan or infinite where"),
    "days": (SERIES, {"s2": {**GOOD, "days": DAYS + 20210000}}, "count from 1 January"),
    "no days": (SERIES, {"s2": {"values": VALUES}}, "reads days of 's2'"),
    "dates": (SERIES, {"s2": {**GOOD, "days": DAYS[:, :4]}}, "s2.time is 5 elsewhere"),
    "mask": (SERIES, {"s2": {**GOOD, "valid": np.ones((2, 5))}}, "a mask of booleans"),
    "rank": (SERIES, {"s2": {**GOOD, "values": VALUES[0, 0]}}, r"have axes \['batch', 's2.time', 'bands'\]"),
    "words": (SERIES, {"s2": {**GOOD, "days": np.array([["a"] * 5] * 2)}}, "days of 's2' are numbers"),
    "side": (IMAGES, {"aerial": np.zeros((1, 4, 60, 96))}, "aerial.height is a multiple of 32 and at least 32; got 60"),
    "frame": (FRAMES, {"s2": {"values": np.zeros((1, 2, 4, 7, 8)), "days": [[1, 2]]}}, "s2.height is a multiple of 2"),
    "batch": (TWO, {"s2": GOOD, "s1": {"values": VALUES[:1, :, :2], "days": DAYS[:1]}}, "batch is 2 elsewhere"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_said(case: str) -> None:
    one, inputs, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        one(inputs)


def test_masked_values_may_be_anything() -> None:
    valid = VALUES[:, :, 0] < 0.7
    values = np.where(valid[..., None], VALUES, np.nan)
    found = SERIES({"s2": {"values": values, "days": np.where(valid, DAYS, 10**6), "valid": valid}}).probabilities
    kept = SERIES({"s2": {**GOOD, "valid": valid}}).probabilities
    np.testing.assert_allclose(found, kept, rtol=1e-6)


def test_sizes_that_were_fixed_stay() -> None:
    network, layout, _, about = made("unet")
    fixed = Predictor({**about, **layout.fixed((64, 96)).to_dict()}, network)
    with pytest.raises(ValueError, match=re.escape("aerial.height is 64 in this export; got 32")):
        fixed({"aerial": np.zeros((1, 4, 32, 96))})
    assert fixed({"aerial": np.zeros((3, 4, 64, 96))}).probabilities.shape == (3, 3, 64, 96)
