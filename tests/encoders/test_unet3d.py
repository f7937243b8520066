"""UNet3d: masks hold at every stage, statistics and means see valid frames, gaps keep their place."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from image_series import BANDS, encode, fresh, look
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from eo_adapt.align import Setup
from eo_adapt.align.csn import CSN, DomainNorm
from eo_adapt.encoders.blocks.frames import Frames
from eo_adapt.encoders.unet3d import Conv3d, UNet3d
from eo_adapt.types import Observation


def test_a_convolution_leaves_zeros_and_takes_statistics_of_valid_frames() -> None:
    torch.manual_seed(0)
    layer, valid = Conv3d(2, 4, "batch"), torch.tensor([[True, False, True], [True, True, False]])
    x = torch.randn(2, 2, 3, 4, 4)
    out = layer(x, Frames(valid)).transpose(1, 2)
    assert (out[~valid] == 0).all()
    raw = layer.conv(x).transpose(1, 2)[valid]
    mean, var = raw.mean((0, 2, 3), keepdim=True), raw.var((0, 2, 3), keepdim=True, unbiased=False)
    torch.testing.assert_close(out[valid], F.leaky_relu((raw - mean) / (var + 1e-5).sqrt()), atol=1e-5, rtol=1e-5)


def test_maps_are_means_over_valid_dates() -> None:
    encoder = UNet3d({"s2": BANDS}, widths=(4,)).eval()  # no step down: one pair of convolutions
    series = look()
    assert series.valid is not None
    frames = Frames(series.valid)
    stages = encoder.downs[0](series.values.where(series.valid[..., None, None, None], 0.0).transpose(1, 2), frames)
    (got,) = encode(encoder, series)
    for i, valid in enumerate(series.valid):
        torch.testing.assert_close(got[i], stages[i].transpose(0, 1)[valid].mean(0), atol=1e-6, rtol=1e-5)


def test_without_dates_maps_are_zero() -> None:
    encoder = fresh("unet3d").eval()
    nothing = Observation(torch.full((2, 3, BANDS, 8, 8), torch.nan), None, torch.zeros(2, 3).bool())
    assert all((m == 0).all() for m in encode(encoder, nothing))


def test_a_gap_in_the_middle_keeps_its_place() -> None:
    encoder, series = (
        fresh("unet3d").eval(),
        replace(look(1, 4, junk=0.5), valid=torch.tensor([[True, True, False, True]])),
    )
    left = replace(series, values=series.values[:, [0, 1, 3]], days=None, valid=torch.ones(1, 3).bool())
    assert not torch.allclose(encode(encoder, series)[0], encode(encoder, left)[0], atol=1e-4)


def test_days_are_not_needed() -> None:
    encoder, series = fresh("unet3d").eval(), look()
    assert torch.equal(encode(encoder, series)[0], encode(encoder, replace(series, days=None))[0])


def test_csn_splits_every_norm() -> None:
    encoder, csn = fresh("unet3d"), CSN()
    norms = sum(isinstance(m, _BatchNorm) for m in encoder.modules())
    csn.attach(encoder, Setup(8, 1, 1, 3))
    assert sum(isinstance(m, DomainNorm) for m in encoder.modules()) == norms == 6


def test_options_that_do_not_fit_are_named() -> None:
    with pytest.raises(ValueError, match="got none"):
        UNet3d({"s2": BANDS}, widths=())
    with pytest.raises(ValueError, match=r"multiples of 4; got \[6\]"):
        UNet3d({"s2": BANDS}, widths=(6,), norm="group")
