"""NaN rows are refused before anything that lasts is made of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from bench import SOURCES, TARGETS, Bench
from hypothesis import given, settings
from hypothesis import strategies as st
from sensors import answers, frozen, samples, trained
from torch import Tensor
from unequal import EQUAL, Net, draw

from eo_adapt.align import Setup
from eo_adapt.align.finite import check_finite
from eo_adapt.align.label_shift import LabelShift
from eo_adapt.align.tent import Tent

CRITICS = ("dann", "cdan", "adda", "wdgrl")
bad = pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])


def spoilt(x: Tensor, value: float = torch.nan) -> Tensor:
    x = x.clone()
    x[2] = value
    return x


@settings(deadline=None, max_examples=30, derandomize=True)
@given(st.lists(st.lists(st.booleans(), max_size=4), max_size=3), st.integers(1, 3))
def test_rows_are_counted_where_they_are(sides: list[list[bool]], width: int) -> None:
    rows = []
    for i, flags in enumerate(sides):
        x = torch.zeros(len(flags), width)
        for row, spoil in enumerate(flags):
            x[row, -1] = torch.nan if spoil else 1.0
        rows.append((f"place {i}", x))
    expected = [f"{sum(flags)} of {len(flags)} in place {i}" for i, flags in enumerate(sides) if any(flags)]
    if not expected:
        check_finite("it", "rows", rows)
        return
    with pytest.raises(ValueError, match=rf"it was given rows with NaN or infinite numbers: {', '.join(expected)}\. "):
        check_finite("it", "rows", rows)


@pytest.mark.parametrize("name", CRITICS)
@pytest.mark.parametrize("side", [0, SOURCES + TARGETS - 1])
@bad
def test_a_critic_refuses_the_batch_and_goes_on_as_if_it_had_not_been(name: str, side: int, value: float) -> None:
    bench, twin = Bench(name), Bench(name)
    real = bench.batch

    def poisoned(domain: int, number: int) -> tuple[Tensor, Any]:
        x, labels = real(domain, number)
        return (spoilt(x, value) if (domain, number) == (side, 5) else x), labels

    for each in (bench, twin):
        each.fit(last=4)
    bench.batch = poisoned
    before = frozen(bench.align)
    bench.model.eval()  # else the batch norms of the network itself remember it
    with pytest.raises(ValueError, match="feature rows with NaN or infinite numbers: 1 of"):
        bench.loss(5)
    bench.model.train()
    bench.align.after_step(bench.model)
    for each in (bench, twin):
        each.fit(6, 8)
    assert len(before)
    for a, b in zip(frozen(bench.align), frozen(twin.align), strict=True):
        assert a.isfinite().all()
        assert torch.equal(a, b)


@bad
def test_tent_refuses_the_batch_and_keeps_what_it_knows(value: float) -> None:
    for options in ({}, {"episodic": True}, {"min_batch": 1000}):
        net, tent = trained(Tent(**{"lr": 0.02} | options))
        good, x = samples(60, shifted=True)[0], spoilt(samples(60, shifted=True)[0], value)
        for seen in (False, True):
            before = frozen(net, tent)
            with pytest.raises(
                ValueError, match="Tent was given predictions with NaN or infinite numbers: 1 of 60 in d"
            ):
                answers(net, tent, x, 1)
            assert all(torch.equal(a, b) for a, b in zip(before, frozen(net, tent), strict=True))
            if not seen:
                answers(net, tent, good, 1)


def test_tent_keeps_what_it_knows_when_a_small_batch_is_bad() -> None:
    """Its diversity would be NaN, which looks like a collapse: all was forgotten."""
    net, tent = trained(Tent(lr=0.02))
    answers(net, tent, samples(60, shifted=True)[0], 1)
    assert tent._counts[0, 0] == 1
    with pytest.raises(ValueError, match="1 of 5 in domain 1"):
        answers(net, tent, spoilt(samples(5)[0]), 1)
    assert tent._counts[0, 0] == 1


@pytest.mark.parametrize("estimator", ["bbse", "em"])
@bad
def test_label_shift_refuses_bad_rows_of_any_domain(estimator: str, value: float) -> None:
    torch.manual_seed(0)
    net, align = Net().eval(), LabelShift(estimator=estimator, how="both", guard=0.0)
    align.attach(net, Setup(8, 2, 2, 3))
    labelled = {i: [draw(EQUAL, 60)] for i in (0, 1)}
    unlabelled = {i: [draw(EQUAL, 60)[0], draw(EQUAL, 60)[0]] for i in (2, 3)}
    align.settle(net, labelled, unlabelled)
    before = frozen(align)
    for domain in range(4):
        broken = [dict(labelled), dict(unlabelled)]
        if domain < 2:
            (x, y), *_ = labelled[domain]
            broken[0][domain] = [(spoilt(x, value), y)]
        else:
            first, second = unlabelled[domain]
            broken[1][domain] = [first * 0.5, spoilt(second, value)]
            broken[1][2] = broken[1][2] if domain == 2 else [first * 2]  # what would be written first
        with pytest.raises(ValueError, match=f"LabelShift was given logits with NaN .*: 1 of 60 in domain {domain}"):
            align.settle(net, *broken)
        assert all(torch.equal(a, b) for a, b in zip(before, frozen(align), strict=True))
    x, y = labelled[0][0]
    y = y.clone()
    y[2] = -1  # a sample whose label is not known is not looked at
    align.settle(net, {0: [(spoilt(x, value), y)]}, unlabelled)


@pytest.mark.parametrize("how", ["adjust", "reweight", "both"])
def test_label_shift_refuses_an_empty_settling(how: str) -> None:
    net, align = Net().eval(), LabelShift(how=how)
    align.attach(net, Setup(8, 1, 1, 3))
    with pytest.raises(ValueError, match=r"LabelShift\.settle was given no target; give"):
        align.settle(net, {0: [draw(EQUAL, 60)]}, {})
