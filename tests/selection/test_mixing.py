"""Mixtures of samples whose dates, masks and pixels differ."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
import torch
from candidates import NAN
from hypothesis import given, settings
from hypothesis import strategies as st

from eo_adapt.selection.mixing import mix, resample
from eo_adapt.types import Observation

SHARE = 0.55


def series(b: int = 4, t: int = 6, c: int = 3, seed: int = 0, full: bool = False) -> Observation:
    """Sorted, uneven days; some masked, whose values are nan."""
    g = torch.Generator().manual_seed(seed)
    days = torch.randint(-30, 300, (b, t), generator=g).sort(1).values
    valid = torch.rand(b, t, generator=g) < 0.7
    valid[:, 0] = True
    if full:
        valid[:] = True
    values = torch.where(valid[:, :, None], torch.randn(b, t, c, generator=g), NAN)
    return Observation(values, days, valid, gdd=days * 7.0)


def mixed(look: Observation, partner: list[int]) -> Observation:
    return mix({"s2": look}, torch.tensor(partner), SHARE)["s2"]


@settings(deadline=None, max_examples=60, derandomize=True)
@given(t=st.integers(1, 7), u=st.integers(1, 7), seed=st.integers(0, 999))
def test_resampling_equals_numpy(t: int, u: int, seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    days = torch.stack([torch.randperm(400, generator=g)[:t] for _ in range(3)]) - 50  # in any order, none twice
    valid = torch.rand(3, t, generator=g) < 0.6
    valid[:, int(torch.randint(t, (), generator=g))] = True
    values = torch.where(valid[:, :, None], torch.randn(3, t, 2, generator=g), NAN)
    onto = torch.randint(-100, 500, (3, u), generator=g)
    found = resample(values, days, valid, onto)
    assert found.shape == (3, u, 2)
    for i in range(3):
        kept = valid[i].numpy()
        order = np.argsort(days[i].numpy()[kept])
        for c in range(2):
            want = np.interp(onto[i], days[i].numpy()[kept][order], values[i, :, c].numpy()[kept][order])
            assert found[i, :, c].numpy() == pytest.approx(want, abs=1e-5)


def test_two_looks_on_one_day_are_no_division_by_zero() -> None:
    values, days = torch.tensor([[[1.0], [3.0], [5.0]]]), torch.tensor([[10, 10, 20]])
    found = resample(values, days, torch.ones(1, 3).bool(), torch.tensor([[10, 15]]))
    assert found[0, 0, 0] in (1, 3)
    assert found[0, 1, 0] == 4


def test_series_are_mixed_on_the_days_of_the_larger_part() -> None:
    look, partner = series(), [2, 3, 1, 0]
    found = mixed(look, partner)
    for i, j in enumerate(partner):
        for t in range(6):
            for c in range(3):
                own, kept = float(look.values[i, t, c]), look.valid[j].numpy()
                if not look.valid[i, t]:
                    assert np.isnan(float(found.values[i, t, c]))
                    continue
                other = np.interp(look.days[i, t], look.days[j].numpy()[kept], look.values[j, :, c].numpy()[kept])
                assert float(found.values[i, t, c]) == pytest.approx(SHARE * own + (1 - SHARE) * other, abs=1e-5)


@pytest.mark.parametrize("look", [series(), Observation(torch.randn(4, 3)), Observation(torch.randn(4, 3, 5, 5))])
def test_all_but_the_values_stays_and_inputs_are_not_touched(look: Observation) -> None:
    before = look.values.clone()
    found = mixed(look, [1, 0, 3, 2])
    assert torch.equal(look.values.nan_to_num(9), before.nan_to_num(9))
    assert not torch.equal(found.values.nan_to_num(9), before.nan_to_num(9))
    for field in fields(look):
        if field.name != "values":
            assert getattr(found, field.name) is getattr(look, field.name)


def test_with_oneself_nothing_changes() -> None:
    for look in (series(), Observation(torch.randn(4, 3))):
        assert torch.allclose(mixed(look, [0, 1, 2, 3]).values, look.values, equal_nan=True, atol=1e-6)
    here, days = torch.ones(2, 3, 4).bool(), series(2, 3).days
    uniform = Observation(torch.full((2, 3, 1, 4), 0.3), days, torch.ones(2, 3).bool(), here)
    assert torch.allclose(mixed(uniform, [1, 0]).values, uniform.values)


def test_without_time_plain_mixing() -> None:
    for shape in ((4, 3), (4, 3, 5, 5)):
        look, partner = Observation(torch.randn(shape)), [3, 2, 0, 1]
        want = torch.stack([SHARE * look.values[i] + (1 - SHARE) * look.values[j] for i, j in enumerate(partner)])
        assert torch.allclose(mixed(look, partner).values, want, atol=1e-6)


def test_a_partner_without_valid_dates_lends_nothing() -> None:
    look = series(full=True)
    look.valid[1] = False
    found = mixed(look, [1, 0, 1, 2])
    assert torch.equal(found.values[0], look.values[0])
    assert torch.equal(found.values[2], look.values[2])
    assert torch.equal(found.values[1], look.values[1])  # masked throughout
    assert not torch.equal(found.values[3], look.values[3])


def pixel_set(b: int = 4, t: int = 5, c: int = 2, s: int = 3) -> Observation:
    g = torch.Generator().manual_seed(1)
    days = torch.arange(t) * 10 + torch.arange(b)[:, None] * 3  # so that every date lies between two of others
    valid = torch.rand(b, t, generator=g) < 0.8
    pixels = torch.rand(b, t, s, generator=g) < 0.7
    valid[:, 0], pixels[:, 0, 0] = True, True
    valid[2, 3], pixels[2, 3] = True, False  # a valid date without a valid pixel is none
    values = torch.where((pixels & valid[:, :, None])[:, :, None], torch.randn(b, t, c, s, generator=g), NAN)
    return Observation(values, days, valid, pixels)


@pytest.mark.parametrize("partner", [[1, 2, 3, 0], [2, 3, 0, 1]])
def test_pixel_sets_are_mixed_with_the_mean_of_the_partners_valid_pixels(partner: list[int]) -> None:
    look = pixel_set()
    seen = look.valid_pixels & look.valid[:, :, None]
    found = mixed(look, partner)
    for i, j in enumerate(partner):
        dates = [t for t in range(5) if bool(seen[j, t].any())]
        for c in range(2):
            means = [float(look.values[j, t, c][seen[j, t]].mean()) for t in dates]
            for t in range(5):
                other = np.interp(look.days[i, t], look.days[j][dates].numpy(), means)
                for s in range(3):
                    got, own = float(found.values[i, t, c, s]), float(look.values[i, t, c, s])
                    assert got == pytest.approx(SHARE * own + (1 - SHARE) * other, abs=1e-5, nan_ok=True)
                    assert np.isnan(got) != bool(seen[i, t, s])


def test_masked_values_stay_as_they_are() -> None:
    for masked in (pixel_set(), series()):
        filled = Observation(masked.values.nan_to_num(7.0), masked.days, masked.valid, masked.valid_pixels)
        found = mixed(filled, [1, 2, 3, 0]).values
        assert torch.equal(found == 7, masked.values.isnan())
        assert torch.equal(found[found != 7], mixed(masked, [1, 2, 3, 0]).values[found != 7])


def test_image_series_are_mixed_on_common_days() -> None:
    look = series(2, 4, 3 * 2 * 2, full=True)
    images = Observation(look.values.view(2, 4, 3, 2, 2), look.days, look.valid)
    assert torch.equal(mixed(images, [1, 0]).values.flatten(2), mixed(look, [1, 0]).values)


def test_every_sensor_is_mixed_by_its_own_days() -> None:
    a, b, c = series(seed=1), series(t=3, seed=2), Observation(torch.randn(4, 2))
    both = mix({"a": a, "b": b, "c": c}, torch.tensor([1, 2, 3, 0]), SHARE)
    for name, look in (("a", a), ("b", b), ("c", c)):
        assert torch.equal(both[name].values.nan_to_num(9), mixed(look, [1, 2, 3, 0]).values.nan_to_num(9))
