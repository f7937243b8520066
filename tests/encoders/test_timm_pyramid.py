"""TimmPyramid: shapes, sizes it refuses, what every encoder owes."""

from __future__ import annotations

import inspect
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from pyramids import fresh, images
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from eo_adapt.align import Setup
from eo_adapt.align.adabn import AdaBN
from eo_adapt.align.csn import CSN, DomainNorm
from eo_adapt.encoders.timm_pyramid import TimmPyramid
from eo_adapt.registry import build
from eo_adapt.types import Observation

YAML = Path(__file__).parents[2] / "configs" / "encoder" / "timm_pyramid.yaml"
SWIN = "swin_tiny_patch4_window7_224"
STRIDES = {
    "resnet18": (2, 4, 8, 16, 32),
    "test_resnet": (2, 4, 8, 16, 32),
    "convnext_atto": (4, 8, 16, 32),
    "mobilenetv3_small_050": (2, 4, 8, 16, 32),
    SWIN: (4, 8, 16, 32),
    "test_vit": (16, 16, 16, 16),
}


@cache
def encoder(backbone: str, bands: int = 3) -> TimmPyramid:
    torch.manual_seed(0)
    return TimmPyramid({"aerial": bands}, backbone=backbone).eval()


@settings(deadline=None, max_examples=15)
@given(
    backbone=st.sampled_from(["resnet18", "test_resnet", "convnext_atto", "test_vit"]),
    bands=st.sampled_from([1, 5]),
    cells=st.tuples(st.integers(1, 2), st.integers(1, 3)),
    batch=st.integers(1, 2),
)
def test_maps_have_the_promised_channels_and_strides(
    backbone: str, bands: int, cells: tuple[int, int], batch: int
) -> None:
    net, size = encoder(backbone, bands), (32 * cells[0], 32 * cells[1])
    assert net.strides == STRIDES[backbone]
    with torch.no_grad():
        maps = net(images(torch.randn(batch, bands, *size))).maps
    shapes = [(batch, d, size[0] // s, size[1] // s) for d, s in zip(net.channels, net.strides, strict=True)]
    assert [tuple(m.shape) for m in maps] == shapes


def test_swin_takes_other_sizes_than_it_was_made_for_channels_first() -> None:
    net, x = encoder(SWIN), torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        maps, alone = net(images(x)).maps, net(images(x[1:])).maps
    assert [tuple(m.shape[1:]) for m in maps] == [(96, 16, 24), (192, 8, 12), (384, 4, 6), (768, 2, 3)]
    torch.testing.assert_close(maps[-1][1:], alone[-1], atol=1e-4, rtol=1e-4)


def test_a_plain_vit_gives_four_maps_of_evenly_spaced_blocks() -> None:
    net = fresh("vit_tiny_patch16_224", 3).eval()
    assert net.net.out_indices == [2, 5, 8, 11]
    x = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        wanted = net.net.model.forward_intermediates(x, indices=[2, 5, 8, 11], intermediates_only=True)
        for one, other in zip(net(images(x)).maps, wanted, strict=True):
            torch.testing.assert_close(one, other)


@settings(deadline=None)
@given(height=st.integers(1, 200), width=st.integers(1, 200))
def test_a_refused_size_comes_with_the_padded_one_that_works(height: int, width: int) -> None:
    net = encoder("test_resnet", 3)
    if height % 32 == 0 and width % 32 == 0:
        net._check((1, 3, height, width))
        return
    up = [int(np.ceil(side / 32)) * 32 for side in (height, width)]
    with pytest.raises(ValueError, match=rf"multiples of 32; got {height} x {width}: pad them to {up[0]} x {up[1]},"):
        net(images(torch.zeros(1, 3, height, width)))
    net._check((1, 3, *up))


def test_the_padded_size_follows_the_backbone() -> None:
    with pytest.raises(ValueError, match=r"multiples of 14; got 64 x 32: pad them to 70 x 42"):
        fresh("eva02_tiny_patch14_224")(images(torch.zeros(1, 3, 64, 32)))


def test_one_small_image_has_no_batch_statistics() -> None:
    net = fresh("test_resnet").train()
    with pytest.raises(ValueError, match="at least 2 images a batch"):
        net(images(torch.randn(1, 3, 32, 32)))
    net(images(torch.randn(2, 3, 32, 32)))
    net.eval()(images(torch.randn(1, 3, 32, 32)))
    fresh("test_convnext").train()(images(torch.randn(1, 3, 32, 32)))  # layer norm takes one


def test_inputs_that_do_not_fit_are_named() -> None:
    net = encoder("test_resnet", 3)
    with pytest.raises(LookupError, match=r"reads sensor 'aerial'; this batch holds \['s2'\]"):
        net({"s2": Observation(torch.zeros(1, 3, 32, 32))})
    with pytest.raises(ValueError, match=r"3 bands reads images \(B, 3, H, W\); 'aerial' has shape \(1, 4, 32, 32\)"):
        net(images(torch.zeros(1, 4, 32, 32)))
    with pytest.raises(ValueError, match=r"has shape \(1, 6, 3, 32, 32\)"):
        net(images(torch.zeros(1, 6, 3, 32, 32)))
    with pytest.raises(LookupError, match=r"the data provide \['aerial', 's2'\]"):
        TimmPyramid({"aerial": 3, "s2": 10}, backbone="test_resnet")
    assert TimmPyramid({"aerial": 3, "s2": 10}, sensor="s2", backbone="test_resnet").bands == 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backbone": "resnett18"}, r"no backbone 'resnett18'; the closest are \['resnet18'"),
        ({"backbone": "mixer_s32_224"}, "takes images of 224 x 224 only"),
        ({"backbone": "test_vit", "output_stride": 16}, r"cannot build 'test_vit' with encoder.output_stride=16"),
        ({"output_stride": 4}, r"must be one of \[8, 16, 32\]; got 4"),
        ({"bands": ["R", "G"]}, r"names 2 bands, \['R', 'G'\]; sensor 'aerial' has 3"),
        ({"pretrained": "imagenet"}, r"name the 3 bands of sensor 'aerial' in order, e.g. encoder.bands="),
    ],
)
def test_options_that_do_not_fit_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TimmPyramid({"aerial": 3}, **{"backbone": "test_resnet", **options})


def test_an_output_stride_dilates() -> None:
    net = fresh("resnet18", output_stride=16).eval()
    assert net.strides == (2, 4, 8, 16, 16)
    with torch.no_grad():
        assert net(images(torch.randn(1, 3, 64, 48))).maps[-1].shape == (1, 512, 4, 3)


# What every encoder owes.


@pytest.mark.parametrize("backbone", ["test_resnet", "test_convnext", "test_vit", "mobilenetv3_small_050"])
def test_gradients_reach_everything(backbone: str) -> None:
    net = fresh(backbone, 5).train()
    for layer in net.modules():
        if isinstance(layer, _BatchNorm):
            nn.init.uniform_(layer.weight, 0.5, 1)  # timm starts residual branches with a gain of 0
    sum((m * torch.randn_like(m)).sum() for m in net(images(torch.randn(2, 5, 64, 64))).maps).backward()
    dry = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not dry
    assert all(p.grad.any() for p in net.parameters() if p.ndim > 1)


@pytest.mark.parametrize("backbone", ["resnet18", "convnext_atto", "test_vit"])
def test_a_sample_does_not_depend_on_its_company(backbone: str) -> None:
    x = torch.randn(3, 3, 64, 64)
    with torch.no_grad():
        together, alone = encoder(backbone)(images(x)).maps, encoder(backbone)(images(x[1:2])).maps
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one[1:2], other, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("backbone", ["test_resnet", "test_convnext", "test_vit"])
def test_half_precision_agrees(backbone: str) -> None:
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        full = encoder(backbone)(images(x)).maps[-1]
        with torch.autocast("cpu", torch.bfloat16):
            half = encoder(backbone)(images(x)).maps[-1].float()
    assert (full - half).square().mean().sqrt() / full.std() < 0.05


def test_state_goes_out_and_in_again() -> None:
    one, other = fresh("test_byobnet", 4).eval(), TimmPyramid({"aerial": 4}, backbone="test_byobnet").eval()
    other.load_state_dict(one.state_dict())
    x = torch.randn(1, 4, 64, 64)
    with torch.no_grad():
        assert torch.equal(one(images(x)).maps[-1], other(images(x)).maps[-1])


@pytest.mark.parametrize("backbone", ["test_resnet", "mobilenetv3_small_050"])
def test_its_batch_norms_split_by_domain_those_with_an_activation_inside_too(backbone: str) -> None:
    net = fresh(backbone)
    norms = sum(isinstance(layer, _BatchNorm) for layer in net.modules())
    csn = CSN()
    csn.attach(net, Setup(net.channels[-1]))
    assert sum(isinstance(layer, DomainNorm) for layer in net.modules()) == norms > 0
    for domain, scale in enumerate((1.0, 3.0)):
        for _ in range(3):
            with csn.scope(domain):
                net(images(scale * torch.randn(2, 3, 64, 64) + domain))
    net.eval()
    x = torch.randn(1, 3, 64, 64)
    looks = []
    for domain in range(2):
        with torch.no_grad(), csn.scope(domain):
            looks.append(net(images(x)).maps[-1])
            torch.testing.assert_close(csn.export(net, domain)(images(x)).maps[-1], looks[-1])
    assert not torch.allclose(*looks)


def test_adabn_averages_norms_with_an_activation_inside() -> None:
    net = fresh("mobilenetv3_small_050")
    adabn = AdaBN()
    adabn.attach(net, Setup(net.channels[-1]))
    x = torch.randn(4, 3, 64, 64) * 5 + 2
    net.eval()
    adabn.eval()
    with torch.no_grad():
        adabn.settle(net, {}, {1: [images(x)]})
    first = next(layer for layer in net.modules() if isinstance(layer, DomainNorm))
    with torch.no_grad():
        stem = net.net.conv_stem(x)
    torch.testing.assert_close(first.norms[1].running_mean, stem.mean((0, 2, 3)), atol=1e-4, rtol=1e-4)


def test_yaml_lists_every_argument_with_its_default() -> None:
    listed = OmegaConf.to_container(OmegaConf.load(YAML))
    assert isinstance(listed, dict)
    parameters = inspect.signature(TimmPyramid).parameters
    assert set(listed) == {"_target_", *parameters} - {"sensors"}
    for name, value in listed.items():
        if name != "_target_":
            assert (tuple(value) if isinstance(value, list) else value) == parameters[name].default, name
    assert build("encoder", "timm_pyramid", sensors={"aerial": 5}).channels == (64, 64, 128, 256, 512)
