"""TimmPyramid: weights of red, green and blue spread over named bands, from files and from the network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pyramids import fresh, images
from safetensors.torch import save_file
from torch import nn

from eo_adapt.encoders.timm_pyramid import TimmPyramid, inflate, read_weights


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
