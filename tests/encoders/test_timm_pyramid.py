"""TimmPyramid: shapes, sizes it refuses, weights of red, green and blue spread over named bands."""

from __future__ import annotations

import inspect
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from omegaconf import OmegaConf
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from eo_adapt.align import Setup
from eo_adapt.align.adabn import AdaBN
from eo_adapt.align.csn import CSN, DomainNorm
from eo_adapt.encoders.timm_pyramid import TimmPyramid, inflate, read_weights
from eo_adapt.registry import build
from eo_adapt.types import Inputs, Observation

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


def images(x: Tensor) -> Inputs:
    return {"aerial": Observation(x)}


def fresh(backbone: str, count: int = 3, **options: Any) -> TimmPyramid:
    torch.manual_seed(0)
    return TimmPyramid({"aerial": count}, backbone=backbone, **options)


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


# Weights of red, green and blue.


def spread_by_hand(weight: np.ndarray, bands: list[str]) -> np.ndarray:
    """The formula, a filter and a band at a time."""
    out = np.zeros((weight.shape[0], len(bands), *weight.shape[2:]))
    for o in range(weight.shape[0]):
        for i, band in enumerate(bands):
            source = {"R": 0, "G": 1, "B": 2}.get(band)
            taps = sum(weight[o, c] for c in range(3)) / 3 if source is None else weight[o, source]
            out[o, i] = taps * 3 / len(bands)
    return out


@settings(deadline=None)
@given(
    weight=arrays(np.float64, (2, 3, 2, 2), elements=st.floats(-3, 3)),
    bands=st.lists(st.sampled_from(["R", "G", "B", "NIR", "elevation", "VV"]), min_size=1, max_size=6, unique=True),
)
def test_inflation_is_the_formula(weight: np.ndarray, bands: list[str]) -> None:
    found = inflate(torch.from_numpy(weight), bands).numpy()
    np.testing.assert_allclose(found, spread_by_hand(weight, bands), atol=1e-12)
    if len({"R", "G", "B"} & set(bands)) in (0, 3):
        np.testing.assert_allclose(found.sum(1), weight.sum(1), atol=1e-9)


def test_colours_have_one_name_each() -> None:
    torch.testing.assert_close(
        inflate(torch.eye(3).view(3, 3, 1, 1), ["blue", "g", "RED"])[..., 0, 0], torch.eye(3).flip(1)
    )
    with pytest.raises(ValueError, match=r"at most once each; got \['R', 'red', 'B'\]"):
        inflate(torch.zeros(1, 3, 1, 1), ["R", "red", "B"])


def saved(folder: Path, backbone: str, form: str, bands: int = 3) -> tuple[nn.Module, str]:
    """A network of timm's own and the file that holds it."""
    torch.manual_seed(7)
    net = timm.create_model(backbone, in_chans=bands)
    file = folder / f"weights.{'safetensors' if form == 'safetensors' else 'pth'}"
    if form == "safetensors":
        save_file(net.state_dict(), file)
    else:
        torch.save({"plain": net.state_dict(), "nested": {"epoch": 3, "state_dict": net.state_dict()}}[form], file)
    return net.eval(), str(file)


@pytest.mark.parametrize(
    ("backbone", "form"),
    [
        ("test_resnet", "plain"), ("test_resnet", "nested"), ("test_resnet", "safetensors"),
        ("test_convnext", "plain"), ("test_vit", "plain"), ("test_byobnet", "plain"),
    ],
)  # fmt: skip
def test_weights_from_a_file_do_what_they_did(backbone: str, form: str, tmp_path: Path) -> None:
    theirs, file = saved(tmp_path, backbone, form)
    x = torch.randn(2, 3, 160, 160)
    if backbone == "test_vit":  # which timm alone would not let have another size
        theirs.patch_embed.strict_img_size, theirs.dynamic_img_size = False, True
    with torch.no_grad():
        indices = fresh(backbone).eval().net.out_indices if backbone == "test_vit" else None
        wanted = theirs.forward_intermediates(x, indices=indices, intermediates_only=True)[-1]
        turned = fresh(backbone, pretrained=file, bands=["B", "G", "R"]).eval()
        torch.testing.assert_close(turned(images(x.flip(1))).maps[-1], wanted, atol=1e-4, rtol=1e-4)
        # The response to grey images is kept, however many bands there are.
        grey = x[:, :1].expand(-1, 3, -1, -1)
        wanted = theirs.forward_intermediates(grey, indices=indices, intermediates_only=True)[-1]
        five = fresh(backbone, 5, pretrained=file, bands=["R", "G", "B", "NIR", "height"]).eval()
        found = five(images(x[:, :1].expand(-1, 5, -1, -1))).maps[-1]
        torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


