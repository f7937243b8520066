"""Band statistics, computed another way; constants, masks and large offsets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import S2, parcels, record, series, write

from eo_adapt.data.loader import Part, Reader
from eo_adapt.data.records import Record, Sensor, Series
from eo_adapt.data.statistics import band_statistics

FLOAT = Sensor(("a", "b"), units="K", scale=1.0, dtype="float32")


def _part(rows: Sequence[int]) -> Part:
    return Part(torch.tensor(rows), torch.zeros(len(rows), dtype=torch.long))


def _numpy(records: Sequence[Record], rows: Sequence[int]) -> np.ndarray:
    return np.concatenate([records[i].series["s2"].values[records[i].series["s2"].valid] for i in rows]) / 1e4


def test_equal_numpy_over_the_parts_given(tmp_path: Path) -> None:
    made = parcels("EE", 40, attributes=2)
    store = write(tmp_path / "s", made)
    first, second = [0, 5, 6, 31], [7, 2]
    found = band_statistics(Reader(store, {"s2": ("B08", "B02")}), [_part(first), _part(second)])
    expected = _numpy(made, [*first, *second])[:, [2, 0]]
    np.testing.assert_allclose(found["s2"], [expected.mean(0), expected.std(0)], rtol=1e-5)
    numbers = np.stack([made[i].attributes for i in (*first, *second)])
    np.testing.assert_allclose(found["attributes"], [numbers.mean(0), numbers.std(0)], rtol=1e-5)
    assert set(found) == {"s2", "attributes"}


def test_of_pixel_sets_only_real_pixels_count(tmp_path: Path, rng: np.random.Generator) -> None:
    made = []
    for i in range(12):
        there = rng.random((4, 3)) > 0.4
        there[0] = True
        made.append(record(str(i), series(rng, 3, 4, valid_pixels=there, valid=np.array([True, i % 2 == 0, True]))))
    store = write(tmp_path / "s", made)
    found = band_statistics(Reader(store, {"s2": S2.bands}, pixels=6), [_part(range(12))])
    masks = [r.series["s2"].valid_pixels & r.series["s2"].valid for r in made]
    expected = np.concatenate([r.series["s2"].values[m] for r, m in zip(made, masks, strict=True)]) / 1e4
    np.testing.assert_allclose(found["s2"], [expected.mean(0), expected.std(0)], rtol=1e-5)


@settings(max_examples=15, deadline=None)
@given(constant=st.sampled_from([0.0, 0.1, 273.15, -1e4, 12345.678]), n=st.integers(1, 40))
def test_a_constant_band_has_std_one(tmp_path_factory: pytest.TempPathFactory, constant: float, n: int) -> None:
    values = np.full((n, 2), constant, np.float32)
    values[:, 1] = np.arange(n)
    one = record("a", Series(values, np.arange(n)))
    store = write(tmp_path_factory.mktemp("c") / "s", [one], {"s2": FLOAT})
    mean, std = band_statistics(Reader(store, {"s2": FLOAT.bands}), [_part([0])])["s2"]
    assert mean[0] == pytest.approx(constant)
    assert std[0] == 1.0
    assert std[1] == pytest.approx(np.arange(n).std() or 1.0)


def test_a_small_spread_on_a_large_mean_is_seen(tmp_path: Path, rng: np.random.Generator) -> None:
    values = (1e5 + rng.normal(0, 0.5, (500, 2))).astype(np.float32)
    store = write(tmp_path / "s", [record("a", Series(values, np.arange(500)))], {"s2": FLOAT})
    found = band_statistics(Reader(store, {"s2": FLOAT.bands}), [_part([0])])["s2"]
    np.testing.assert_allclose(found[1], values.astype(float).std(0), rtol=1e-9)


def test_no_valid_value_is_an_error(tmp_path: Path, rng: np.random.Generator) -> None:
    seen = {"s2": series(rng, 3), "other": series(rng, 2)}
    blind = replace(seen["other"], valid=np.zeros(2, bool))
    made = [record("a", {**seen, "other": blind}), record("b", seen)]
    store = write(tmp_path / "s", made, {"s2": S2, "other": S2})
    with pytest.raises(ValueError, match="other has no valid value in the labelled training parcels"):
        band_statistics(Reader(store, {"s2": S2.bands, "other": S2.bands}), [_part([0])])
    late = band_statistics(Reader(store, {"other": S2.bands}), [_part([0]), _part([1])])["other"]
    expected = seen["other"].values / 1e4
    np.testing.assert_allclose(late, [expected.mean(0), expected.std(0)], rtol=1e-5)
