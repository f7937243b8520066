"""CORAL computed another way, its invariances, and its two estimators under equal distributions."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from haze import scores
from hypothesis import given, settings
from hypothesis import strategies as st
from intervals import gain_over
from torch import Tensor, nn

from eo_adapt.align import Step, View
from eo_adapt.align.coral import CORAL, coral, covariance

STEP = Step(nn.Identity(), nn.CrossEntropyLoss(), lambda domain: nullcontext(), 0.5)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def view(features: Tensor, domain: int) -> View:
    return View(features, features, None, domain)


def by_numpy(source: Tensor, target: Tensor) -> float:
    """|C_s - C_t|^2 / (4 d^2) in float64."""
    s, t = (np.cov(x.double().numpy(), rowvar=False) for x in (source, target))
    return float(((s - t) ** 2).sum() / (4 * source.shape[1] ** 2))


def skewed(n: int, d: int) -> Tensor:
    """Rows whose columns are correlated and differ in scale."""
    return torch.randn(n, d) @ torch.randn(d, d)


@settings(deadline=None, max_examples=25, derandomize=True)
@given(st.integers(2, 40), st.integers(2, 40), st.integers(2, 20), st.integers(0, 99))
def test_equals_numpy(n, m, d, seed):
    torch.manual_seed(seed)
    source, target = skewed(n, d), skewed(m, d) + 1
    assert coral(source, target).item() == pytest.approx(by_numpy(source, target), rel=1e-4)


def test_covariance_equals_numpy():
    x = skewed(17, 5)
    np.testing.assert_allclose(covariance(x).numpy(), np.cov(x.double().numpy(), rowvar=False), rtol=1e-5, atol=1e-5)


def test_zero_on_the_same_rows_in_any_order():
    x = skewed(30, 8)
    assert coral(x, x).item() == 0
    assert coral(x, x[torch.randperm(30)]).item() == pytest.approx(0, abs=1e-9)


def test_invariant_to_offsets_and_common_rotations():
    source, target = skewed(50, 6), skewed(40, 6)
    value = coral(source, target).item()
    assert value > 0.1
    assert coral(source + 3, target - 5).item() == pytest.approx(value, rel=1e-5)
    rotation, _ = torch.linalg.qr(torch.randn(6, 6))
    assert coral(source @ rotation, target @ rotation).item() == pytest.approx(value, rel=1e-4)
    assert coral(source @ rotation, target).item() != pytest.approx(value, rel=1e-2)


@pytest.mark.parametrize("scale", [0.1, 3.0])
def test_grows_with_the_fourth_power_of_the_scale(scale):
    source, target = skewed(50, 6), skewed(40, 6)
    assert coral(scale * source, scale * target).item() == pytest.approx(
        scale**4 * coral(source, target).item(), rel=1e-5
    )


def test_a_large_mean_costs_no_digits():
    source, target = torch.randn(200, 16) + 1e3, 1.5 * torch.randn(200, 16) + 1e3
    assert source.dtype == torch.float32
    assert coral(source, target).item() == pytest.approx(by_numpy(source, target), rel=1e-5)


def test_norm_mean_is_four_times_the_paper():
    source, target = skewed(50, 6), skewed(40, 6)
    gap = np.cov(source.double().numpy(), rowvar=False) - np.cov(target.double().numpy(), rowvar=False)
    assert coral(source, target, "mean").item() == pytest.approx(float(np.mean(gap**2)), rel=1e-4)
    assert coral(source, target, "mean").item() == pytest.approx(4 * coral(source, target, "paper").item())


def draws(estimator: str, n: int, m: int, d: int, count: int = 400) -> Tensor:
    """|C_s - C_t|^2 of equal distributions, before the norm."""
    return torch.stack([d**2 * coral(torch.randn(n, d), torch.randn(m, d), "mean", estimator) for _ in range(count)])


def z_score(values: Tensor, expected: float) -> float:
    return ((values.mean() - expected) / (values.std() / len(values) ** 0.5)).item()


@pytest.mark.parametrize(("n", "d"), [(16, 12), (65, 6)])
def test_biased_has_the_noise_floor_of_its_docstring(n, d):
    values = draws("biased", n, n, d)
    assert abs(z_score(values, 2 * (d**2 + d) / (n - 1))) < 3.5
    assert z_score(values, 0) > 20


@pytest.mark.parametrize(("n", "m", "d"), [(16, 16, 12), (21, 64, 6)])
def test_split_half_is_zero_on_average_under_equal_distributions(n, m, d):
    values = draws("split_half", n, m, d)
    assert abs(z_score(values, 0)) < 3.5
    assert values.min() < 0 < values.max()


def test_split_half_is_unbiased_under_a_shift():
    values = torch.stack(
        [16 * coral(torch.randn(24, 4), 2 * torch.randn(30, 4), "mean", "split_half") for _ in range(400)]
    )
    assert abs(z_score(values, 4 * 3.0**2)) < 3.5  # |I - 4 I|^2


def test_split_half_draws_its_halves_at_random():
    """Sorted rows (a batch by region) must not end up in one half each."""
    x, y = torch.cat([torch.randn(20, 3), 5 * torch.randn(20, 3)]), torch.randn(40, 3)
    assert len({coral(x, y, estimator="split_half").item() for _ in range(3)}) == 3


@pytest.mark.parametrize(("rows", "estimator"), [(1, "biased"), (0, "biased"), (3, "split_half")])
def test_too_few_rows_say_so(rows, estimator):
    for source, target in ((rows, 9), (9, rows)):
        with pytest.raises(ValueError, match="at least 2 rows"):
            coral(torch.randn(source, 4), torch.randn(target, 4), estimator=estimator)


def test_fewest_rows_that_are_enough():
    assert coral(torch.randn(2, 3), torch.randn(2, 3)).isfinite()
    assert coral(torch.randn(4, 3), torch.randn(5, 3), estimator="split_half").isfinite()


@pytest.mark.parametrize("option", ["norm", "estimator", "pairing"])
def test_misspelt_options_are_refused_at_construction(option):
    with pytest.raises(ValueError, match=rf"coral\.{option} must be one of"):
        CORAL(**{option: "papre"})
    if option != "pairing":
        with pytest.raises(ValueError, match=f"{option} must be one of"):
            coral(torch.randn(4, 2), torch.randn(4, 2), **{option: "papre"})


def test_pooled_and_each_with_two_sources_and_two_targets():
    s, t = [skewed(9, 4), skewed(14, 4) + 2], [skewed(11, 4) - 1, skewed(7, 4)]
    sources, targets = (view(s[0], 0), view(s[1], 1)), (view(t[0], 2), view(t[1], 3))
    pooled = CORAL(1.0, pairing="pooled")(sources, targets, STEP)
    assert pooled["coral"].item() == pytest.approx(by_numpy(torch.cat(s), torch.cat(t)), rel=1e-4)
    each = CORAL(1.0, pairing="each")(sources, targets, STEP)
    assert each["coral"].item() == pytest.approx(np.mean([by_numpy(x, y) for x in s for y in t]), rel=1e-4)


def test_a_map_counts_every_cell():
    source, target = torch.randn(3, 5, 4, 2), 2 * torch.randn(2, 5, 3, 3)
    term = CORAL(1.0, norm="mean")((view(source, 0),), (view(target, 1),), STEP)["coral"].item()
    flat = [x.permute(0, 2, 3, 1).reshape(-1, 5) for x in (source, target)]
    assert term == pytest.approx(4 * by_numpy(*flat), rel=1e-4)


@pytest.mark.parametrize("estimator", ["biased", "split_half"])
def test_a_gradient_step_on_the_target_brings_it_closer(estimator):
    source, target = torch.randn(64, 5), (3 * torch.randn(64, 5)).requires_grad_()
    value = coral(source, target, estimator=estimator)
    (grad,) = torch.autograd.grad(value, target)
    assert grad.isfinite().all()
    assert coral(source, target - 0.1 * grad) < coral(source, target)


@settings(deadline=None, max_examples=25, derandomize=True)
@given(st.integers(4, 9), st.integers(4, 9), st.integers(3, 40), st.integers(0, 99))
def test_fewer_rows_than_features_give_the_same_value_and_gradient(n, m, d, seed):
    """From Gram matrices (few rows) as from covariances (many), against autograd through the textbook formula."""
    torch.manual_seed(seed)
    x, y = (skewed(rows, d).double().requires_grad_() for rows in (n, m))
    expected = (torch.cov(x.T) - torch.cov(y.T)).square().sum() / (4 * d**2)
    found = coral(x, y)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    pairs = zip(torch.autograd.grad(found, (x, y)), torch.autograd.grad(expected, (x, y)), strict=True)
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-11)


def test_split_half_of_few_rows_is_the_product_of_two_gaps():
    x, y = torch.randn(9, 60).double(), torch.randn(12, 60).double() * 2
    torch.manual_seed(3)
    found = coral(x, y, "mean", "split_half")
    torch.manual_seed(3)
    (x1, x2), (y1, y2) = (z[torch.randperm(len(z))].tensor_split(2) for z in (x, y))
    first, second = (torch.cov(a.T) - torch.cov(b.T) for a, b in ((x1, y1), (x2, y2)))
    torch.testing.assert_close(found, (first * second).mean(), rtol=1e-9, atol=1e-12)


def test_few_rows_need_no_matrix_of_features_by_features():
    x, y = torch.randn(8, 3000, requires_grad=True), torch.randn(9, 3000) + 1e3
    assert coral(x, x).item() == 0
    with torch.autograd.graph.saved_tensors_hooks(lambda z: sizes.append(z.numel()) or z, lambda z: z):
        sizes: list[int] = []
        value = coral(x, y)
        value.backward()
    assert max(sizes) <= 9 * 3000
    assert value.item() == pytest.approx(by_numpy(x.detach(), y), rel=1e-4)


@pytest.mark.parametrize("level", [0.0, 0.1, 1e3])
@pytest.mark.parametrize("d", [3, 30])
@pytest.mark.parametrize("estimator", ["biased", "split_half"])
def test_a_collapsed_batch_is_finite_in_value_and_gradient(estimator, d, level):
    """All rows the same, on one side or both: no covariance, from covariances as from Gram matrices."""
    source, target = (torch.full((n, d), level, requires_grad=True) for n in (8, 6))
    value = coral(source, target, estimator=estimator)
    grads = torch.autograd.grad(value, (source, target))
    assert value.item() == pytest.approx(0, abs=1e-6)
    assert all(grad.isfinite().all() for grad in grads)
    spread = torch.randn(40, d, requires_grad=True)
    value = coral(spread, target, "mean", estimator)
    grads = torch.autograd.grad(value, (spread, target))
    assert value.isfinite()
    if estimator == "biased":
        assert value.item() == pytest.approx(4 * by_numpy(spread.detach(), target.detach()), rel=1e-3)
    assert all(grad.isfinite().all() for grad in grads)


@pytest.mark.parametrize("estimator", ["biased", "split_half"])
def test_bfloat16_features_are_compared_in_float32(estimator):
    source, target = (scale * torch.randn(32, 6) + 10 for scale in (1.0, 2.0))
    half = [x.bfloat16().requires_grad_() for x in (source, target)]
    align = CORAL(1.0, estimator=estimator)
    torch.manual_seed(3)
    term = align((view(half[0], 0),), (view(half[1], 1),), STEP)["coral"]
    torch.manual_seed(3)
    assert torch.equal(term, coral(half[0].detach().float(), half[1].detach().float(), estimator=estimator))
    assert term.dtype == torch.float32
    for grad in torch.autograd.grad(term, half):
        assert grad.dtype == torch.bfloat16
        assert grad.isfinite().all()
        assert grad.abs().max() > 0


def test_helps_where_haze_lies_on_the_clear_cue():
    """At the weight of its yaml."""
    plain, ours = (scores(name, norm=False).honest for name in ("source_only", "coral"))
    assert gain_over(plain, ours)[0] > 0.2


@pytest.mark.parametrize("d", [3, 30])
@pytest.mark.parametrize("estimator", ["biased", "split_half"])
def test_a_nan_is_not_dropped(d, estimator):
    x, y = torch.randn(8, d), torch.randn(7, d)
    x[3, 1] = float("nan")
    assert coral(x, y, estimator=estimator).isnan()
    assert coral(y, x, estimator=estimator).isnan()
