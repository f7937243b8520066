"""Fusion of images and image series by real encoders: who is missing, padding, order of dates, nan, sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from image_series import UTAE_SMALL, along_time, look
from torch import Tensor, nn

from eo_adapt.encoders.base import Encoder
from eo_adapt.encoders.blocks.modalities import at_dates, frames_at, of_rows
from eo_adapt.encoders.fusion import Fusion
from eo_adapt.encoders.timm_pyramid import TimmPyramid
from eo_adapt.encoders.utae import UTAE
from eo_adapt.heads.base import Head
from eo_adapt.heads.decoders import UNet
from eo_adapt.heads.dense import Dense
from eo_adapt.heads.modalities import Auxiliary, Decision, SideHead, mean_probability
from eo_adapt.model import Model, Normalise
from eo_adapt.registry import build
from eo_adapt.types import Features, Inputs, Observation, SidedOutput

IMAGES = {"aerial": 4, "elevation": 1, "s2": 3, "s1": 2}  # 64, 32, 6 and 5 pixels a side
SERIES = {"s2": 3, "s1": 2}  # on one grid of 8 pixels
ON_ONE_GRID = ("early", "mid")
SCHEMES = ("late", "attention", "added", "decision", *ON_ONE_GRID)
SMALL: dict[str, Any] = {"widths": (8, 16), "decoder": (8,), "heads": 4, "d_model": 16}


def fusion(kind: str, **options: Any) -> Fusion:
    """Without dropout, in eval mode, the norms away from their initial state."""
    torch.manual_seed(0)
    scheme, fuse = ("late", "attention") if kind == "attention" else (kind, "concat")
    series = partial(UTAE, **SMALL, down=1)
    if kind in ON_ONE_GRID:
        made = Fusion(SERIES, partial(UTAE, **SMALL), scheme=scheme, **options)
    else:
        image = partial(TimmPyramid, backbone="test_resnet")
        made = Fusion(IMAGES, image, {"s2": series, "s1": series}, scheme=scheme, fuse=fuse, **options)
    for layer in made.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
    made.train()(given(kind))
    return made.eval()


def gone(inputs: Mapping[str, Observation], who: Mapping[str, list[int]]) -> Inputs:
    """Nothing valid of a sensor in some samples, and nan there."""
    found = dict(inputs)
    for name, rows in who.items():
        one = found[name]
        values = one.values.clone()
        values[rows] = torch.nan
        if one.values.ndim == 5:
            valid, pixels = one.valid, one.valid_pixels
            assert valid is not None
            valid = valid.clone()
            if pixels is None:
                valid[rows] = False
            else:
                pixels = pixels.clone()
                pixels[rows] = False
            found[name] = replace(one, values=values, valid=valid, valid_pixels=pixels)
        else:
            pixels = torch.ones(len(values), *values.shape[2:]).bool() if one.valid_pixels is None else one.valid_pixels
            pixels = pixels.clone()
            pixels[rows] = False
            found[name] = replace(one, values=values, valid_pixels=pixels)
    return found


def given(kind: str, mixed: bool = True) -> Inputs:
    """Four samples: 1 lacks s2, 2 lacks s1, 3 lacks the aerial image (and so the first sensor)."""
    stream = torch.Generator().manual_seed(3)
    s2, s1 = (8, 8) if kind in ON_ONE_GRID else (6, 5)
    series = {
        "s2": look(4, 5, (s2, s2), pixels=True),
        "s1": along_time(look(4, 7, (s1, s1), bands=2), lambda x: x.flip(1) if x.ndim > 1 else x),
    }
    who = {"s2": [1], "s1": [2]}
    if kind in ON_ONE_GRID:
        return gone(series, who) if mixed else series
    seen = torch.rand(4, 64, 64, generator=stream) > 0.2
    aerial = torch.rand(4, 4, 64, 64, generator=stream).where(seen[:, None], torch.nan)
    images = {
        "aerial": Observation(aerial, valid_pixels=seen),
        "elevation": Observation(torch.rand(4, 1, 32, 32, generator=stream)),
    }
    return gone({**images, **series}, {**who, "aerial": [3], "elevation": [0, 3]}) if mixed else {**images, **series}


def same(one: tuple[Tensor, ...], other: tuple[Tensor, ...]) -> None:
    assert all(torch.isfinite(x).all() for x in one)
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", SCHEMES)
def test_mixed_availability_equals_sample_by_sample(kind: str) -> None:
    net, inputs = fusion(kind), given(kind)
    whole = net(inputs).maps
    for row in range(4):
        same(tuple(m[row : row + 1] for m in whole), net(of_rows(inputs, torch.tensor([row]))).maps)


@pytest.mark.parametrize("kind", SCHEMES)
def test_a_sensor_that_nobody_has_may_be_left_out(kind: str) -> None:
    net, inputs = fusion(kind), given(kind, mixed=False)
    hidden = gone(inputs, {"s1": [0, 1, 2, 3]})
    less = {name: one for name, one in inputs.items() if name != "s1"}
    same(net(hidden).maps, net(less).maps)
    assert not torch.allclose(net(inputs).maps[-1], net(less).maps[-1], atol=1e-4), "it counts where it is there"


@pytest.mark.parametrize("kind", SCHEMES)
def test_dropout_takes_sensors_that_carry_no_masks(kind: str) -> None:
    net = fusion(kind)
    inputs = {name: replace(one, valid=None, valid_pixels=None) for name, one in given(kind, mixed=False).items()}
    inputs = {name: replace(one, values=one.values.nan_to_num(0.5)) for name, one in inputs.items()}
    present = torch.ones(4, len(net.modalities)).bool()
    whole = net.scheme(inputs, present).maps
    same(net(inputs).maps, whole)
    present[2, -1] = False
    less = net.scheme(of_rows({n: one for n, one in inputs.items() if n != "s1"}, torch.tensor([2])), present[2:3]).maps
    found = net.scheme(inputs, present).maps
    same(tuple(m[2:3] for m in found), less)
    same(tuple(m[[0, 1, 3]] for m in found), tuple(m[[0, 1, 3]] for m in whole))


@pytest.mark.parametrize("kind", SCHEMES)
def test_padding_order_and_what_masks_hide_change_nothing(kind: str) -> None:
    net, inputs = fusion(kind), dict(given(kind))
    want = net(inputs).maps
    turn = torch.tensor([3, 0, 4, 1, 2])

    def padded(x: Tensor) -> Tensor:
        x = x[:, turn]
        junk = torch.full_like(x[:, :2], torch.nan) if x.is_floating_point() else torch.zeros_like(x[:, :2])
        return torch.cat([x, junk], 1)

    longer = along_time(inputs["s2"], padded)
    days = longer.days
    assert days is not None
    inputs["s2"] = replace(longer, days=days.nan_to_num(0.0))
    same(net(inputs).maps, want)


@pytest.mark.parametrize("kind", ["late", "added", "decision", "mid", "early"])
def test_gradients_are_finite_and_reach_every_sensor(kind: str) -> None:
    net, inputs = fusion(kind), given(kind)
    torch.stack([m.square().mean() for m in net(inputs).maps]).sum().backward()
    found = {n: p.grad for n, p in net.named_parameters() if p.grad is not None}
    assert all(torch.isfinite(g).all() for g in found.values())
    parts = [f"branches.{n}" for n in IMAGES] if kind not in ON_ONE_GRID else []
    parts += ["of_s2.first", "of_s1.first", "embedding.s1"] if kind == "mid" else []
    for part in parts:
        assert any(g.abs().sum() > 0 for n, g in found.items() if n.startswith(f"scheme.{part}")), part


def heads(kind: str, net: Fusion) -> SideHead:
    inner: Callable[..., Head] = partial(UNet, widths=(8, 8, 8, 8, 8)[: len(net.strides) if kind != "decision" else 5])
    made = Decision if kind == "decision" else Auxiliary
    return made(net, 3, inner, 0.5, partial(Dense, widths=()))


@pytest.mark.parametrize("kind", ["late", "decision"])
def test_heads_on_maps_answer_at_the_size_of_the_first_sensor(kind: str) -> None:
    net, inputs = fusion(kind), given(kind)
    model = Model(net, heads(kind, net), Normalise({n: ([0.1] * b, [2.0] * b) for n, b in IMAGES.items()})).train()
    said = model(inputs)
    assert isinstance(said, SidedOutput)
    assert said.logits.shape == (4, 3, 64, 64)
    assert set(said.sides) == set(IMAGES)
    for side in said.sides.values():
        assert side.logits.shape == (4, 3, 64, 64)
        assert (side.logits[~side.present] == 0).all()
    lacking = {name: (~side.present).nonzero()[:, 0].tolist() for name, side in said.sides.items()}
    assert lacking == {"aerial": [3], "elevation": [0, 3], "s2": [1], "s1": [2]}
    if kind == "decision":
        stack = torch.stack([side.logits for side in said.sides.values()])
        there = torch.stack([side.present for side in said.sides.values()])
        torch.testing.assert_close(said.logits, mean_probability(stack, there))
    model.eval()
    whole = model(inputs).logits
    for row in range(4):
        one = model(of_rows(inputs, torch.tensor([row]))).logits
        torch.testing.assert_close(whole[row : row + 1], one, atol=1e-5, rtol=1e-5)


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


def test_what_does_not_fit_is_refused() -> None:
    inputs = given("late")
    for scheme in ON_ONE_GRID:
        net = fusion(scheme)
        with pytest.raises(ValueError, match=rf"{scheme} fusion joins image series pixel by pixel.*scheme=late"):
            net({"s2": look(4, 5, (8, 8)), "s1": look(4, 5, (4, 4), bands=2)})
    with pytest.raises(ValueError, match=r"early fusion reads series.*'aerial': \(4, 4, 64, 64\)"):
        Fusion(IMAGES, partial(UTAE, **SMALL), modalities=["aerial", "s2"], scheme="early")(inputs)
    unlike = {"s1": partial(UTAE, **{**SMALL, "widths": (8, 8)})}
    with pytest.raises(ValueError, match=r"mid fusion sums the maps.*their U-TAE must be alike"):
        Fusion(SERIES, partial(UTAE, **SMALL), unlike, scheme="mid")
    with pytest.raises(LookupError, match=r"encoder\.grid is 'areal'; give auto or one of the data's sensors"):
        fusion("late", grid="areal")
    with pytest.raises(ValueError, match=r"encoder\.crop=4 is for encoder\.scheme=added"):
        fusion("late", crop=4)
    with pytest.raises(ValueError, match=r"encoder\.down must be 2 .* or 1 .*; got 3"):
        UTAE({"s2": 3}, **UTAE_SMALL, down=3)


@pytest.mark.parametrize("name", ["map_fusion", "u_tt"])
def test_presets_read_aerial_images_with_series_of_a_few_pixels(name: str) -> None:
    net = build("encoder", name, sensors={"aerial": 4, "elevation": 1, "s2": 3, "s1_asc": 2, "s1_desc": 2}).eval()
    inputs = dict(given("late"))
    inputs |= {"s1_asc": inputs["s1"], "s1_desc": inputs.pop("s1")}
    maps = net(inputs).maps
    assert [m.shape[-1] for m in maps] == [32, 16, 8, 4, 2]
    assert net(inputs).size == (64, 64)
    assert set(net.parts()) == ({"aerial", "s2"} if name == "u_tt" else set(inputs))


def test_utae_without_down_sampling_reads_series_of_a_few_pixels() -> None:
    torch.manual_seed(0)
    net = UTAE({"s2": 3}, **UTAE_SMALL, down=1).eval()
    assert net.strides == (1, 1, 1)
    assert [tuple(m.shape[2:]) for m in net({"s2": look(size=(3, 5))}).maps] == [(3, 5)] * 3
    assert [tuple(m.shape[1:]) for m in net({"s2": look(size=(2, 2))}).maps] == [(8, 2, 2), (8, 2, 2), (16, 2, 2)]
