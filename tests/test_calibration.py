"""Temperature and calibration error against scipy, loops and simulated data whose probabilities are known."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from quick import QUICK
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from torch import Tensor

from eo_adapt.assemble import build_task
from eo_adapt.calibration import BOUNDS, MINIMUM, calibrated, fit_temperature, reliability, why_not
from eo_adapt.calibration import expected_calibration_error as ece
from eo_adapt.evaluate import domain_logits, labelled_val, load, source_temperature
from eo_adapt.registry import config
from eo_adapt.report.run import _calibration, temperature_facts
from eo_adapt.train import run


def simulated(n: int, classes: int, seed: int, scale: float = 2.0) -> tuple[Tensor, Tensor]:
    """Logits whose softmax is the true distribution of the labels."""
    stream = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(n, classes, generator=stream)
    return logits, torch.multinomial(logits.softmax(1), 1, generator=stream).squeeze(1)


def nll(logits: Tensor, labels: Tensor, temperature: float) -> float:
    """Mean negative log-likelihood, by scipy."""
    log_p = log_softmax(logits.double().numpy() / temperature, 1)
    return float(-log_p[np.arange(len(log_p)), labels.numpy()].mean())


def ece_by_loops(confidence: np.ndarray, correct: np.ndarray, bins: int) -> float:
    total = 0.0
    for i in range(bins):
        lower, upper = torch.linspace(0, 1, bins + 1, dtype=torch.float64)[i : i + 2].tolist()
        there = [k for k, c in enumerate(confidence) if (lower < c <= upper) or (i == 0 and c == 0)]
        if there:
            total += abs(sum(float(correct[k]) - confidence[k] for k in there))
    return total / len(confidence)


# -- temperature -------------------------------------------------------------------------------------------------------


@given(st.integers(2, 6), st.integers(0, 10**6), st.floats(0.3, 5))
@settings(deadline=None, max_examples=25)
def test_temperature_equals_a_minimiser_of_the_likelihood(classes: int, seed: int, factor: float) -> None:
    logits, labels = simulated(300, classes, seed)
    logits = logits * factor
    bounds = [math.log(b) for b in BOUNDS]
    found = minimize_scalar(
        lambda log_t: nll(logits, labels, math.exp(log_t)), bounds=bounds, method="bounded", options={"xatol": 1e-10}
    )
    assert fit_temperature(logits, labels) == pytest.approx(math.exp(found.x), rel=1e-4)


@pytest.mark.parametrize("factor", [0.25, 1.0, 1.7, 6.0])
def test_a_known_factor_is_recovered(factor: float) -> None:
    logits, labels = simulated(20_000, 6, 0)
    assert fit_temperature(logits * factor, labels) == pytest.approx(factor, rel=0.03)


def test_scaling_the_logits_scales_the_temperature() -> None:
    logits, labels = simulated(500, 4, 1)
    once = fit_temperature(logits, labels)
    assert fit_temperature(logits * 4, labels) == pytest.approx(4 * once, rel=1e-9)
    assert fit_temperature(logits + 7.0, labels) == pytest.approx(once, rel=1e-5), "shifts say nothing"


def test_few_samples_are_not_fitted() -> None:
    logits, labels = simulated(MINIMUM, 4, 0)
    assert fit_temperature(logits[1:] * 3, labels[1:]) == 1.0
    assert why_not(logits[1:], labels[1:]) == f"{MINIMUM - 1} samples, at least {MINIMUM} are needed"
    assert fit_temperature(logits * 3, labels) > 1.5
    assert fit_temperature(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64)) == 1.0


def test_with_fewer_samples_than_that_the_fit_may_well_do_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eo_adapt.calibration.MINIMUM", 10)
    fresh, truth = simulated(3000, 8, 0, scale=6)

    def harm(n: int) -> float:
        """How often the fit leaves fresh logits that are 1.5 times too large worse than they were."""
        fits = (fit_temperature(1.5 * z, y) for z, y in (simulated(n, 8, seed, scale=6) for seed in range(1, 151)))
        return float(np.mean([nll(1.5 * fresh, truth, t) > nll(1.5 * fresh, truth, 1) for t in fits]))

    assert harm(20) > 0.2
    assert harm(MINIMUM) < 0.12


def test_separated_data_are_not_sharpened() -> None:
    logits, _ = simulated(200, 4, 0)
    assert fit_temperature(logits, logits.argmax(1)) == 1.0
    assert "without a single error" in why_not(logits, logits.argmax(1))
    one_wrong = logits.argmax(1).index_fill(0, torch.tensor([0]), 0)
    one_wrong[0] = logits[0].argmin()
    assert BOUNDS[0] < fit_temperature(logits, one_wrong) < BOUNDS[1]


def test_the_temperature_stays_within_its_bounds() -> None:
    logits, labels = simulated(200, 4, 0)
    assert fit_temperature(logits, logits.argmin(1)) == pytest.approx(BOUNDS[1]), "worse than guessing: flat"
    assert fit_temperature(logits * 1e-3, labels) == pytest.approx(BOUNDS[0])
    assert fit_temperature(logits * 1e30, labels) == pytest.approx(BOUNDS[1]), "no overflow"
    assert fit_temperature(torch.zeros(60, 3), torch.arange(60) % 3) == 1.0, "nothing to scale"


@given(st.integers(1, 6), st.integers(0, 10**6), st.floats(*BOUNDS), st.sampled_from([1e-20, 1.0, 1e4]))
@settings(deadline=None, max_examples=60)
def test_scaling_keeps_the_order_of_the_classes(classes: int, seed: int, temperature: float, scale: float) -> None:
    logits = scale * torch.randn(20, classes, generator=torch.Generator().manual_seed(seed))
    p = calibrated(logits, temperature)
    assert p.dtype == torch.float64
    torch.testing.assert_close(p.sum(1), torch.ones(20, dtype=torch.float64))
    assert torch.equal(p.gather(1, logits.argmax(1)[:, None]).squeeze(1), p.amax(1))
    assert (p.gather(1, logits.argsort(1)).diff(dim=1) >= 0).all()


@given(st.integers(0, 10**6), st.floats(*BOUNDS))
@settings(deadline=None, max_examples=40)
def test_no_other_temperature_is_likelier(seed: int, other: float) -> None:
    logits, labels = simulated(120, 3, seed)
    assert nll(logits, labels, fit_temperature(logits, labels)) <= nll(logits, labels, other) + 1e-12


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (torch.zeros(4), torch.zeros(4, dtype=torch.int64), r"logits \(N, K\) and labels \(N,\); got \(4,\)"),
        (torch.zeros(4, 2), torch.zeros(4), r"int64 .* got torch.float32"),
        (torch.zeros(4, 2), torch.tensor([0, 1, 2, 0]), r"0\.\.1.*got 0 to 2"),
        (torch.zeros(4, 2), torch.tensor([0, 1, -1, 0]), r"0\.\.1.*got -1 to 1\. Leave out"),
        (torch.tensor([[0.0, math.nan], [1.0, 2.0]]), torch.tensor([0, 1]), r"1 of 2 samples .* NaN or infinite"),
    ],
)
def test_bad_samples(logits: Tensor, labels: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit_temperature(logits, labels)


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.inf, math.nan])
def test_bad_temperatures(temperature: float) -> None:
    with pytest.raises(ValueError, match="positive and finite; got"):
        calibrated(torch.zeros(2, 2), temperature)


# -- calibration error -------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60), st.integers(1, 20))
@settings(deadline=None, max_examples=100)
def test_ece_equals_loops(samples: list[tuple[float, bool]], bins: int) -> None:
    confidence, correct = (np.array(column) for column in zip(*samples, strict=True))
    found = ece(torch.from_numpy(confidence), torch.from_numpy(correct), bins)
    assert 0 <= found <= 1
    assert found == pytest.approx(ece_by_loops(confidence, correct, bins), abs=1e-12)


def test_probabilities_known_to_be_right_have_a_small_error() -> None:
    logits, labels = simulated(40_000, 5, 3)
    right = logits.argmax(1) == labels
    assert ece(calibrated(logits, 1.0).amax(1), right) < 0.01, "probabilities or their largest"
    assert ece(calibrated(logits, 1.0), right) < 0.01
    assert ece(calibrated(3 * logits, 1.0), right) > 0.1
    healed = calibrated(3 * logits, fit_temperature(3 * logits, labels))
    assert ece(healed, right) < 0.01


@pytest.mark.parametrize(("n", "want"), [(100, 0.12), (400, 0.06), (10_000, 0.012)])
def test_few_samples_alone_make_an_error(n: int, want: float) -> None:
    found = []
    for seed in range(50):
        logits, labels = simulated(n, 8, seed)
        found.append(ece(calibrated(logits, 1.0), logits.argmax(1) == labels))
    assert np.mean(found) == pytest.approx(want, rel=0.1)


def test_extremes() -> None:
    sure, always = torch.ones(5), torch.ones(5, dtype=torch.bool)
    assert (ece(sure, always), ece(sure, ~always)) == (0, 1)
    assert math.isnan(ece(torch.zeros(0), torch.zeros(0, dtype=torch.bool)))


def test_a_bin_has_its_upper_edge_and_the_first_bin_both() -> None:
    confidence = torch.tensor([0.0, 0.2, 0.2000001, 1.0], dtype=torch.float64)
    found = reliability(confidence, torch.tensor([True, False, True, True]), bins=5)
    assert [b["count"] for b in found] == [2, 1, 0, 0, 1]
    assert list(found[0].values()) == pytest.approx([0, 0.2, 2, 0.1, 0.5])
    assert np.isnan([found[2]["accuracy"], found[2]["confidence"]]).all()


@pytest.mark.parametrize(
    ("confidence", "correct", "bins", "message"),
    [
        (torch.tensor([1.2]), torch.tensor([True]), 15, r"in \[0, 1\]; got 1.2 .*calibrated"),
        (torch.tensor([math.nan]), torch.tensor([True]), 15, r"in \[0, 1\]; got nan"),
        (torch.tensor([0.5]), torch.tensor([True, False]), 15, r"got \(1,\) and \(2,\)"),
        (torch.tensor([0.5]), torch.tensor([True]), 0, "at least 1 bin; got bins=0"),
    ],
)
def test_bad_confidences(confidence: Tensor, correct: Tensor, bins: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ece(confidence, correct, bins)


# -- in a run ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished open-set run."""
    folder = tmp_path_factory.mktemp("run")
    run(config("method=coral", "label_set=open", *QUICK), folder)
    return folder


