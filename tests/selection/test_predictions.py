"""Criteria of target predictions alone: entropy, snd, bnm; and class_ami, which looks at features, too."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from candidates import one_hot, outputs
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_mutual_info_score

from eo_adapt.selection import snd as snd_file
from eo_adapt.selection.base import Outputs
from eo_adapt.selection.bnm import nuclear_norm
from eo_adapt.selection.class_ami import ClassAMI, cluster_agreement
from eo_adapt.selection.entropy import confidence
from eo_adapt.selection.sample import fixed_choice
from eo_adapt.selection.snd import SND, soft_neighbourhood_density

SHAPES = given(n=st.integers(1, 12), k=st.integers(2, 7), seed=st.integers(0, 99))
QUICK = settings(deadline=None, max_examples=25, derandomize=True)


def softmax(logits: torch.Tensor) -> np.ndarray:
    x = np.exp(logits.double().numpy() - logits.double().numpy().max(1, keepdims=True))
    return x / x.sum(1, keepdims=True)


def slow_density(logits: torch.Tensor, temperature: float) -> float:
    """One pair after the other."""
    p = softmax(logits)
    entropies = []
    for i in range(len(p)):
        others = [j for j in range(len(p)) if j != i]
        similar = np.array([p[i] @ p[j] / np.sqrt((p[i] @ p[i]) * (p[j] @ p[j])) for j in others])
        q = np.exp(similar / temperature)
        q /= q.sum()
        entropies.append(-sum(x * math.log(x) for x in q if x > 0))
    return float(np.mean(entropies)) / math.log(len(p) - 1)


@QUICK
@SHAPES
def test_entropy_equals_a_loop(n: int, k: int, seed: int) -> None:
    logits = outputs(seed, n=n, k=k).logits
    want = np.mean([sum(x * math.log(x) for x in row) for row in softmax(logits)]) / math.log(k)
    assert confidence(logits) == pytest.approx(want, abs=1e-12)
    assert -1 <= confidence(logits) <= 0


def test_entropy_at_its_ends() -> None:
    assert confidence(torch.zeros(3, 4)) == pytest.approx(-1)
    assert confidence(one_hot([0, 1, 2], 4, 1e4)) == 0  # probabilities that are exactly 0
    assert confidence(one_hot([1, 1, 1], 4, 1e4)) == 0  # what fools it
    half = torch.tensor([[9.0, 9.0, -900.0, -900.0]])
    assert confidence(half) == pytest.approx(-math.log(2) / math.log(4))


@QUICK
@given(n=st.integers(3, 12), k=st.integers(2, 6), seed=st.integers(0, 99), t=st.sampled_from([0.05, 0.5, 3.0]))
def test_snd_equals_a_loop(n: int, k: int, seed: int, t: float) -> None:
    logits = outputs(seed, n=n, k=k).logits
    assert soft_neighbourhood_density(logits, t) == pytest.approx(slow_density(logits, t), abs=1e-9)


def test_snd_of_equal_groups_counts_the_neighbours() -> None:
    # 3 classes of 4 sure samples: at a low temperature the 3 others of the class are the neighbourhood.
    logits = one_hot([0, 1, 2] * 4, 3)
    assert soft_neighbourhood_density(logits, 0.01) == pytest.approx(math.log(3) / math.log(11))
    assert soft_neighbourhood_density(one_hot([1] * 7, 3)) == pytest.approx(1)  # what fools it: collapse
    pairs = one_hot([0, 0, 1, 1], 2)  # one neighbour each, and self is none
    assert soft_neighbourhood_density(pairs, 0.01) == pytest.approx(0, abs=1e-9)


def test_snd_in_chunks_is_snd_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = outputs(3, n=50).logits
    whole = soft_neighbourhood_density(logits)
    monkeypatch.setattr(snd_file, "ROWS", 7)
    assert soft_neighbourhood_density(logits) == pytest.approx(whole, rel=1e-12)


def test_snd_needs_three() -> None:
    assert math.isnan(soft_neighbourhood_density(torch.zeros(2, 3)))
    assert soft_neighbourhood_density(torch.zeros(3, 3)) == pytest.approx(1)


def test_snd_looks_at_a_fixed_choice_of_many() -> None:
    target = outputs(1, n=60)
    chosen = target.logits[fixed_choice(60, 20)]
    assert SND(most=20).score([], [target], 0) == soft_neighbourhood_density(chosen)
    assert SND(most=20).score([], [target], 0) != SND().score([], [target], 0)


@QUICK
@SHAPES
def test_bnm_equals_the_eigenvalues_of_the_gram_matrix(n: int, k: int, seed: int) -> None:
    logits = outputs(seed, n=n, k=k).logits
    p = softmax(logits)
    want = np.sqrt(np.linalg.eigvalsh(p.T @ p).clip(0)).sum() / math.sqrt(n * min(n, k))
    assert nuclear_norm(logits) == pytest.approx(want, abs=1e-6)
    assert 0 < nuclear_norm(logits) <= 1 + 1e-9


def test_bnm_at_its_ends() -> None:
    k = 4
    assert nuclear_norm(one_hot([0, 1, 2, 3] * 3, k)) == pytest.approx(1)
    assert nuclear_norm(one_hot([2] * 12, k)) == pytest.approx(1 / math.sqrt(k))
    assert nuclear_norm(torch.zeros(12, k)) == pytest.approx(1 / k)
    # Singular values of one-hot predictions are the square roots of the class sizes.
    uneven = one_hot([0] * 9 + [1] * 4 + [2], k)
    assert nuclear_norm(uneven) == pytest.approx((3 + 2 + 1) / math.sqrt(14 * k))


def grouped(n: int = 60, k: int = 3, gap: float = 20.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Features of k far clusters, and which each row is of."""
    g = torch.Generator().manual_seed(0)
    groups = torch.arange(n) % k
    return torch.randn(n, 4, generator=g) + gap * groups[:, None], groups


