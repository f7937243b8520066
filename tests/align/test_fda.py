"""FDA: frequencies against numpy, identities, gaps and masks, dates that meet, and a haze that it takes away."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from edits import edited, gain
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from eo_adapt.align.fda import FDA, nearest_dates, relevel, restyle, swap_low_frequencies
from eo_adapt.align.looks import Look
from eo_adapt.types import Batch, Observation


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def by_numpy(source: np.ndarray, target: np.ndarray, beta: float) -> np.ndarray:
    """Yang & Soatto: amplitudes inside a centred square of the shifted spectrum, phases of the source."""
    h, w = source.shape
    ours, theirs = (np.fft.fftshift(np.fft.fft2(x)) for x in (source, target))
    half, (y, x) = int(np.floor(beta * min(h, w))), (h // 2, w // 2)
    amplitude = np.abs(ours)
    square = slice(max(y - half, 0), y + half + 1), slice(max(x - half, 0), x + half + 1)
    amplitude[square] = np.abs(theirs)[square]
    return np.fft.ifft2(np.fft.ifftshift(amplitude * np.exp(1j * np.angle(ours)))).real


@settings(deadline=None, max_examples=40, derandomize=True)
@given(st.integers(1, 12), st.integers(1, 12), st.floats(0, 0.45), st.integers(0, 99))
def test_equals_numpy_on_odd_and_even_sizes(h, w, beta, seed):
    torch.manual_seed(seed)
    source, target = torch.rand(h, w) + 0.1, 3 * torch.rand(h, w) + 0.1
    got = swap_low_frequencies(source, target, beta).numpy()
    np.testing.assert_allclose(got, by_numpy(source.double().numpy(), target.double().numpy(), beta), atol=1e-5)


@pytest.mark.parametrize("bands", [1, 4, 10, 12])
@pytest.mark.parametrize("size", [(8, 8), (7, 7)])
def test_identities(bands, size):
    source, target = torch.randn(3, bands, *size), 2 * torch.randn(3, bands, *size) - 5
    for beta in (0.0, 0.2, 0.5):
        torch.testing.assert_close(swap_low_frequencies(source, source, beta), source, atol=1e-5, rtol=0)
    mean = source - source.mean((2, 3), keepdim=True) + target.mean((2, 3), keepdim=True)
    torch.testing.assert_close(swap_low_frequencies(source, target, 0.0), mean, atol=1e-5, rtol=0)
    whole = swap_low_frequencies(source, target, 0.5)
    amplitudes = (torch.fft.fft2(x).abs() for x in (whole, target))
    torch.testing.assert_close(*amplitudes, atol=1e-3, rtol=1e-4)
    for band in range(bands):
        alone = swap_low_frequencies(source[:, band], target[:, band], 0.2)
        torch.testing.assert_close(swap_low_frequencies(source, target, 0.2)[:, band], alone, atol=1e-5, rtol=0)


def test_a_negative_mean_keeps_its_sign():
    """Decibels: the amplitude of the mean alone would turn -12 dB into 12."""
    source, target = torch.full((1, 4, 4), 3.0), torch.full((1, 4, 4), -12.0)
    torch.testing.assert_close(swap_low_frequencies(source, target, 0.1), target)


def test_a_large_offset_costs_few_digits():
    source, target = torch.randn(2, 16, 16), torch.randn(2, 16, 16)
    far = swap_low_frequencies(source + 1e3, target + 1e3, 0.1)
    torch.testing.assert_close(far - 1e3, swap_low_frequencies(source, target, 0.1), atol=2e-3, rtol=0)
    assert swap_low_frequencies(source.bfloat16(), target.bfloat16(), 0.1).dtype == torch.bfloat16


def test_gaps_stay_and_have_no_say():
    source, target = torch.randn(2, 3, 6, 6), torch.randn(2, 3, 6, 6) + 4
    source[0, 1, :2], source[1, 2] = torch.nan, torch.nan
    target[0, :, 3:], target[1, 0] = torch.nan, torch.nan
    got = restyle(Look(source), Look(target), 0.0)
    assert torch.equal(got.isnan(), source.isnan())
    level = source.nanmean((2, 3), keepdim=True), target.nanmean((2, 3), keepdim=True)
    expected = torch.where(level[1].isnan(), source, source - level[0] + level[1])
    torch.testing.assert_close(got, expected, equal_nan=True, atol=1e-5, rtol=0)
    other = target.where(~target.isnan(), 99.0)
    assert restyle(Look(source), Look(other), 0.2).isnan().equal(source.isnan())


@pytest.mark.parametrize("pixels", [False, True])
def test_series_take_the_level_over_what_is_there(pixels):
    shape = (4, 6, 3, 5) if pixels else (4, 6, 3)
    source, target = torch.randn(shape), torch.randn(shape) + 7
    valid, there = torch.rand(2, 4, 6) < 0.7, torch.rand(2, 4, 6, 5) < 0.7 if pixels else (None, None)
    looks = [Look(x, None, v, p) for x, v, p in zip((source, target), valid, there, strict=True)]
    got = relevel(*looks)
    seen = [look.seen().numpy() for look in looks]
    assert torch.equal(got[~looks[0].seen()], source[~looks[0].seen()])
    for i in range(4):
        for band in range(3):
            ours, theirs, new = (x[i, :, band].numpy() for x in (source, target, got))
            masks = [s[i, :, band] for s in seen]
            expected = ours[masks[0]] - ours[masks[0]].mean() + theirs[masks[1]].mean()
            np.testing.assert_allclose(new[masks[0]], expected, atol=1e-5)


def test_attributes_take_the_level_of_the_batch():
    source, target = torch.randn(5, 3), torch.randn(9, 3) + 2
    torch.testing.assert_close(relevel(Look(source), Look(target)), source - source.mean(0) + target.mean(0))


def test_dates_meet_their_nearest():
    days = torch.tensor([[0.0, 100.0, 200.0]])
    others = torch.tensor([[-20.0, 90.0, 105.0, 300.0]])
    valid = torch.tensor([[True, True, False, True]])
    values = torch.arange(4.0).view(1, 4, 1, 1, 1)
    found = nearest_dates(Look(torch.zeros(1, 3, 1, 1, 1), days), Look(values, others, valid))
    assert found.values.flatten().tolist() == [0, 1, 3]
    assert nearest_dates(Look(torch.zeros(1, 3, 1, 1, 1)), Look(values)).values.flatten().tolist() == [0, 1, 2]


def test_batches_of_ours_keep_everything_but_values():
    def batch(n: int, offset: float) -> Batch:
        days = torch.arange(5).expand(n, 5) * 30
        look = Observation(torch.randn(n, 5, 2) + offset, days, torch.rand(n, 5) < 0.8)
        inputs = {"s2": look, "attributes": Observation(torch.randn(n, 4))}
        return Batch(inputs, torch.arange(n), torch.rand(n, 2), torch.arange(n))

    source, target = batch(6, 0.0), batch(9, 5.0)
    before = source.inputs["s2"].values.clone()
    new = edited(FDA(), source, replace(target, labels=None))
    assert new.inputs["attributes"] is source.inputs["attributes"]
    assert all(getattr(new, field) is getattr(source, field) for field in ("labels", "lonlat", "rows"))
    assert new.inputs["s2"].valid is source.inputs["s2"].valid
    assert new.inputs["s2"].values.mean() > before.mean() + 3
    assert torch.equal(source.inputs["s2"].values, before), "what was given is not changed"


@pytest.mark.parametrize("kind", ["tensor", "tuple", "series"])
def test_every_sample_takes_one_of_the_targets_samples(kind):
    """Of one colour each, so that the level tells which; batches differ in size and, in series, in dates."""
    colours = torch.tensor([10.0, 20.0, 30.0])
    source, target = torch.randn(40, 2, 4, 4), colours.view(3, 1, 1, 1).expand(3, 2, 4, 4).clone()
    if kind == "series":
        ours = Observation(
            source[:, None].repeat(1, 3, 1, 1, 1), torch.arange(3.0).expand(40, 3), torch.ones(40, 3) > 0
        )
        theirs = Observation(
            target[:, None].repeat(1, 7, 1, 1, 1), torch.arange(7.0).expand(3, 7), torch.ones(3, 7) > 0
        )
        new = edited(FDA(), {"inputs": ours}, {"inputs": theirs})["inputs"].values[:, 0]
    elif kind == "tuple":
        labels = torch.arange(40)
        new, same = edited(FDA(), (source, labels), (target, None))
        assert same is labels
    else:
        new = edited(FDA(), source, target)
    levels = new.mean((2, 3))
    torch.testing.assert_close(levels[:, 0], levels[:, 1], atol=1e-4, rtol=0)
    assert set(levels[:, 0].round().tolist()) == {10.0, 20.0, 30.0}


@pytest.mark.parametrize("target", [(5, 3, 8, 9), (5, 2, 8, 8), (5, 4, 3, 8, 8)])
def test_other_sizes_and_bands_are_refused(target):
    with pytest.raises(ValueError, match="method=histogram_matching"):
        edited(FDA(), torch.randn(5, 3, 8, 8), torch.randn(target))


@pytest.mark.parametrize("beta", [-0.1, 0.6, float("nan")])
def test_impossible_beta_is_refused(beta):
    with pytest.raises(ValueError, match=r"fda\.beta"):
        FDA(beta)


def test_takes_away_a_haze_that_hides_the_classes():
    """Classes differ in texture; haze is smooth and bright. The source network fails until it has seen it."""

    def scene(n: int, haze: bool) -> tuple[Tensor, Tensor]:
        labels = torch.randint(2, (n,))
        rough = torch.randn(n, 1, 16, 16) * (0.5 + labels.view(-1, 1, 1, 1))
        wave = torch.linspace(0, 3, 16).sin()
        return rough + haze * (6 + 4 * wave[:, None] + 4 * wave), labels

    class Roughness(nn.Module):
        """Reads the spread of an image and its mean."""

        def __init__(self):
            super().__init__()
            self.head = nn.Linear(2, 2)

        def forward(self, x):
            return self.head(torch.stack([x.std((1, 2, 3)), x.mean((1, 2, 3)) / 5], 1))

    assert gain(Roughness, scene, FDA(0.1), rows=64, lr=0.05)[0] > 0.1
