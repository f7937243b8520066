"""DeepJDOT against all pairings and a linear programme, its gradient at a fixed plan, and what it needs."""

import importlib
import subprocess
import sys
from contextlib import nullcontext
from itertools import permutations

import numpy as np
import pytest
import torch
from cues import difference, gain
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from torch import Tensor, nn
from torch.nn import functional as F

from eo_adapt.align import Alignment, Step, View
from eo_adapt.align.deepjdot import DeepJDOT, deepjdot, transport

STEP = Step(nn.Identity(), nn.CrossEntropyLoss(), lambda domain: nullcontext(), 0.5)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def view(features: Tensor, logits: Tensor, domain: int, labels: Tensor | None = None) -> View:
    return View(features, logits, None, domain, labels)


def costs(x: Tensor, y: Tensor, labels: Tensor, logits: Tensor, a: float, b: float) -> np.ndarray:
    """One pair of rows at a time, in float64."""
    x, y, logits = x.double(), y.double(), logits.double()
    return np.array(
        [
            [
                a * float((x[i] - y[j]).square().sum()) + b * F.cross_entropy(logits[j], labels[i]).item()
                for j in range(len(y))
            ]
            for i in range(len(x))
        ]
    )


def cheapest(cost: np.ndarray) -> float:
    """Linear programme over all plans with equal weights."""
    n, m = cost.shape
    sums = np.concatenate([np.kron(np.eye(n), np.ones(m)), np.kron(np.ones(n), np.eye(m))])
    shares = np.concatenate([np.full(n, 1 / n), np.full(m, 1 / m)])
    return linprog(cost.ravel(), A_eq=sums, b_eq=shares).fun


@settings(deadline=None, max_examples=20, derandomize=True)
@given(st.integers(1, 7), st.integers(1, 7), st.integers(2, 4), st.integers(0, 99))
def test_equals_a_linear_programme(n, m, k, seed):
    torch.manual_seed(seed)
    x, y, labels, logits = torch.randn(n, 3), torch.randn(m, 3) + 1, torch.randint(k, (n,)), torch.randn(m, k)
    found = deepjdot(x, y, F.one_hot(labels, k).float(), logits.log_softmax(1), 0.3, 0.7).item()
    assert found == pytest.approx(cheapest(costs(x, y, labels, logits, 0.3, 0.7)), rel=1e-4, abs=1e-6)


def test_equal_batches_take_the_best_pairing():
    x, y, labels, logits = torch.randn(5, 3), torch.randn(5, 3), torch.arange(5) % 2, torch.randn(5, 2)
    cost = costs(x, y, labels, logits, 0.1, 1.0)
    best = min(np.mean([cost[i, j] for i, j in enumerate(order)]) for order in permutations(range(5)))
    found = deepjdot(x, y, F.one_hot(labels).float(), logits.log_softmax(1), 0.1, 1.0).item()
    assert found == pytest.approx(best, rel=1e-5)


def test_zero_where_features_agree_and_predictions_are_sure_and_right():
    x, labels = torch.randn(8, 3), torch.arange(8) % 2
    shares = F.one_hot(labels).float()
    order = torch.randperm(8)
    right, wrong = ((sign * 50 * shares[order]).log_softmax(1) for sign in (1, -1))
    assert deepjdot(x, x[order], shares, right, 0.3).item() == pytest.approx(0, abs=1e-5)
    assert deepjdot(x, x[order], shares, wrong, 0.3).item() > 0.3


