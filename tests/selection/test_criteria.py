"""Label-free criteria against numpy, and who may see target labels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score

from eo_adapt.registry import build, names
from eo_adapt.selection.base import Outputs
from eo_adapt.selection.infomax import InfoMax, information_maximisation
from eo_adapt.selection.last import Last
from eo_adapt.selection.source_val import SourceVal


def outputs(seed: int, labels: bool = True, n: int = 40, k: int = 5) -> Outputs:
    g = torch.Generator().manual_seed(seed)
    logits = torch.randn(n, k, generator=g) * 3
    return Outputs(logits, torch.randint(k, (n,), generator=g) if labels else None, torch.randn(n, 8, generator=g))


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


def test_last_prefers_later() -> None:
    assert Last().score([], [], 5) > Last().score([], [], 4)


@pytest.mark.parametrize("name", names("selection"))
def test_only_oracles_notice_target_labels(name: str) -> None:
    criterion = build("selection", name)
    source = outputs(3)
    target = outputs(4)
    permuted = Outputs(target.logits, target.labels.roll(7), target.features)
    scores = {criterion.score([source], [t], 3) for t in (target, permuted)}
    assert (len(scores) == 2) is criterion.uses_target_labels
    if not criterion.uses_target_labels:
        hidden = Outputs(target.logits, None, target.features)
        assert criterion.score([source], [hidden], 3) in scores


def test_infomax_averages_over_targets() -> None:
    a, b = outputs(5, labels=False), outputs(6, labels=False)
    want = (information_maximisation(a.logits) + information_maximisation(b.logits)) / 2
    assert InfoMax().score([], [a, b], 0) == pytest.approx(want)
