"""Dates and whole sensors go with exactly the configured probabilities, and never all of them."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from fused import encode, fusion, mixed

from eo_adapt.encoders.blocks.dropping import ModalityDropout, drop_dates

DRAWS = 100_000


@pytest.mark.parametrize("p", [(0.2, 0.2), (0.5, 0.5), (0.9, 0.05), (0.3, 0.0, 0.6), (0.99, 0.99, 0.0), (0.2,) * 5])
def test_each_sensor_goes_with_its_own_probability_and_one_stays(p: tuple[float, ...]) -> None:
    torch.manual_seed(0)
    kept = ModalityDropout(p).train()(torch.ones(DRAWS, len(p)).bool())
    assert kept.any(1).all()
    gone = 1 - kept.double().mean(0).numpy()
    error = np.sqrt(np.array(p) * (1 - np.array(p)) / DRAWS)
    np.testing.assert_array_less(np.abs(gone - p), 4.5 * error + 1e-6)


def test_probabilities_hold_for_samples_that_lack_a_sensor() -> None:
    torch.manual_seed(1)
    p = (0.3, 0.2, 0.4)
    for there in product((False, True), repeat=3):
        present = torch.tensor(there).expand(DRAWS, 3)
        kept = ModalityDropout(p).train()(present)
        assert not (kept & ~present).any()
        if not any(there):
            continue
        assert kept.any(1).all()
        gone = (present & ~kept).double().mean(0)
        want = [q if has and sum(there) > 1 else 0.0 for q, has in zip(p, there, strict=True)]  # a lone one stays
        np.testing.assert_allclose(gone.numpy(), want, atol=0.008)


def test_where_it_cannot_hold_one_is_kept_in_proportion() -> None:
    torch.manual_seed(2)
    p = (0.9, 0.8, 0.0)  # without the third, 0.1 + 0.2 < 1 are kept on average
    kept = ModalityDropout(p).train()(torch.tensor([True, True, False]).expand(DRAWS, 3))
    assert (kept.sum(1) == 1).all()
    np.testing.assert_allclose(kept.double().mean(0).numpy(), [1 / 3, 2 / 3, 0], atol=0.008)


def test_draws_of_sensors_are_as_independent_as_can_be() -> None:
    torch.manual_seed(3)
    kept = ModalityDropout((0.2, 0.3, 0.1)).train()(torch.ones(DRAWS, 3).bool())
    both = (kept[:, 0] & kept[:, 1]).double().mean().item()
    assert both == pytest.approx(0.8 * 0.7, abs=0.012)


def test_nothing_goes_in_evaluation_or_without_probabilities() -> None:
    present = torch.rand(50, 2) > 0.3
    assert torch.equal(ModalityDropout((0.5, 0.2)).eval()(present), present)
    assert torch.equal(ModalityDropout((0.0, 0.0)).train()(present), present)


def test_impossible_probabilities_are_refused() -> None:
    with pytest.raises(ValueError, match=r"less than one of 2 modalities on average.*sum of at most 1"):
        ModalityDropout((0.6, 0.6))
    with pytest.raises(ValueError, match="0 <= p < 1"):
        ModalityDropout((0.5, 1.2))


def test_dates_go_with_their_share_and_one_stays() -> None:
    torch.manual_seed(4)
    valid = torch.rand(20_000, 12) > 0.2
    kept = drop_dates(valid, 0.4)
    assert not (kept & ~valid).any()
    assert torch.equal(kept.any(1), valid.any(1))
    n = valid.sum(1).double()
    want = ((0.4 - 0.4**n / n) * n).sum() / n.sum()  # one of n always stays
    gone = 1 - kept.sum().double() / n.sum()
    assert gone.item() == pytest.approx(want.item(), abs=0.004)
    assert torch.equal(drop_dates(valid, 0.0), valid)
    assert (drop_dates(valid, 1.0).sum(1) == valid.any(1)).all()


def test_the_fusion_drops_as_configured_by_sensor() -> None:
    made = fusion("mid", drop_dates={"s1": 0.5}, drop_modality={"s2": 0.25}).train()
    inputs = mixed()
    torch.manual_seed(5)
    dates, sensor = [], []
    both = torch.tensor([0, 3, 6])
    for _ in range(800):
        thin, present = made._thinned(inputs, torch.stack([own.valid.any(1) for own in inputs.values()], 1))
        assert thin["s2"].valid is not None
        assert thin["s1"].valid is not None
        stays = thin["s2"].valid[both].any(1)
        assert torch.equal(stays, present[both, 0])
        assert torch.equal(thin["s2"].valid[both][stays], inputs["s2"].valid[both][stays]), "no date of s2 goes"
        sensor.append(stays)
        dates.append(thin["s1"].valid[both].sum() / inputs["s1"].valid[both].sum())
    assert 1 - torch.stack(sensor).float().mean().item() == pytest.approx(0.25, abs=0.04)
    assert torch.stack(dates).mean().item() == pytest.approx(0.5, abs=0.03)
    assert encode(made, inputs).isfinite().all()
