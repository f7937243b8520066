"""What holds of every criterion: who sees target labels, what is refused, that nan is no crash."""

from __future__ import annotations

import inspect
import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from candidates import NAN, outputs
from sklearn.metrics import f1_score

from eo_adapt.registry import build, names
from eo_adapt.selection.base import Criterion, Outputs, SelectionError, best
from eo_adapt.selection.infomax import InfoMax, information_maximisation
from eo_adapt.selection.last import Last
from eo_adapt.selection.oracle import Oracle
from eo_adapt.selection.source_val import SourceVal

ALL = names("selection")
WEIGHTED = ("dev", "iw")
OF_FEATURES = ("class_ami", *WEIGHTED)
RANKING = ("ensemble",)  # score() says nothing: over() ranks
BLIND = ("last", *RANKING)  # score() looks at no outputs
TARGET = [name for name in ALL if build("selection", name).needs_target and name not in RANKING]


def named(name: str) -> Criterion:
    """The entry as configured, but content with the few samples of these tests."""
    return build("selection", name, **({"least": 1.0} if name in WEIGHTED else {}))


def test_information_maximisation_equals_numpy() -> None:
    logits = outputs(0).logits
    p = np.exp(logits.double().numpy())
    p /= p.sum(1, keepdims=True)
    mean = p.mean(0)
    want = (-(mean * np.log(mean)).sum() + (p * np.log(p)).sum(1).mean()) / np.log(5)
    assert information_maximisation(logits) == pytest.approx(want)


def test_information_maximisation_at_its_ends() -> None:
    assert information_maximisation(torch.eye(4) * 50) == pytest.approx(1, abs=1e-6)
    assert information_maximisation(torch.zeros(4, 4)) == pytest.approx(0, abs=1e-9)
    collapsed = torch.zeros(6, 4)
    collapsed[:, 0] = 50
    assert information_maximisation(collapsed) == pytest.approx(0, abs=1e-6)


def test_source_val_is_the_mean_over_source_domains() -> None:
    a, b = outputs(1), outputs(2, n=13)
    each = []
    for o in (a, b):
        truth = o.labels.numpy()
        each.append(
            f1_score(truth, o.logits.argmax(1).numpy(), labels=np.unique(truth), average="macro", zero_division=0)
        )
    assert SourceVal().score([a, b], [], 0) == pytest.approx(np.mean(each))
    assert Oracle().score([outputs(9)], [a, b], 0) == pytest.approx(np.mean(each))


def test_last_prefers_later() -> None:
    assert Last().score([], [], 5) > Last().score([], [], 4)


@pytest.mark.parametrize("name", ALL)
def test_only_oracles_notice_target_labels(name: str) -> None:
    source, target = outputs(3), outputs(4)
    permuted = replace(target, labels=target.labels.roll(7))
    scores = {named(name).score([source], [t], 3) for t in (target, permuted)}
    assert not any(map(math.isnan, scores))
    assert (len(scores) == 2) is named(name).uses_target_labels
    if not named(name).uses_target_labels:
        assert named(name).score([source], [replace(target, labels=None)], 3) in scores


@pytest.mark.parametrize("name", [name for name in ALL if name not in BLIND])
def test_a_score_depends_on_the_candidate_and_on_nothing_else(name: str) -> None:
    criterion = named(name)
    a, b = ([outputs(seed)] for seed in (5, 6))
    first = criterion.score(a, b, 0)
    torch.manual_seed(3)
    np.random.seed(3)  # noqa: NPY002
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    assert criterion.score(a, b, 1) == named(name).score(a, b, 2) == first
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()  # noqa: NPY002
    assert criterion.score(b, a, 0) != first


@pytest.mark.parametrize("name", [name for name in TARGET if name not in WEIGHTED])
def test_target_domains_count_alike(name: str) -> None:
    criterion = named(name)
    a, b = outputs(5, n=30), outputs(6, n=50)
    each = [criterion.score([], [t], 0) for t in (a, b)]
    assert each[0] != each[1]
    assert criterion.score([], [a, b], 0) == pytest.approx(sum(each) / 2)


@pytest.mark.parametrize("name", TARGET)
def test_without_a_target_it_says_so(name: str) -> None:
    with pytest.raises(SelectionError, match="this run has no target domain"):
        named(name).score([outputs(1)], [], 0)


@pytest.mark.parametrize("name", ["source_val", *WEIGHTED])
def test_without_source_or_its_labels_it_says_so(name: str) -> None:
    with pytest.raises(SelectionError, match="this run has no source domain"):
        named(name).score([], [outputs(1)], 0)
    with pytest.raises(SelectionError, match="needs labels on source-val; a source domain has none"):
        named(name).score([outputs(1), outputs(2, labels=False)], [outputs(1)], 0)


