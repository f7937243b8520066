"""Batch nuclear norm: known values, its gradient, and which rows it looks at."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rotated import gain, step, view

from eo_adapt.align.bnm import BNM, bnm


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@settings(deadline=None, max_examples=25, derandomize=True)
@given(st.integers(1, 40), st.integers(2, 12), st.integers(0, 99))
def test_equals_numpy(n, k, seed):
    torch.manual_seed(seed)
    logits = 3 * torch.randn(n, k)
    p = np.exp(logits.double().numpy())
    p /= p.sum(1, keepdims=True)
    expected = -np.sqrt(np.maximum(np.linalg.eigvalsh(p @ p.T), 0)).sum() / n
    assert bnm(logits).item() == pytest.approx(expected, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize(("k", "each"), [(2, 1), (3, 7), (5, 20)])
def test_sure_and_balanced_is_the_best_there_is(k, each):
    best = bnm(1e3 * torch.eye(k).repeat(each, 1)).item()
    assert best == pytest.approx(-math.sqrt(k / (k * each)), rel=1e-6)
    assert bnm(torch.randn(k * each, k)).item() > best
    collapsed = bnm(1e3 * torch.eye(k)[[0]].repeat(k * each, 1)).item()
    assert collapsed == pytest.approx(-1 / math.sqrt(k * each), rel=1e-5)


def test_the_gradient_is_the_product_of_the_singular_vectors():
    logits = torch.randn(12, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(bnm, logits)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("rows", ["equal", "sure", "uniform"])
def test_equal_singular_values_and_low_rank_are_finite(dtype, rows):
    given_rows = {"equal": torch.tensor([[1.0, 2, 3]]), "sure": 50 * torch.eye(3), "uniform": torch.zeros(1, 3)}
    logits = given_rows[rows].repeat(6, 1).to(dtype).requires_grad_()
    value = bnm(logits)
    assert value.dtype == torch.float32
    assert torch.autograd.grad(value, logits)[0].isfinite().all()


def test_maps_are_thinned_and_targets_count_alike():
    maps, rows = torch.randn(2, 3, 20, 20), torch.randn(7, 3)
    align = BNM(max_rows=50)
    few = align((), (view(maps),), step())["bnm"]
    assert few != align((), (view(maps),), step())["bnm"], "rows are not drawn anew"
    all_rows = maps.movedim(1, -1).reshape(-1, 3)
    assert few.item() == pytest.approx(bnm(all_rows).item() * (800 / 50) ** 0.5, rel=0.1)
    both = BNM(max_rows=800)((), (view(maps), view(rows, 2)), step())["bnm"]
    torch.testing.assert_close(both, (bnm(all_rows) + bnm(rows)) / 2)


def test_no_rows_are_refused():
    with pytest.raises(ValueError, match=r"bnm\.max_rows must be a whole number >= 1"):
        BNM(max_rows=0)


def test_it_helps_where_clusters_have_turned():
    assert gain(lambda: BNM(2.0))[0] > 0.05
