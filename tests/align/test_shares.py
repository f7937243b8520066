"""Class shares of a target from what a classifier says, and class weights on any loss."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rotated import view
from scipy.optimize import minimize_scalar
from torch import nn
from torch.nn import functional as F

from eo_adapt.align.shares import bbse, em, label_shares, mixture, reweighted, sampling_noise, temperature
from eo_adapt.diagnosis.priors import bbse as numpy_bbse
from eo_adapt.diagnosis.priors import em as numpy_em

RECALL = torch.tensor([[0.8, 0.1, 0.2], [0.15, 0.7, 0.1], [0.05, 0.2, 0.7]], dtype=torch.float64)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def shares(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("truth", [(0.1, 0.8, 0.1), (0.34, 0.33, 0.33), (0.0, 0.5, 0.5), (1.0, 0.0, 0.0)])
def test_bbse_recovers_known_shares_from_a_known_confusion(truth):
    found = bbse(RECALL, RECALL @ shares(*truth), shares(0.2, 0.3, 0.5))
    torch.testing.assert_close(found, shares(*truth), atol=2e-3, rtol=0)


@settings(deadline=None, max_examples=15, derandomize=True)
@given(st.integers(2, 6), st.integers(0, 99))
def test_bbse_agrees_with_least_squares_where_there_is_a_solution(k, seed):
    torch.manual_seed(seed)
    recall = torch.eye(k, dtype=torch.float64) * 2 + torch.rand(k, k, dtype=torch.float64)
    recall /= recall.sum(0)
    truth = torch.rand(k, dtype=torch.float64) + 0.1
    predicted = recall @ (truth / truth.sum())
    ours = bbse(recall, predicted, torch.full((k,), 1 / k, dtype=torch.float64))
    np.testing.assert_allclose(ours.numpy(), numpy_bbse(recall.numpy(), predicted.numpy()), atol=2e-3)


def test_shares_that_cannot_be_still_lie_on_the_simplex():
    found = bbse(RECALL, shares(0.0, 0.0, 1.0), shares(0.3, 0.3, 0.4))
    assert found.min() >= 0
    assert found.sum().item() == pytest.approx(1)
    assert found.argmax() == 2


def test_a_classifier_that_knows_nothing_keeps_the_source_shares():
    useless = torch.full((3, 3), 1 / 3, dtype=torch.float64)
    source = shares(0.2, 0.3, 0.5)
    torch.testing.assert_close(bbse(useless, shares(0.6, 0.2, 0.2), source), source)


def gaussians(n: int, truth: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Exact log-posteriors under equal shares, and labels drawn with others."""
    labels = torch.multinomial(truth, n, replacement=True)
    centres = torch.tensor([-1.5, 0.0, 1.5], dtype=torch.float64)
    x = centres[labels] + torch.randn(n, dtype=torch.float64)
    return -0.5 * (x[:, None] - centres) ** 2, labels


def test_em_recovers_known_shares_from_exact_posteriors():
    truth = shares(0.7, 0.2, 0.1)
    p = gaussians(20000, truth)[0].softmax(1)
    equal = torch.full((3,), 1 / 3, dtype=torch.float64)
    found = em(p, equal)
    torch.testing.assert_close(found, truth, atol=0.03, rtol=0)
    np.testing.assert_allclose(found.numpy(), numpy_em(p.numpy(), equal.numpy(), 2000, 1e-7), atol=1e-5)


def test_em_with_the_mean_prediction_as_reference_stays_where_nothing_shifts():
    p = (3 * torch.randn(500, 4, dtype=torch.float64) + torch.arange(4)).softmax(1)  # not calibrated at all
    torch.testing.assert_close(em(p, p.mean(0)), p.mean(0), atol=1e-5, rtol=0)


def test_mixture_raises_the_likelihood():
    likelihood, counts = torch.rand(30, 4, dtype=torch.float64), torch.rand(30, dtype=torch.float64)
    start = torch.full((4,), 0.25, dtype=torch.float64)
    values = [(counts * (likelihood @ mixture(likelihood, counts, start, n, 0.0)).log()).sum() for n in (0, 1, 5, 50)]
    assert values == sorted(values)
    assert values[0] < values[-1]


