"""The contract's base: the source-only baseline, views as rows, pairs of domains."""

import dataclasses
import math
import re
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from eo_adapt.align import Alignment, Setup, Step, View
from eo_adapt.align.base import pairs, rows
from eo_adapt.align.options import check_choice, check_number
from eo_adapt.align.source_only import SourceOnly
from eo_adapt.align.target_only import TargetOnly

STEP = Step(nn.Identity(), nn.CrossEntropyLoss(), lambda domain: nullcontext(), 0.5)


def view(features: Tensor, domain: int = 0) -> View:
    return View(features, features, None, domain)


class Constant(Alignment):
    def loss(self, sources, targets, step):
        return {"one": torch.tensor(1.0), "two": torch.tensor(2.0)}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.head = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x):
        features = self.encoder(x)
        return features, self.head(features)


def test_base_is_the_source_only_baseline():
    for align in (Alignment(), SourceOnly()):
        net, batches = Net(), ((object(),), (object(),))
        before = {name: value.clone() for name, value in net.state_dict().items()}
        align.attach(net, Setup(4))
        assert align.edit(*batches, STEP) == batches
        assert align((view(torch.randn(3, 4)),), (), STEP) == {}
        align.after_step(net)
        assert align.class_weights(torch.rand(2)) is None
        x = torch.randn(5, 3)
        with align.scope(1):
            assert torch.equal(align.predict(net, x), net(x)[1])
        assert not align.needs
        assert not any((align.needs_target, align.uses_target_labels, align.learns_at_test))
        assert not list(align.parameters())
        assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_only_the_oracle_uses_target_labels():
    assert TargetOnly.uses_target_labels
    assert TargetOnly().needs_target


def test_export_is_a_copy_with_the_same_logits():
    net, x = Net(), torch.randn(5, 3)
    logits = net(x)[1]
    plain = Alignment().export(net, 0)
    assert torch.equal(plain(x)[1], logits)
    nn.init.zeros_(plain.head.weight)
    assert torch.equal(net(x)[1], logits)


@pytest.mark.parametrize("weight", [-1.0, math.inf, math.nan])
def test_refuses_a_weight_that_is_no_weight(weight):
    with pytest.raises(ValueError, match=r"Constant\.weight must be a finite number >= 0; got"):
        Constant(weight)


def test_loss_is_unweighted_and_forward_weighs():
    align = Constant(weight=3.0)
    assert {k: v.item() for k, v in align.loss((), (), STEP).items()} == {"one": 1.0, "two": 2.0}
    assert {k: v.item() for k, v in align((), (), STEP).items()} == {"one": 3.0, "two": 6.0}


@settings(deadline=None, max_examples=20, derandomize=True)
@given(st.integers(1, 4), st.integers(1, 5), st.lists(st.integers(1, 4), max_size=3))
def test_rows_are_one_a_sample_or_one_a_map_cell(samples, width, space):
    features = torch.arange(samples * width * math.prod(space), dtype=torch.float32).view(samples, width, *space)
    by_hand = torch.stack([cell for sample in features for cell in sample.flatten(1).T]) if space else features
    assert torch.equal(view(features).rows(), by_hand)
    assert view(features.half()).rows().dtype == torch.float32


def test_rows_keep_the_gradient_and_pool_domains_in_order():
    a, b = torch.randn(2, 3, 2, 2, requires_grad=True), torch.randn(5, 3, 1, 4)
    pooled = rows((view(a), view(b)))
    assert pooled.shape == (2 * 4 + 5 * 4, 3)
    assert torch.equal(pooled[8], b[0, :, 0, 0])
    pooled.sum().backward()
    assert torch.equal(a.grad, torch.ones_like(a))


def test_pairs_pool_or_cross():
    s, t = [torch.full((i + 1, 2), float(i)) for i in range(2)], [torch.full((i + 3, 2), 10.0 + i) for i in range(2)]
    sources, targets = tuple(map(view, s)), tuple(map(view, t))
    [(pooled_s, pooled_t)] = pairs(sources, targets, "pooled")
    assert torch.equal(pooled_s, torch.cat(s))
    assert torch.equal(pooled_t, torch.cat(t))
    each = pairs(sources, targets, "each")
    assert [(len(x), len(y)) for x, y in each] == [(1, 3), (1, 4), (2, 3), (2, 4)]


def test_a_misspelt_choice_is_told_the_right_ones():
    check_choice("csn.affine", "shared", ("shared", "per_domain"))
    with pytest.raises(ValueError, match=r"csn.affine must be one of \['shared', 'per_domain'\]; got 'sharde'"):
        check_choice("csn.affine", "sharde", ("shared", "per_domain"))


@pytest.mark.parametrize(
    ("value", "bounds", "says"),
    [
        (math.nan, {"least": 0}, "x.y must be a finite number >= 0; got nan"),
        (1.5, {"above": 0, "most": 1}, "x.y must be a finite number > 0 and <= 1; got 1.5"),
        (0, {"above": 0, "most": 1}, "x.y must be a finite number > 0 and <= 1; got 0"),
        (1.0, {"least": 0, "below": 1}, "x.y must be a finite number >= 0 and < 1; got 1.0"),
        (2.0, {"least": 2, "whole": True}, "x.y must be a whole number >= 2; got 2.0"),
        (math.inf, {"whole": True}, "x.y must be a whole number; got inf"),
        ("1", {"least": 0}, "x.y must be a finite number >= 0; got '1'"),
    ],
)
def test_an_impossible_number_is_told_its_bounds(value, bounds, says):
    with pytest.raises(ValueError, match=f"^{re.escape(says)}$"):
        check_number("x.y", value, **bounds)


def test_numbers_on_their_bounds_and_of_numpy_are_fine():
    for value, bounds in ((0, {"least": 0}), (1, {"most": 1}), (np.float32(0.5), {"above": 0, "below": 1})):
        check_number("x.y", value, **bounds)
    check_number("x.y", np.int64(2), least=2, whole=True)


def test_views_and_steps_cannot_be_changed_by_a_method():
    with pytest.raises(dataclasses.FrozenInstanceError):
        view(torch.zeros(1, 1)).domain = 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        STEP.progress = 1.0
