"""Masked reductions: exact on valid dates, finite without any."""

import torch

from eo_adapt.encoders.blocks.masked import clean, lift, masked_mean, masked_softmax, valid_dates
from eo_adapt.types import Observation

VALID = torch.tensor([[True, False, True], [False, False, False]])


def test_softmax_over_valid_dates() -> None:
    scores = torch.randn(2, 3, 4, requires_grad=True)
    weights = masked_softmax(scores, VALID)
    torch.testing.assert_close(weights[0, [0, 2]], scores[0, [0, 2]].softmax(0))
    assert (weights[0, 1] == 0).all()
    assert (weights[1] == 0).all()
    torch.autograd.backward(weights.square().sum())
    assert scores.grad is not None
    assert scores.grad.isfinite().all()
    assert (scores.grad[1] == 0).all()


def test_mean_over_valid_dates() -> None:
    x = torch.tensor([[[1.0], [torch.nan], [3.0]], [[torch.nan]] * 3])
    assert masked_mean(x, VALID).tolist() == [[2.0], [0.0]]


def test_a_date_without_a_valid_pixel_is_invalid() -> None:
    pixels = torch.tensor([[[True, False], [False, False]]])
    look = Observation(torch.full((1, 2, 3, 2), torch.nan), valid=torch.ones(1, 2).bool(), valid_pixels=pixels)
    assert valid_dates(look).tolist() == [[True, False]]
    assert clean(look).values.isnan().sum() == 3
    assert valid_dates(Observation(torch.zeros(1, 2, 3))).all()


def test_lift_raises_half_and_leaves_double() -> None:
    assert lift(torch.zeros(1, dtype=torch.bfloat16)).dtype == torch.float32
    assert lift(torch.zeros(1, dtype=torch.float64)).dtype == torch.float64
