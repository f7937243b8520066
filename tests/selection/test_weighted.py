"""Density ratios, deep embedded validation and importance weighting against loops and known Gaussians."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from candidates import NAN, outputs
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from eo_adapt.selection import weighted as weighted_file
from eo_adapt.selection.base import Outputs, SelectionError, best
from eo_adapt.selection.dev import DEV, dev
from eo_adapt.selection.iw import IW, importance_weighted_accuracy
from eo_adapt.selection.ratio import (
    TooFewEffectiveError,
    density_ratio,
    effective_sample_size,
    require_effective,
)

QUICK = settings(deadline=None, max_examples=30, derandomize=True)
POSITIVE = st.lists(st.tuples(st.floats(0.05, 20), st.floats(0, 5)), min_size=2, max_size=12)


def gaussians(shift: float, n: int = 1500, d: int = 3, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of N(0, I) and of N(shift e_1, I): the log ratio is shift x_1 - shift^2 / 2."""
    g = torch.Generator().manual_seed(seed)
    source, target = torch.randn(n, d, generator=g).double(), torch.randn(n, d, generator=g).double()
    target[:, 0] += shift
    return source, target


def true_ratio(source: torch.Tensor, shift: float) -> torch.Tensor:
    return torch.exp(shift * source[:, 0] - shift**2 / 2)


def threshold_model(x: torch.Tensor) -> Outputs:
    """Truth: is x_1 > 1.2; guess: is x_1 > 0.4. Wrong exactly in between."""
    x1 = x[:, 0] - 0.4
    return Outputs(torch.stack([-x1, x1], 1), (x1 > 0.8).long(), x.float())


def true_error(shift: float) -> float:
    return float(norm.cdf(1.2 - shift) - norm.cdf(0.4 - shift))


def test_effective_sample_size() -> None:
    assert effective_sample_size(torch.full((7,), 0.3)) == pytest.approx(7)
    assert effective_sample_size(torch.tensor([0.0, 5.0, 0.0])) == 1
    assert effective_sample_size(torch.tensor([1.0, 2.0, 3.0])) == pytest.approx(36 / 14)
    assert effective_sample_size(torch.zeros(4)) == 0


def test_too_few_effective_samples_are_refused_in_words() -> None:
    w = torch.ones(29)
    with pytest.raises(SelectionError, match=r"dev gives no score: the 29 .* stand for 29\.0 .*at least 30.*enlarge"):
        require_effective(w, 30, "dev")
    assert require_effective(torch.ones(30), 30, "dev") == 30
    lopsided = torch.cat([torch.ones(99), torch.tensor([99.0])])
    with pytest.raises(TooFewEffectiveError) as refusal:
        require_effective(lopsided, 30, "iw")
    assert refusal.value.ess == pytest.approx(198**2 / (99 + 99**2))


def test_equally_tiny_weights_are_no_coverage() -> None:
    assert effective_sample_size(torch.full((500,), 1e-4)) == pytest.approx(500)
    with pytest.raises(TooFewEffectiveError, match=r"mean weight is 0.0001 \(allowed: at least 0.5"):
        require_effective(torch.full((500,), 1e-4), 30, "dev")


def test_the_ratio_of_known_gaussians() -> None:
    source, target = gaussians(0.8)
    found, want = density_ratio(source, target), true_ratio(source, 0.8)
    assert found.shape == (1500,)
    assert found.dtype == torch.float64
    assert float((found.log() - want.log()).square().mean().sqrt()) < 0.2
    assert float(found.mean()) == pytest.approx(1, abs=0.1)
    # Sizes of the two sides are divided out.
    assert float(density_ratio(source[:400], target).mean()) == pytest.approx(1, abs=0.2)


def test_the_ratio_without_a_shift_is_one() -> None:
    source, target = gaussians(0.0, n=400, d=40)
    assert float((density_ratio(source, target) - 1).abs().max()) < 0.5


def test_the_ratio_does_not_depend_on_units() -> None:
    source, target = gaussians(0.5, n=200)
    scale, offset = torch.tensor([1e4, 1.0, 1e-4]), torch.tensor([0.0, 300.0, 1.0])
    assert torch.allclose(
        density_ratio(source, target), density_ratio(source * scale + offset, target * scale + offset)
    )


def test_a_row_is_judged_by_a_classifier_that_has_not_seen_it() -> None:
    # Features of pure noise, more columns than rows: who has seen a row would know its domain for certain.
    source, target = gaussians(0.0, n=60, d=200)
    seen = density_ratio(source, target, strengths=[100.0])
    assert float(seen.log().mean()) > -1.5
    whole = torch.cat([source, target])
    x = (whole - whole.mean(0)) / whole.std(0)
    weights = torch.linalg.lstsq(x, torch.cat([-torch.ones(60), torch.ones(60)]).double()[:, None]).solution
    assert bool((x[:60] @ weights < 0).all())  # that it can be learnt by heart


