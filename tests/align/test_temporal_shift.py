"""TimeMatch's estimate of a temporal shift: criteria against numpy, injected shifts found by a real encoder."""

import io
from functools import cache

import numpy as np
import pytest
import torch
from seasons import RARE, accuracy, season, trained
from torch import Tensor, nn

from eo_adapt.align.looks import moved
from eo_adapt.align.timematch import CRITERIA, ShiftEstimator, shift_scores, summary


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("injected", [60, -60, 20, 0])
def test_every_criterion_finds_an_injected_shift(injected):
    """Of a target with other crop shares and half a year of negative days."""
    model = trained()
    inputs, labels = season(128, RARE)
    far = moved(inputs, injected)
    assert accuracy(model, inputs, labels) > 0.95
    if abs(injected) == 60:
        assert accuracy(model, far, labels) < 0.75

    @cache
    def predict(shift: int) -> Tensor:
        with torch.no_grad():
            return model(moved(far, shift))[1]

    for criterion, prior in (*((c, ()) for c in CRITERIA), ("am", tuple(RARE.tolist()))):
        estimator = ShiftEstimator(4, criterion, 80, 5, 1, prior)
        estimator.look(predict)
        assert abs(estimator.shift + injected) <= 10, (criterion, prior)
        assert accuracy(model, moved(far, estimator.shift), labels) > 0.9


def test_summary_and_criteria_equal_numpy():
    logits = 3 * torch.randn(4, 9, 5)  # 4 shifts
    z = logits.double().numpy()
    p = np.exp(z) / np.exp(z).sum(2, keepdims=True)
    shares = np.array([0.1, 0.4, 0.0, 0.3, 0.2])
    entropy = -(p * np.log(p)).sum(2).mean(1)
    score = (p * np.log(p / p.mean(1, keepdims=True))).sum(2).mean(1)
    votes = np.stack([np.bincount(x.argmax(1), minlength=5) / 9 for x in p])
    kl = (shares * np.log((shares + 1e-5) / (votes + 1e-5))).sum(1)
    stats = torch.stack([summary(x) for x in logits])
    for criterion, expected in (("ent", entropy), ("is", -score), ("am", kl + entropy)):
        got = shift_scores(stats, criterion, torch.tensor(shares, dtype=torch.float32))
        np.testing.assert_allclose(got.numpy(), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="give shares"):
        shift_scores(stats, "am")


def test_a_map_counts_every_pixel_and_half_precision_is_raised():
    logits = torch.randn(3, 5, 2, 4)
    torch.testing.assert_close(summary(logits), summary(logits.permute(0, 2, 3, 1).reshape(-1, 5)))
    assert summary(logits.bfloat16()).dtype == torch.float32


class Peaked:
    """Predictions that are surer the nearer a shift is to the true one, with these votes."""

    def __init__(self, best: int, votes=(6, 3, 1)) -> None:
        self.best, self.votes, self.calls = best, votes, []

    def __call__(self, shift: int) -> Tensor:
        self.calls.append(shift)
        labels = torch.arange(3).repeat_interleave(torch.tensor(self.votes))
        return (8 - abs(shift - self.best) / 10) * nn.functional.one_hot(labels, 3).float()


@pytest.mark.parametrize("criterion", CRITERIA)
def test_first_estimate_tries_all_and_later_ones_between_it_and_0(criterion):
    estimator, first, later = ShiftEstimator(3, criterion, 60, 10, 2, ()), Peaked(-40), Peaked(-20)
    for _ in range(2):
        estimator.look(first)
        estimator.commit(0)
    assert (estimator.round, estimator.first, estimator.shift) == (1, -40, -40)
    assert sorted(first.calls) == sorted(2 * list(range(-60, 61, 10)))
    estimator.look(later)
    assert sorted(later.calls) == [-40, -30, -20, -10, 0]
    assert (estimator.first, estimator.shift) == (-40, -20)
    estimator.look(later)
    estimator.commit(5)
    assert estimator.round == 6, "rounds that were missed are left out"


def test_am_looks_to_the_side_of_the_inception_score_and_matches_the_shares_there():
    """On the other side predictions are surer but of one class: IS is not fooled, nor AM, ENT is."""

    def predict(shift: int) -> Tensor:
        if shift == 40:
            return Peaked(40, (10, 0, 0))(shift) + 1
        return Peaked(-30)(shift)

    found = {}
    for criterion in CRITERIA:
        estimator = ShiftEstimator(3, criterion, 60, 10, 1, ())
        estimator.look(lambda shift: (1.5 if shift == 40 else 1) * predict(shift))
        found[criterion] = estimator.shift
    assert found == {"am": -30, "is": -30, "ent": 40}


def test_a_known_prior_decides_between_equally_sure_shifts():
    def predict(shift: int) -> Tensor:
        return Peaked(shift, {20: (2, 3, 5), 40: (5, 3, 2)}.get(shift, (3, 4, 3)))(shift)

    for prior, expected in (((0.2, 0.3, 0.5), 20), ((50, 30, 20), 40)):
        estimator = ShiftEstimator(3, "am", 60, 20, 1, prior)
        estimator.look(predict)
        assert estimator.shift == expected


def test_nothing_to_choose_costs_nothing():
    predict, estimator = Peaked(0), ShiftEstimator(3, "am", 60, 10, 1, ())
    estimator.look(predict)
    estimator.commit(0)
    assert estimator.first == 0
    count = len(predict.calls)
    estimator.look(predict)
    ShiftEstimator(3, "am", 0, 10, 1, ()).look(predict)
    assert len(predict.calls) == count
    assert estimator.shift == 0


def test_estimates_pool_batches_micro_batches_too_and_resume_to_the_bit():
    """The shift that fits three batches best on average, whether steps have one batch or three."""
    batches = Peaked(30), Peaked(-20), Peaked(50)
    shifts = range(-60, 61, 10)
    pooled = torch.stack([torch.stack([summary(one(shift)) for one in batches]).mean(0) for shift in shifts])
    expected = shifts[int(shift_scores(pooled, "is").argmin())]
    assert expected not in (50, -20)
    apart, together = (ShiftEstimator(3, "is", 60, 10, 3, ()) for _ in range(2))
    for batch in batches[:2]:
        apart.look(batch)
        apart.commit(0)
    file = io.BytesIO()
    torch.save(apart.state_dict(), file)
    file.seek(0)
    resumed = ShiftEstimator(3, "is", 60, 10, 3, ())
    resumed.load_state_dict(torch.load(file, weights_only=True))
    for estimator in (apart, resumed):
        assert estimator.round == 0
        estimator.look(batches[2])
        estimator.commit(0)
    for batch in batches:
        together.look(batch)
    together.commit(0)
    for estimator in (apart, together, resumed):
        assert (estimator.round, estimator.first) == (1, expected)
    assert torch.equal(apart.sums, resumed.sums)
