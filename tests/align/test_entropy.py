"""Entropy of target predictions: never negative, in any precision, and it pays where clusters are clean."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rotated import gain, step, view
from torch import nn

from eo_adapt.align import Setup
from eo_adapt.align.entropy import Entropy, entropies, logit_rows


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@settings(deadline=None, max_examples=25, derandomize=True)
@given(st.integers(1, 40), st.integers(2, 12), st.floats(0.1, 8), st.integers(0, 99))
def test_equals_numpy(n, k, scale, seed):
    torch.manual_seed(seed)
    logits = scale * torch.randn(n, k)
    e = np.exp(logits.double().numpy() - logits.double().numpy().max(1, keepdims=True))
    p = e / e.sum(1, keepdims=True)
    np.testing.assert_allclose(entropies(logits).numpy(), -(p * np.log(p)).sum(1), rtol=1e-4, atol=1e-6)


def test_from_0_for_sure_to_log_k_for_uniform():
    sure = torch.tensor([[100.0, 0.0, 0.0], [0.0, 0.0, 200.0]])
    assert entropies(sure).max() < 1e-30
    torch.testing.assert_close(entropies(torch.zeros(4, 5)), torch.full((4,), math.log(5)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("scale", [1.0, 30.0, 1000.0])
def test_never_negative_nor_nan_in_any_precision(dtype, scale):
    logits = (scale * torch.randn(2000, 7)).to(dtype).requires_grad_()
    values = entropies(logits)
    assert values.dtype == torch.float32
    assert values.isfinite().all()
    assert values.min() >= 0
    (grad,) = torch.autograd.grad(values.mean(), logits)
    assert grad.isfinite().all()


def test_an_offset_of_all_logits_changes_nothing():
    logits = torch.randn(50, 4)
    torch.testing.assert_close(entropies(logits + 1e3), entropies(logits), rtol=1e-3, atol=1e-3)


def test_gradient_is_that_of_float64():
    logits = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(entropies, logits)


def test_maps_are_pixels():
    maps = torch.randn(2, 3, 4, 5)
    by_hand = torch.stack([maps[b, :, i, j] for b in range(2) for i in range(4) for j in range(5)])
    assert torch.equal(logit_rows(maps), by_hand)
    term = Entropy(1.0)((), (view(maps),), step())["entropy"]
    torch.testing.assert_close(term, entropies(by_hand).mean())


def test_each_target_counts_alike():
    small, large = torch.randn(3, 4), 5 * torch.randn(90, 4)
    term = Entropy(2.0)((), (view(small), view(large, 2)), step())["entropy"]
    torch.testing.assert_close(term, entropies(small).mean() + entropies(large).mean())


def test_nan_is_not_hidden():
    logits = torch.randn(5, 3)
    logits[2, 1] = torch.nan
    assert Entropy()((), (view(logits),), step())["entropy"].isnan()


def test_needs_a_target():
    with pytest.raises(ValueError, match="needs a target domain"):
        Entropy().attach(nn.Identity(), Setup(4, targets=0))


def test_it_helps_where_clusters_have_turned():
    assert gain(lambda: Entropy(0.3))[0] > 0.05
