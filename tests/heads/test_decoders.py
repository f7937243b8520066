"""Heads for maps: against the networks they come from, sizes, refusals, parameters."""

from __future__ import annotations

import inspect
from functools import cache
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from eo_adapt.align import Setup
from eo_adapt.encoders.base import Encoder
from eo_adapt.encoders.timm_pyramid import TimmPyramid
from eo_adapt.heads import decoders
from eo_adapt.heads.decoders import FPN, Decoder, DeepLabV3Plus, SegFormer, UNet, UPerNet
from eo_adapt.model import Model, Normalise
from eo_adapt.registry import build, path_of
from eo_adapt.types import Features, Inputs, Observation

HEADS = {"unet": UNet, "fpn": FPN, "upernet": UPerNet, "segformer": SegFormer, "deeplabv3plus": DeepLabV3Plus}
PYRAMIDS = ("test_resnet", "test_convnext")  # with and without a map of stride 2
PLAIN = (UPerNet, SegFormer, DeepLabV3Plus)  # those that take maps of one stride


class Stub(Encoder):
    """An encoder of which only the shapes matter."""

    def __init__(self, channels: tuple[int, ...], strides: tuple[int, ...]) -> None:
        super().__init__()
        self.channels, self.strides = channels, strides

    def forward(self, inputs: Inputs) -> Features:
        raise NotImplementedError


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@cache
def encoder(backbone: str) -> TimmPyramid:
    torch.manual_seed(0)
    return TimmPyramid({"aerial": 3}, backbone=backbone).eval()


@cache
def head(kind: type[Decoder], backbone: str) -> Decoder:
    torch.manual_seed(0)
    return kind(encoder(backbone), 5).eval()


def images(x: Tensor) -> Inputs:
    return {"aerial": Observation(x)}


# Against the networks of segmentation_models_pytorch.


def packaged(kind: type[Decoder]) -> nn.Module:
    options: dict[str, Any] = {"encoder_weights": None, "classes": 5}
    if kind is SegFormer:
        return smp.Segformer("mit_b0", **options)
    return getattr(smp, {UNet: "Unet", FPN: "FPN", UPerNet: "UPerNet"}[kind])("resnet18", **options)


