"""MIC: blocks that are hidden, what stands in their place, the loss in numpy, and colours that are learnt."""

import numpy as np
import pytest
import torch
from blobs import World, scores
from hypothesis import given, settings
from hypothesis import strategies as st
from test_dacs import STILL, Pixels, step
from torch import nn

from eo_adapt.align import Setup, View
from eo_adapt.align.looks import Look
from eo_adapt.align.mic import MIC, blocks, hide
from eo_adapt.align.source_only import SourceOnly


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def attached(model: nn.Module, **options) -> MIC:
    method = MIC(**{"strong": STILL, **options})
    method.attach(model, Setup(3, 1, 1, 3))
    return method


@settings(deadline=None, max_examples=40, derandomize=True)
@given(st.integers(1, 13), st.integers(1, 13), st.integers(1, 6), st.floats(0, 0.99), st.integers(0, 99))
def test_blocks_are_whole_and_one_of_each_image_stays(height, width, side, hidden, seed):
    torch.manual_seed(seed)
    seen = blocks(3, height, width, side, hidden, torch.device("cpu"))
    assert seen.shape == (3, height, width)
    assert seen.flatten(1).any(1).all()
    for i in range(0, height, side):
        for j in range(0, width, side):
            block = seen[:, i : i + side, j : j + side].flatten(1).float().mean(1)
            assert ((block == 0) | (block == 1)).all()


def test_the_share_is_that_of_the_blocks_and_images_draw_for_themselves():
    seen = blocks(200, 32, 32, 4, 0.7, torch.device("cpu"))
    assert seen.float().mean().item() == pytest.approx(0.3, abs=0.02)
    assert seen.flatten(1).unique(dim=0).shape[0] > 190
    assert blocks(5, 8, 8, 2, 0.0, torch.device("cpu")).all()


@pytest.mark.parametrize("series", [False, True])
def test_hidden_places_have_the_mean_of_their_band_and_gaps_stay_gaps(series):
    x = torch.randn(3, 2, 6, 6) + torch.tensor([5.0, -9.0]).view(2, 1, 1)
    x[0, 0, 0, 0] = torch.nan
    mean = x.nanmean((0, 2, 3))
    seen = blocks(3, 6, 6, 2, 0.6, torch.device("cpu"))
    values = x[:, None].expand(3, 4, 2, 6, 6) if series else x
    got = hide(Look(values), seen).values
    expected = torch.where(seen[:, None] | x.isnan(), x, mean.view(2, 1, 1))
    torch.testing.assert_close(got, expected[:, None].expand_as(values) if series else expected, equal_nan=True)


def test_all_images_of_a_sample_are_hidden_at_the_same_places_and_the_rest_stays():
    method = attached(Pixels(), block=0.25)
    inputs = {"a": torch.ones(4, 2, 16, 16), "b": torch.ones(4, 1, 8, 8), "attributes": torch.ones(4, 3)}
    for name, offset in (("a", 1.0), ("b", 5.0)):
        inputs[name][0] += offset  # so that the band's mean is no value of its own
    masked = method.masked(inputs)
    hidden = {name: (masked[name][:, 0] != inputs[name][:, 0]) for name in ("a", "b")}
    assert 0.3 < hidden["a"].float().mean() < 1
    assert torch.equal(hidden["a"], hidden["b"].repeat_interleave(2, 1).repeat_interleave(2, 2))
    assert torch.equal(masked["attributes"], inputs["attributes"])
    sides = hidden["a"].view(4, 4, 4, 4, 4).float().mean((2, 4))
    assert ((sides == 0) | (sides == 1)).all(), "a quarter of the side is 4 pixels"


def test_the_loss_equals_numpy_and_an_unsure_image_does_not_weigh_on_the_others():
    model = Pixels()
    method = attached(model, threshold=0.6, block=0.5)
    x = 2 * torch.randn(3, 3, 4, 4)
    x[1] *= 0.01
    view = View(*model(x), x, 1)
    model.seen.clear()
    found = method((), (view,), step(model))["masked"]
    z, p = model.seen[-1].double().numpy(), np.exp(x.double().numpy())
    p /= p.sum(1, keepdims=True)
    assert not np.allclose(z, x.numpy())
    logp = z - np.log(np.exp(z).sum(1, keepdims=True))
    nll = -np.take_along_axis(logp, p.argmax(1)[:, None], 1)[:, 0]
    sure = (p.max(1) >= 0.6).mean((1, 2))
    assert sure[1] == 0
    assert found.item() == pytest.approx((sure * nll.mean((1, 2))).mean(), rel=1e-4)
    assert method.monitors()["sure"].item() == pytest.approx(sure.mean(), rel=1e-5)


def test_nothing_before_the_start_and_parcels_are_refused():
    model, x = Pixels(), torch.randn(2, 3, 4, 4)
    method = attached(model, start=0.4)
    assert method((), (View(x, x, x, 1),), step(model, 0.3)) == {"masked": 0}
    assert not model.seen
    parcels = torch.randn(2, 3)
    with pytest.raises(ValueError, match=r"MIC changes parts of images.*method=self_training or method=timematch"):
        method((), (View(parcels, parcels, parcels, 1),), step(model, 0.3))


@pytest.mark.parametrize(
    "options",
    [{"hidden": 1.0}, {"block": 0.0}, {"block": 0.6}, {"threshold": -0.1}, {"decay": 2.0}, {"start": 1.0}],
)
def test_impossible_options_are_refused(options):
    with pytest.raises(ValueError, match=rf"mic\.{next(iter(options))}\b"):
        MIC(**options)


def test_colours_that_differ_are_learnt():
    source, target = World(), World(offset=(1.4, 0.0, -0.6))
    plain, ours = scores(SourceOnly, source, target), scores(MIC, source, target)
    assert plain.mean() < 0.7
    assert ours.mean() > plain.mean() + 0.1, (plain, ours)
