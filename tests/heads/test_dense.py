"""Dense: sizes, linear logits, upsampling in place, what it cannot read, its yaml."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from torch import nn

from eo_adapt.encoders.base import Encoder
from eo_adapt.encoders.utae import UTAE
from eo_adapt.heads.dense import Dense
from eo_adapt.types import Features, Inputs, Observation

YAML = Path(__file__).parents[2] / "configs" / "head" / "dense.yaml"


class Stub(Encoder):
    """An encoder of which only the shapes matter."""

    def __init__(self, *strides: int, channels: int = 6) -> None:
        super().__init__()
        self.channels, self.strides = (channels,) * len(strides), strides

    def forward(self, inputs: Inputs) -> Features:
        raise NotImplementedError


def test_official_size_without_a_norm_on_the_logits() -> None:
    assert sum(p.numel() for p in Dense(Stub(1, channels=32), 20).parameters()) == 15_132 - 2 * 20


def test_the_last_layer_is_linear() -> None:
    head = Dense(Stub(1), 3).eval()
    assert isinstance(head.layers[-1], nn.Conv2d)
    logits = head(Features((torch.randn(2, 6, 8, 8),)))
    assert logits.min() < 0 < logits.max()


def test_a_linear_probe_of_each_cell() -> None:
    head, x = Dense(Stub(1), 3, widths=(), kernel=1), torch.randn(2, 6, 4, 5)
    (probe,) = head.layers
    assert isinstance(probe, nn.Conv2d)
    assert probe.bias is not None
    wanted = torch.einsum("bchw,kc->bkhw", x, probe.weight[:, :, 0, 0]) + probe.bias[:, None, None]
    torch.testing.assert_close(head(Features((x,))), wanted)


def test_coarse_logits_are_upsampled_with_pixel_centres_in_place() -> None:
    head = Dense(Stub(2), 1, widths=(), kernel=1)
    nn.init.constant_(head.layers[0].weight, 1 / 6)  # type: ignore[arg-type]
    nn.init.zeros_(head.layers[0].bias)  # type: ignore[arg-type]
    ramp = torch.arange(4.0).expand(1, 6, 2, 4)
    row = head(Features((ramp,)))[0, 0, 0]
    torch.testing.assert_close(row, torch.tensor([0.0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3.0]))


@settings(deadline=None, max_examples=30)
@given(
    stride=st.sampled_from([1, 2, 4, 7]),
    cells=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    widths=st.lists(st.integers(1, 5), max_size=2),
    kernel=st.sampled_from([1, 3, 5]),
    batch=st.integers(1, 2),
)
def test_logits_have_the_size_of_the_image(
    stride: int, cells: tuple[int, int], widths: list[int], kernel: int, batch: int
) -> None:
    head = Dense(Stub(stride, 32), 3, widths, kernel)
    x = torch.randn(batch, 6, *cells)
    logits = head(Features((x, torch.zeros(0))))
    assert logits.shape == (batch, 3, cells[0] * stride, cells[1] * stride)
    logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())


def test_vectors_even_kernels_and_empty_legends_are_refused() -> None:
    with pytest.raises(ValueError, match=r"Stub gives one vector a sample \(strides \(0,\)\): choose .* head=classify"):
        Dense(Stub(0), 3)
    with pytest.raises(ValueError, match=r"head.kernel must be odd and positive.*got 2"):
        Dense(Stub(1), 3, kernel=2)
    with pytest.raises(ValueError, match="at least one class"):
        Dense(Stub(1), 0)


def test_a_series_becomes_a_map() -> None:
    encoder = UTAE({"s2": 2}, widths=(4, 8), decoder=(4,), heads=4, d_model=8)
    head = Dense(encoder, 5, widths=(4,))
    series = Observation(torch.rand(1, 3, 2, 8, 12), torch.tensor([[0.0, 30.0, 60.0]]))
    assert head(encoder({"s2": series})).shape == (1, 5, 8, 12)


def test_yaml_builds_it() -> None:
    head = instantiate(OmegaConf.load(YAML), encoder=Stub(1), classes=20)
    assert isinstance(head, Dense)
    assert [m.out_channels for m in head.modules() if isinstance(m, nn.Conv2d)] == [32, 20]
