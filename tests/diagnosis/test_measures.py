"""Class shares, distances and probes, each against another way to compute it and against what it must not see."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eo_adapt.diagnosis.distances import coral, mmd
from eo_adapt.diagnosis.priors import bbse, em, estimate, known, tempered, total_variation
from eo_adapt.diagnosis.probes import ADistance, a_distance
from eo_adapt.diagnosis.resample import by_block, interval


def simplex(rng: np.random.Generator, k: int) -> np.ndarray:
    return rng.dirichlet(np.ones(k))


# -- class shares ------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.integers(2, 6), st.integers(0, 1000))
def test_bbse_inverts_the_confusion(k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    recall = 0.6 * np.eye(k) + 0.4 * rng.dirichlet(np.ones(k), k).T
    truth = simplex(rng, k)
    assert bbse(recall, recall @ truth) == pytest.approx(truth, abs=1e-4)
    assert bbse(recall, recall @ truth) == pytest.approx(np.linalg.solve(recall, recall @ truth), abs=1e-4)


def test_bbse_stays_on_the_simplex_where_the_inverse_leaves_it() -> None:
    recall = np.array([[0.6, 0.4], [0.4, 0.6]])
    seen = np.array([0.9, 0.1])
    assert np.linalg.solve(recall, seen).min() < 0
    assert bbse(recall, seen) == pytest.approx([1, 0], abs=1e-3)
    assert bbse(np.full((2, 2), 0.5), np.array([0.5, 0.5])).sum() == pytest.approx(1)


def gaussians(n: int, shares: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    label = rng.choice(len(shares), n, p=shares)
    return label * 2.5 + rng.normal(size=n), label


def test_em_finds_the_shares_of_known_densities() -> None:
    rng = np.random.default_rng(0)
    source, target = np.array([0.5, 0.3, 0.2]), np.array([0.1, 0.3, 0.6])
    x, _ = gaussians(20_000, target, rng)
    density = np.exp(-((x[:, None] - 2.5 * np.arange(3)) ** 2) / 2)
    posterior = density * source / (density * source).sum(1, keepdims=True)
    found = em(posterior, source)
    assert found == pytest.approx(target, abs=0.015)
    again = (posterior * found / source / (posterior * found / source).sum(1, keepdims=True)).mean(0)
    assert found == pytest.approx(again, abs=1e-6)  # a fixed point
    assert em(posterior, source, steps=0) == pytest.approx(source)


@pytest.mark.parametrize("sharpness", [3.0, 0.4])
def test_em_takes_a_miscalibrated_classifier_at_its_word_only_after_calibration(sharpness: float) -> None:
    rng = np.random.default_rng(3)
    source, target = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.3, 0.5])
    label, hidden = (gaussians(8000, shares, rng)[1] for shares in (source, target))
    x, y = (1.5 * k + rng.normal(size=8000) for k in (label, hidden))

    def spread(z: np.ndarray) -> np.ndarray:
        density = source * np.exp(-((z[:, None] - 1.5 * np.arange(3)) ** 2) / 2)
        wrong = (density / density.sum(1, keepdims=True)) ** sharpness
        return np.asarray(wrong / wrong.sum(1, keepdims=True))

    scaled, temperature = tempered(spread(x), label, spread(y))
    raw, better = (total_variation(em(p, source), target) for p in (spread(y), scaled))
    assert temperature == pytest.approx(sharpness, rel=0.1)
    assert better < 0.03
    assert raw > 3 * better


def test_an_estimate_calibrates_before_em(monkeypatch: pytest.MonkeyPatch) -> None:
    from eo_adapt.diagnosis import priors

    rng = np.random.default_rng(4)
    source, target = np.array([0.6, 0.4]), np.array([0.2, 0.8])
    (x, label), (y, _) = (gaussians(3000, shares, rng) for shares in (source, target))
    names = np.array(["a", "b"])[label]
    crossed = priors.crossed

    def too_sure(*given: np.ndarray) -> tuple[object, ...]:
        classes, *found = crossed(*given)
        return classes, *((p**6 / (p**6).sum(1, keepdims=True)) for p in found)

    honest = estimate(x[:, None], names, np.arange(3000) // 30, y[:, None], np.arange(3000) // 30, 0, draws=2)
    monkeypatch.setattr(priors, "crossed", too_sure)
    found = estimate(x[:, None], names, np.arange(3000) // 30, y[:, None], np.arange(3000) // 30, 0, draws=2)
    assert found.temperature == pytest.approx(6 * honest.temperature, rel=0.01)
    assert found.em == pytest.approx(honest.em, abs=1e-3)


def test_a_share_on_the_edge_has_no_interval_instead_of_a_certain_one() -> None:
    draws = np.column_stack([np.zeros(100), np.full(100, 1e-9), np.linspace(0.2, 0.4, 100)])
    found = known(draws, 500)
    assert np.isnan(found[:2]).all()
    assert found[2] == pytest.approx([0.205, 0.395])
    # A class whose predictions never occur in the target: BBSE gives 0 in every draw.
    rng = np.random.default_rng(7)
    label = np.repeat([0, 1, 2], 200)
    x, y = 20.0 * label + rng.normal(size=600), 20.0 * np.repeat([0, 1], 300) + rng.normal(size=600)
    names, block = np.array(["a", "b", "c"])[label], rng.integers(0, 20, 600)
    out = estimate(x[:, None], names, block, y[:, None], block, 0, draws=20)
    assert out.bbse[2] == pytest.approx(0, abs=1e-6)
    assert np.isnan(out.bbse_interval[2]).all()
    assert (np.diff(out.bbse_interval[:2]) > 0).all()


@pytest.mark.parametrize("shifted", [False, True])
def test_an_estimate_covers_the_truth_and_sees_no_shift_where_there_is_none(shifted: bool) -> None:
    rng = np.random.default_rng(1)
    source = np.array([0.4, 0.4, 0.2])
    target = np.array([0.15, 0.25, 0.6]) if shifted else source
    (x, label), (y, _) = gaussians(1500, source, rng), gaussians(1500, target, rng)
    features = [np.column_stack([v, rng.normal(size=len(v))]) for v in (x, y)]
    blocks = [np.arange(1500) // 30 for _ in features]
    names = np.array(["a", "b", "c"])[label]
    found = estimate(features[0], names, blocks[0], features[1], blocks[1], seed=0, draws=60)
    assert found.classes == ("a", "b", "c")
    for shares, bounds in ((found.bbse, found.bbse_interval), (found.em, found.em_interval)):
        assert shares == pytest.approx(target, abs=0.09)
        assert (bounds[:, 0] <= shares + 1e-9).all()
        assert (shares <= bounds[:, 1] + 1e-9).all()
        assert (bounds[:, 0] - 0.03 <= target).all()
        assert (target <= bounds[:, 1] + 0.03).all()
    assert found.accuracy > 0.75
    assert bool(found.variation_interval[0, 0] > 0.25) is shifted
    assert found.variation[0] == pytest.approx(total_variation(found.source, found.bbse))


def test_what_cannot_be_estimated_says_why() -> None:
    x, block = np.zeros((4, 1)), np.arange(4)
    with pytest.raises(ValueError, match="two classes"):
        estimate(x, ["a"] * 4, block, x, block, 0)
    with pytest.raises(ValueError, match="spatial blocks"):
        estimate(x, ["a", "b"] * 2, block, x, block * 0, 0)


# -- distances ---------------------------------------------------------------------------------------------------------


def test_mmd_against_loops_and_zero_on_average() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(6, 3)), rng.normal(size=(5, 3)) + 1
    both = np.concatenate([a, b])
    pairs = [np.sum((both[i] - both[j]) ** 2) for i in range(11) for j in range(i)]

    def k(x: np.ndarray, y: np.ndarray) -> float:
        return float(np.exp(-np.sum((x - y) ** 2) / np.median(pairs)))

    xx = np.mean([k(a[i], a[j]) for i in range(6) for j in range(6) if i != j])
    yy = np.mean([k(b[i], b[j]) for i in range(5) for j in range(5) if i != j])
    assert mmd(a, b) == pytest.approx(xx + yy - 2 * np.mean([k(x, y) for x in a for y in b]))
    same = [mmd(rng.normal(size=(20, 3)), rng.normal(size=(25, 3))) for _ in range(200)]
    assert abs(np.mean(same)) < 3 * np.std(same) / np.sqrt(200)
    assert np.isfinite(mmd(np.zeros((5, 2)), np.zeros((4, 2))))


def test_coral_is_unbiased_and_right_in_the_limit() -> None:
    rng = np.random.default_rng(0)
    d = 6
    same = [coral(rng.normal(size=(40, d)), rng.normal(size=(40, d)), seed=i) for i in range(200)]
    naive = 2 * (d * d + d) / 39 / (4 * d * d)
    assert abs(np.mean(same)) < 3 * np.std(same) / np.sqrt(200) < naive
    scale = np.array([2.0, 1, 1, 1, 1, 1])
    found = coral(rng.normal(size=(40_000, d)) * scale + 100, rng.normal(size=(40_000, d)))
    assert found == pytest.approx(9 / (4 * d * d), rel=0.1)  # the variance of one band: 4 against 1


@pytest.mark.parametrize("measure", [mmd, coral])
def test_samples_that_are_too_few_are_refused(measure: object) -> None:
    with pytest.raises(ValueError, match=r"at least \d rows"):
        measure(np.zeros((1, 2)), np.zeros((5, 2)))  # type: ignore[operator]


# -- probes and the bootstrap ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("probe", ["linear", "trees"])
def test_a_probe_tells_what_differs_and_nothing_else(probe: str) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(400, 3)), rng.normal(size=(300, 3))
    assert a_distance(a, b, probe=probe, repeats=2).value < 0.25
    assert a_distance(a, b + np.array([6, 0, 0]), probe=probe, repeats=2).value > 1.9


def test_only_trees_see_a_ring() -> None:
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, 2 * np.pi, 500)
    a, b = rng.normal(size=(500, 2)) * 0.3, np.column_stack([np.cos(angle), np.sin(angle)]) * 3
    assert a_distance(a, b, probe="linear", repeats=2).value < 0.4
    assert a_distance(a, b, probe="trees", repeats=2).value > 1.7


def test_a_village_is_not_recognised_by_heart() -> None:
    # Every village has a value of its own, the domains have nothing: only folds of whole villages know that.
    rng = np.random.default_rng(0)
    block = np.repeat(np.arange(40), 15)
    x = rng.normal(size=(40, 6))[block] + 0.05 * rng.normal(size=(600, 6))
    a, b = block < 20, block >= 20
    by_heart = a_distance(x[a], x[b], probe="trees", repeats=2).value
    honest = a_distance(x[a], x[b], block[a], block[b], probe="trees", repeats=3).value
    assert by_heart > 1.8
    assert honest < 0.8


def test_an_interval_is_as_wide_as_other_villages_make_it() -> None:
    # 24 villages with a look of their own: a repeat with other folds moves the number little, other villages much.
    block = np.repeat(np.arange(24), 12)

    def once(seed: int) -> ADistance:
        rng = np.random.default_rng(seed)
        x = (rng.normal(size=(24, 2)) + [[0.9, 0]] * (np.arange(24)[:, None] >= 12))[block]
        x = x + 0.3 * rng.normal(size=x.shape)
        a = block < 12
        return a_distance(x[a], x[~a], block[a], block[~a], folds=4, repeats=3, seed=seed)

    found = [once(seed) for seed in range(40)]
    spread = np.std([d.value for d in found], ddof=1)
    half = np.mean([d.high - d.low for d in found]) / 2
    assert 0.5 * 1.96 * spread < half < 1.8 * 1.96 * spread
    middle = np.mean([d.value for d in found])
    assert np.mean([d.low <= middle <= d.high for d in found]) > 0.75
    assert all(0 <= d.low <= d.value <= d.high <= 2 for d in found)


def test_a_certain_probe_has_no_doubt_and_one_repeat_is_enough() -> None:
    x = np.random.default_rng(0).normal(size=(60, 2))
    far = a_distance(x, x + 50, repeats=1)
    assert (far.low, far.value, far.high) == (2, 2, 2)
    near = a_distance(x, x[::-1] + 0.3, repeats=1)
    assert near.high > near.value


def test_no_folds_no_number() -> None:
    x = np.random.default_rng(0).normal(size=(9, 2))
    assert np.isnan(a_distance(x, x, np.zeros(9, int), np.arange(9)).value)
    with pytest.raises(ValueError, match="linear"):
        a_distance(x, x, probe="svm")


def test_the_bootstrap_draws_whole_blocks() -> None:
    block = np.array([5, 5, 7, 9, 9, 9])
    rng = np.random.default_rng(0)
    for _ in range(20):
        drawn = by_block(block, rng)
        counts = np.bincount(drawn, minlength=6)
        assert counts[0] == counts[1]
        assert counts[3] == counts[4] == counts[5]
        assert counts[0] + counts[2] + counts[3] == 3
    assert interval(np.arange(1001.0)) == pytest.approx([25, 975])
    assert interval(np.zeros((10, 4, 3))).shape == (4, 3, 2)