@pytest.fixture(scope="module")
def report(finished: Path) -> dict[str, Any]:
    return json.loads((finished / "report.json").read_text())


def test_the_temperature_comes_from_the_source(finished: Path, report: dict[str, Any]) -> None:
    task, data = build_task(yaml.safe_load((finished / "config.yaml").read_text()))
    load(task, data, finished / "checkpoints" / "best.ckpt")
    logits, labels = labelled_val(task, data)
    log_t = minimize_scalar(lambda x: nll(logits, labels, math.exp(x)), bounds=(-2.9, 2.9), method="bounded").x
    assert report["temperature"] == pytest.approx(math.exp(log_t), rel=1e-3)
    assert report["temperature"] == pytest.approx(source_temperature(task, data))
    assert report["temperature_from"] == f"source-val (FR, AT), {len(labels)} parcels"
    _, said = domain_logits(task, data, 2)
    p = pd.read_parquet(finished / "predictions.parquet").query("domain == 'EE'").filter(like="p_").to_numpy()
    np.testing.assert_allclose(p, (said.double() / report["temperature"]).softmax(1).numpy(), rtol=1e-9)


def test_the_reported_errors_follow_from_the_predictions(finished: Path, report: dict[str, Any]) -> None:
    frame = pd.read_parquet(finished / "predictions.parquet")
    assert not {"row", "likeliest", "uncalibrated"} & set(frame)
    for name, d in report["domains"].items():
        test = frame[(frame["domain"] == name) & (frame["label"] != "")]
        p = test.filter(like="p_").to_numpy()
        right = np.array(report["classes"]["learnt"])[p.argmax(1)] == test["label"].to_numpy()
        raw = p ** report["temperature"]  # undoes the scaling
        raw /= raw.sum(1, keepdims=True)
        found = d["calibration"]
        learnt = test["label"].isin(report["classes"]["learnt"]).to_numpy()
        for key, q in (("", p), ("_uncalibrated", raw)):
            assert found[f"ece{key}"] == pytest.approx(ece_by_loops(q.max(1), right, 15))
            assert found[f"ece_learnt{key}"] == pytest.approx(ece_by_loops(q.max(1)[learnt], right[learnt], 15))
        assert sum(b["count"] for b in found["bins"]) == d["n"]
        assert all(b["accuracy"] is None for b in found["bins"] if not b["count"])


