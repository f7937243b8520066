"""Scores against scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from eo_adapt.metrics import confusion, kappa, macro_f1, overall_accuracy, per_class, scores


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=60))
@settings(deadline=None, max_examples=50)
def test_scores_equal_sklearn(pairs: list[tuple[int, int]]) -> None:
    truth, guess = np.array(pairs).T
    matrix = confusion(torch.tensor(truth), torch.tensor(guess), 5)
    present = sorted(set(truth.tolist()))
    assert matrix.tolist() == sk.confusion_matrix(truth, guess, labels=range(5)).tolist()
    assert overall_accuracy(matrix) == pytest.approx(sk.accuracy_score(truth, guess))
    want = sk.f1_score(truth, guess, labels=present, average="macro", zero_division=0)
    assert macro_f1(matrix) == pytest.approx(want)
    for name, function in {"precision": sk.precision_score, "recall": sk.recall_score, "iou": sk.jaccard_score}.items():
        each = function(truth, guess, labels=range(5), average=None, zero_division=0)
        assert per_class(matrix)[name].tolist() == pytest.approx(each.tolist())
    with np.errstate(invalid="ignore"):
        agreement = sk.cohen_kappa_score(truth, guess, labels=range(5)) if len({*truth, *guess}) > 1 else math.nan
    assert kappa(matrix) == pytest.approx(agreement, nan_ok=True)


def test_unknown_labels_are_left_out() -> None:
    assert confusion(torch.tensor([-1, 1]), torch.tensor([0, 1]), 2).tolist() == [[0, 0], [0, 1]]


def test_closed_score_looks_at_samples_of_shared_classes_only() -> None:
    truth, guess = torch.tensor([0, 0, 1, 2, 2]), torch.tensor([0, 1, 1, 0, 0])
    got = scores(confusion(truth, guess, 3), ["a", "b", "private"], ["a", "b"])
    shared = truth < 2
    assert got["closed_macro_f1"] == pytest.approx(sk.f1_score(truth[shared], guess[shared], average="macro"))
    assert got["macro_f1"] == pytest.approx(sk.f1_score(truth, guess, average="macro", zero_division=0))
    assert got["macro_f1"] < got["closed_macro_f1"]
    assert got["per_class"]["private"]["support"] == 2


def test_nothing_gives_nan_not_zero() -> None:
    empty = torch.zeros(2, 2, dtype=torch.long)
    assert math.isnan(macro_f1(empty))
    assert math.isnan(overall_accuracy(empty))
