"""Information maximisation: minus the mutual information of sample and class."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rotated import gain, step, view

from eo_adapt.align.entropy import entropies
from eo_adapt.align.infomax import InfoMax, infomax


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@settings(deadline=None, max_examples=25, derandomize=True)
@given(st.integers(1, 40), st.integers(2, 12), st.floats(0, 3), st.integers(0, 99))
def test_equals_numpy(n, k, diversity, seed):
    torch.manual_seed(seed)
    logits = 2 * torch.randn(n, k)
    p = np.exp(logits.double().numpy())
    p /= p.sum(1, keepdims=True)
    m = p.mean(0)
    expected = -(p * np.log(p)).sum(1).mean() + diversity * (m * np.log(m)).sum()
    assert infomax(logits, diversity).item() == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_sure_and_balanced_is_the_best_there_is():
    assert infomax(100 * torch.eye(5).repeat(4, 1)).item() == pytest.approx(-math.log(5), rel=1e-6)


@pytest.mark.parametrize("row", [[100.0, 0.0, 0.0], [0.0, 0.0, 0.0], [1.0, 2.0, 0.0]])
def test_the_same_prediction_for_all_samples_earns_nothing(row):
    assert infomax(torch.tensor(row).repeat(9, 1)).item() == pytest.approx(0, abs=1e-6)


def test_without_diversity_it_is_entropy():
    logits = torch.randn(20, 4)
    torch.testing.assert_close(infomax(logits, 0.0), entropies(logits).mean())


def test_bounds():
    for scale in (0.1, 1, 10):
        assert -math.log(6) <= infomax(scale * torch.randn(40, 6)).item() <= 1e-6


def test_a_class_without_mass_is_finite_forwards_and_backwards():
    logits = torch.tensor([[500.0, 0.0, -500.0], [400.0, 0.0, -500.0]]).to(torch.bfloat16).requires_grad_()
    value = infomax(logits)
    (grad,) = torch.autograd.grad(value, logits)
    assert value.isfinite()
    assert grad.isfinite().all()


def test_targets_are_judged_apart():
    # Each target is sure of one class: together they look diverse, apart they are not.
    one, other = (100 * torch.eye(2)[[i]].repeat(8, 1) for i in (0, 1))
    assert InfoMax(1.0)((), (view(one), view(other, 2)), step())["infomax"].item() == pytest.approx(0, abs=1e-6)
    assert infomax(torch.cat([one, other])).item() == pytest.approx(-math.log(2), rel=1e-5)


@pytest.mark.parametrize("diversity", [-0.1, math.inf, math.nan])
def test_an_impossible_diversity_is_refused(diversity):
    with pytest.raises(ValueError, match=r"infomax.diversity"):
        InfoMax(diversity=diversity)


def test_it_helps_where_clusters_have_turned():
    assert gain(lambda: InfoMax(0.3))[0] > 0.05
