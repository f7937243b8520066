"""Positions are continuous, periodic where they should be, and say what they miss."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eo_adapt.encoders.blocks.days import DayEncoding, Position, position
from eo_adapt.types import Observation


def dated(days: list[float], gdd: list[float] | None = None) -> Observation:
    heat = None if gdd is None else torch.tensor([gdd])
    return Observation(torch.zeros(1, len(days), 2), torch.tensor([days]), torch.ones(1, len(days)).bool(), gdd=heat)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(-400, 800, width=32), min_size=1, max_size=6), st.sampled_from([1, 2, 4]), st.integers(1, 5))
def test_line_code_against_numpy(days: list[float], heads: int, half: int) -> None:
    size = 2 * half
    got = DayEncoding(size * heads, "days", tau=1000.0, heads=heads)(dated(days))[0].numpy()
    order = np.arange(size)
    angle = np.asarray(days)[:, None] / 1000 ** (2 * np.floor(order / 2) / size)
    want = np.where(order % 2 == 0, np.sin(angle), np.cos(angle))
    np.testing.assert_allclose(got, np.tile(want, (1, heads)), atol=2e-4)


def test_year_circle_joins_new_year() -> None:
    code = DayEncoding(16, "doy")(dated([0.0, -1.0, 364.25, 182.6, 365.25]))[0]
    torch.testing.assert_close(code[1], code[2], atol=1e-4, rtol=0)
    torch.testing.assert_close(code[0], code[4], atol=1e-4, rtol=0)
    assert (code[0] - code[1]).norm() < 0.4 * (code[0] - code[3]).norm()


def test_year_circle_against_numpy() -> None:
    days = np.array([-80.0, 0.0, 14.5, 200.0, 500.0])
    want = [f(2 * np.pi * k * days / 365.25) for k in (1, 2, 3) for f in (np.sin, np.cos)]
    got = DayEncoding(12, "doy", heads=2)(dated(days.tolist()))[0].numpy()
    np.testing.assert_allclose(got, np.tile(np.stack(want, 1), (1, 2)), atol=1e-4)


def test_code_is_continuous() -> None:
    code = DayEncoding(16)(dated([10.0, 10.01, -3.5]))[0]
    assert 0 < (code[0] - code[1]).abs().max() < 0.011
    assert code.isfinite().all()


def test_heat_is_read_from_gdd_with_its_own_tau() -> None:
    look = dated([1.0, 2.0], [0.0, 900.0])
    assert DayEncoding(8, "gdd").tau == 10_000
    assert DayEncoding(8, "gdd", tau=500).tau == 500
    assert DayEncoding(8).tau == 1_000
    assert position(look, "gdd").tolist() == [[0.0, 900.0]]
    torch.testing.assert_close(
        DayEncoding(8, "gdd", tau=1000.0)(look), DayEncoding(8)(dated([0.0, 900.0])), atol=1e-6, rtol=0
    )


def test_invalid_dates_stand_at_zero() -> None:
    look = Observation(torch.zeros(1, 2, 1), torch.tensor([[5.0, torch.nan]]), torch.tensor([[True, False]]))
    assert position(look, "days").tolist() == [[5.0, 0.0]]


def test_integer_days_work_and_code_has_no_state() -> None:
    look = Observation(torch.zeros(1, 2, 1), torch.tensor([[5, -20]]))
    encoding = DayEncoding(4)
    assert encoding(look).dtype == torch.float32
    assert not encoding.state_dict()


@pytest.mark.parametrize(("kind", "message"), [("gdd", "set position=days"), ("days", "none"), ("doy", "none")])
def test_missing_positions_are_named(kind: Position, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        position(Observation(torch.zeros(1, 2, 1)), kind)


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="allowed are"):
        DayEncoding(4, "weeks")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="multiple"):
        DayEncoding(10, heads=4)
