"""The metadata branch: dense layers, where it is added, that a network learns from it alone."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch.nn import functional as F

from eo_adapt.encoders.base import pick_sensor
from eo_adapt.encoders.blocks.attributes import AttributeEncoder
from eo_adapt.encoders.timm_pyramid import TimmPyramid
from eo_adapt.registry import build
from eo_adapt.types import Inputs, Observation

SENSORS = {"aerial": 5, "attributes": 3}


def inputs(samples: int = 4) -> Inputs:
    torch.manual_seed(0)
    return {
        "aerial": Observation(torch.randn(samples, 5, 64, 64)),
        "attributes": Observation(torch.randn(samples, 3)),
    }


def test_layers_by_hand() -> None:
    encoder = AttributeEncoder({"attributes": 3}, widths=(4, 2)).eval()
    x = inputs()["attributes"].values
    first, last = encoder.layers[0], encoder.layers[3]
    want = F.relu(x @ first.weight.T + first.bias) @ last.weight.T + last.bias  # type: ignore[operator]
    found = encoder({"attributes": Observation(x)}).maps[0]
    torch.testing.assert_close(found, F.relu(want))
    torch.testing.assert_close(encoder({"attributes": Observation(x[:, None])}).maps[0], found)
    assert (encoder.channels, encoder.strides) == ((2,), (0,))


def test_published_size() -> None:
    assert sum(p.numel() for p in AttributeEncoder({"mtd": 45}).parameters()) == 46 * 64 + 65 * 32 + 33 * 16


def test_no_layer_is_refused() -> None:
    with pytest.raises(ValueError, match="must name one at least"):
        AttributeEncoder({"attributes": 3}, widths=())


def test_auto_means_the_one_sensor_with_pixels() -> None:
    assert pick_sensor(SENSORS, "auto") == "aerial"
    assert pick_sensor({"attributes": 3}, "auto") == "attributes"
    with pytest.raises(LookupError, match=r"encoder\.sensor is 'auto'"):
        pick_sensor({**SENSORS, "s2": 3}, "auto")


def test_u_tt_adds_them_to_the_deepest_map_alone() -> None:
    net = build("encoder", "u_tt", sensors={**SENSORS, "s2": 3}, modalities=["aerial", "attributes"]).eval()
    given = inputs()
    moved = {**given, "attributes": Observation(given["attributes"].values + 1)}
    plain = {"aerial": given["aerial"]}
    for other, same in ((moved, False), (plain, False), (given, True)):
        one, two = net(given).maps, net(other).maps
        for a, b in zip(one[:-1], two[:-1], strict=True):
            torch.testing.assert_close(a, b)
        assert torch.equal(one[-1], two[-1]) is same
    added = net(given).maps[-1] - net(plain).maps[-1]
    torch.testing.assert_close(added, added[..., :1, :1].expand_as(added), atol=1e-5, rtol=1e-4)  # all places alike


def test_data_without_attributes_need_no_other_preset() -> None:
    net = build("encoder", "u_tt", sensors={"aerial": 5, "s2": 3})
    assert set(net.parts()) == {"aerial", "s2"}
    with pytest.raises(LookupError, match=r"encoder\.modalities names 'attributes'; the data provide \['aerial'\]"):
        build("encoder", "u_tt", sensors={"aerial": 5}, modalities=["aerial", "attributes"], branches={})


def test_a_network_learns_what_only_the_attributes_tell() -> None:
    """Pure noise for pixels; the class is the sign of one attribute."""
    torch.manual_seed(0)
    small = partial(TimmPyramid, backbone="test_resnet")
    net = build("encoder", "u_tt", sensors={**SENSORS, "s2": 3}, modalities=["aerial", "attributes"], branch=small)
    head = torch.nn.Linear(net.channels[-1], 2)
    optimiser = torch.optim.Adam([*net.parameters(), *head.parameters()], 3e-3)

    def batch(samples: int) -> tuple[Inputs, torch.Tensor]:
        attributes = torch.randn(samples, 3)
        images = Observation(torch.randn(samples, 5, 32, 32))
        return {"aerial": images, "attributes": Observation(attributes)}, (attributes[:, 1] > 0).long()

    for _ in range(150):
        given, labels = batch(32)
        loss = F.cross_entropy(head(net(given).maps[-1].mean((2, 3))), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    net.eval()
    given, labels = batch(64)
    with torch.no_grad():
        found = head(net(given).maps[-1].mean((2, 3))).argmax(1)
        blind = head(net({"aerial": given["aerial"]}).maps[-1].mean((2, 3))).argmax(1)
    assert (found == labels).float().mean() > 0.85
    assert (blind == labels).float().mean() < 0.7
