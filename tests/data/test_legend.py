"""Named classes and the label sets of closed, partial and open shifts."""

from __future__ import annotations

import json

import numpy as np
import pytest

from eo_adapt.data.legend import Kind, LabelSet, Legend, label_set

SOURCE = {"wheat": 50, "maize": 40, "rice": 30, "teff": 2}
TARGET = ["maize", "wheat", "cotton", "teff"]


def test_index_and_encode() -> None:
    legend = Legend(("maize", "wheat"), ("3301010600", "3301010100"))
    assert legend.index("wheat") == 1
    assert len(legend) == 2
    labels = legend.encode(np.array([["wheat", "rice"], ["maize", "wheat "]]))
    assert labels.dtype == np.int64
    assert labels.tolist() == [[1, -1], [0, -1]]
    assert legend.encode(np.array([], dtype=np.str_)).shape == (0,)
    assert legend.encode(np.array(["maize", None], dtype=object)).tolist() == [0, -1]


def test_encode_refuses_numbers() -> None:
    with pytest.raises(ValueError, match="strings"):
        Legend(("maize",)).encode(np.array([0, 1]))


def test_index_lists_the_classes() -> None:
    with pytest.raises(ValueError, match=r"'rye'.*\['maize'\]"):
        Legend(("maize",)).index("rye")


def test_legend_survives_json_and_lists() -> None:
    legend = Legend(("maize", "wheat"), ("1", "2"))
    assert Legend.from_dict(json.loads(json.dumps(legend.to_dict()))) == legend
    assert Legend(["maize"]).codes == ("maize",)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="keys"):
        Legend.from_dict({"names": ["maize"]})


@pytest.mark.parametrize(
    ("names", "codes", "message"),
    [
        (("a", "a"), ("1", "2"), "more than once"),
        (("a", "b"), ("1", "1"), "more than once"),
        (("a",), ("1", "2"), "1 names and 2"),
    ],
)
def test_legend_refuses(names: tuple[str, ...], codes: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Legend(names, codes)


@pytest.mark.parametrize(
    ("kind", "classes", "unknown"),
    [
        ("closed", ("maize", "wheat"), False),
        ("partial", ("maize", "rice", "wheat"), False),
        ("open", ("maize", "rice", "wheat"), True),
    ],
)
def test_label_sets(kind: Kind, classes: tuple[str, ...], unknown: bool) -> None:
    expected = LabelSet(Legend(classes), ("maize", "wheat"), ("rice",), ("cotton", "teff"), unknown)
    assert label_set(SOURCE, TARGET, kind, 10) == expected


def test_only_the_set_of_target_names_is_used() -> None:
    often = {"wheat": 9999, "maize": 1, "cotton": 7, "teff": 1}
    assert label_set(SOURCE, often, "open", 10) == label_set(SOURCE, TARGET[::-1] * 3, "open", 10)


def test_no_shared_class_lists_both_sides() -> None:
    with pytest.raises(
        ValueError, match=r"Source: \['maize', 'rice', 'wheat'\].*left out: \['teff'\].*target: \['cotton', 'teff'\]"
    ):
        label_set(SOURCE, {"cotton", "teff"}, "closed", 10)


@pytest.mark.parametrize(
    ("counts", "target", "kind", "least", "message"),
    [
        (SOURCE, TARGET, "Closed", 1, "kind is one of"),
        ({**SOURCE, "oats": 0}, TARGET, "closed", 1, r"without any source sample: \['oats'\]"),
        (SOURCE, TARGET, "closed", 0, "at least 1"),
        (SOURCE, "maize", "closed", 1, "collection of strings"),
        ({**SOURCE, "unknown": 5}, TARGET, "open", 1, "reserves the name"),
    ],
)
def test_label_set_refuses(counts: dict[str, int], target: list[str], kind: Kind, least: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        label_set(counts, target, kind, least)
