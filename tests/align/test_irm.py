"""IRM: the closed form against autograd, a calibrated predictor, and a toy where a colour lies."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from intervals import gain_over
from sources import step_of, view, where_colour_lies
from torch import nn
from torch.nn import functional as F

from eo_adapt.align import Setup
from eo_adapt.align.irm import IRM, irm, scale_gradient
from eo_adapt.align.source_only import SourceOnly


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def by_autograd(logits, labels):
    """Gradient of the mean cross-entropy by a scalar that multiplies the logits."""
    scale = torch.ones((), dtype=logits.dtype, requires_grad=True)
    loss = F.cross_entropy(scale * logits, labels, ignore_index=-1)
    return torch.autograd.grad(loss, scale, create_graph=True)[0]


def labelled(rows, classes, *space):
    logits = 3 * torch.randn(rows, classes, *space)
    return logits, torch.randint(-1, classes, (rows, *space)).index_fill(0, torch.tensor([0]), 0)


@settings(deadline=None, max_examples=25, derandomize=True)
@given(st.integers(1, 30), st.integers(2, 9), st.sampled_from([(), (3, 2)]), st.integers(0, 99))
def test_closed_form_equals_autograd(rows, classes, space, seed):
    torch.manual_seed(seed)
    logits, labels = labelled(rows, classes, *space)
    mean = scale_gradient(logits, labels).sum() / (labels >= 0).sum()
    torch.testing.assert_close(mean, by_autograd(logits, labels), atol=2e-6, rtol=2e-6)
    expected = by_autograd(logits.double(), labels).square()
    assert irm(logits, labels, "plug_in").item() == pytest.approx(expected.item(), rel=1e-4, abs=1e-9)


def test_formula_of_one_sample():
    logits, label = torch.tensor([[1.0, -2.0, 0.5]]), torch.tensor([2])
    p = logits.double().softmax(1)
    assert scale_gradient(logits, label).item() == pytest.approx(float((p * logits).sum() - logits[0, 2]), abs=1e-6)


def test_gradients_equal_those_of_differentiating_twice():
    logits, labels = labelled(20, 4)
    ours, theirs = (logits.clone().requires_grad_() for _ in range(2))
    irm(ours, labels, "plug_in").backward()
    by_autograd(theirs, labels).square().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-6, rtol=1e-4)


def calibrated(estimator, draws=1500, rows=40):
    """Penalties of batches whose labels are drawn from the predicted probabilities."""
    found = []
    for _ in range(draws):
        logits = 2 * torch.randn(rows, 3)
        labels = torch.multinomial(logits.softmax(1), 1).squeeze(1)
        found.append(irm(logits, labels, estimator))
    return torch.stack(found)


def z_score(values):
    return (values.mean() / (values.std() / len(values) ** 0.5)).item()


def test_split_half_is_zero_on_average_for_a_calibrated_predictor_and_the_plug_in_is_not():
    values = calibrated("split_half")
    assert abs(z_score(values)) < 3.5
    assert values.min() < 0 < values.max()
    assert z_score(calibrated("plug_in")) > 10


def test_halves_are_drawn_at_random():
    logits, labels = labelled(20, 3)
    assert len({irm(logits, labels).item() for _ in range(4)}) == 4


def test_zero_gradient_for_logits_of_the_best_scale():
    """The scale that minimises the risk has no gradient; any other has one of the right sign."""
    labels = torch.tensor([0, 0, 0, 1])
    logits = torch.tensor([3.0, 1.0]).log().expand(4, 2)  # odds of the labels
    assert scale_gradient(logits, labels).mean().item() == pytest.approx(0, abs=1e-6)
    assert scale_gradient(2 * logits, labels).mean() > 0.01
    assert scale_gradient(0.5 * logits, labels).mean() < -0.01


def test_an_offset_of_all_logits_changes_nothing():
    logits, labels = labelled(50, 5)
    plain, moved = (irm(z, labels, "plug_in").item() for z in (logits, logits + 1e3))
    assert moved == pytest.approx(plain, rel=1e-2)
    assert plain == pytest.approx(by_autograd(logits.double(), labels).square().item(), rel=1e-4)


def test_extreme_and_half_precision_logits_are_finite():
    labels = torch.tensor([0, 1, 1, 0])
    for logits in (torch.full((4, 2), 1e4), torch.tensor([[1e4, -1e4]] * 4), torch.zeros(4, 2)):
        x = logits.bfloat16().requires_grad_()
        value = irm(x, labels, "plug_in")
        value.backward()
        assert value.isfinite()
        assert value.dtype == torch.float32
        assert x.grad.isfinite().all()


def test_samples_of_unknown_class_do_not_count():
    logits, labels = labelled(20, 4)
    known = labels >= 0
    assert irm(logits, labels, "plug_in").item() == pytest.approx(
        irm(logits[known], labels[known], "plug_in").item(), rel=1e-5
    )
    assert irm(logits, torch.full_like(labels, -1)) == 0


def test_the_term_is_the_mean_over_sources():
    (a, la), (b, lb) = labelled(12, 3), labelled(7, 3)
    align = IRM(estimator="plug_in")
    term = align((view(a, la), view(b, lb, 1)), (), step_of(nn.Identity()))["irm"]
    assert term.item() == pytest.approx((irm(a, la, "plug_in") + irm(b, lb, "plug_in")).item() / 2, rel=1e-6)


def test_refusals():
    with pytest.raises(ValueError, match=r"irm\.estimator must be one of"):
        IRM(estimator="halves")
    with pytest.raises(ValueError, match="two halves; got 1"):
        irm(torch.randn(1, 3), torch.tensor([0]))
    with pytest.raises(ValueError, match=r"IRM .* at least 2 sources; got 1"):
        IRM().attach(nn.Linear(2, 2), Setup(2, 1, 1, 2))


def test_it_learns_the_cause_where_plain_training_learns_the_colour():
    plain = [where_colour_lies(SourceOnly(), seed) for seed in range(3)]
    ours = [where_colour_lies(IRM(100.0), seed) for seed in range(3)]
    assert gain_over(plain, ours)[0] > 0.2
