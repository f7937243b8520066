"""Which parcels a step sees is a function of (seed, domain, epoch, step)."""

from __future__ import annotations

import pickle
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eo_adapt.data.sampler import Sampler, generator


def _epoch(sampler: Sampler, steps: int, epoch: int = 0) -> list[int]:
    return torch.cat([sampler.positions(epoch, step) for step in range(steps)]).tolist()


@settings(max_examples=40, deadline=None)
@given(size=st.integers(1, 40), batch=st.integers(1, 50), steps=st.integers(1, 8), seed=st.integers(0, 9))
def test_each_once_before_any_twice(size: int, batch: int, steps: int, seed: int) -> None:
    drawn = _epoch(Sampler(size, batch, seed, 0), steps)
    assert len(drawn) == steps * batch
    for first in range(0, len(drawn), size):
        cycle = drawn[first : first + size]
        assert len(set(cycle)) == len(cycle)
        assert set(cycle) <= set(range(size))


def test_function_of_seed_domain_epoch_and_step() -> None:
    sampler = Sampler(50, 8, seed=3, domain=1)
    expected = sampler.positions(2, 5)
    _epoch(sampler, 20, epoch=7)  # whatever was asked before
    assert torch.equal(sampler.positions(2, 5), expected)
    assert torch.equal(Sampler(50, 8, 3, 1).positions(2, 5), expected)
    for other in (Sampler(50, 8, 4, 1).positions(2, 5), Sampler(50, 8, 3, 0).positions(2, 5)):
        assert not torch.equal(other, expected)
    assert not torch.equal(sampler.positions(3, 5), expected)
    assert not torch.equal(sampler.positions(2, 4), expected)


def test_epochs_and_cycles_differ_in_order() -> None:
    sampler = Sampler(30, 30, 0, 0)
    orders = [sampler.positions(epoch, step).tolist() for epoch in range(3) for step in range(3)]
    assert len({tuple(order) for order in orders}) == 9


@pytest.mark.parametrize("weights", [[1.0, 3.0, 0.0, 4.0], [10.0, 30.0, 0.0, 40.0]])
def test_weights_are_respected(weights: list[float]) -> None:
    sampler = Sampler(4, 100, seed=0, domain=0)
    sampler.weights = torch.tensor(weights)
    counts = Counter(_epoch(sampler, 200))
    assert counts[2] == 0
    shares = [counts[i] / 20_000 for i in range(4)]
    assert shares == pytest.approx([0.125, 0.375, 0.0, 0.5], abs=0.02)
    assert torch.equal(sampler.positions(1, 3), sampler.positions(1, 3))
    assert not torch.equal(sampler.positions(1, 3), sampler.positions(1, 4))
    assert not torch.equal(sampler.positions(1, 3), sampler.positions(2, 3))


def test_survives_the_way_to_a_spawned_worker() -> None:
    sampler = Sampler(50, 8, 3, 1)
    expected = sampler.positions(2, 5)
    assert torch.equal(pickle.loads(pickle.dumps(sampler)).positions(2, 5), expected)


def test_drawing_leaves_the_global_stream_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    Sampler(50, 8, 3, 1).positions(0, 0)
    assert torch.equal(torch.rand(3), expected)


def test_generator_tells_numbers_and_their_order_apart() -> None:
    def first(*numbers: int) -> float:
        return float(torch.rand(1, generator=generator(*numbers)))

    assert first(1, 2) == first(1, 2)
    assert len({first(1, 2), first(2, 1), first(1, 2, 1), first(12)}) == 4
