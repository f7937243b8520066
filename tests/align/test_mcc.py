"""Minimum class confusion: known values, absent classes, weights without gradient."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rotated import gain, step, view

from eo_adapt.align.entropy import entropies
from eo_adapt.align.mcc import MCC, mcc


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def by_loops(logits: torch.Tensor, temperature: float) -> float:
    z = logits.double().numpy() / temperature
    p = np.exp(z - z.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    n, k = p.shape
    w = np.array([1 + math.exp(sum(x * math.log(x) for x in row if x > 0)) for row in p])
    w = n * w / w.sum()
    total = 0.0
    for i in range(k):
        row = [sum(w[r] * p[r, i] * p[r, j] for r in range(n)) for j in range(k)]
        total += sum(x for j, x in enumerate(row) if j != i) / sum(row)
    return total / k


@settings(deadline=None, max_examples=25, derandomize=True)
@given(st.integers(1, 20), st.integers(2, 8), st.floats(0.5, 5), st.integers(0, 99))
def test_equals_loops(n, k, temperature, seed):
    torch.manual_seed(seed)
    logits = 3 * torch.randn(n, k)
    assert mcc(logits, temperature).item() == pytest.approx(by_loops(logits, temperature), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("k", [2, 5, 11])
def test_uniform_predictions_are_wholly_confused(k):
    assert mcc(torch.zeros(7, k)).item() == pytest.approx((k - 1) / k, rel=1e-6)


def test_sure_predictions_are_not_confused_even_if_classes_are_absent():
    assert mcc(1e3 * torch.eye(4)).item() == 0
    sure = (1e3 * torch.eye(4)[[0, 0, 2]]).requires_grad_()
    value = mcc(sure)
    assert value.item() == 0
    assert torch.autograd.grad(value, sure)[0].isfinite().all()


def test_weights_get_no_gradient():
    logits = torch.randn(9, 4, dtype=torch.float64)

    def constant_weights(z):
        p = (z / 2.5).softmax(1)
        w = 1 + torch.exp(-entropies(logits / 2.5))  # of the point, not of z
        w = len(z) * w / w.sum()
        c = p.T @ (w[:, None] * p)
        c = c / c.sum(1, keepdim=True)
        return (c.sum() - c.trace()) / 4

    leaf, other = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    (ours,) = torch.autograd.grad(mcc(leaf), leaf)
    (theirs,) = torch.autograd.grad(constant_weights(other), other)
    torch.testing.assert_close(ours, theirs)
    assert ours.abs().max() > 1e-4


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_are_finite(dtype):
    logits = (20 * torch.randn(300, 6)).to(dtype).requires_grad_()
    value = mcc(logits)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(by_loops(logits.detach().float(), 2.5), rel=1e-3)
    assert torch.autograd.grad(value, logits)[0].isfinite().all()


def test_an_offset_of_all_logits_changes_nothing():
    logits = torch.randn(50, 4)
    assert mcc(logits + 1e3).item() == pytest.approx(mcc(logits).item(), rel=1e-3)


def test_maps_and_several_targets():
    maps, rows = torch.randn(2, 3, 4, 5), torch.randn(6, 3)
    term = MCC()((), (view(maps), view(rows, 2)), step())["mcc"]
    torch.testing.assert_close(term, (mcc(maps.movedim(1, -1).reshape(-1, 3)) + mcc(rows)) / 2)


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.inf, math.nan])
def test_an_impossible_temperature_is_refused(temperature):
    with pytest.raises(ValueError, match=r"mcc.temperature"):
        MCC(temperature=temperature)


def test_it_helps_where_clusters_have_turned():
    assert gain(MCC)[0] > 0.05
