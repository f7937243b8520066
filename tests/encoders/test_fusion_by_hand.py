"""Fusion of maps held against what is worked out by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from fused_maps import IMAGES, SMALL, fusion, given, same
from image_series import UTAE_SMALL, along_time, look
from torch import nn

from eo_adapt.encoders.base import Encoder
from eo_adapt.encoders.blocks.modalities import at_dates, frames_at
from eo_adapt.encoders.fusion import Fusion
from eo_adapt.encoders.timm_pyramid import TimmPyramid
from eo_adapt.encoders.utae import UTAE
from eo_adapt.heads.dense import Dense
from eo_adapt.model import Model, Normalise
from eo_adapt.types import Features, Inputs, Observation


def test_a_series_alone_answers_on_the_grid_of_the_image() -> None:
    net = Fusion(IMAGES, partial(UTAE, **SMALL, down=1), modalities=["s2"], grid="aerial")
    model = Model(net, Dense(net, 3), Normalise({n: ([0.0] * b, [1.0] * b) for n, b in IMAGES.items()})).eval()
    inputs = given("late")
    said = model(inputs).logits
    assert said.shape == (4, 3, 64, 64)
    small = model.head(net(model.normalise(inputs)))
    want = nn.functional.interpolate(small, (64, 64), mode="bilinear", align_corners=False)
    torch.testing.assert_close(said, want)
    with pytest.raises(
        LookupError, match=r"encoder\.grid=aerial says how large the maps are; this batch holds \['s2'\]"
    ):
        net({"s2": inputs["s2"]})


def test_mid_fusion_of_one_series_in_two_halves_is_that_of_the_whole() -> None:
    """Two sensors that share all weights see half of the dates each: the same as one sensor that sees all."""
    torch.manual_seed(0)
    one = UTAE({"s2": 3}, **UTAE_SMALL).eval()
    net = Fusion({"a": 3, "b": 3}, partial(UTAE, **UTAE_SMALL), scheme="mid").eval()
    of_a, of_b = net.scheme.encoder("a"), net.scheme.encoder("b")
    of_a.load_state_dict(one.state_dict())
    of_b.load_state_dict({k: v for k, v in one.state_dict().items() if k in of_b.state_dict()})
    for token in net.scheme.embedding.values():
        nn.init.zeros_(token)
    series = look(pixels=True)
    halves = {"a": along_time(series, lambda x: x[:, ::2]), "b": along_time(series, lambda x: x[:, 1::2])}
    same(net(halves).maps, one({"s2": series}).maps)


def test_early_fusion_interpolates_each_pixel_between_its_own_dates() -> None:
    series = look(2, 5, (3, 4), pixels=True)
    days = torch.tensor([[-20.0, 40.0, 333.0], [0.0, 100.0, 250.0]])
    values, seen = frames_at(series, days, 30.0)
    assert series.days is not None
    assert series.valid is not None
    assert series.valid_pixels is not None
    for b, g, i, j in np.ndindex(2, 3, 3, 4):
        shown = (series.valid[b] & series.valid_pixels[b, :, i, j]).numpy()
        at, day = series.days[b].numpy()[shown], days[b, g].item()
        known = bool(shown.any() and at.min() - 30 <= day <= at.max() + 30)
        assert seen[b, g, i, j].item() is known
        for c in range(3 if known else 0):
            want = np.interp(day, at, series.values[b, :, c, i, j].numpy()[shown])
            np.testing.assert_allclose(values[b, g, c, i, j].item(), want, rtol=1e-4, atol=1e-5)
    clear = look(2, 5, (3, 4))
    values, seen = frames_at(clear, days, 30.0)
    flat, want_seen = at_dates(replace(clear, values=clear.values.flatten(2)), days, 30.0)
    assert torch.equal(values.flatten(2), flat)
    assert torch.equal(seen[..., 1, 2], want_seen)


def test_added_fusion_by_hand() -> None:
    net, inputs = fusion("added", modalities=["aerial", "s2"], crop=4), given("added", mixed=False)
    found = net(inputs).maps
    aerial, s2 = (net.parts()[name]({name: inputs[name]}).maps for name in ("aerial", "s2"))
    middle, mean = s2[0][:, :, 1:5, 1:5], s2[0].mean((2, 3))
    for level, x in enumerate(aerial):
        near = net.scheme.cropped["s2"][level](middle)
        near = nn.functional.interpolate(near, x.shape[2:], mode="bilinear", align_corners=False)
        far = net.scheme.collapsed["s2"][level](mean)[:, :, None, None]
        torch.testing.assert_close(found[level], x + near + far, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(net.scheme.collapsed["s2"][0](mean)[0], net.scheme.collapsed["s2"][0](mean)[1])
    with pytest.raises(
        ValueError, match=r"encoder\.crop=9 takes the middle of maps.*'s2' are 6 x 6: set encoder\.crop=0"
    ):
        fusion("added", crop=9)


def test_metadata_is_added_to_the_deepest_map_alone() -> None:
    class Numbers(Encoder):
        channels, strides = (5,), (0,)

        def __init__(self, sensors: Mapping[str, int], sensor: str) -> None:
            super().__init__()
            self.layer = nn.Linear(sensors[sensor], 5)

        def forward(self, inputs: Inputs) -> Features:
            return Features((self.layer(inputs["parcel"].values[:, 0]),))

    image = partial(TimmPyramid, backbone="test_resnet")
    torch.manual_seed(0)
    net = Fusion({"aerial": 4, "attributes": 3}, image, {"attributes": Numbers}, ["aerial", "attributes"], "added")
    inputs = {"aerial": Observation(torch.rand(2, 4, 64, 64)), "attributes": Observation(torch.rand(2, 3))}
    plain, told = net.eval()({"aerial": inputs["aerial"]}).maps, net(inputs).maps
    assert all(torch.equal(a, b) for a, b in zip(plain[:-1], told[:-1], strict=True))
    assert not torch.allclose(plain[-1], told[-1])
    with pytest.raises(
        ValueError, match=r"adds to maps of the first modality; here 'attributes' gives vectors: set enc"
    ):
        Fusion({"attributes": 3}, Numbers, scheme="added", modalities=["attributes"])
