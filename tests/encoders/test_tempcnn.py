"""TempCNN: its published size, and resampling against numpy."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from eo_adapt.encoders.blocks.tempcnn import TempCNN, resample


def test_breizhcrops_size() -> None:
    block = TempCNN(in_channels=13)
    assert sum(p.numel() for m in (block, nn.Linear(512, 9)) for p in m.parameters()) == 3_197_449


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 8), st.integers(1, 3), st.integers(0, 10**6))
def test_resample_against_numpy(dates: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    days = rng.integers(-20, 40, dates).astype(float)  # few enough to meet duplicates
    values, valid = rng.normal(size=(dates, width)), rng.random(dates) > 0.3
    grid = np.arange(-30.0, 50.0, 4.5)
    x, at, shown = (torch.tensor(array)[None] for array in (values, days, valid))
    got = resample(x, at, shown, torch.tensor(grid))[0].numpy()
    if not valid.any():
        assert (got == 0).all()
        return
    unique = np.unique(days[valid])
    mean = np.stack([values[valid & (days == day)].mean(0) for day in unique])
    for band in range(width):
        np.testing.assert_allclose(got[:, band], np.interp(grid, unique, mean[:, band]), atol=1e-9)


def test_resample_has_finite_gradients_and_ignores_masked_nan() -> None:
    values = torch.tensor([[[1.0], [torch.nan], [3.0]], [[torch.nan]] * 3], requires_grad=True)
    days = torch.tensor([[0.0, torch.nan, 10.0], [0.0, 1.0, 2.0]])
    valid = torch.tensor([[True, False, True], [False] * 3])
    got = resample(values, days, valid, torch.tensor([-5.0, 0.0, 5.0, 99.0]))
    assert got[..., 0].tolist() == [[1.0, 1.0, 2.0, 3.0], [0.0] * 4]
    torch.autograd.backward(got.sum())
    assert values.grad is not None
    assert values.grad[..., 0].tolist() == [[2.5, 0.0, 1.5], [0.0] * 3]
