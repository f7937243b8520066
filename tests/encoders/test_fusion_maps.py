"""Late fusion of maps: every level on the grid of the first sensor; sizes, missing sensors, tokens."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from eo_adapt.encoders.base import Encoder
from eo_adapt.encoders.blocks.joining import Join
from eo_adapt.encoders.blocks.modalities import of_rows
from eo_adapt.encoders.fusion import Fusion
from eo_adapt.types import Features, Inputs, Observation


def tiny_maps(sensors: Mapping[str, int], sensor: str, strides: tuple[int, ...] = (2, 4)) -> Encoder:
    """A map a stride, by pooling and a 1 x 1 convolution; made here, so that no test counts it as an entry."""

    class Tiny(Encoder):
        def __init__(self) -> None:
            super().__init__()
            self.strides, self.channels = strides, tuple(3 + i for i in range(len(strides)))
            self.layers = nn.ModuleList(nn.Conv2d(sensors[sensor], c, 1) for c in self.channels)

        def forward(self, inputs: Inputs) -> Features:
            values = inputs[sensor].values
            maps = [
                layer(nn.functional.avg_pool2d(values, s)) for layer, s in zip(self.layers, self.strides, strict=True)
            ]
            return Features(tuple(maps))

    return Tiny()


def tiny_vector(sensors: Mapping[str, int], sensor: str) -> Encoder:
    class Vector(Encoder):
        channels, strides = (5,), (0,)

        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(sensors[sensor], 5)

        def forward(self, inputs: Inputs) -> Features:
            return Features((self.layer(inputs[sensor].values.mean(1)),))

    return Vector()


SENSORS = {"aerial": 4, "s2": 6, "weather": 2}


def made(**options: object) -> Fusion:
    torch.manual_seed(0)
    branches = {"s2": partial(tiny_maps, strides=(1,)), "weather": tiny_vector}
    return Fusion(SENSORS, tiny_maps, branches, **options)  # type: ignore[arg-type]


def inputs(lead: Tensor | None = None) -> dict[str, Observation]:
    stream = torch.Generator().manual_seed(1)
    shown = torch.ones(3, 16, 16).bool() if lead is None else lead.view(3, 1, 1).expand(3, 16, 16)
    series, some = torch.randn(3, 4, 2, generator=stream), torch.tensor([True, False, True]).view(3, 1, 1)
    return {
        "aerial": Observation(torch.randn(3, 4, 16, 16, generator=stream), valid_pixels=shown),
        "s2": Observation(torch.randn(3, 6, 5, 5, generator=stream), valid_pixels=some.expand(3, 5, 5)),
        "weather": Observation(series, torch.arange(4.0).repeat(3, 1), torch.tensor([[1] * 4, [1] * 4, [0] * 4]) > 0),
    }


def test_every_level_has_the_grid_and_width_of_the_first() -> None:
    fused = made()
    assert (fused.strides, fused.channels) == ((2, 4), (3, 4))
    assert [tuple(m.shape) for m in fused(inputs()).maps] == [(3, 3, 8, 8), (3, 4, 4, 4)]


def test_attention_joins_maps_cell_by_cell() -> None:
    torch.manual_seed(0)
    join = Join((3, 6), 8, maps=True, attention=True, heads=2).eval()
    parts = [torch.randn(2, 3, 4, 4), torch.randn(2, 6, 4, 4)]
    whole = join(parts, torch.ones(2, 2).bool(), (4, 4))
    cell = join([part[:, :, 1:2, 2:3] for part in parts], torch.ones(2, 2).bool(), (1, 1))
    assert whole.shape == (2, 8, 4, 4)
    torch.testing.assert_close(whole[:, :, 1:2, 2:3], cell, atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match=r"encoder\.out=6 must be a multiple of the 4 heads"):
        Join((3, 6), 6, maps=True, attention=True)


def test_one_level_by_hand() -> None:
    fused, given = made(), inputs()
    found = fused(given).maps[1]
    join = fused.scheme.joins[1]
    aerial = fused.parts()["aerial"](given).maps[1]
    s2 = fused.parts()["s2"](given).maps[0]
    s2 = nn.functional.interpolate(s2, (4, 4), mode="bilinear", align_corners=False)
    s2[1] = join.tokens[1].view(-1, 1, 1)
    weather = fused.parts()["weather"](given).maps[0][:, :, None, None].repeat(1, 1, 4, 4)
    weather[2] = join.tokens[2].view(-1, 1, 1)
    stack = torch.cat([aerial, s2, weather], 1)
    want = torch.einsum("oi,bihw->bohw", join.project.weight[..., 0, 0], stack) + join.project.bias.view(-1, 1, 1)
    torch.testing.assert_close(found, want, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("lead", [(True, True, False), (False, False, False)])
def test_mixed_availability_equals_sample_by_sample(lead: tuple[bool, ...]) -> None:
    fused, given = made().eval(), inputs(torch.tensor(lead))
    whole = fused(given).maps
    for row in range(3):
        one = of_rows(given, torch.tensor([row]))
        for a, b in zip(whole, fused(one).maps, strict=True):
            torch.testing.assert_close(a[row : row + 1], b, atol=1e-5, rtol=1e-5)


def test_the_first_sensor_must_say_how_large_the_maps_are() -> None:
    given = inputs()
    assert [m.shape[-1] for m in made()({**given, "aerial": inputs(torch.zeros(3).bool())["aerial"]}).maps] == [8, 4]
    del given["aerial"]
    with pytest.raises(LookupError, match=r"'aerial' leads this fusion of maps.*give it with all its pixels invalid"):
        made()(given)


def test_maps_must_lead_and_decide_by_vectors() -> None:
    with pytest.raises(
        ValueError, match=r"the first modality 'weather' gives vectors and others maps; put one with maps"
    ):
        made(modalities=["weather", "aerial"])
    with pytest.raises(ValueError, match=r"decision fusion joins answers of one kind.*'weather': 'vectors'"):
        made(scheme="decision")
    with pytest.raises(ValueError, match="mid fusion joins the dates of parcel encoders"):
        made(scheme="mid")