def test_sampling_noise_is_what_a_simulation_without_shift_finds():
    truth, n, m = shares(0.2, 0.3, 0.5), 400, 300
    predicted, inverse = RECALL @ truth, torch.linalg.inv(RECALL)
    found = []
    for _ in range(2000):
        there, here = (torch.bincount(torch.multinomial(predicted, k, True), minlength=3) / k for k in (m, n))
        found.append((inverse @ (there - here).double()).square().sum())
    assert sampling_noise(RECALL, predicted, n, m) == pytest.approx(torch.stack(found).mean().item(), rel=0.1)


@pytest.mark.parametrize("true", [0.5, 1.0, 3.0])
def test_temperature_minimises_cross_entropy(true):
    logits, labels = gaussians(3000, torch.full((3,), 1 / 3, dtype=torch.float64))
    logits = logits * true
    by_scipy = minimize_scalar(lambda t: F.cross_entropy(logits / t, labels).item(), bounds=(0.1, 10), method="bounded")
    assert temperature(logits, labels) == pytest.approx(by_scipy.x, rel=1e-3)
    assert temperature(logits, labels) == pytest.approx(true, rel=0.15)


def test_temperature_stays_in_its_bounds():
    sure = 5.0 * torch.eye(3, dtype=torch.float64)
    assert temperature(sure, torch.arange(3)) == pytest.approx(0.1)
    assert temperature(sure, (torch.arange(3) + 1) % 3) == pytest.approx(10)


def test_label_shares_average_over_domains_and_skip_what_is_unknown():
    one = view(torch.zeros(4, 3), 0, torch.tensor([0, 0, 0, 1]))
    other = view(torch.zeros(3, 3), 1, torch.tensor([2, -1, -1]))
    torch.testing.assert_close(label_shares((one, other), 3), torch.tensor([0.375, 0.125, 0.5]))


@pytest.mark.parametrize("criterion", [nn.CrossEntropyLoss(ignore_index=-1), nn.CrossEntropyLoss(label_smoothing=0.2)])
@pytest.mark.parametrize("space", [(), (4, 5)])
def test_task_loss_plus_the_term_is_the_weighted_loss(criterion, space):
    weights = torch.tensor([0.5, 3.0, 1.0, 0.0])
    logits, labels = torch.randn(8, 4, *space, requires_grad=True), torch.randint(4, (8, *space))
    each = F.cross_entropy(logits, labels, reduction="none", label_smoothing=criterion.label_smoothing)
    expected = (weights[labels] * each).mean()
    ours = criterion(logits, labels) + reweighted((view(logits, 0, labels),), weights, criterion)
    torch.testing.assert_close(ours, expected)
    grads = [torch.autograd.grad(x, logits, retain_graph=True)[0] for x in (ours, expected)]
    torch.testing.assert_close(*grads)


def test_unknown_labels_do_not_count():
    criterion, weights = nn.CrossEntropyLoss(ignore_index=-1), torch.tensor([2.0, 0.5, 1.0])
    logits, labels = torch.randn(6, 3), torch.tensor([0, -1, 1, 2, -1, 0])
    known = labels >= 0
    some = reweighted((view(logits, 0, labels),), weights, criterion)
    torch.testing.assert_close(some, reweighted((view(logits[known], 0, labels[known]),), weights, criterion))
    assert reweighted((view(logits, 0, torch.full((6,), -1)),), weights, criterion) == 0


def test_domains_count_alike():
    criterion, weights = nn.CrossEntropyLoss(), torch.tensor([2.0, 0.5])
    views = [view(torch.randn(n, 2), i, torch.randint(2, (n,))) for i, n in enumerate((4, 40))]
    alone = [reweighted((v,), weights, criterion) for v in views]
    torch.testing.assert_close(reweighted(tuple(views), weights, criterion), (alone[0] + alone[1]) / 2)


def test_weights_of_1_change_nothing_to_the_bit():
    logits, labels = torch.randn(9, 3), torch.randint(3, (9,))
    assert reweighted((view(logits, 0, labels),), torch.ones(3), nn.CrossEntropyLoss()) == 0
