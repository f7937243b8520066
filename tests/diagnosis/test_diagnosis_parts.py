"""Bands, dates, novelty, leaks, names and trained features: small parts against other computations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from scipy.stats import wasserstein_distance

from eo_adapt.data.parts import DomainParcels
from eo_adapt.data.ragged import Ragged
from eo_adapt.data.records import Sensor
from eo_adapt.diagnosis.classes import coarser, differences
from eo_adapt.diagnosis.dates import density, monthly
from eo_adapt.diagnosis.figures import dates, reliability, shares
from eo_adapt.diagnosis.leakage import between, duplicates, fingerprints
from eo_adapt.diagnosis.network import Seen, confidence, joint_error, row
from eo_adapt.diagnosis.novelty import nearest_distance, novelty
from eo_adapt.diagnosis.radiometry import LEVELS, Sorted, compare_bands, wasserstein
from eo_adapt.diagnosis.scene import matching, thinned
from eo_adapt.diagnosis.table import Series, blocks_of
from eo_adapt.types import Domain

# -- bands ---------------------------------------------------------------------------------------------------------


def test_wasserstein_agrees_with_scipy() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=4000), 1.5 * rng.normal(size=3000) + 0.7
    assert wasserstein(a, b) == pytest.approx(wasserstein_distance(a, b), rel=0.05)
    assert wasserstein(a, a + 2) == pytest.approx(2)


def test_bands_are_measured_in_source_deviations() -> None:
    rng = np.random.default_rng(1)
    block, other = np.repeat(np.arange(20), 10), np.repeat(np.arange(20, 40), 10)
    a = rng.normal(size=(200, 6, 2)) * [2, 1]
    b = rng.normal(size=(200, 6, 2)) * [2, 1] + [3, 0]
    moved, still = compare_bands(a, b, block, other, 0, draws=20)
    assert moved.distance == pytest.approx(1.5, abs=0.15)
    assert moved.mean == pytest.approx(1.5, abs=0.15)
    assert moved.low < moved.distance < moved.high
    assert moved.distance > 5 * moved.null
    assert still.distance < 2 * still.null
    assert still.std == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("parcels", [(1700, 1500), (1500, 1500), (1023, 612)])
def test_a_season_that_both_domains_share_is_no_distance(parcels: tuple[int, int]) -> None:
    # A stride through (parcel, bin) that divides the number of bins reads a few bins only, other ones on each side.
    rng = np.random.default_rng(5)
    season = np.sin(np.linspace(0, np.pi, 24))[:, None]
    a, b = (season + 0.1 * rng.normal(size=(n, 24, 1)) for n in parcels)
    blocks = np.arange(parcels[0]) // 30, 1000 + np.arange(parcels[1]) // 30
    (band,) = compare_bands(a, b, *blocks, seed=0, draws=20)
    truth = wasserstein_distance(a.ravel(), b.ravel()) / a.std()
    assert band.distance < 0.02
    assert band.null < 0.02
    assert band.distance == pytest.approx(truth, abs=0.005)
    assert band.high < 0.03


def test_weighted_quantiles_are_those_of_repeated_parcels() -> None:
    rng = np.random.default_rng(6)
    values, weight = rng.normal(size=(40, 7)), rng.integers(0, 3, 40)
    again = np.sort(np.repeat(values, weight, 0), axis=None)
    loop = [again[int(np.ceil(level * len(again))) - 1] for level in LEVELS]
    assert Sorted(values).quantiles(weight.astype(float)) == pytest.approx(loop)


def test_matching_gives_each_band_the_moments_of_the_other_domain() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(50, 4, 3)), 2 * rng.normal(size=(60, 4, 3)) + 1
    gain, offset = matching(a, b)
    assert (a * gain + offset).mean((0, 1)) == pytest.approx(b.mean((0, 1)))
    assert (a * gain + offset).std((0, 1)) == pytest.approx(b.std((0, 1)))


# -- dates ---------------------------------------------------------------------------------------------------------


def test_dates_a_month() -> None:
    days = np.array([[-10, 3, 20, 40], [5, 70, 0, 0]])
    real = np.array([[True] * 4, [True, True, False, False]])
    month, mean = monthly(days, real)
    assert month.tolist() == [-1, 0, 1, 2]
    assert mean.tolist() == [0.5, 1.5, 0.5, 0.5]
    valid = real.copy()
    valid[0, 0] = False
    found = density(Series(np.zeros((2, 4, 1)), days, valid, real))
    assert found["valid"] == [0, 1.5, 0.5, 0.5]
    assert found["lost"] == pytest.approx(1 / 6)
    assert monthly(days, np.zeros_like(real))[0].size == 0


def test_thinning_keeps_what_both_have() -> None:
    both = thinned(np.array([[2, 0, 1], [1, 0, 0]]), np.array([[1, 1, 0], [0, 1, 1]]))
    assert both.tolist() == [[1, 0, 0], [1, 0, 0]]  # the second would keep none


# -- novelty -------------------------------------------------------------------------------------------------------


def test_a_cluster_of_its_own_is_novel_and_chance_gives_five_percent() -> None:
    rng = np.random.default_rng(3)
    block, other = np.repeat(np.arange(30), 10), np.repeat(np.arange(30, 60), 10)
    a, b = rng.normal(size=(300, 4)), rng.normal(size=(300, 4))
    same = novelty(a, b, block, other, 0)
    assert same.low <= 2 * same.expected
    b[::5] += 8
    new = novelty(a, b, block, other, 0)
    assert new.share == pytest.approx(0.2 + 0.8 * same.share, abs=0.03)
    assert new.low > 2 * new.expected
    near = nearest_distance(a, block, a, block)
    loop = min(np.linalg.norm(a[0] - a[j]) for j in range(300) if block[j] != block[0])
    assert near[0] == pytest.approx(loop)


# -- leaks ---------------------------------------------------------------------------------------------------------


def ragged(values: list[list[float]], days: list[list[int]], valid: list[list[bool]]) -> Ragged:
    sizes = torch.tensor([len(v) for v in values])
    flat = torch.tensor([x for v in values for x in v], dtype=torch.float32)[:, None]
    every = torch.tensor([x for d in days for x in d], dtype=torch.int16)
    keep = torch.tensor([x for v in valid for x in v])
    return Ragged(Sensor(("b",), dtype="float32", scale=1.0), flat, every, keep, sizes, torch.ones_like(sizes))


def test_identical_series_across_splits_and_domains() -> None:
    days = [[1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 3, 4, 5], [1, 2, 3, 5], [1]]
    values = [[1.0, 2, 3, 4], [1.0, 2, 3, 4], [1.0, 2, 3, 4, 9], [1.0, 2, 3, 4], [1.0]]
    valid = [[True] * 4, [True] * 4, [True] * 4 + [False], [True] * 4, [True]]
    found = fingerprints([ragged(values, days, valid)], np.arange(5))
    assert found[0] == found[1] == found[2] != found[3]
    assert found[4] == b""  # too short to be no chance
    parcels = [
        DomainParcels(Domain("A", "x"), "source", np.array([0, 1]), np.array(["train", "test"]), np.array(["", ""])),
        DomainParcels(Domain("B", "x"), "target", np.array([2, 3]), np.array(["train", "test"]), np.array(["", ""])),
    ]
    pairs = duplicates({"A": found[:2], "B": found[2:4]}, parcels, np.array(["p", "q", "r", "s", "t"]))
    assert (pairs["splits"], pairs["domains"]) == (1, 2)
    assert pairs["first"][0] == "p (A, train) = q (A, test)"


def test_distances_between_domains() -> None:
    found = between({"A": np.array([[0.0, 0]]), "B": np.array([[3.0, 4], [9, 9]]), "C": np.array([[np.nan, 0]])})
    assert found == {"A-B": 5.0}


# -- names ---------------------------------------------------------------------------------------------------------


def test_class_names_and_the_level_at_which_they_agree() -> None:
    assert differences(["a", "b", ""], ["b", "c"])["target_only"] == ["c"]
    assert not differences(["a"], [""])["known"]
    wheat, winter, spring, grass = "3301010100", "3301010401", "3301010402", "3302000000"
    assert coarser([winter, grass], [spring, grass])["option"] == "4"
    assert coarser([winter, grass], [winter])["option"] == ""
    assert coarser([], [winter])["option"] == ""
    assert coarser([wheat], [grass])["option"] == "1"


# -- places --------------------------------------------------------------------------------------------------------


def test_blocks_shrink_until_there_are_enough_and_are_shared_between_domains() -> None:
    rng = np.random.default_rng(4)
    place = rng.uniform(0, 30_000, (200, 2))
    (a, b), edge = blocks_of(np.concatenate([place, place]), [200, 200], 20_000)
    assert edge < 20_000
    assert np.array_equal(a, b)
    assert len(np.unique(a)) >= 12
    (c,), none = blocks_of(np.full((5, 2), np.nan), [5], 1000)
    assert none == 0
    assert len(np.unique(c)) == 5


# -- trained networks ----------------------------------------------------------------------------------------------


def seen(name: str, gap: float, error: float) -> Seen:
    rng = np.random.default_rng(5)
    block = np.repeat(np.arange(20), 8)
    a, b = rng.normal(size=(160, 6)), rng.normal(size=(160, 6)) + gap
    a[:, 5] = b[:, 5] = 0  # a feature that never fires
    return Seen(name, a, b, block, block + 20, error, 400, {})


def test_closer_domains_and_forgotten_classes_are_warned_of() -> None:
    far, near, lost = (row(s, 0) for s in (seen("base", 1.5, 0.1), seen("good", 0.1, 0.1), seen("bad", 0.1, 0.3)))
    assert far["a_linear"] > 1.2
    assert near["a_linear"] < 0.6
    assert far["mmd"] > near["mmd"]
    assert np.isfinite(far["coral"])
    assert joint_error([far, near]) == []
    (said,) = joint_error([far, near, lost])
    assert said.startswith("bad brings the domains closer than base")
    assert "0.100 to 0.300" in said


def test_confidence_before_and_after_a_temperature() -> None:
    rng = np.random.default_rng(8)
    logits = torch.from_numpy(rng.normal(size=(3000, 4)) * 1.5)
    labels = torch.multinomial(logits.softmax(1), 1, generator=torch.Generator().manual_seed(0))[:, 0]
    found = confidence(3 * logits, labels)
    assert found["temperature"] == pytest.approx(3, rel=0.1)
    assert found["ece"] > 0.1
    assert found["ece_scaled"] < 0.03
    assert found["why_not"] == ""
    assert sum(b["count"] for b in found["reliability"]) == 3000
    figure = reliability(found)
    assert not overlap(figure)
    label = figure.axes[0].yaxis.label.get_window_extent()
    assert label.x0 >= 0  # nothing is cut off
    assert f"temperature {found['temperature']:.2f}" in figure.legends[0].get_texts()[2].get_text()
    few = confidence(logits[:10], labels[:10])
    assert few["temperature"] == 1
    assert "at least 50" in few["why_not"]
    assert few["ece"] == few["ece_scaled"]


# -- figures and page ----------------------------------------------------------------------------------------------


def overlap(figure: Figure) -> bool:
    """Whether the legend covers anything that is drawn."""
    figure.draw_without_rendering()
    legend = figure.legends[0].get_window_extent()
    return bool(legend.overlaps(figure.axes[0].get_window_extent()))


def test_the_legend_of_the_dates_covers_no_bar() -> None:
    d = {"month": list(range(12)), "valid": [3.0] * 12}
    assert not overlap(dates({"dates": {n: {"s2": d} for n in ("FR", "AT", "EE")}}, "EE", "s2"))


def test_shares_without_an_interval_are_drawn_with_a_question_mark() -> None:
    share = {"source": [0.5, 0.5], "bbse": [1.0, 0.0], "em": [0.9, 0.1]}
    bars = {"bbse_interval": [[0.8, 1.0], [np.nan, np.nan]], "em_interval": [[0.8, 0.95], [0.05, 0.2]]}
    figure = shares({"shares": {"classes": ["a", "b"], **share, **bars}, "truth": None})
    assert [t.get_text() for t in figure.axes[0].texts] == ["?"]
    assert any("sampling error only" in t.get_text() for t in figure.legends[0].get_texts())
    assert not overlap(figure)
