"""PointPillars: pillars against numpy, and what padding, order and places may and may not do."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from torch import Tensor

from eo_adapt.encoders.point_pillars import PointPillars
from eo_adapt.registry import build
from eo_adapt.types import Inputs, Observation

YAML = Path(__file__).parents[2] / "configs" / "encoder" / "point_pillars.yaml"
SIZE = (32, 64)


def made(bands: int = 5, width: int = 8, **options: Any) -> PointPillars:
    torch.manual_seed(0)
    net = PointPillars({"points": bands}, SIZE, width=width, backbone="test_resnet", **options)
    net.norm.running_mean.uniform_(-1, 1)
    net.norm.running_var.uniform_(0.5, 2)
    return net.eval()


def cloud(batch: int = 2, count: int = 50, bands: int = 5, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Points in few pillars, so that most hold several."""
    g = torch.Generator().manual_seed(seed)
    values = torch.randn(batch, count, bands, generator=g)
    values[..., 0] = 20 + 4 * torch.rand(batch, count, generator=g)
    values[..., 1] = 10 + 3 * torch.rand(batch, count, generator=g)
    return values, torch.rand(batch, count, generator=g) < 0.7


def inputs(values: Tensor, valid: Tensor) -> Inputs:
    return {"points": Observation(values, valid=valid)}


