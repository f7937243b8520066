"""Sliced Wasserstein distance against quantile integrals, assignments and closed forms."""

from contextlib import nullcontext
from itertools import permutations

import numpy as np
import pytest
import torch
from cues import gain
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from torch import Tensor, nn

from eo_adapt.align import Step, View
from eo_adapt.align.swd import SWD, sliced_wasserstein, wasserstein_1d

STEP = Step(nn.Identity(), nn.CrossEntropyLoss(), lambda domain: nullcontext(), 0.5)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def view(features: Tensor, domain: int) -> View:
    return View(features, features, None, domain)


def by_programme(x: np.ndarray, y: np.ndarray) -> float:
    """Cheapest transport of equally weighted numbers, as a linear programme over all plans."""
    n, m = len(x), len(y)
    cost = (x[:, None] - y[None]) ** 2
    rows = np.kron(np.eye(n), np.ones(m))
    columns = np.kron(np.ones(n), np.eye(m))
    shares = np.concatenate([np.full(n, 1 / n), np.full(m, 1 / m)])
    return linprog(cost.ravel(), A_eq=np.concatenate([rows, columns]), b_eq=shares).fun


@settings(deadline=None, max_examples=25, derandomize=True)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 99))
def test_one_dimension_is_the_cheapest_transport(n, m, seed):
    torch.manual_seed(seed)
    x, y = torch.randn(n, 3).double(), torch.randn(m, 3).double() * 2 + 1
    expected = [by_programme(x[:, p].numpy(), y[:, p].numpy()) for p in range(3)]
    np.testing.assert_allclose(wasserstein_1d(x, y).numpy(), expected, rtol=1e-7, atol=1e-9)


def test_equal_sizes_match_the_best_pairing():
    x, y = torch.randn(5, 1), torch.randn(5, 1) + 1
    best = min((x - y[list(order)]).square().mean().item() for order in permutations(range(5)))
    assert wasserstein_1d(x, y).item() == pytest.approx(best, rel=1e-5)


