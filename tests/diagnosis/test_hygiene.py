"""Duplicates, distances between places, classes under several names."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from eo_adapt.diagnosis.hygiene import digests, duplicates, label_sets, nearest


def test_equal_series_have_equal_digests_whatever_the_padding() -> None:
    rng = np.random.default_rng(0)
    values, days = rng.normal(size=(3, 5, 2)), np.tile(np.arange(5) * 16, (3, 1))
    valid = np.ones((3, 5), bool)
    values[1] = values[0]
    valid[:2, 4] = False
    values[1, 4], days[1, 4] = 99, 7  # padding
    one, other, third = digests(values, days, valid)
    assert one == other != third
    days[1, 0] += 1
    assert digests(values, days, valid)[1] != one


def test_duplicates_tell_repeats_from_leaks() -> None:
    samples = pd.DataFrame(
        [
            ("x", "1", "FR", "train"), ("x", "2", "FR", "test"), ("y", "3", "FR", "train"), ("y", "4", "FR", "train"),
            ("z", "5", "FR", "train"), ("z", "6", "EE", "train"), ("w", "7", "EE", "train"),
        ],
        columns=["digest", "parcel_id", "domain", "split"],
    )  # fmt: skip
    found = duplicates(samples).set_index("digest")
    assert found["across"].to_dict() == {"x": True, "y": False, "z": True}
    assert found.loc["x", "splits"] == "test, train"
    assert found.loc["z", "domains"] == "EE, FR"
    assert found.loc["y", "ids"] == "3, 4"
    assert duplicates(samples.iloc[:1]).empty


def test_nearest_places() -> None:
    a, b = np.array([[0.0, 0], [10, 0]]), np.array([[13.0, 4], [np.nan, 0]])
    assert nearest(a, b) == pytest.approx(5)
    assert nearest(a, b[1:]) == float("inf")


def test_label_sets_by_name_and_by_code() -> None:
    codes = {"winter_barley": "3301010401", "spring_barley": "3301010402", "grass": "3302000000", "rice": "3301010700"}
    found = label_sets(["winter_barley", "grass", "rice", ""], ["spring_barley", "grass"], codes)
    assert found.shared == ("grass",)
    assert found.source_private == ("rice", "winter_barley")
    assert found.target_private == ("spring_barley",)
    assert found.coarsen == "4"
    assert label_sets(["grass"], ["rice"], codes).coarsen == "1"
    assert label_sets(["grass"], ["rice"]).coarsen == ""
    assert label_sets(["grass", "rice"], ["rice"], codes).coarsen == ""