def test_weights_for_the_bands_of_the_data_are_taken_as_they_are(tmp_path: Path) -> None:
    theirs, file = saved(tmp_path, "test_resnet", "plain", bands=13)
    net, x = fresh("test_resnet", 13, pretrained=file).eval(), torch.randn(1, 13, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(net(images(x)).maps[-1], theirs.forward_features(x))


def test_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    _, file = saved(tmp_path, "test_resnet", "plain", bands=4)
    rgb = ["R", "G", "B"]
    with pytest.raises(ValueError, match=r"holds weights for 4 bands, sensor 'aerial' has 3"):
        fresh("test_resnet", pretrained=file, bands=rgb)
    _, file = saved(tmp_path, "test_resnet", "plain")
    with pytest.raises(ValueError, match=r"name the 3 bands of sensor 'aerial' in order"):
        fresh("test_resnet", pretrained=file)
    with pytest.raises(ValueError, match=r"does not fit backbone 'test_convnext': of \d+ tensors \d+ are missing"):
        fresh("test_convnext", pretrained=file, bands=rgb)
    state = torch.load(file)
    torch.save({**state, "layer4.0.conv1.weight": torch.zeros(1, 1, 1, 1)}, file)
    with pytest.raises(
        ValueError, match=r"0 are missing and 1 have another shape, e.g. layer4.0.conv1.weight; save it"
    ):
        fresh("test_resnet", pretrained=file, bands=rgb)
    with pytest.raises(FileNotFoundError, match="no such file; give none, imagenet or a file"):
        fresh("test_resnet", pretrained=str(tmp_path / "none.pth"), bands=rgb)


def test_reading_weights_runs_no_code(tmp_path: Path) -> None:
    torch.save({"state_dict": {}, "args": Path("x")}, tmp_path / "code.pth")
    with pytest.raises(ValueError, match=r"does not read as plain weights .*torch.save\(net.state_dict\(\), file\)"):
        read_weights(tmp_path / "code.pth")
    (tmp_path / "text.pth").write_text("<html>")
    with pytest.raises(ValueError, match="does not read as plain weights"):
        read_weights(tmp_path / "text.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ValueError, match="holds no state dict"):
        read_weights(tmp_path / "list.pth")


def test_downloaded_weights_are_spread_and_a_failed_download_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a network: timm is told to make up what it would fetch."""
    made, fetched = timm.create_model, []

    def fake(name: str, pretrained: bool, **options: Any) -> nn.Module:
        fetched.append((pretrained, options["in_chans"]))
        torch.manual_seed(3)
        return made(name, pretrained=False, **options)

    monkeypatch.setattr(timm, "create_model", fake)
    net = TimmPyramid({"aerial": 4}, backbone="test_resnet", pretrained="imagenet", bands=["NIR", "R", "G", "B"])
    assert fetched == [(True, 3)]
    torch.manual_seed(3)
    rgb = made("test_resnet", features_only=True).state_dict()["conv1.0.weight"].numpy()
    found = net.net.state_dict()["conv1.0.weight"].numpy()
    np.testing.assert_allclose(found, spread_by_hand(rgb, ["NIR", "R", "G", "B"]), atol=1e-6)

    def offline(name: str, **options: Any) -> nn.Module:
        raise ConnectionError("no route")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(OSError, match=r"could not be fetched \(ConnectionError\): .*encoder.pretrained to the file"):
        TimmPyramid({"aerial": 3}, backbone="test_resnet", pretrained="imagenet", bands=["R", "G", "B"])


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
