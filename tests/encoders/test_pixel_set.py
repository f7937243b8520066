"""Pixel-set encoder and pixel mean: sizes, pooling, masks."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eo_adapt.encoders.blocks.mean_pool import PixelMean
from eo_adapt.encoders.blocks.pixel_set import PixelSetEncoder, mean_std
from eo_adapt.types import Observation


def sets(samples: int = 3, dates: int = 4, pixels: int = 5, bands: int = 10) -> Observation:
    generator = torch.Generator().manual_seed(samples + 10 * dates + 100 * pixels)
    values = torch.rand(samples, dates, bands, pixels, generator=generator)
    valid = torch.rand(samples, dates, generator=generator) > 0.3
    shown = torch.rand(samples, dates, pixels, generator=generator) > 0.3
    return Observation(values, torch.zeros(samples, dates), valid, shown)


def test_official_size() -> None:
    assert sum(p.numel() for p in PixelSetEncoder(10, attributes=4).parameters()) == 19_936


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 4), st.integers(1, 6), st.integers(1, 5), st.integers(0, 10**6))
def test_pooling_against_numpy(rows: int, pixels: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, mask = rng.normal(size=(rows, pixels, width)), rng.random((rows, pixels)) > 0.4
    mask[:, 0] = True
    got = mean_std(torch.tensor(x), torch.tensor(mask)).numpy()
    for row in range(rows):
        kept = x[row][mask[row]]
        std = kept.std(0, ddof=1) if len(kept) > 1 else np.zeros(width)
        np.testing.assert_allclose(got[row], np.concatenate([kept.mean(0), std]), atol=2e-5)


def test_equal_pixels_have_a_finite_gradient_in_half_precision() -> None:
    x = torch.full((2, 4, 3), 0.5, dtype=torch.float16, requires_grad=True)
    torch.autograd.backward(mean_std(x, torch.ones(2, 4).bool()).sum())
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_encoder_against_a_loop_over_dates() -> None:
    encoder, look = PixelSetEncoder(10, attributes=2).eval(), sets()
    attributes = torch.rand(3, 2)
    got = encoder(look, attributes)
    assert look.valid is not None
    assert look.valid_pixels is not None
    for b, t in np.ndindex(3, 4):
        shown = look.valid_pixels[b, t]
        if not (look.valid[b, t] and shown.any()):
            assert (got[b, t] == 0).all()
            continue
        h = encoder.pixel(look.values[b, t].T[shown])
        std = h.std(0) if len(h) > 1 else torch.zeros(64)
        want = encoder.date(torch.cat([h.mean(0), std, attributes[b]])[None])[0]
        torch.testing.assert_close(got[b, t], want, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("stage", [PixelSetEncoder(10), PixelMean(10)])
def test_a_series_is_a_set_of_one(stage: torch.nn.Module) -> None:
    x = torch.rand(2, 3, 10)
    torch.testing.assert_close(stage.eval()(Observation(x)), stage(Observation(x[..., None])))


@pytest.mark.parametrize("valid_rows", [0, 1])
def test_no_or_one_valid_date_in_training(valid_rows: int) -> None:
    encoder = PixelSetEncoder(10)
    valid = torch.zeros(2, 3).bool()
    valid[0, :valid_rows] = True
    code = encoder(Observation(torch.rand(2, 3, 10), valid=valid))
    assert code.isfinite().all()
    assert (code[~valid] == 0).all()
    code.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters())


def test_masked_nan_stays_out_of_values_and_gradients() -> None:
    look = sets()
    assert look.valid is not None
    assert look.valid_pixels is not None
    shown = (look.valid[..., None] & look.valid_pixels)[:, :, None].expand_as(look.values)
    values = look.values.where(shown, torch.nan).requires_grad_()
    for stage in (PixelSetEncoder(10), PixelMean(10)):
        stage(Observation(values, look.days, look.valid, look.valid_pixels)).square().sum().backward()
        assert values.grad is not None
        assert values.grad.isfinite().all()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in stage.parameters())


def test_pixel_mean_against_numpy() -> None:
    stage, look = PixelMean(10, out=4), sets()
    assert look.valid is not None
    assert look.valid_pixels is not None
    got = stage(look).detach()
    weight, bias = stage.mix.weight.detach().numpy(), stage.mix.bias.detach().numpy()
    for b, t in np.ndindex(3, 4):
        shown = look.valid_pixels[b, t].numpy()
        alive = bool(look.valid[b, t]) and shown.any()
        want = weight @ look.values[b, t].numpy()[:, shown].mean(1) + bias if alive else np.zeros(4)
        np.testing.assert_allclose(got[b, t].numpy(), want, atol=1e-5)


@pytest.mark.parametrize("attributes", [None, torch.zeros(3, 4), torch.zeros(2, 2)])
def test_wrong_attributes_are_refused(attributes: torch.Tensor | None) -> None:
    with pytest.raises(ValueError, match="2 attributes"):
        PixelSetEncoder(10, attributes=2)(sets(), attributes)


def test_images_are_refused() -> None:
    with pytest.raises(ValueError, match="image encoder"):
        PixelMean(3)(Observation(torch.zeros(1, 2, 3, 4, 4)))
