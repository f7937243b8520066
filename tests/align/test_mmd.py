"""MMD against a brute-force double loop, its invariances, and batches that break other libraries."""

import math
import statistics
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from cues import difference, gain
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from eo_adapt.align import Alignment, Step, View
from eo_adapt.align.mmd import MMD, mmd

STEP = Step(nn.Identity(), nn.CrossEntropyLoss(), lambda domain: nullcontext(), 0.5)
SCALES = (0.25, 0.5, 1.0, 2.0, 4.0)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def view(features: Tensor, domain: int) -> View:
    return View(features, features, None, domain)


def brute(source: Tensor, target: Tensor, estimator: str, scales: tuple[float, ...] = SCALES) -> float:
    """Squared MMD one pair at a time in float64; the bandwidth is the (lower) median over pairs of rows."""
    x, y = source.double().numpy(), target.double().numpy()
    joint = [*x, *y]
    apart = [float(((a - b) ** 2).sum()) for i, a in enumerate(joint) for b in joint[:i]]
    bandwidth = statistics.median_low(apart)

    def kernel(a: np.ndarray, b: np.ndarray) -> float:
        return sum(math.exp(-float(((a - b) ** 2).sum()) / (s * bandwidth)) for s in scales) / len(scales)

    def within(z: np.ndarray) -> float:
        keep = [kernel(a, b) for i, a in enumerate(z) for j, b in enumerate(z) if estimator == "v" or i != j]
        return sum(keep) / len(keep)

    across = [kernel(a, b) for a in x for b in y]
    return within(x) + within(y) - 2 * sum(across) / len(across)


@pytest.mark.parametrize("estimator", ["u", "v"])
@settings(deadline=None, max_examples=12, derandomize=True)
@given(n=st.integers(2, 9), m=st.integers(2, 9), d=st.integers(1, 6), seed=st.integers(0, 99))
def test_equals_a_double_loop(estimator, n, m, d, seed):
    torch.manual_seed(seed)
    source, target = torch.randn(n, d), 1.5 * torch.randn(m, d) + 0.5
    assert mmd(source, target, estimator=estimator).item() == pytest.approx(brute(source, target, estimator), abs=1e-5)


def test_scales_are_those_given():
    source, target = torch.randn(7, 3), torch.randn(5, 3) + 1
    one, two = (mmd(source, target, scales).item() for scales in ((0.5,), (0.5, 3.0)))
    assert one == pytest.approx(brute(source, target, "u", (0.5,)), abs=1e-5)
    assert two == pytest.approx(brute(source, target, "u", (0.5, 3.0)), abs=1e-5)
    assert one != pytest.approx(two, abs=1e-3)


def test_v_is_zero_on_the_same_rows_and_never_negative():
    x = torch.randn(20, 6)
    assert mmd(x, x, estimator="v").item() == pytest.approx(0, abs=1e-6)
    assert all(mmd(torch.randn(8, 3), torch.randn(5, 3), estimator="v").item() > 0 for _ in range(20))


@pytest.mark.parametrize(("n", "m"), [(12, 12), (6, 25)])
def test_u_is_zero_on_average_under_equal_distributions(n, m):
    values = torch.stack([mmd(torch.randn(n, 4), torch.randn(m, 4)) for _ in range(400)])
    assert abs(values.mean() / (values.std() / 20)) < 3.5
    biased = torch.stack([mmd(torch.randn(n, 4), torch.randn(m, 4), estimator="v") for _ in range(100)])
    assert biased.mean() / (biased.std() / 10) > 10


@pytest.mark.parametrize("estimator", ["u", "v"])
def test_symmetric_and_blind_to_row_order(estimator):
    source, target = torch.randn(13, 5), torch.randn(8, 5) + 1
    value = mmd(source, target, estimator=estimator).item()
    assert mmd(target, source, estimator=estimator).item() == pytest.approx(value, abs=1e-6)
    shuffled = mmd(source[torch.randperm(13)], target[torch.randperm(8)], estimator=estimator).item()
    assert shuffled == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize("scale", [1e-5, 1e-2, 30.0, 1e5])
def test_invariant_to_the_scale_of_the_features(scale):
    source, target = torch.randn(13, 4), torch.randn(8, 4) + 1
    assert mmd(scale * source, scale * target).item() == pytest.approx(mmd(source, target).item(), abs=1e-5)


@pytest.mark.parametrize("estimator", ["u", "v"])
@pytest.mark.parametrize("offset", [1e2, 1e3])
def test_a_large_common_offset_costs_few_digits(offset, estimator):
    source, target = torch.randn(13, 4) + offset, 1.5 * torch.randn(8, 4) + offset
    assert source.dtype == torch.float32
    assert mmd(source, target, estimator=estimator).item() == pytest.approx(brute(source, target, estimator), abs=2e-5)


@pytest.mark.parametrize("level", [0.0, 0.1, 1.0, 1e3])
@pytest.mark.parametrize("estimator", ["u", "v"])
def test_a_collapsed_batch_is_finite_in_value_and_gradient(estimator, level):
    source = torch.full((8, 6), level, requires_grad=True)
    target = torch.full((5, 6), level, requires_grad=True)
    value = mmd(source, target, estimator=estimator)
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-3)
    assert max(source.grad.abs().max(), target.grad.abs().max()) < 1e3


@pytest.mark.parametrize("level", [0.1, 10.0])
def test_rounding_noise_is_not_taken_for_structure(level):
    row = level * torch.randn(6)
    source, target = ((row * (1 + 1e-7 * torch.randn(n, 6))).requires_grad_() for n in (8, 5))
    value = mmd(source, target)
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-3)
    assert max(source.grad.abs().max(), target.grad.abs().max()) < 10 / level