@pytest.mark.parametrize("name", OF_FEATURES)
@pytest.mark.parametrize("bad", [None, torch.zeros(40, 0), torch.zeros(39, 8), torch.zeros(40, 8, 2)])
def test_without_features_it_says_so(name: str, bad: torch.Tensor | None) -> None:
    got = "none" if bad is None else r"shape \(.*\)"
    with pytest.raises(SelectionError, match=rf"needs features \(N, D\), one row for each of 40.*gave {got}"):
        named(name).score([outputs(1)], [replace(outputs(2), features=bad)], 0)


@pytest.mark.parametrize("name", [name for name in ALL if name not in BLIND])
@pytest.mark.parametrize("shape", [(0, 5), (40,), (40, 1), (40, 5, 2)])
def test_logits_of_no_use_are_refused(name: str, shape: tuple[int, ...]) -> None:
    bad = replace(outputs(1), logits=torch.zeros(shape))
    with pytest.raises(SelectionError, match=r"needs logits \(N, K\) of at least 1 sample and 2 classes; .* domain 0"):
        named(name).score([bad], [bad], 0)


@pytest.mark.parametrize("name", [name for name in ALL if name not in BLIND])
@pytest.mark.parametrize("value", [NAN, math.inf])
def test_a_broken_model_has_no_score(name: str, value: float) -> None:
    if name in ("source_val", "oracle") and value == math.inf:
        return  # it has a largest logit
    logits = outputs(1).logits
    logits[3, 2] = value
    broken = replace(outputs(1), logits=logits)
    assert math.isnan(named(name).score([broken], [broken], 0))


@pytest.mark.parametrize("name", OF_FEATURES)
def test_broken_features_have_no_score(name: str) -> None:
    features = outputs(1).features
    features[3, 2] = NAN
    assert math.isnan(named(name).score([outputs(2)], [replace(outputs(1), features=features)], 0))


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("name", ALL)
def test_very_few_samples_are_no_crash(name: str, n: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        score = named(name).score([outputs(1, n=n)], [outputs(2, n=n)], 0)
    assert isinstance(score, float)
    assert math.isnan(score) or -1.5 <= score <= 1.5


@pytest.mark.parametrize("name", ALL)
def test_constant_predictions_and_features_are_no_crash(name: str) -> None:
    same = Outputs(torch.ones(40, 5), torch.zeros(40, dtype=torch.int64), torch.ones(40, 8), outputs(1).probes)
    score = named(name).score([same], [same], 0)
    assert math.isfinite(score)


@pytest.mark.parametrize("name", ALL)
def test_a_class_that_nobody_predicts_is_no_crash(name: str) -> None:
    a, b = outputs(1), outputs(2)
    for o in (a, b):
        o.logits[:, 2] = -40
    assert math.isfinite(named(name).score([a], [b], 0))


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("snd", {"temperature": 0.0}), ("snd", {"temperature": NAN}), ("snd", {"most": 2}),
        ("class_ami", {"restarts": 0}), ("class_ami", {"most": 1}),
        ("dev", {"least": 0.5}), ("dev", {"least": NAN}), ("iw", {"folds": 1}),
        ("mixval", {"share": 0.5}), ("mixval", {"share": 1.0}), ("mixval", {"share": NAN}),
    ],
)  # fmt: skip
def test_options_out_of_range_are_refused(name: str, wrong: dict[str, float]) -> None:
    [(option, value)] = wrong.items()
    with pytest.raises(ValueError, match=f"{option}.*got .*{value}"):
        build("selection", name, **wrong)


@pytest.mark.parametrize(("name", "option"), [("dev", "loss"), ("mixval", "pairs")])
def test_a_misspelt_choice_is_told_the_right_ones(name: str, option: str) -> None:
    cls = type(build("selection", name))
    with pytest.raises(ValueError, match=rf"{name}.{option} must be one of \[.*\]; got 'bth'"):
        cls(**{option: "bth"})


@pytest.mark.parametrize("name", ALL)
def test_yaml_and_signature_give_the_same_defaults(name: str) -> None:
    criterion = build("selection", name)
    for option, parameter in inspect.signature(type(criterion)).parameters.items():
        if name.startswith("mixval_") and option in ("pairs", "name"):
            continue
        value = getattr(criterion, option)
        assert (list(value) if isinstance(value, tuple) else value) == (
            list(parameter.default) if isinstance(parameter.default, tuple) else parameter.default
        )


def test_best_is_the_first_of_the_highest_and_never_nan() -> None:
    assert best([NAN, 1.0, 2.0, 2.0, NAN]) == 2
    assert best([-math.inf, NAN]) == 0
    with pytest.raises(SelectionError, match="snd gave no number for any of 2 candidates"):
        best([NAN, NAN], "snd")


def test_infomax_averages_over_targets() -> None:
    a, b = outputs(5, labels=False), outputs(6, labels=False)
    want = (information_maximisation(a.logits) + information_maximisation(b.logits)) / 2
    assert InfoMax().score([], [a, b], 0) == pytest.approx(want)
