"""Classify: sizes, fit, small batches, and its yaml."""

from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn

from eo_adapt.encoders.base import Encoder
from eo_adapt.heads.classify import Classify
from eo_adapt.types import Features, Inputs

YAML = Path(__file__).parents[2] / "configs" / "head" / "classify.yaml"


class Stub(Encoder):
    """An encoder of which only the shape matters."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.channels, self.strides = (128,), (stride,)

    def forward(self, inputs: Inputs) -> Features:
        raise NotImplementedError


def test_official_size() -> None:
    assert sum(p.numel() for p in Classify(Stub(0), 20).parameters()) == 11_188


def test_no_width_is_a_linear_probe() -> None:
    head, x = Classify(Stub(0), 5, widths=()), torch.randn(3, 128)
    (probe,) = head.layers
    assert isinstance(probe, nn.Linear)
    torch.testing.assert_close(head(Features((x,))), x @ probe.weight.T + probe.bias)


def test_the_last_map_is_read() -> None:
    head = Classify(Stub(0), 5)
    assert head(Features((torch.randn(3, 7), torch.randn(3, 128)))).shape == (3, 5)


def test_maps_and_empty_legends_are_refused() -> None:
    with pytest.raises(ValueError, match=r"Stub has strides \(4,\)"):
        Classify(Stub(4), 5)
    with pytest.raises(ValueError, match="at least one class"):
        Classify(Stub(0), 0)


def test_one_sample_trains() -> None:
    head = Classify(Stub(0), 5)
    head(Features((torch.randn(1, 128),))).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())


def test_yaml_builds_it() -> None:
    head = instantiate(OmegaConf.load(YAML), encoder=Stub(0), classes=20)
    assert isinstance(head, Classify)
    assert head.classes == 20
    assert YAML.read_text().startswith("# ")