@pytest.mark.parametrize("plan", ["exact", "sinkhorn", "unbalanced"])
def test_the_gradient_is_that_of_the_cost_at_a_fixed_plan(plan):
    x, y = torch.randn(6, 3, requires_grad=True), torch.randn(4, 3, requires_grad=True)
    shares, logits = F.one_hot(torch.arange(6) % 2).float(), torch.randn(4, 2, requires_grad=True)
    inputs = (x, y, logits)
    grads = torch.autograd.grad(deepjdot(x, y, shares, logits.log_softmax(1), 0.2, 0.5, plan), inputs)
    cost = 0.2 * (x[:, None] - y[None]).square().sum(2) - 0.5 * shares @ logits.log_softmax(1).T
    moved = transport(cost, plan)
    assert not moved.requires_grad
    for ours, theirs in zip(grads, torch.autograd.grad((moved * cost).sum(), inputs), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
        assert ours.abs().max() > 1e-4


def test_plans_move_all_mass_or_leave_out_what_is_expensive():
    cost = torch.rand(9, 6)
    cost[:, 5] = 30.0  # a target row that nothing is like
    for plan in ("exact", "sinkhorn"):
        moved = transport(cost, plan)
        torch.testing.assert_close(moved.sum(0), torch.full((6,), 1 / 6), rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(moved.sum(1), torch.full((9,), 1 / 9), rtol=1e-3, atol=1e-4)
    moved = transport(cost, "unbalanced")
    assert moved.min() >= 0
    assert moved[:, 5].sum() < 0.01 / 6
    assert moved[:, :5].sum() > 0.5


def test_a_smoother_plan_costs_more_and_little_smoothing_is_exact():
    cost = torch.rand(9, 6)
    values = [(transport(cost, "sinkhorn", entropy) * cost).sum() for entropy in (0.01, 0.1, 1.0)]
    exact = (transport(cost) * cost).sum()
    assert exact <= values[0] + 1e-4
    assert values[0] < values[1] < values[2]
    assert values[0] == pytest.approx(exact.item(), rel=0.1)


@pytest.mark.parametrize("factor", [1e-6, 1e6])
@pytest.mark.parametrize("plan", ["exact", "sinkhorn", "unbalanced"])
def test_a_plan_does_not_know_the_unit_of_the_cost(plan, factor):
    cost = torch.rand(7, 5)
    torch.testing.assert_close(transport(factor * cost, plan), transport(cost, plan), rtol=1e-3, atol=1e-5)


def test_unlabelled_rows_are_left_out_and_none_at_all_is_zero():
    x, y, logits = torch.randn(6, 3), torch.randn(5, 3, requires_grad=True), torch.randn(5, 2)
    labels = torch.tensor([0, -1, 1, 1, -1, 0])
    target = view(y, logits, 1)
    term = DeepJDOT()((view(x, torch.zeros(6, 2), 0, labels),), (target,), STEP)["deepjdot"]
    known = labels >= 0
    assert term.item() == pytest.approx(
        cheapest(costs(x[known], y.detach(), labels[known], logits, 0.01, 1.0)), rel=1e-4
    )
    term = DeepJDOT()((view(x, torch.zeros(6, 2), 0, labels * 0 - 1),), (target,), STEP)["deepjdot"]
    (grad,) = torch.autograd.grad(term, y)
    assert term.item() == 0
    assert grad.abs().max() == 0


def test_maps_with_coarse_features_cost_the_mean_over_a_cell():
    features, labels = torch.randn(1, 3, 2, 2), torch.randint(2, (1, 4, 4))
    other, logits = torch.randn(1, 3, 2, 1), torch.randn(1, 2, 4, 2)
    found = DeepJDOT(feature_cost=0.1)(
        (view(features, torch.zeros(1, 2, 4, 4), 0, labels),), (view(other, logits, 1),), STEP
    )
    x, y = (z[0].permute(1, 2, 0).flatten(0, 1).double() for z in (features, other))
    cost = 0.1 * (x[:, None] - y[None]).square().sum(2).numpy()
    for i in range(4):
        for j in range(2):
            ours = labels[0, 2 * (i // 2) : 2 * (i // 2) + 2, 2 * (i % 2) : 2 * (i % 2) + 2].flatten()
            theirs = logits[0, :, 2 * j : 2 * j + 2].flatten(1).T
            cost[i, j] += np.mean([F.cross_entropy(z, label).item() for z in theirs for label in ours])
    assert found["deepjdot"].item() == pytest.approx(cheapest(cost), rel=1e-4)


def test_pooled_each_bf16_and_max_rows():
    parts = [(torch.randn(n, 4), torch.randn(n, 2).bfloat16(), torch.arange(n) % 2) for n in (6, 9, 7, 5)]
    views = tuple(view(x, z, d, y if d < 2 else None) for d, (x, z, y) in enumerate(parts))

    def expected(s, t):
        (x, _, labels), (y, logits, _) = (
            map(torch.cat, zip(*(parts[i] for i in side), strict=True)) for side in (s, t)
        )
        return cheapest(costs(x, y, labels, logits, 0.01, 1.0))

    pooled = DeepJDOT()(views[:2], views[2:], STEP)["deepjdot"]
    assert pooled.dtype == torch.float32
    assert pooled.item() == pytest.approx(expected((0, 1), (2, 3)), rel=1e-4)
    each = DeepJDOT(pairing="each")(views[:2], views[2:], STEP)["deepjdot"].item()
    assert each == pytest.approx(np.mean([expected([s], [t]) for s in (0, 1) for t in (2, 3)]), rel=1e-4)
    few = DeepJDOT(max_rows=4)
    assert few(views[:2], views[2:], STEP)["deepjdot"] != few(views[:2], views[2:], STEP)["deepjdot"]


@pytest.mark.parametrize("offset", [0.0, 1e3])
@pytest.mark.parametrize("plan", ["exact", "sinkhorn", "unbalanced"])
def test_collapsed_batches_are_finite(plan, offset):
    x = torch.full((8, 4), offset, requires_grad=True)
    shares = F.one_hot(torch.arange(8) % 2).float()
    value = deepjdot(x, x.detach()[:5], shares, torch.zeros(5, 2).log_softmax(1), plan=plan)
    value.backward()
    assert value.isfinite()
    assert x.grad.abs().max() < 1e-3
    assert deepjdot(x, x, shares, shares * 0, plan=plan).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.filterwarnings("ignore::UserWarning")  # POT says what it sees, too
@pytest.mark.parametrize("plan", ["exact", "sinkhorn", "unbalanced"])
def test_a_nan_is_not_dropped(plan):
    x, shares = torch.randn(8, 4), F.one_hot(torch.arange(8) % 2).float()
    x[1, 1] = float("nan")
    assert deepjdot(x, torch.randn(5, 4), shares, torch.zeros(5, 2), plan=plan).isnan()


def test_without_pot_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ot", None)
    with pytest.raises(ImportError, match=r"pip install eo_adapt\[ot\]"):
        DeepJDOT()


def test_importing_it_needs_no_pot():
    code = "import sys; sys.modules['ot'] = None; import eo_adapt.align.deepjdot"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert importlib.import_module("ot")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"plan": "emd"}, r"deepjdot\.plan must be one of \['exact', 'sinkhorn', 'unbalanced'\]"),
        ({"pairing": "all"}, r"deepjdot\.pairing must be one of"),
        ({"feature_cost": -1.0}, r"deepjdot\.feature_cost must be a finite number >= 0; got -1.0"),
        ({"label_cost": float("inf")}, r"deepjdot\.label_cost must be a finite number >= 0"),
        ({"entropy": 0.0}, r"deepjdot\.entropy must be a finite number > 0; got 0\.0"),
        ({"slack": 0.0}, r"deepjdot\.slack must be a finite number > 0"),
        ({"max_rows": 0}, r"deepjdot\.max_rows must be a whole number >= 1"),
    ],
)
def test_wrong_options_are_refused_at_construction(options, message):
    with pytest.raises(ValueError, match=message):
        DeepJDOT(**options)


def test_learns_the_cue_that_both_domains_share():
    assert gain(DeepJDOT, ramp=True)[0] > 0.3


def test_under_label_shift_an_unbalanced_plan_helps_where_an_exact_one_hurts():
    """Source-only does well at this offset, so that there is something to lose."""
    shifted = {"share": 0.85, "offset": 1.5, "ramp": True}
    assert difference(DeepJDOT, Alignment, **shifted)[1] < 0
    assert difference(lambda: DeepJDOT(plan="unbalanced"), Alignment, **shifted)[0] > 0