def test_domains_apart_are_refused_although_no_weight_sticks_out() -> None:
    source, target = gaussians(40.0, n=300)
    weights = density_ratio(source, target)
    assert bool(torch.isfinite(weights).all())
    with pytest.raises(TooFewEffectiveError):
        require_effective(weights, 30, "dev")


def test_the_ratio_refuses_what_it_cannot_use() -> None:
    with pytest.raises(TooFewEffectiveError, match=r"at least 2 labelled source-val .* got source \(1, 3\)"):
        density_ratio(torch.zeros(1, 3), torch.zeros(5, 3))
    with pytest.raises(SelectionError, match="of one width"):
        density_ratio(torch.zeros(5, 3), torch.zeros(5, 2))


@QUICK
@given(POSITIVE)
def test_dev_equals_numpy(pairs: list[tuple[float, float]]) -> None:
    w, loss = np.array(pairs).T
    w = w / w.mean()
    found = dev(torch.from_numpy(w), torch.from_numpy(loss), least=1)
    eta = 0.0
    if np.var(w) > 1e-12:
        matrix = np.cov(w * loss, w)
        assert matrix.shape == (2, 2)
        eta = -matrix[0, 1] / matrix[1, 1]
    assert found.eta == pytest.approx(eta, rel=1e-6, abs=1e-6)
    assert found.risk == pytest.approx(sum(a * b for a, b in pairs) / sum(a for a, _ in pairs), rel=1e-6, abs=1e-6)
    assert found.ess == pytest.approx(w.sum() ** 2 / (w**2).sum())


def test_dev_uses_the_control_variate() -> None:
    w, loss = torch.tensor([1.0, 2.0, 3.0, 1.0]), torch.tensor([0.0, 1.0, 1.0, 0.0])
    # w l = 0 2 3 0, means 1.25 and 1.75; cov = 4.25 / 3, var = 2.75 / 3
    found = dev(w, loss, least=1)
    assert found.eta == pytest.approx(-4.25 / 2.75)
    assert found.risk == pytest.approx(1.25 - 4.25 / 2.75 * 0.75)


def test_dev_of_constant_weights_is_the_plain_mean() -> None:
    loss = torch.rand(50, generator=torch.Generator().manual_seed(0))
    found = dev(torch.ones(50), loss)
    assert found.eta == 0
    assert found.risk == pytest.approx(float(loss.mean()))
    almost = torch.ones(50).double() + 1e-16 * torch.arange(50)
    assert dev(almost, loss).risk == pytest.approx(float(loss.mean()))


def test_dev_of_a_constant_loss_is_that_loss() -> None:
    # w l and w vary together, so the control variate takes out all noise.
    w = torch.rand(60, generator=torch.Generator().manual_seed(0)) + 0.5
    assert dev(w, torch.full((60,), 0.3)).risk == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("weights", "losses", "said"),
    [
        (torch.ones(40, 1), torch.ones(40), r"weights must be \(N,\).*got shape \(40, 1\)"),
        (torch.ones(40), torch.ones(40, 1), r"losses must be \(N,\).*got shape \(40, 1\)"),
        (torch.ones(40), torch.ones(39), "one length; got 40 and 39"),
        (-torch.ones(40), torch.ones(40), "weights must be .*>= 0; got between -1"),
        (torch.full((40,), NAN), torch.ones(40), "weights must be .*finite"),
        (torch.ones(0), torch.ones(0), r"got shape \(0,\)"),
    ],
)
def test_dev_refuses_shapes_that_would_broadcast(weights: torch.Tensor, losses: torch.Tensor, said: str) -> None:
    with pytest.raises(SelectionError, match=said):
        dev(weights, losses)
    with pytest.raises(SelectionError, match=said.replace("losses", "hits")):
        importance_weighted_accuracy(weights, losses)


@QUICK
@given(POSITIVE)
def test_iw_equals_a_loop_and_stays_in_bounds(pairs: list[tuple[float, float]]) -> None:
    hits = [float(b > 2) for _, b in pairs]
    mean = sum(a for a, _ in pairs) / len(pairs)
    w = torch.tensor([a / mean for a, _ in pairs]).double()
    found = importance_weighted_accuracy(w, torch.tensor(hits), least=1)
    assert found == pytest.approx(sum(a * h for (a, _), h in zip(pairs, hits, strict=True)) / (mean * len(pairs)))
    assert 0 <= found <= 1 + 1e-12


@pytest.mark.parametrize("shift", [-0.8, 0.4, 1.0])
def test_known_covariate_shift_gives_the_target_risk(shift: float) -> None:
    source, _ = gaussians(shift, n=20_000, seed=3)
    model, w = threshold_model(source), true_ratio(source, shift)
    wrong = (model.logits.argmax(1) != model.labels).double()
    want, plain = true_error(shift), float(wrong.mean())
    error = 4 * math.sqrt(want / effective_sample_size(w))
    assert abs(plain - want) > error  # an unweighted mean fails
    assert dev(w, wrong).risk == pytest.approx(want, abs=error)
    assert 1 - importance_weighted_accuracy(w, 1 - wrong) == pytest.approx(want, abs=error)


