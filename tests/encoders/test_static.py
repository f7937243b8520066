"""What a network does while it is exported gives the numbers of what it does otherwise, whatever is masked."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from eo_adapt.encoders.blocks.gru import sorted_by
from eo_adapt.encoders.timm_pyramid import TimmPyramid
from eo_adapt.encoders.utae import UTAE
from eo_adapt.model import Model, Normalise
from eo_adapt.registry import build
from eo_adapt.types import Inputs, Observation

SMALL: dict[str, Any] = {"widths": [16, 16], "decoder": [16], "heads": 4, "d_model": 32}
WIDTHS = {"widths": [16, 16, 16, 8, 8]}
TWO = {"s2": 5, "s1": 2}


def parcels(seed: int, bands: dict[str, int], pixels: int = 0) -> Inputs:
    stream = torch.Generator().manual_seed(seed)
    looks = {}
    for i, (name, count) in enumerate(bands.items()):
        dates = 4 + i
        shape = (3, dates, count, pixels) if pixels else (3, dates, count)
        valid = torch.rand(3, dates, generator=stream) > 0.4
        valid[i % 3] = False  # a sample that lacks the sensor
        seen = torch.rand(3, dates, pixels, generator=stream) > 0.4 if pixels else None
        values = torch.rand(shape, generator=stream)
        values[~valid] = math.nan
        days = (torch.rand(3, dates, generator=stream) * 300).floor()
        days[:, 1] = days[:, 0]  # two looks on one day
        looks[name] = Observation(values, days, valid, seen)
    return looks


def frames(seed: int, bands: dict[str, int], side: int = 8) -> Inputs:
    stream = torch.Generator().manual_seed(seed)
    looks = {}
    for i, (name, count) in enumerate(bands.items()):
        shape = (3, 4 + i, side, side)
        valid = torch.rand(shape[:2], generator=stream) > 0.3
        valid[i % 3] = False
        values = torch.rand(*shape[:2], count, side, side, generator=stream)
        days = (torch.rand(shape[:2], generator=stream) * 300).floor()
        looks[name] = Observation(values, days, valid, torch.rand(shape, generator=stream) > 0.3)
    return looks


def several(seed: int) -> Inputs:
    seen = torch.ones(3, 32, 32, dtype=torch.bool)
    seen[2] = False
    return {"aerial": Observation(torch.rand(3, 4, 32, 32), valid_pixels=seen), **frames(seed, {"s2": 5}, 4)}


def points(seed: int) -> Inputs:
    stream = torch.Generator().manual_seed(seed)
    place = torch.rand(2, 40, 2, generator=stream) * 31
    values = torch.cat([place, torch.rand(2, 40, 2, generator=stream)], 2)
    return {"lidar": Observation(values, valid=torch.rand(2, 40, generator=stream) > 0.3)}


FLAT = {"s2": partial(UTAE, **SMALL, down=1)}
CASES: dict[str, tuple[str, dict[str, Any], str, dict[str, Any], dict[str, int], Any]] = {
    "pse_ltae": ("pse_ltae", {}, "classify", {}, {"s2": 5}, lambda: parcels(0, {"s2": 5}, 6)),
    "pse_tae": ("pse_tae", {}, "classify", {}, {"s2": 5}, lambda: parcels(1, {"s2": 5}, 6)),
    "gru": ("gru", {}, "classify", {}, {"s2": 5}, lambda: parcels(2, {"s2": 5})),
    "utae": ("utae", SMALL, "dense", {}, {"s2": 5}, lambda: frames(0, {"s2": 5})),
    "unet3d": ("unet3d", {"widths": [8, 16]}, "dense", {}, {"s2": 5}, lambda: frames(1, {"s2": 5})),
    "tsvit": ("tsvit", {"width": 32, "tokens": 3, "size": 8}, "dense", {}, {"s2": 5}, lambda: frames(2, {"s2": 5})),
    "points": ("point_pillars", {"backbone": "test_resnet"}, "unet", WIDTHS, {"lidar": 4}, lambda: points(0)),
    "maps": (
        "map_fusion",
        {"branch": partial(TimmPyramid, backbone="test_resnet"), "branches": FLAT},
        "unet", WIDTHS, {"aerial": 4, "s2": 5}, lambda: several(0),
    ),
    **{
        f"parcels_{scheme}": ("fusion", {"scheme": scheme}, "decision" if scheme == "decision" else "classify", {}, TWO,
                              lambda: parcels(3, TWO))
        for scheme in ("early", "mid", "late", "decision")
    },
    **{
        f"series_{scheme}": ("series_fusion", {"scheme": scheme, "branch": partial(UTAE, **SMALL)},
                             "map_decision" if scheme == "decision" else "dense", {}, TWO, lambda: frames(4, TWO))
        for scheme in ("early", "mid", "late", "added", "decision")
    },
}  # fmt: skip


def network(encoder: str, options: dict[str, Any], head: str, more: dict[str, Any], sensors: dict[str, int]) -> Model:
    torch.manual_seed(0)
    made = build("encoder", encoder, sensors=sensors, **options)
    plain = {name: (0.0, 1.0) if name == "lidar" else (0.3, 0.2) for name in sensors}
    statistics = {name: ([plain[name][0]] * n, [plain[name][1]] * n) for name, n in sensors.items()}
    model = Model(made, build("head", head, encoder=made, classes=4, **more), Normalise(statistics)).eval()
    for layer in model.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.running_mean.normal_(0, 0.2)
            layer.running_var.uniform_(0.5, 1.5)
    return model


@pytest.mark.parametrize("case", CASES)
def test_working_on_everything_gives_the_same(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, options, head, more, sensors, inputs = CASES[case]
    model, looks = network(encoder, options, head, more, sensors), inputs()
    with torch.no_grad():
        gathered = model(looks)[1]
        monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
        whole = model(looks)[1]
    assert bool(gathered.isfinite().all())
    torch.testing.assert_close(whole, gathered, rtol=1e-4, atol=1e-5)


def test_rows_are_sorted_stably() -> None:
    keys = torch.tensor([[3.0, 1.0, torch.inf, 1.0, torch.inf], [0.0, -2.0, 5.0, 5.0, 5.0]])
    x = torch.arange(20.0).view(2, 5, 2)
    order = keys.argsort(dim=1, stable=True)
    expected: Tensor = x.take_along_dim(order[..., None], 1)
    torch.testing.assert_close(sorted_by(x, keys), expected, rtol=0, atol=0)