def test_mostly_collapsed_is_finite_too():
    """More than half of the pairs are equal, so the median distance is 0."""
    source = torch.ones(20, 3).index_fill(0, torch.tensor([0]), 2.0).requires_grad_()
    value = mmd(source, torch.ones(20, 3))
    value.backward()
    assert value.isfinite()
    assert source.grad.isfinite().all()


def mean_kernel(source: Tensor, target: Tensor, scales: tuple[float, ...] = SCALES) -> float:
    """Mean k over different rows of a side; v - u = (1 - mean k_s) / n + (1 - mean k_t) / m."""
    gap = mmd(source, target, scales, "v") - mmd(source, target, scales, "u")
    return 1 - (gap / (1 / len(source) + 1 / len(target))).item()


def test_kernels_are_alive_in_many_dimensions():
    source, target = torch.randn(32, 2048), torch.randn(32, 2048)
    assert 0.05 < mean_kernel(source, target) < 0.95
    assert all(0.01 < mean_kernel(source, target, (scale,)) < 0.95 for scale in SCALES)


@pytest.mark.parametrize("estimator", ["u", "v"])
def test_a_gradient_step_on_the_target_brings_it_closer(estimator):
    source, target = torch.randn(32, 5), (torch.randn(24, 5) + 1).requires_grad_()
    value = mmd(source, target, estimator=estimator)
    (grad,) = torch.autograd.grad(value, target)
    assert grad.isfinite().all()
    assert grad.norm() > 0
    assert mmd(source, target - grad, estimator=estimator) < value
    assert grad.mean(0).sum() > 0, "downhill is towards the source"


def test_the_gradient_is_that_of_the_formula_at_a_fixed_bandwidth():
    source, target = torch.randn(6, 3, requires_grad=True), (torch.randn(5, 3) + 1).requires_grad_()
    scale = 0.25  # alone: the default mixture is flat enough to hide a gradient through the bandwidth
    grads = torch.autograd.grad(mmd(source, target, (scale,)), (source, target))
    x, y = source.detach().double().numpy(), target.detach().double().numpy()
    joint = [*x, *y]
    width = scale * statistics.median_low(float(((a - b) ** 2).sum()) for i, a in enumerate(joint) for b in joint[:i])

    def slope(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Derivative of k(a, b) with respect to a."""
        return -2 * (a - b) / width * np.exp(-((a - b) ** 2).sum() / width)

    for mine, others, grad in ((x, y, grads[0]), (y, x, grads[1])):
        for j, row in enumerate(mine):
            within = sum(slope(row, other) for i, other in enumerate(mine) if i != j) / (len(mine) * (len(mine) - 1))
            across = sum(slope(row, other) for other in others) / 30
            np.testing.assert_allclose(grad[j].numpy(), 2 * within - 2 * across, atol=1e-6)


@pytest.mark.parametrize(("n", "m"), [(1, 8), (8, 1), (0, 4)])
def test_too_few_rows_say_so(n, m):
    with pytest.raises(ValueError, match=f"at least 2 rows a side; got {n} and {m}"):
        mmd(torch.randn(n, 3), torch.randn(m, 3))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"estimator": "w"}, r"mmd\.estimator must be one of \['u', 'v'\]"),
        ({"pairing": "all"}, r"mmd\.pairing must be one of"),
        ({"scales": ()}, r"mmd\.scales needs at least one"),
        ({"scales": (1.0, 0.0)}, r"mmd\.scales must be a finite number > 0"),
        ({"max_rows": 1}, r"mmd\.max_rows must be a whole number >= 2; got 1"),
    ],
)
def test_wrong_options_are_refused_at_construction(options, message):
    with pytest.raises(ValueError, match=message):
        MMD(**options)


def test_pooled_and_each_with_two_sources_and_two_targets():
    s, t = [torch.randn(6, 3), torch.randn(9, 3) + 1], [torch.randn(7, 3) - 1, 2 * torch.randn(5, 3)]
    sources, targets = (view(s[0], 0), view(s[1], 1)), (view(t[0], 2), view(t[1], 3))
    pooled = MMD(pairing="pooled")(sources, targets, STEP)["mmd"].item()
    assert pooled == pytest.approx(brute(torch.cat(s), torch.cat(t), "u"), abs=1e-5)
    each = MMD(pairing="each", estimator="v")(sources, targets, STEP)["mmd"].item()
    assert each == pytest.approx(np.mean([brute(x, y, "v") for x in s for y in t]), abs=1e-5)


def test_max_rows_bounds_a_side_and_draws_at_random():
    large, small = torch.randn(40, 3, requires_grad=True), (torch.randn(12, 3) + 1).requires_grad_()
    for source, target in ((large, small), (small, large)):
        views = (view(source, 0),), (view(target, 1),)
        term = MMD(max_rows=12)(*views, STEP)["mmd"]
        grads = dict(zip((len(source), len(target)), torch.autograd.grad(term, (source, target)), strict=True))
        assert (grads[40].abs().sum(1) > 0).sum() == 12
        assert (grads[12].abs().sum(1) > 0).all()
        assert MMD(max_rows=12)(*views, STEP)["mmd"] != term
        assert MMD(max_rows=40)(*views, STEP)["mmd"].item() == pytest.approx(mmd(source, target).item())


def test_a_nan_is_not_dropped():
    source = torch.randn(5, 3)
    source[2, 1] = math.nan
    assert mmd(source, torch.randn(4, 3)).isnan()


def test_aligning_learns_the_cue_that_both_domains_share():
    assert gain(lambda: MMD(3.0))[0] > 0.3


def test_unequal_class_shares_make_it_hurt():
    """Matching all features of unlike mixtures pulls the smaller class over."""
    assert difference(lambda: MMD(3.0), Alignment, share=0.85, offset=1.5)[1] < 0