@pytest.mark.parametrize(("n", "m"), [(6, 9), (8, 8), (1, 4)])
def test_repeating_a_sample_changes_nothing(n, m):
    x, y = torch.randn(n, 4), torch.randn(m, 4)
    expected = wasserstein_1d(x, y)
    torch.testing.assert_close(wasserstein_1d(x.repeat(3, 1), y), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(wasserstein_1d(x, y.repeat(2, 1)), expected, rtol=1e-5, atol=1e-6)
    assert wasserstein_1d(x, x.repeat(3, 1)).abs().max() < 1e-12


def test_an_offset_costs_its_square_over_the_number_of_features():
    x, c = torch.randn(50, 6), torch.arange(6.0)
    value = sliced_wasserstein(x, x + c, 20_000).item()
    assert value == pytest.approx(c.square().sum().item() / 6, rel=0.03)
    assert sliced_wasserstein(x[:, :1], x[:, :1] + 2).item() == pytest.approx(4, rel=1e-5)


def test_equals_a_loop_over_directions():
    x, y = torch.randn(7, 4), torch.randn(10, 4) + 1
    torch.manual_seed(5)
    found = sliced_wasserstein(x, y, 6).item()
    torch.manual_seed(5)
    axes = torch.randn(4, 6).numpy()
    each = []
    for axis in axes.T / np.linalg.norm(axes, axis=0)[:, None]:
        each.append(by_programme(x.numpy().astype(float) @ axis, y.numpy().astype(float) @ axis))
    assert found == pytest.approx(np.mean(each), rel=1e-5)


def test_zero_on_the_same_rows_in_any_order_and_symmetric():
    x, y = torch.randn(30, 5), torch.randn(21, 5) + 1
    assert sliced_wasserstein(x, x).item() == 0
    assert sliced_wasserstein(x, x[torch.randperm(30)]).item() == pytest.approx(0, abs=1e-10)
    values = []
    for pair in ((x, y), (y, x)):
        torch.manual_seed(2)
        values.append(sliced_wasserstein(*pair).item())
    assert values[0] == pytest.approx(values[1], rel=1e-5)


def test_grows_with_the_square_of_the_scale():
    x, y = torch.randn(30, 5), torch.randn(21, 5) + 1
    values = []
    for scale in (1, 3):
        torch.manual_seed(2)
        values.append(sliced_wasserstein(scale * x, scale * y).item())
    assert values[1] == pytest.approx(9 * values[0], rel=1e-5)


def test_directions_are_drawn_anew():
    x, y = torch.randn(30, 5), torch.randn(21, 5) + 1
    assert sliced_wasserstein(x, y) != sliced_wasserstein(x, y)


def test_a_large_common_offset_costs_few_digits():
    x, y = torch.randn(30, 5).double(), torch.randn(21, 5).double() + 1
    values = []
    for a, b in ((x, y), ((x + 1e3).float(), (y + 1e3).float())):
        torch.manual_seed(2)
        axes = nn.functional.normalize(torch.randn(5, 16), dim=0).to(a)
        centre = a.mean(0)
        values.append(wasserstein_1d((a - centre) @ axes, (b - centre) @ axes).mean().item())
    torch.manual_seed(2)
    assert sliced_wasserstein((x + 1e3).float(), (y + 1e3).float(), 16).item() == pytest.approx(values[0], rel=1e-3)
    assert values[1] == pytest.approx(values[0], rel=1e-3)


def test_collapsed_batches_are_finite_and_a_nan_is_not_dropped():
    x, y = torch.ones(6, 3, requires_grad=True), torch.ones(4, 3)
    value = sliced_wasserstein(x, y)
    value.backward()
    assert value.item() == 0
    assert x.grad.abs().max() == 0
    y[1, 1] = float("nan")
    assert sliced_wasserstein(x, y).isnan()


@pytest.mark.parametrize("m", [32, 24])
def test_a_gradient_step_on_the_target_brings_it_closer(m):
    x, y = torch.randn(32, 5), (torch.randn(m, 5) + 1).requires_grad_()
    (grad,) = torch.autograd.grad(sliced_wasserstein(x, y, 512), y)
    assert grad.isfinite().all()
    assert sliced_wasserstein(x, y - grad * m, 512) < 0.7 * sliced_wasserstein(x, y, 512)


def test_pooled_each_and_maps():
    s, t = [torch.randn(6, 3), torch.randn(2, 3, 2, 3) + 1], [torch.randn(7, 3) - 1, torch.randn(5, 3)]
    views = tuple(view(x, d) for d, x in enumerate((*s, *t)))
    s[1] = s[1].permute(0, 2, 3, 1).flatten(0, 2)
    torch.manual_seed(4)
    pooled = SWD(directions=9)(views[:2], views[2:], STEP)["swd"]
    torch.manual_seed(4)
    assert torch.equal(pooled, sliced_wasserstein(torch.cat(s), torch.cat(t), 9))
    torch.manual_seed(4)
    each = SWD(directions=9, pairing="each")(views[:2], views[2:], STEP)["swd"]
    torch.manual_seed(4)
    torch.testing.assert_close(each, torch.stack([sliced_wasserstein(x, y, 9) for x in s for y in t]).mean())


def test_wrong_options_and_empty_sides_are_refused():
    with pytest.raises(ValueError, match=r"swd\.directions must be a whole number >= 1; got 0"):
        SWD(directions=0)
    with pytest.raises(ValueError, match=r"swd\.pairing must be one of"):
        SWD(pairing="all")
    with pytest.raises(ValueError, match="rows on both sides; got 0 and 4"):
        sliced_wasserstein(torch.randn(0, 3), torch.randn(4, 3))


def test_aligning_learns_the_cue_that_both_domains_share():
    assert gain(SWD)[0] > 0.3
