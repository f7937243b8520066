"""MixVal: partners, probes and their score; that looking closer leaves no trace."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from candidates import NAN, outputs
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from eo_adapt.registry import build
from eo_adapt.selection.base import Outputs, SelectionError
from eo_adapt.selection.mixval import MixVal, interpolation_consistency, partners
from eo_adapt.types import Inputs, Observation, Output

LABELS = st.lists(st.integers(0, 3), min_size=1, max_size=12)


def attributes(values: list[float]) -> Inputs:
    return {"attributes": Observation(torch.tensor(values)[:, None])}


def two_sided(inputs: Inputs) -> Tensor:
    """Class 1 above 0."""
    x = inputs["attributes"].values[:, 0]
    return torch.stack([-x, x], 1)


def probe(criterion: MixVal, inputs: Inputs, predict=two_sided) -> Tensor:
    logits = predict(inputs)
    return criterion.probe(inputs, Output(torch.zeros(len(logits), 1), logits), predict)


@settings(deadline=None, max_examples=80, derandomize=True)
@given(LABELS, st.integers(0, 9))
def test_partners_are_of_the_right_kind_whenever_there_are_any(labels: list[int], seed: int) -> None:
    intra, inter = (p.tolist() for p in partners(torch.tensor(labels), seed))
    for i, label in enumerate(labels):
        twins = [j for j, other in enumerate(labels) if other == label and j != i]
        others = [j for j, other in enumerate(labels) if other != label]
        assert intra[i] in twins if twins else intra[i] == -1
        assert inter[i] in others if others else inter[i] == -1
    lent = [j for j in intra if j >= 0]
    assert len(set(lent)) == len(lent)  # nobody of a class is asked twice


def test_partners_follow_from_the_seed_alone() -> None:
    labels = torch.arange(30) % 3
    torch.manual_seed(0)
    before = torch.get_rng_state()
    a, b, c = (torch.stack(partners(labels, seed)) for seed in (0, 0, 1))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert torch.equal(before, torch.get_rng_state())


def test_probes_of_a_model_on_a_line() -> None:
    # Mixtures 0.55 a + 0.45 b with the larger part a. Of one side: always its side.
    values = [1.0, 4.0, -1.0, -8.0, 6.0, -3.0, 0.5, -0.2]
    found = probe(MixVal(), attributes(values))
    labels = [int(x > 0) for x in values]
    intra, inter = (p.tolist() for p in partners(torch.tensor(labels)))
    for i, (own, label) in enumerate(zip(values, labels, strict=True)):
        assert found[i, 0] == 1
        assert found[i, 1] == float((0.55 * own + 0.45 * values[inter[i]] > 0) == label)
        assert intra[i] != -1
    assert 0 < float(found[:, 1].mean()) < 1
    assert found.shape == (8, 2)


def test_a_far_boundary_scores_higher_than_a_near_one() -> None:
    def shifted(by: float):
        return lambda inputs: two_sided(attributes((inputs["attributes"].values[:, 0] - by).tolist()))

    inputs = attributes([-2.0, -1.9, -2.1, 1.9, 2.0, 2.1])
    good, poor = (probe(MixVal(), inputs, shifted(by)) for by in (0.0, 1.5))
    assert interpolation_consistency(good) == (1, 1)
    assert interpolation_consistency(poor)[1] == 0.5


def test_pairs_of_a_kind_that_are_not_there_have_no_probe() -> None:
    collapsed = probe(MixVal(), attributes([1.0, 2.0, 3.0]))
    assert collapsed[:, 0].tolist() == [1, 1, 1]
    assert collapsed[:, 1].isnan().all()
    lonely = probe(MixVal(), attributes([1.0, -2.0]))
    assert lonely[:, 0].isnan().all()
    assert not lonely[:, 1].isnan().any()
    assert probe(MixVal(), attributes([1.0])).isnan().all()
    some = probe(MixVal(), attributes([1.0, 2.0, -3.0]))
    assert some[:, 0].isnan().tolist() == [False, False, True]


@pytest.mark.parametrize(("pairs", "passes"), [("both", 2), ("intra", 1), ("inter", 1)])
def test_forward_passes_are_counted(pairs: str, passes: int) -> None:
    seen = []

    def counted(inputs: Inputs) -> Tensor:
        seen.append(len(inputs["attributes"].values))
        return two_sided(inputs)

    inputs = attributes([1.0, 2.0, -1.0, -2.0])
    logits = two_sided(inputs)
    found = MixVal(pairs).probe(inputs, Output(logits, logits), counted)
    assert seen == [4] * passes
    assert found.isnan().all(0).tolist() == [pairs == "inter", pairs == "intra"]


def test_a_prediction_that_is_no_number_does_not_agree() -> None:
    inputs = attributes([1.0, 2.0, -1.0, -2.0])
    logits = two_sided(inputs)
    found = MixVal().probe(inputs, Output(logits, logits), lambda _: torch.full((4, 2), NAN))
    assert found.tolist() == [[0, 0]] * 4


def test_maps_are_mixed_whole_and_counted_by_pixel() -> None:
    g = torch.Generator().manual_seed(0)
    images = torch.randn(3, 2, 4, 5, generator=g)
    inputs: Inputs = {"s2": Observation(images)}
    calls = []

    def predict(x: Inputs) -> Tensor:
        calls.append(1)
        return x["s2"].values  # the band that is larger

    logits = predict(inputs)
    found = MixVal().probe(inputs, Output(logits, logits), predict)
    partner = partners(torch.zeros(3))[0].tolist()
    for i, j in enumerate(partner):
        tally: dict[bool, list[bool]] = {True: [], False: []}
        for y in range(4):
            for x in range(5):
                own, other = images[i, :, y, x], images[j, :, y, x]
                a, b = int(own.argmax()), int(other.argmax())
                tally[a == b].append(int((0.55 * own + 0.45 * other).argmax()) == a)
        assert found[i].tolist() == pytest.approx([sum(t) / len(t) for t in (tally[True], tally[False])])
    assert len(calls) == 2  # the one above and one for both kinds
    flat = MixVal().probe(inputs, Output(logits, torch.ones(3, 2, 4, 5)), lambda _: torch.ones(3, 2, 4, 5))
    assert flat[:, 0].tolist() == [1, 1, 1]
    assert flat[:, 1].isnan().all()


def test_series_of_different_dates_go_through() -> None:
    days = torch.tensor([[0, 10, 20], [5, 15, 25]])
    values = torch.tensor([[[1.0], [1.0], [NAN]], [[-9.0], [-9.0], [-9.0]]])
    look = Observation(values, days, torch.tensor([[True, True, False], [True, True, True]]))

    def predict(inputs: Inputs) -> Tensor:
        x = inputs["s2"].values.nan_to_num(0).sum((1, 2))
        return torch.stack([-x, x], 1)

    logits = predict({"s2": look})
    found = MixVal().probe({"s2": look}, Output(logits, logits), predict)
    assert found[:, 1].tolist() == [0, 1]  # 0.55 - 4.05 < 0; -4.95 + 0.45 < 0


class Net(nn.Module):
    """Dropout, batch norm and a parameter: all that could notice."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(1, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2))

    def forward(self, inputs: Inputs) -> Tensor:
        return self.body(inputs["attributes"].values)


