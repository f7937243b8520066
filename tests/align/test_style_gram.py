"""Gram matrices against numpy, what the distance sees, and colours that it brings together."""

import numpy as np
import pytest
import torch
from blobs import World, scores
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from eo_adapt.align import Step, View
from eo_adapt.align.source_only import SourceOnly
from eo_adapt.align.style_gram import StyleGram, gram, gram_distance


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@settings(deadline=None, max_examples=30, derandomize=True)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 6), st.integers(0, 99))
def test_equals_numpy_on_sides_of_any_size(n, m, width, seed):
    rng = np.random.default_rng(seed)
    s, t = rng.normal(size=(n, width)), rng.normal(size=(m, width)) + 1
    products = [sum(np.outer(row, row) for row in side) / len(side) for side in (s, t)]
    expected = ((products[0] - products[1]) ** 2).sum() / width**2
    assert gram_distance(torch.tensor(s), torch.tensor(t)).item() == pytest.approx(expected, rel=1e-9)


def test_what_it_sees():
    x = torch.randn(200, 4, dtype=torch.float64)
    assert gram_distance(x, x[torch.randperm(200)]) < 1e-20
    assert gram_distance(x, x + 1) > 0.1, "unlike a covariance, it sees a difference of means"
    rotation = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64))[0]
    torch.testing.assert_close(gram_distance(x @ rotation, 2 * x @ rotation), gram_distance(x, 2 * x))
    torch.testing.assert_close(gram_distance(3 * x, 6 * x), 81 * gram_distance(x, 2 * x))
    torch.testing.assert_close(gram(torch.cat([x, x])), gram(x))


def test_one_step_down_brings_features_closer():
    s, t = torch.randn(50, 3), (2 * torch.randn(40, 3) + 1).requires_grad_()
    before = gram_distance(s, t)
    before.backward()
    assert gram_distance(s, t.detach() - 0.1 * t.grad) < before


def view(x: torch.Tensor, domain: int) -> View:
    return View(x, x, x, domain)


@pytest.mark.parametrize(("pairing", "count"), [("pooled", 1), ("each", 4)])
def test_pairings(pairing, count):
    views = [view(torch.randn(3, 2, 4, 5) + i, i) for i in range(4)]
    step = Step(nn.Identity(), nn.CrossEntropyLoss(), None, 0.5)
    found = StyleGram(pairing=pairing)(tuple(views[:2]), tuple(views[2:]), step)["style"]
    s, t = ([v.rows() for v in side] for side in (views[:2], views[2:]))
    each = [gram_distance(a, b) for a in s for b in t] if count == 4 else [gram_distance(torch.cat(s), torch.cat(t))]
    torch.testing.assert_close(found, torch.stack(each).mean())


def test_no_rows_and_misspelt_pairings_are_refused():
    with pytest.raises(ValueError, match=r"at least 1 row.*data\.batch_size"):
        gram(torch.zeros(0, 3))
    with pytest.raises(ValueError, match=r"style_gram\.pairing must be one of \['pooled', 'each'\]"):
        StyleGram(pairing="all")


def test_colours_that_differ_are_brought_together():
    source, target = World(), World(offset=(1.4, 0.0, -0.6))
    plain, ours = scores(SourceOnly, source, target), scores(StyleGram, source, target)
    assert plain.mean() < 0.7
    assert (ours > plain + 0.05).all(), (plain, ours)
