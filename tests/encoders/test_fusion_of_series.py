"""Fusion of images and image series by real encoders: who is missing, padding, order of dates, nan, sizes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
import torch
from fused_maps import IMAGES, ON_ONE_GRID, SCHEMES, SERIES, SMALL, fusion, given, gone, same
from image_series import UTAE_SMALL, along_time, look
from torch import Tensor

from eo_adapt.encoders.blocks.modalities import of_rows
from eo_adapt.encoders.fusion import Fusion
from eo_adapt.encoders.timm_pyramid import TimmPyramid
from eo_adapt.encoders.utae import UTAE
from eo_adapt.heads.base import Head
from eo_adapt.heads.decoders import UNet
from eo_adapt.heads.dense import Dense
from eo_adapt.heads.modalities import Auxiliary, Decision, SideHead, mean_probability
from eo_adapt.model import Model, Normalise
from eo_adapt.registry import build
from eo_adapt.types import SidedOutput


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
    with pytest.raises(ValueError, match=r"encoder\.crop is a number of cells, 0 = the whole map; got -1"):
        fusion("added", crop=-1)
    with pytest.raises(
        ValueError, match=r"TimmPyramid .* reads images .* give 's2' a branch of its own \(encoder.bran"
    ):
        Fusion(IMAGES, partial(TimmPyramid, backbone="test_resnet"), modalities=["s2"])(inputs)
    with pytest.raises(ValueError, match=r"UTAE .* reads image series .* give 'aerial' a branch of its own"):
        Fusion(IMAGES, partial(UTAE, **SMALL), modalities=["aerial"])(inputs)
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
