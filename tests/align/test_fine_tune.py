"""Fine-tuning: what moves, what does not, and that a few labels of a turned target help."""

import copy
from functools import partial

import pytest
import torch
from intervals import gain_over
from sources import Net, accuracy, coloured, step_of, train
from torch import nn

from eo_adapt.align import Setup, View
from eo_adapt.align.anil import ANIL
from eo_adapt.align.fine_tune import FineTune
from eo_adapt.align.fomaml import FOMAML
from eo_adapt.align.stack import Stack


class Normed(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2))
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        features = self.body(x)
        return features, self.head(features)


def changed(align, shots) -> set[str]:
    torch.manual_seed(0)
    model = Normed().eval()
    before = copy.deepcopy(model.state_dict())
    align.tune(model, shots, step_of(model))
    assert not model.training
    return {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}


def test_training_is_source_only():
    align, x = FineTune(), torch.randn(4, 2)
    model = Net(2)
    align.attach(model, Setup(16, 1, 1, 2))
    assert align((View(*model(x), x, 0, torch.tensor([0, 1, 0, 1])),), (), step_of(model)) == {}
    assert align.tunes
    assert not align.needs_target
    assert not align.uses_target_labels


def test_all_weights_and_statistics_move_or_only_the_head():
    shots = {1: coloured(12, 0.1, 0)}
    assert changed(FineTune(steps=3), shots) == set(Normed().state_dict())
    assert changed(FineTune(steps=3, head_only=True), shots) == {"head.weight", "head.bias"}


def test_same_seed_same_weights():
    shots, found = {1: coloured(40, 0.1, 0)}, []
    for seed in (0, 0, 1):
        torch.manual_seed(7)
        model = Normed()
        torch.manual_seed(seed)
        FineTune(steps=4, batch_size=8).tune(model, shots, step_of(model))
        found.append(nn.utils.parameters_to_vector(model.parameters()))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_a_stack_tunes_its_parts():
    align = Stack({"fine_tune": FineTune(steps=2)})
    assert align.tunes
    assert "head.weight" in changed(align, {1: coloured(12, 0.1, 0)})


@pytest.mark.parametrize("option", [{"steps": 0}, {"lr": 0.0}, {"lr": float("inf")}, {"batch_size": 1}])
def test_impossible_options_are_refused(option):
    with pytest.raises(ValueError, match=r"fine_tune\.\w+ must be"):
        FineTune(**option)


@pytest.mark.parametrize("make", [FineTune, partial(FineTune, head_only=True), FOMAML, ANIL])
def test_nothing_to_learn_from_is_refused(make):
    x, y = coloured(12, 0.1, 0)
    torch.manual_seed(0)
    model, align = Normed().eval(), make()
    before = copy.deepcopy(model.state_dict())
    for shots, said in (
        ({}, r"was given no target \(see shift\.targets\)"),
        ({1: (x, y), 2: (x[:0], y[:0])}, "0 samples of domain 2 and none of them has a label"),
        (
            {1: (x, torch.full_like(y, -1))},
            r"12 samples of domain 1 .*shift\.target_labels=<labelled samples a class>",
        ),
    ):
        with pytest.raises(ValueError, match=f"{type(align).__name__} .*{said}"):
            align.tune(model, shots, step_of(model))
        assert not model.training
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("head_only", [False, True])
def test_a_few_labels_of_a_target_where_the_colour_lies_help(head_only):
    plain, ours = [], []
    for seed in range(3):
        torch.manual_seed(seed)
        model, align = Net(2), FineTune(lr=0.01, head_only=head_only)
        train(align, model, [[coloured(400, 0.95, seed)]] * 100)
        test = coloured(2000, 0.1, 900 + seed)
        plain.append(accuracy(model, test))
        align.tune(model, {1: coloured(30, 0.1, 50 + seed)}, step_of(model))
        ours.append(accuracy(model, test))
    assert gain_over(plain, ours)[0] > 0.2
