"""Rank averages over candidates."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from candidates import NAN, outputs
from hypothesis import given, settings
from hypothesis import strategies as st

from eo_adapt.registry import build, names
from eo_adapt.selection.base import SelectionError, best
from eo_adapt.selection.ensemble import Ensemble, criterion_class, rank_average

SCORES = st.one_of(st.integers(-2, 2).map(float), st.just(NAN))
TABLES = st.integers(1, 6).flatmap(lambda n: st.lists(st.lists(SCORES, min_size=n, max_size=n), min_size=1, max_size=4))


def slow_rank(column: list[float], i: int) -> float:
    """1 + how many are worse + half of the others that are equal; nan is worse than all."""
    value = [-math.inf if math.isnan(x) else x for x in column]
    worse, equal = sum(x < value[i] for x in value), sum(x == value[i] for x in value)
    return 1 + worse + (equal - 1) / 2


@settings(deadline=None, max_examples=80, derandomize=True)
@given(TABLES)
def test_rank_average_equals_a_loop(table: list[list[float]]) -> None:
    named = {str(i): column for i, column in enumerate(table)}
    heard = [column for column in table if not all(map(math.isnan, column))]
    if not heard:
        with pytest.raises(SelectionError, match=rf"none of .* gave a number for any of {len(table[0])} candidates"):
            rank_average(named)
        return
    found = rank_average(named)
    for i, rank in enumerate(found):
        if all(math.isnan(column[i]) for column in heard):
            assert math.isnan(rank)
        else:
            assert rank == pytest.approx(np.mean([slow_rank(column, i) for column in heard]) / len(found))
            assert 0 < rank <= 1


def test_ties_share_and_nan_is_last() -> None:
    assert rank_average({"a": [1.0, 3.0, 3.0, NAN]}) == pytest.approx([2 / 4, 3.5 / 4, 3.5 / 4, NAN], nan_ok=True)
    assert rank_average({"a": [0.0, NAN, 1.0], "b": [5.0, 9.0, 7.0]}) == pytest.approx([1.5 / 3, 2 / 3, 2.5 / 3])
    assert rank_average({"a": [0.7]}) == [1.0]


def test_only_order_matters() -> None:
    a, b = [0.1, 0.5, 0.3, 0.9], [3.0, 1.0, 2.0, 0.0]
    assert rank_average({"a": a, "b": b}) == rank_average({"a": [x**3 * 1e6 for x in a], "b": [x - 7 for x in b]})


def test_the_ensemble_ranks_its_members_only() -> None:
    history = {"x": [0.0, 0.0, 0.0], "snd": [1.0, 2.0, 3.0], "bnm": [1.0, 3.0, 2.0], "last": [9.0, 8.0, 7.0]}
    ensemble = Ensemble(["snd", "bnm"])
    assert ensemble.members == ("snd", "bnm")
    ranks = ensemble.over(history, "x")
    assert ranks == pytest.approx([1 / 3, 2.5 / 3, 2.5 / 3])
    assert best(ranks) == 1
    assert ensemble.score([outputs(1)], [outputs(2)], 0) == 0


def test_a_silent_member_is_left_out_and_named_once() -> None:
    ensemble = Ensemble(["dev", "snd"])
    history = {"dev": [NAN, NAN], "snd": [2.0, 1.0]}
    with pytest.warns(UserWarning, match=r"ensemble leaves out \['dev'\]: no number for any of 2 candidates"):
        assert ensemble.over(history, "ensemble") == [1.0, 0.5]
    assert ensemble.missing == {"dev": 2, "snd": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ensemble.over(history, "ensemble")
        assert ensemble.over({"dev": [NAN, 0.1], "snd": [1.0, 2.0]}, "ensemble") == [0.5, 1.0]
    assert ensemble.missing == {"dev": 1, "snd": 0}


def test_no_number_at_all_is_an_error() -> None:
    with pytest.raises(
        SelectionError, match=r"none of \['dev', 'snd'\] gave a number for any of 2 candidates.*source_val"
    ):
        Ensemble(["dev", "snd"]).over({"dev": [NAN, NAN], "snd": [NAN, NAN]}, "ensemble")


def test_members_must_have_been_scored_alike() -> None:
    with pytest.raises(
        SelectionError, match=r"e ranks by \['dev', 'snd'\]; \['dev'\] have no scores: add them to watch"
    ):
        Ensemble(["dev", "snd"]).over({"snd": [1.0]}, "e")
    with pytest.raises(SelectionError, match=r"the same candidates; got \{'dev': 2, 'snd': 1\}"):
        Ensemble(["dev", "snd"]).over({"dev": [1.0, 2.0], "snd": [1.0]}, "e")


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ([], r"at least one criterion, each once; got \[\]"),
        (["snd", "snd"], "each once"),
        (["snd", "oracle"], "'oracle', which sees target labels"),
        (["ensemble"], "'ensemble', which has no score of a single candidate"),
    ],
)
def test_members_of_no_use_are_refused(members: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Ensemble(members)


def test_it_needs_a_target_as_soon_as_a_member_does() -> None:
    assert not Ensemble(["source_val", "last"]).needs_target
    assert Ensemble(["source_val", "snd"]).needs_target
    assert Ensemble(["mixval_intra"]).needs_target  # an entry that no file is named after
    assert build("selection", "ensemble").needs_target


@pytest.mark.parametrize("name", [name for name in names("selection") if not name.startswith("mixval_")])
def test_an_entry_is_found_under_its_name(name: str) -> None:
    assert criterion_class(name) is type(build("selection", name))


@pytest.mark.parametrize("name", ["base", "check", "weighted", "nothing", "../snd", "os.path"])
def test_what_is_no_criterion_is_not_found(name: str) -> None:
    assert criterion_class(name) is None