def test_unknown_is_decided_on_calibrated_confidences(finished: Path, report: dict[str, Any]) -> None:
    frame = pd.read_parquet(finished / "predictions.parquet")
    p = frame.filter(like="p_").to_numpy()
    unknown = (frame["prediction"] == "unknown").to_numpy()
    assert unknown.any()
    assert frame.loc[unknown, "confidence"].max() < frame.loc[~unknown, "confidence"].min()
    best = np.array(report["classes"]["learnt"])[p.argmax(1)]
    assert (best[~unknown] == frame.loc[~unknown, "prediction"]).all()
    val = ((frame["role"] == "source") & (frame["split"] == "val")).to_numpy()
    assert unknown[val].mean() == pytest.approx(0.05, abs=0.03)


def test_the_report_says_whose_labels_the_temperature_is_from() -> None:
    def world(**changes: Any) -> Any:
        domains = [SimpleNamespace(domain=SimpleNamespace(name=name)) for name in ("LV", "EE")]
        return SimpleNamespace(**{"maps": False, "oracle": False, "shots": 0, "labelled": domains, **changes})

    logits, labels = simulated(100, 3, 0)
    assert temperature_facts(world(), logits, labels) == {
        "temperature": fit_temperature(logits, labels),
        "temperature_from": "source-val (LV, EE), 100 parcels",
    }
    assert temperature_facts(world(oracle=True), logits, labels)["temperature_from"].startswith("target-val (LV, EE)")
    few = temperature_facts(world(), logits[:9], labels[:9])
    assert few["temperature_from"].startswith("not fitted on source-val (LV, EE): 9 samples")
    shots = temperature_facts(world(oracle=True, shots=40), logits, labels)
    assert few["temperature"] == shots["temperature"] == 1.0, "shots: those labels it was trained on"
    assert "not fitted on target-val (LV, EE): few shots" in shots["temperature_from"]


def test_without_test_labels_there_is_no_error() -> None:
    nobody = pd.DataFrame({"label": [], "likeliest": [], "confidence": [], "uncalibrated": []})
    found = _calibration(nobody, ["wheat"])
    assert [b["count"] for b in found.pop("bins")] == [0] * 15
    assert set(found.values()) == {None}