def test_the_criteria_estimate_the_target_score_of_covariate_shift() -> None:
    shift = 1.0
    source, target = gaussians(shift, n=3000, seed=4)
    sides = [threshold_model(source)], [replace(threshold_model(target), labels=None)]
    plain = float((sides[0][0].logits.argmax(1) != sides[0][0].labels).double().mean())
    deviation, weighted = DEV(), IW()
    assert abs(plain - true_error(shift)) > 0.04
    assert -deviation.score(*sides, 0) == pytest.approx(true_error(shift), abs=0.03)
    assert 1 - weighted.score(*sides, 0) == pytest.approx(true_error(shift), abs=0.03)
    assert deviation.effective == weighted.effective
    assert 500 < deviation.effective < 2500  # analytically N exp(-shift^2) = 1100


def test_dev_by_cross_entropy() -> None:
    source, target = gaussians(0.0, n=100)
    model = threshold_model(source)
    weights = density_ratio(model.features, target.float())
    rows = zip(model.logits.tolist(), model.labels.tolist(), strict=True)
    each = [-math.log(math.exp(row[truth]) / sum(map(math.exp, row))) for row, truth in rows]
    want = dev(weights, torch.tensor(each).double()).risk
    found = DEV("cross_entropy").score([model], [threshold_model(target)], 0)
    assert found == pytest.approx(-want)
    assert found != DEV().score([model], [threshold_model(target)], 0)


@pytest.mark.parametrize("criterion", [DEV, IW])
def test_domains_are_pooled_and_unknown_labels_left_out(criterion: type[DEV | IW]) -> None:
    a, b, t, u = outputs(1), outputs(2, n=30), outputs(3, labels=False, n=50), outputs(4, labels=False)
    pooled = [Outputs(*(torch.cat([getattr(x, f) for x in (a, b)]) for f in ("logits", "labels", "features")))]
    target = [Outputs(torch.cat([t.logits, u.logits]), None, torch.cat([t.features, u.features]))]
    assert criterion(least=2).score([a, b], [t, u], 0) == criterion(least=2).score(pooled, target, 0)
    hidden = replace(a, labels=torch.where(torch.arange(40) < 10, -1, a.labels))
    shorter = Outputs(a.logits[10:], a.labels[10:], a.features[10:])
    assert criterion(least=2).score([hidden], [t], 0) == criterion(least=2).score([shorter], [t], 0)
    assert criterion(least=2).score([hidden], [t], 0) != criterion(least=2).score([a], [t], 0)


def test_the_ratio_of_one_candidate_is_made_once_and_never_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    real = weighted_file.density_ratio
    monkeypatch.setattr(weighted_file, "density_ratio", lambda *a, **k: made.append(len(a[0])) or real(*a, **k))
    a, b = outputs(11), outputs(12, n=30)
    whole = torch.cat([a.features, b.features])
    for criterion in (DEV(least=1), IW(least=1)):
        criterion.score([a], [b], 0)
    assert made == [40]
    # The same rows, but the border between the sides lies elsewhere.
    moved = [Outputs(torch.zeros(len(x), 5), torch.zeros(len(x)).long(), x) for x in whole.split((30, 40))]
    IW(least=1).score([moved[0]], [moved[1]], 0)
    IW(least=1, seed=1).score([moved[0]], [moved[1]], 0)
    assert made == [40, 30, 30]


@pytest.mark.parametrize("criterion", [DEV, IW])
def test_a_refused_candidate_never_wins_and_the_user_is_told_once(criterion: type[DEV | IW]) -> None:
    chosen = criterion()
    assert math.isnan(chosen.effective)
    name = criterion.__name__.lower()
    with pytest.warns(UserWarning, match=rf"{name} gives no score.*stand for \d+\.\d samples.*selection=infomax"):
        assert math.isnan(chosen.score([outputs(1, n=300)], [outputs(2, offset=9.0, n=300)], 0))
    refused = chosen.effective
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert math.isnan(chosen.score([outputs(1, n=20)], [outputs(2)], 1))
        assert chosen.effective <= 20
        good = chosen.score([outputs(1, n=300)], [outputs(2, n=300)], 2)
    assert best([NAN, NAN, good]) == 2
    assert 30 <= chosen.effective <= 300
    assert chosen.effective != refused


@pytest.mark.parametrize("criterion", [DEV, IW])
def test_one_labelled_sample_is_a_refusal_not_a_crash(criterion: type[DEV | IW]) -> None:
    source = outputs(1)
    lonely = replace(source, labels=torch.where(torch.arange(40) == 3, 2, -1))
    with pytest.warns(UserWarning, match="at least 2 labelled source-val"):
        assert math.isnan(criterion().score([lonely], [outputs(2)], 0))
