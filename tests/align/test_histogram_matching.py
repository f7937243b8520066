"""Histogram matching: quantiles against numpy, identities, ties, masks, and a sensor's curve that it undoes."""

import numpy as np
import pytest
import torch
from edits import edited, gain
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from eo_adapt.align.histogram_matching import HistogramMatching, match
from eo_adapt.types import Batch, Observation


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@settings(deadline=None, max_examples=40, derandomize=True)
@given(st.integers(2, 30), st.integers(1, 30), st.integers(0, 99))
def test_equals_numpy_quantiles(n, m, seed):
    torch.manual_seed(seed)
    source, reference = torch.randn(n), 3 * torch.randn(m) + 5
    ranks = source.numpy().argsort().argsort() / (n - 1)
    expected = np.quantile(reference.double().numpy(), ranks)
    np.testing.assert_allclose(match(source, reference).numpy(), expected, atol=1e-5)


@settings(deadline=None, max_examples=40, derandomize=True)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=30), st.integers(0, 99))
def test_identity_to_the_bit_when_equal_ties_included(values, seed):
    torch.manual_seed(seed)
    source = torch.tensor(values) / 3
    assert torch.equal(match(source, source[torch.randperm(len(source))]), source)


@settings(deadline=None, max_examples=40, derandomize=True)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=30), st.integers(1, 30), st.integers(0, 99))
def test_keeps_order_and_ties_and_range(values, m, seed):
    torch.manual_seed(seed)
    source, reference = torch.tensor(values).float(), torch.randn(m)
    got = match(source, reference)
    order = source.argsort()
    assert (got[order].diff() >= 0).all()
    assert all((got[source == value] == got[source == value][0]).all() for value in source.unique())
    assert reference.min() <= got.min()
    assert got.max() <= reference.max()


def test_nothing_to_match_leaves_the_source():
    x = torch.randn(4)
    assert match(x, torch.empty(0)) is x
    assert match(torch.empty(0), x).numel() == 0
    assert match(torch.tensor([9.0]), torch.tensor([1.0, 2.0, 7.0])).item() == 2  # one value is the median
    assert match(x.bfloat16(), x.bfloat16()).dtype == torch.bfloat16


def test_a_million_values_keep_their_ranks():
    x = torch.arange(1_000_000).float()
    assert torch.equal(match(x, 2 * x), 2 * x)


@pytest.mark.parametrize("shape", [(6, 3), (6, 3, 4, 4), (6, 5, 3), (6, 5, 3, 4, 4)])
def test_every_rank_band_by_band_against_all_targets_together(shape):
    source = torch.randn(shape)
    targets = 5 * torch.randn(9, *shape[1:]) + 4, torch.randn(2, *shape[1:]) - 8
    got = edited(HistogramMatching(), source, *targets)
    axis = 2 if len(shape) in (3, 5) else 1
    for band in range(3):
        ours, new = (x.select(axis, band).flatten() for x in (source, got))
        reference = torch.cat([t.select(axis, band).flatten() for t in targets])
        torch.testing.assert_close(new, match(ours, reference))


def observation(n: int, offset: float = 0.0) -> Observation:
    values = torch.randn(n, 5, 2, 3) + offset
    values[torch.rand(values.shape) < 0.1] = torch.nan
    return Observation(values, torch.arange(5).expand(n, 5), torch.rand(n, 5) < 0.7, torch.rand(n, 5, 3) < 0.8)


def test_masked_places_stay_and_have_no_say():
    source, target = observation(8), observation(11, 5.0)
    hidden = ~(target.valid[:, :, None, None] & target.valid_pixels[:, :, None]).expand_as(target.values)
    loud = Observation(target.values.masked_fill(hidden, 1e6), target.days, target.valid, target.valid_pixels)
    got = edited(HistogramMatching(), {"s2": source}, {"s2": target})["s2"]
    again = edited(HistogramMatching(), {"s2": source}, {"s2": loud})["s2"]
    assert torch.equal(got.values.nan_to_num(-7), again.values.nan_to_num(-7))
    seen = source.valid[:, :, None, None] & source.valid_pixels[:, :, None] & source.values.isfinite()
    assert torch.equal(got.values[~seen].nan_to_num(-7), source.values[~seen].nan_to_num(-7))
    assert (got.values[seen] - source.values[seen]).mean() > 4
    assert got.values[seen].max() < 20


def test_batches_of_ours_keep_everything_but_values():
    inputs = {"s2": observation(8), "attributes": Observation(torch.randn(8, 4)), "s1": observation(8)}
    source = Batch(inputs, torch.arange(8), torch.rand(8, 2), torch.arange(8))
    target = Batch(
        {"s2": observation(5, 3.0), "attributes": Observation(torch.randn(5, 4))},
        None,
        torch.rand(5, 2),
        torch.arange(5),
    )
    before = inputs["s2"].values.clone()
    new = edited(HistogramMatching(), source, target)
    assert all(new.inputs[name] is inputs[name] for name in ("attributes", "s1")), "not in the target, or left"
    assert all(getattr(new, field) is getattr(source, field) for field in ("labels", "lonlat", "rows"))
    assert torch.equal(inputs["s2"].values.nan_to_num(9), before.nan_to_num(9)), "what was given is not changed"
    assert edited(HistogramMatching(leave=()), source, target).inputs["attributes"] is not inputs["attributes"]


def test_random_reference_is_one_sample_of_the_targets():
    source = torch.randn(30, 2, 4, 4)
    targets = [
        torch.randn(3, 2, 4, 4) + torch.tensor([10.0, 20.0, 30.0]).view(3, 1, 1, 1),
        torch.randn(1, 2, 4, 4) - 20,
    ]
    got = edited(HistogramMatching("random"), source, *targets)
    found = set()
    for image in got:
        same = [
            (t, i)
            for t, target in enumerate(targets)
            for i, other in enumerate(target)
            if all(
                torch.allclose(a.flatten().sort().values, b.flatten().sort().values, atol=1e-5)
                for a, b in zip(image, other, strict=True)
            )
        ]
        assert len(same) == 1
        found.add(same[0])
    assert len(found) == 4


def test_another_number_of_bands_is_refused():
    with pytest.raises(ValueError, match=r"'' has \[2, 3\] bands"):
        edited(HistogramMatching(), torch.randn(4, 3), torch.randn(4, 2))


def test_a_misspelt_reference_is_refused():
    with pytest.raises(ValueError, match=r"histogram_matching\.reference must be one of"):
        HistogramMatching("pool")


def test_undoes_the_curve_of_another_sensor():
    """The target is the same world through a monotone curve a band: after matching, a network fits it."""

    def sample(n: int, sensor: bool):
        labels = torch.randint(3, (n,))
        x = torch.randn(n, 4) * 0.4 + nn.functional.one_hot(labels, 4)
        curve = torch.exp(1.5 * x) * torch.tensor([0.2, 4.0, 0.2, 1.0]) + torch.tensor([3.0, -8.0, 1.0, -3.0])
        return (curve if sensor else x), labels

    def network() -> nn.Module:
        return nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))

    assert gain(network, sample, HistogramMatching(), rows=128, lr=0.02)[0] > 0.15