def test_probing_leaves_no_trace() -> None:
    torch.manual_seed(0)
    net = Net().eval()
    net.body[2].train()  # a mode that probing must not put right
    inputs = attributes([1.0, 2.0, -1.0, -2.0])
    with torch.no_grad():
        logits = net.eval()(inputs)
    modes = {name: module.training for name, module in net.named_modules()}
    state = {name: value.clone() for name, value in net.state_dict().items()}
    rng = torch.get_rng_state()
    assert torch.is_grad_enabled()
    graphs = []
    found = MixVal().probe(inputs, Output(logits, logits), lambda x: graphs.append(torch.is_grad_enabled()) or net(x))
    assert graphs == [False, False]
    assert torch.is_grad_enabled()
    assert not found.requires_grad
    assert all(p.grad is None for p in net.parameters())
    assert torch.equal(rng, torch.get_rng_state())
    assert modes == {name: module.training for name, module in net.named_modules()}
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert torch.equal(found, MixVal().probe(inputs, Output(logits, logits), net))


@settings(deadline=None, max_examples=30, derandomize=True)
@given(st.lists(st.tuples(*[st.sampled_from([0.0, 1.0, NAN])] * 2), min_size=1, max_size=9))
def test_consistency_is_the_mean_of_what_there_is(rows: list[tuple[float, float]]) -> None:
    for column, found in zip(zip(*rows, strict=True), interpolation_consistency(torch.tensor(rows)), strict=True):
        known = [x for x in column if not math.isnan(x)]
        assert found == pytest.approx(sum(known) / len(known) if known else NAN, nan_ok=True)


@pytest.mark.parametrize(("name", "want"), [("mixval", 0.65), ("mixval_intra", 0.8), ("mixval_inter", 0.5)])
def test_each_entry_scores_its_kind_from_its_own_probes(name: str, want: float) -> None:
    looks = torch.tensor([[1, 1], [1, NAN], [1, 0], [1, 0], [0, 1]])
    target = replace(outputs(1, n=5), probes={name: looks})
    criterion = build("selection", name)
    assert criterion.score([], [target], 0) == pytest.approx(want)
    with pytest.raises(SelectionError, match=rf"{name} needs its probes of target-val under that name; there are \[\]"):
        criterion.score([], [replace(target, probes={})], 0)


def test_a_collapsed_model_has_no_score() -> None:
    target = replace(outputs(1, n=3), probes={"mixval": torch.tensor([[1, NAN], [1, NAN], [1, NAN]])})
    assert math.isnan(MixVal().score([], [target], 0))
    assert MixVal("intra").score([], [target], 0) == 1


def test_a_renamed_entry_finds_its_probes() -> None:
    target = Outputs(torch.zeros(1, 2), None, torch.zeros(1, 1), {"mine": torch.tensor([[1.0, 0.0]])})
    assert MixVal(name="mine").score([], [target], 0) == 0.5