def test_class_ami_sees_agreement_by_any_names() -> None:
    features, groups = grouped()
    for renamed in (groups, (groups + 1) % 3, 2 - groups):
        assert cluster_agreement(one_hot(renamed.tolist(), 3), features) == pytest.approx(1)
    g = torch.Generator().manual_seed(1)
    chance = [float(cluster_agreement(torch.randn(60, 3, generator=g), features)) for _ in range(20)]
    assert abs(float(np.mean(chance))) < 0.05


def test_class_ami_equals_sklearn_on_known_clusters() -> None:
    features, groups = grouped()
    logits = one_hot(groups.tolist(), 3)
    wrong = torch.randperm(60, generator=torch.Generator().manual_seed(2))[:15]
    logits[wrong] = one_hot([0] * 15, 3)
    want = adjusted_mutual_info_score(groups.numpy(), logits.argmax(1).numpy())
    assert 0.2 < want < 0.9
    assert cluster_agreement(logits, features) == pytest.approx(want)


def test_class_ami_of_a_collapsed_model_is_nothing() -> None:
    features, _ = grouped()
    assert cluster_agreement(one_hot([1] * 60, 3), features) == 0
    # One class, one cluster: sklearn calls it perfect.
    assert cluster_agreement(one_hot([1] * 60, 3), torch.ones(60, 4)) == 0
    assert adjusted_mutual_info_score([1] * 60, [0] * 60) == 1


@QUICK
@SHAPES
def test_class_ami_copes_with_any_shape(n: int, k: int, seed: int) -> None:
    o = outputs(seed, n=n, k=k, d=2)
    twins = torch.cat([o.features[: n // 2]] * 2 + [o.features[:1]] * (n % 2))  # fewer different rows than classes
    for features in (o.features, twins):
        score = cluster_agreement(o.logits, features)
        assert score == cluster_agreement(o.logits, features)
        assert score <= 1 + 1e-9


def test_class_ami_looks_at_a_fixed_choice_of_many() -> None:
    o = outputs(1, n=60)
    chosen = fixed_choice(60, 25)
    want = cluster_agreement(o.logits[chosen], o.features[chosen])
    assert ClassAMI(most=25).score([], [o], 0) == want
    assert want != cluster_agreement(o.logits, o.features)


def test_a_permutation_of_samples_changes_nothing() -> None:
    o = outputs(2)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    mixed = Outputs(o.logits[order], None, o.features[order])
    for maths in (confidence, soft_neighbourhood_density, nuclear_norm):
        assert maths(mixed.logits) == pytest.approx(maths(o.logits))