def by_hand(net: PointPillars, values: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Pillar by pillar, as the paper has it."""
    weight = net.linear.weight.detach().numpy()
    gamma, beta, mean, var = (
        t.detach().numpy() for t in (net.norm.weight, net.norm.bias, net.norm.running_mean, net.norm.running_var)
    )
    canvas = np.zeros((len(values), net.width, *SIZE))
    for b in range(len(values)):
        points = values[b][valid[b]]
        for row in range(SIZE[0]):
            for column in range(SIZE[1]):
                mine = points[(np.floor(points[:, 0]) == column) & (np.floor(points[:, 1]) == row)]
                if not len(mine):
                    continue
                off = mine[:, :3] - mine[:, :3].mean(0)
                to_middle = mine[:, :2] - [column + 0.5, row + 0.5]
                out = np.concatenate([mine[:, 2:], off, to_middle], 1) @ weight.T
                out = gamma * (out - mean) / np.sqrt(var + net.norm.eps) + beta
                canvas[b, :, row, column] = np.maximum(out, 0).max(0)
    return canvas


@settings(deadline=None, max_examples=8)
@given(bands=st.integers(3, 6), count=st.integers(1, 60), seed=st.integers(0, 99))
def test_pillars_are_those_of_the_paper(bands: int, count: int, seed: int) -> None:
    net, (values, valid) = made(bands), cloud(2, count, bands, seed)
    with torch.no_grad():
        found = net.canvas(inputs(values, valid)).numpy()
    np.testing.assert_allclose(found, by_hand(net, values.numpy(), valid.numpy()), atol=1e-5)


def test_a_pixel_without_points_is_zero_and_a_patch_without_points_too() -> None:
    net, (values, valid) = made(), cloud()
    valid[1] = False
    canvas = net.canvas(inputs(values, valid)).detach()
    there = torch.zeros(SIZE, dtype=torch.bool)
    there[values[0, valid[0], 1].long(), values[0, valid[0], 0].long()] = True
    assert (canvas[0, :, ~there] == 0).all()
    assert (canvas[0][:, there] != 0).any(0).all()
    assert (canvas[1] == 0).all()
    assert net.canvas(inputs(values[:, :0], valid[:, :0])).shape == (2, 8, *SIZE)


@pytest.mark.parametrize("training", [False, True])
def test_padding_and_order_change_nothing(training: bool) -> None:
    values, valid = cloud()
    longer = torch.cat([torch.full((2, 30, 5), torch.nan), values, torch.full((2, 9, 5), 1e9)], 1)
    there = torch.cat([torch.zeros(2, 30, dtype=torch.bool), valid, torch.zeros(2, 9, dtype=torch.bool)], 1)
    order = torch.randperm(values.shape[1], generator=torch.Generator().manual_seed(1))
    wanted = made().train(training)(inputs(values, valid)).maps
    for other in (inputs(longer, there), inputs(values[:, order], valid[:, order])):
        for one, two in zip(wanted, made().train(training)(other).maps, strict=True):
            torch.testing.assert_close(one, two, atol=1e-4, rtol=1e-4)


def test_points_that_are_valid_do_change_it() -> None:
    net, (values, valid) = made(), cloud()
    before = net.canvas(inputs(values, valid))
    moved = values.clone()
    moved[0, valid[0].nonzero()[0, 0], 2] += 100
    assert not torch.allclose(net.canvas(inputs(moved, valid))[0], before[0])
    torch.testing.assert_close(net.canvas(inputs(moved, valid))[1], before[1])


def test_a_batch_is_its_samples() -> None:
    net, (values, valid) = made(), cloud(3)
    with torch.no_grad():
        together = net(inputs(values, valid)).maps
        for i in range(3):
            for one, two in zip(together, net(inputs(values[i : i + 1], valid[i : i + 1])).maps, strict=True):
                torch.testing.assert_close(one[i : i + 1], two, atol=1e-5, rtol=1e-5)


def test_maps_have_the_promised_channels_and_strides() -> None:
    net = made()
    maps = net(inputs(*cloud())).maps
    assert [tuple(m.shape) for m in maps] == [
        (2, d, SIZE[0] // s, SIZE[1] // s) for d, s in zip(net.channels, net.strides, strict=True)
    ]


def test_every_weight_learns_and_padding_gets_no_gradient() -> None:
    net, (values, valid) = made().train(), cloud()
    values.requires_grad_()
    sum(m.square().mean() for m in net(inputs(values, valid)).maps).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    assert all(p.grad.abs().sum() > 0 for p in (net.linear.weight, net.norm.weight, net.norm.bias))
    assert (values.grad[~valid] == 0).all()
    assert (values.grad[valid] != 0).any()


@pytest.mark.parametrize(("band", "place"), [(0, -0.01), (0, 64.0), (1, 32.0), (1, float("nan"))])
def test_points_outside_the_patch_are_an_error(band: int, place: float) -> None:
    net, (values, valid) = made(), cloud()
    valid[0, 0] = True
    values[0, 0, band] = place
    with pytest.raises(ValueError, match=r"1 of \d+ points lie outside the patch of 32 x 64 pixels: set encoder.size"):
        net(inputs(values, valid))
    valid[0, 0] = False
    net(inputs(values, valid))


def test_other_inputs_are_refused_by_name() -> None:
    net, (values, valid) = made(), cloud()
    with pytest.raises(LookupError, match=r"reads sensor 'points'; this batch holds \['lidar'\]"):
        net({"lidar": Observation(values, valid=valid)})
    with pytest.raises(ValueError, match=r"has shape \(2, 50, 5\) and no valid: give it a sensor of points"):
        net({"points": Observation(values)})
    with pytest.raises(ValueError, match=r"has shape \(2, 50, 4\) and valid \(2, 50\)"):
        net(inputs(values[..., :4], valid))
    with pytest.raises(ValueError, match=r"has shape \(2, 5, 32, 32\)"):
        net({"points": Observation(torch.zeros(2, 5, 32, 32))})
    with pytest.raises(ValueError, match="at least x, y and z; sensor 'points' has 2 bands"):
        PointPillars({"points": 2}, SIZE)
    with pytest.raises(ValueError, match=r"encoder.size is \[height, width\]"):
        PointPillars({"points": 5}, [32])
    with pytest.raises(LookupError, match=r"encoder.sensor is 'auto'; the data provide \['lidar', 'points'\]"):
        PointPillars({"points": 5, "lidar": 4}, SIZE)


def test_the_config_lists_every_argument_and_builds() -> None:
    config = OmegaConf.load(YAML)
    wanted = set(inspect.signature(PointPillars.__init__).parameters) - {"self", "sensors"}
    assert set(config) - {"_target_"} == wanted
    net = build("encoder", "point_pillars", sensors={"points": 6})
    assert isinstance(net, PointPillars)
    assert net.size == (32, 32)