@pytest.mark.parametrize("kind", [UNet, FPN, UPerNet, SegFormer])
def test_it_computes_what_the_package_computes_but_for_the_corners(kind: type[Decoder]) -> None:
    torch.manual_seed(0)
    theirs = packaged(kind).eval()
    x = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        maps = theirs.encoder(x)
        logits = theirs.segmentation_head[0](theirs.decoder(maps))
        wanted = F.interpolate(logits, (64, 96), mode="bilinear", align_corners=False)
        maps = [m for m in maps[1:] if m.shape[1]]  # neither the image nor the blank of stride 2
        ours = kind(Stub(tuple(m.shape[1] for m in maps), tuple(64 // m.shape[2] for m in maps)), 5).eval()
        ours.decoder.load_state_dict(theirs.decoder.state_dict())
        ours.last.load_state_dict(theirs.segmentation_head[0].state_dict())
        torch.testing.assert_close(ours(Features(tuple(maps))), wanted)
        if kind is UNet:
            torch.testing.assert_close(wanted, theirs(x))


def test_deeplab_computes_what_the_package_computes_at_a_stride_of_16() -> None:
    torch.manual_seed(0)
    theirs = smp.DeepLabV3Plus("resnet18", encoder_weights=None, classes=5).eval()
    theirs.decoder.up.align_corners = False
    with torch.no_grad():
        maps = theirs.encoder(torch.randn(2, 3, 64, 96))
        logits = theirs.segmentation_head[0](theirs.decoder(maps))
        ours = DeepLabV3Plus(Stub((64, 64, 128, 256, 512), (2, 4, 8, 16, 16)), 5).eval()
        ours.decoder.load_state_dict(theirs.decoder.state_dict())
        ours.last.load_state_dict(theirs.segmentation_head[0].state_dict())
        wanted = F.interpolate(logits, (64, 96), mode="bilinear", align_corners=False)
        torch.testing.assert_close(ours(Features(tuple(maps[1:]))), wanted)


def test_geomultitasknet_has_the_parameters_of_a_unet_and_a_small_head() -> None:
    """ResNet-18 U-Net with the pooled head of geomt: at most 33 million in training, fewer at deployment."""
    body = build("encoder", "timm_pyramid", sensors={"aerial": 5})
    model = Model(body, build("head", "unet", encoder=body, classes=12), Normalise({"aerial": ([0.0] * 5, [1.0] * 5)}))
    geo = build("method", "geomt")
    geo.attach(model, Setup(model.width))
    assert model.width == 512
    assert count(model) == count(smp.Unet("resnet18", encoder_weights=None, in_channels=5, classes=12)) == 14_336_076
    assert count(geo) == 512 * 256 + 256 + 256 * 96 + 96
    assert count(model) + count(geo) == 14_492_076 <= 33_000_000
    assert count(geo.export(model, 1)) == 14_336_076


def test_it_starts_as_the_package_starts() -> None:
    made, theirs = UPerNet(Stub((64, 128), (4, 8)), 5), smp.UPerNet("resnet18", encoder_weights=None, classes=5)
    assert not made.last.bias.any()
    one, other = made.last.weight.std(), theirs.segmentation_head[0].weight.std()  # Xavier, not torch's own
    assert abs(one / other - 1) < 0.15


# Shapes.


@settings(deadline=None, max_examples=15)
@given(
    kind=st.sampled_from(list(HEADS.values())),
    backbone=st.sampled_from(PYRAMIDS),
    cells=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    batch=st.integers(1, 2),
)
def test_logits_are_as_large_as_the_image(
    kind: type[Decoder], backbone: str, cells: tuple[int, int], batch: int
) -> None:
    height, width = 32 * cells[0], 32 * cells[1]
    with torch.no_grad():
        logits = head(kind, backbone)(encoder(backbone)(images(torch.randn(batch, 3, height, width))))
    assert logits.shape == (batch, 5, height, width)


@pytest.mark.parametrize("kind", PLAIN)
def test_some_read_the_equal_strides_of_a_plain_vit(kind: type[Decoder]) -> None:
    with torch.no_grad():
        logits = head(kind, "test_vit")(encoder("test_vit")(images(torch.randn(1, 3, 48, 64))))
    assert logits.shape == (1, 5, 48, 64)


def test_a_map_as_fine_as_the_image_is_passed_over() -> None:
    maps = tuple(torch.randn(1, 8, 32 // s, 32 // s) for s in (1, 2, 4, 8))
    unet = UNet(Stub((8, 8, 8, 8), (1, 2, 4, 8)), 5, widths=(8, 8, 8)).eval()
    assert unet(Features(maps)).shape == (1, 5, 32, 32)
    assert torch.equal(unet(Features(maps)), unet(Features((0 * maps[0], *maps[1:]))))


# Refusals.


@pytest.mark.parametrize("kind", HEADS.values())
def test_vectors_are_refused(kind: type[Decoder]) -> None:
    with pytest.raises(ValueError, match=r"gives one vector a sample \(strides \(0,\)\): choose an encoder of images"):
        kind(Stub((128,), (0,)), 5)


@pytest.mark.parametrize(
    ("kind", "strides", "options", "message"),
    [
        (FPN, (4, 8, 16), {}, r"FPN reads at least 4 maps of stride 4 or more; Stub has strides \(4, 8, 16\)"),
        (UNet, (32,), {}, "UNet reads at least 2 maps of stride 2 or more"),
        (UPerNet, (1, 2, 4), {}, "UPerNet reads at least 2 maps of stride 4 or more"),
        (UNet, (2, 4, 8, 16, 16), {}, r"UNet needs strides that double .* \(2, 4, 8, 16, 16\): .*output_stride=32"),
        (UNet, (3, 6, 12), {}, "UNet needs strides that double"),
        (FPN, (16, 16, 16, 16), {}, "head=segformer or upernet"),
        (UNet, (4, 8, 16, 32), {"widths": (64, 32)}, r"one width a halving: 5 for .* \(4, 8, 16, 32\); got \[64, 32\]"),
        (UNet, (2, 4), {"widths": (8, 8), "attention": "se"}, r"one of \['none', 'scse'\]; got 'se'"),
        (FPN, (4, 8, 16, 32), {"width": 100}, r"multiple of 32 .* got 100, 'add'"),
        (FPN, (4, 8, 16, 32), {"merge": "sum"}, r"\['add', 'cat'\]; got 128, 'sum'"),
        (DeepLabV3Plus, (4, 16), {"rates": (1, 2)}, r"three dilations; got \[1, 2\]"),
    ],
)
def test_what_does_not_fit_is_said(
    kind: type[Decoder], strides: tuple[int, ...], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        kind(Stub((32,) * len(strides), strides), 5, **options)


@pytest.mark.parametrize("kind", [UPerNet, DeepLabV3Plus])
def test_one_image_has_no_batch_statistics_where_it_is_pooled(kind: type[Decoder]) -> None:
    one = kind(Stub((8, 8), (4, 8)), 5).train()
    maps = tuple(torch.randn(2, 8, 32 // s, 32 // s) for s in (4, 8))
    with pytest.raises(ValueError, match="at least 2 images a batch"):
        one(Features(tuple(m[:1] for m in maps)))
    one(Features(maps))
    one.eval()(Features(tuple(m[:1] for m in maps)))


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ModuleNotFoundError(name="segmentation_models_pytorch")

    monkeypatch.setattr(decoders, "import_module", missing)
    with pytest.raises(ImportError, match="pip install segmentation-models-pytorch"):
        UNet(Stub((8, 8), (2, 4)), 5, widths=(8, 8))


# What every head owes.


@pytest.mark.parametrize("kind", HEADS.values())
def test_gradients_reach_everything(kind: type[Decoder]) -> None:
    torch.manual_seed(0)
    body = TimmPyramid({"aerial": 3}, backbone="test_resnet")
    made = kind(body, 5)
    for layer in body.modules():
        if isinstance(layer, _BatchNorm):
            nn.init.uniform_(layer.weight, 0.5, 1)  # timm starts residual branches with a gain of 0
    logits = made(body(images(torch.randn(2, 3, 64, 64))))
    F.cross_entropy(logits, torch.randint(5, (2, 64, 64))).backward()
    everything = [(n, p) for m in (body, made) for n, p in m.named_parameters()]
    assert not [n for n, p in everything if p.grad is None or not p.grad.isfinite().all()]
    assert not [n for n, p in everything if p.ndim > 1 and not p.grad.any()]


@pytest.mark.parametrize("kind", HEADS.values())
def test_a_sample_does_not_depend_on_its_company(kind: type[Decoder]) -> None:
    body, made, x = encoder("test_resnet"), head(kind, "test_resnet"), torch.randn(3, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(made(body(images(x)))[1:2], made(body(images(x[1:2]))), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", HEADS.values())
def test_half_precision_agrees(kind: type[Decoder]) -> None:
    body, made, x = encoder("test_convnext"), head(kind, "test_convnext"), torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        full = made(body(images(x)))
        with torch.autocast("cpu", torch.bfloat16):
            half = made(body(images(x))).float()
    assert (full - half).square().mean().sqrt() / full.std() < 0.05


@pytest.mark.parametrize("kind", HEADS.values())
def test_state_goes_out_and_in_again(kind: type[Decoder]) -> None:
    one, other = head(kind, "test_resnet"), kind(encoder("test_resnet"), 5).eval()
    other.load_state_dict(one.state_dict())
    with torch.no_grad():
        maps = encoder("test_resnet")(images(torch.randn(1, 3, 64, 64)))
        assert torch.equal(one(maps), other(maps))


class Bare(nn.Module):
    """Tensor in, tensor out, as exporters want it."""

    def __init__(self, body: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.body, self.head = body, head

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(images(x)))


def test_it_exports() -> None:
    bare, x = Bare(encoder("test_resnet"), head(UNet, "test_resnet")).eval(), torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(torch.export.export(bare, (x,)).module()(x), bare(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", HEADS)
def test_yaml_lists_every_argument_with_its_default(name: str) -> None:
    listed = OmegaConf.to_container(OmegaConf.load(path_of("head", name)))
    assert isinstance(listed, dict)
    parameters = inspect.signature(HEADS[name]).parameters
    assert set(listed) == {"_target_", *parameters} - {"encoder", "classes"}
    for option, value in listed.items():
        if option != "_target_":
            assert (tuple(value) if isinstance(value, list) else value) == parameters[option].default, option
    assert isinstance(build("head", name, encoder=encoder("test_resnet"), classes=3), HEADS[name])
